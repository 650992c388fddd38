"""What can stand where on a command line, for every shell's script, from the texts that the help shows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ocirt.cli.flags import Command, Flag, Kind
from ocirt.cli.table import COMMANDS, GLOBAL_FLAGS

# What people send to containers.
_SIGNALS = ("TERM", "KILL", "INT", "HUP", "QUIT", "USR1", "USR2", "STOP", "CONT", "WINCH", "ABRT", "ALRM", "CHLD")


@dataclass(frozen=True, slots=True)
class Value:
    """What a flag's value or an argument is: `kind` is words, directory, file, container, command, or "" for anything
    that nobody can guess. `name` is what the help calls it."""

    kind: str
    name: str = ""
    words: tuple[str, ...] = ()


def supported_commands() -> list[Command]:
    return [command for command in COMMANDS.values() if command.supported]


def shown(flags: Iterable[Flag]) -> list[Flag]:
    return [flag for flag in flags if not flag.hidden]


def own_and_global(command: Command) -> list[Flag]:
    """The flags that may follow a command; its own take the place of global ones of the same name."""
    own = shown(command.flags)
    names = {name for flag in command.flags for name in (flag.name, flag.short) if name}
    shared = [flag for flag in GLOBAL_FLAGS if flag.name != "version" and not names & {flag.name}]
    return own + shared


def names_of(flag: Flag, command: Command | None = None) -> list[str]:
    """The flag as it can be written; a global one loses its letter to a command's own."""
    taken = {other.short for other in command.flags if other is not flag} if command else set()
    return [f"--{flag.name}", *([f"-{flag.short}"] if flag.short and flag.short not in taken else [])]


def value_of(flag: Flag) -> Value | None:
    """None for a switch."""
    if flag.kind is Kind.SWITCH:
        return None
    if flag.choices or _is_enumeration(flag.value):
        return Value("words", flag.name, flag.choices or tuple(flag.value.split("|")))
    kind = {"DIR": "directory", "FILE": "file", "SOCKET": "file"}.get(flag.value, "")
    return Value(kind, flag.value)


def _is_enumeration(text: str) -> bool:
    return bool(re.fullmatch(r"[a-z0-9]+(\|[a-z0-9]+)+", text))


def arguments_of(command: Command) -> list[Value]:
    """What its positional arguments are, as far as they can be guessed: nothing after the first that cannot."""
    found = []
    for name in re.findall(r"<[^>]*>|\[[^]]*\]|\S+", command.arguments):
        bare = name.strip("<>[]")
        if bare == "container-id":
            found.append(Value("container", bare))
        elif bare == "bundle":
            found.append(Value("directory", bare))
        elif bare == "signal":
            found.append(Value("words", bare, _SIGNALS))
        elif _is_enumeration(bare):
            found.append(Value("words", "shell" if command.name == "completion" else bare, tuple(bare.split("|"))))
        else:
            break
    return found
