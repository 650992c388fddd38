"""argv -> Invocation, by runc's rules, so that every engine's way of calling is understood.

- Global flags stand before or after the command; the command's own flags come first where a name is in both.
- `-flag` is `--flag`, `--flag value` is `--flag=value`; a switch takes a value after `=` alone; letters aren't joined.
- Flags may follow positional arguments, except where the command stops at the first (exec, kill, ps).
- `--` ends the flags, and a word such as `-1`, which no flag can be, does so too. `-` is a positional argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ocirt.cli.flags import Args, Command, Flag, Kind
from ocirt.cli.table import COMMANDS, GLOBAL_FLAGS
from ocirt.errors import UsageError


class UnknownCommandError(UsageError):
    """There is no such command; the exit code is 3, as with runc."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """What the caller wants. Without a command, or with `help`, it is a help text; with `version`, the version."""

    command: Command | None
    args: Args
    help: bool = False
    version: bool = False


def parse(argv: Sequence[str], global_args: Args) -> Invocation:
    """Parse a command line without the program's name. Fills global_args, as far as it comes, even when it raises."""
    words = list(argv)
    scan = _Scan(words, {}, _GLOBALS, global_args, global_args)
    before = scan.flags_to_first()
    name = before[0] if before else ""
    if name in ("help", "h") and not global_args.switch("version"):
        return _help(before[1:])
    if global_args.switch("version"):
        return Invocation(None, global_args, version=True)
    if not name:
        return Invocation(None, global_args, help=True)
    if name not in COMMANDS:
        raise UnknownCommandError(_unknown(name))
    command = COMMANDS[name]
    args = Args(command.flags, command.name)
    scan = _Scan(before[1:], _OF_COMMAND[name], _COMMAND_GLOBALS, args, global_args)
    try:
        if command.stops_at_positional:
            args.positional = tuple(scan.flags_to_first(then_dashes=True))
        else:
            args.positional = tuple(scan.flags_anywhere())
        wants_help = global_args.switch("help")
        if not wants_help:
            _check_count(command, len(args.positional))
    except UsageError as error:
        raise UsageError(f'{error} (see "ocirt {name} --help")') from None
    return Invocation(command, args, help=wants_help)


class _Scan:
    """One walk over words: flags go to their Args, what is left is returned."""

    def __init__(
        self, words: list[str], own: dict[str, Flag], shared: dict[str, Flag], args: Args, global_args: Args
    ) -> None:
        self.words, self.own, self.shared, self.args, self.global_args = words, own, shared, args, global_args

    def flags_to_first(self, *, then_dashes: bool = False) -> list[str]:
        """Take flags up to the first positional argument. That and what follows it, or what follows `--`.

        With then_dashes, `--` may stand behind the first argument as well (exec ID -- program).
        """
        rest = self.words
        while rest and _is_flag(rest[0]):
            rest = rest[self._take(rest[0], rest[1:2]) :]
        if rest[:1] == ["--"]:
            return rest[1:]
        return rest[:1] + rest[2:] if then_dashes and rest[1:2] == ["--"] else rest

    def flags_anywhere(self) -> list[str]:
        """Take flags among positional arguments, up to `--`. The positional arguments."""
        positional: list[str] = []
        rest = self.words
        while rest and rest[0] != "--" and not _ends_flags(rest[0]):
            if _is_flag(rest[0]):
                rest = rest[self._take(rest[0], rest[1:2]) :]
            else:
                positional.append(rest[0])
                rest = rest[1:]
        return positional + (rest[1:] if rest[:1] == ["--"] else rest)

    def _take(self, word: str, following: list[str]) -> int:
        """Set the flag of this word, with the following one as its value if it needs one. Returns the words used."""
        written, equals, value = word.partition("=")
        name = written[2:] if written.startswith("--") else written[1:]
        flag = self.own.get(name)
        args = self.args
        if flag is None:
            flag, args = self.shared.get(name), self.global_args
        if flag is None:
            raise UsageError(f"flag provided but not defined: -{name}")
        if flag.kind is Kind.SWITCH:
            args.set(flag.name, value if equals else "true", written)
            return 1
        if equals:
            args.set(flag.name, value, written)
            return 1
        if not following:
            raise UsageError(f"flag needs an argument: {written}")
        args.set(flag.name, following[0], written)
        return 2


def _is_flag(word: str) -> bool:
    return word[:1] == "-" and word not in ("-", "--") and not _ends_flags(word)


def _ends_flags(word: str) -> bool:
    """-1 and the like."""
    return word[:1] == "-" and word[1:2] != "-" and word[1:] != "" and not word[1].isalpha()


def _named(flags: Iterable[Flag]) -> dict[str, Flag]:
    return {name: flag for flag in flags for name in (flag.name, flag.short) if name}


_GLOBALS = _named(GLOBAL_FLAGS)
# Those that may follow a command: --version asks about ocirt, not about a command.
_COMMAND_GLOBALS = _named(flag for flag in GLOBAL_FLAGS if flag.name != "version")
_OF_COMMAND = {name: _named(command.flags) for name, command in COMMANDS.items()}


def _help(names: list[str]) -> Invocation:
    """The command `help [command]`."""
    names = [name for name in names if not name.startswith("-")]
    if names and names[0] not in COMMANDS:
        raise UnknownCommandError(_unknown(names[0]))
    command = COMMANDS[names[0]] if names else None
    return Invocation(command, Args(()), help=True)


def _unknown(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, COMMANDS, 1)
    return f'unknown command "{name}"' + (f' (did you mean "{near[0]}"?)' if near else ' (see "ocirt --help")')


def _check_count(command: Command, count: int) -> None:
    """Engines match on none of these, people know them from runc."""
    if command.least == command.most != count:
        raise UsageError(f'"{command.name}" requires exactly {command.least} argument(s)')
    if count < command.least:
        raise UsageError(f'"{command.name}" requires a minimum of {command.least} argument(s)')
    if command.most is not None and count > command.most:
        raise UsageError(f'"{command.name}" requires a maximum of {command.most} argument(s)')
