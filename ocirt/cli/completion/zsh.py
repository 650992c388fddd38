"""The script for zsh, on its function _arguments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ocirt.cli.completion.words import (
    Value,
    arguments_of,
    names_of,
    own_and_global,
    supported_commands,
    value_of,
)
from ocirt.cli.flags import Command, Flag, Kind
from ocirt.cli.table import GLOBAL_FLAGS

_HEAD = r"""#compdef ocirt
# zsh completion for ocirt, made by "ocirt completion zsh"

# The containers of the root directory that the line names. `line_words` is the whole line.
_ocirt_containers() {
    local -a ids root
    local -i at
    for ((at = 2; at < ${#line_words}; at++)); do
        case ${line_words[at]} in
            (--root|-root) root=(--root ${(Q)line_words[at+1]}) ;;
            (--root=*|-root=*) root=(--root ${(Q)line_words[at]#*=}) ;;
        esac
    done
    ids=(${(f)"$(${(Q)line_words[1]} $root list --quiet 2>/dev/null)"})
    compadd -a ids
}

_ocirt() {
    local curcontext=$curcontext state
    local -a line commands line_words=("${words[@]}")
    typeset -A opt_args
    commands=(
@COMMANDS@
    )
    _arguments -C -A '-*' \
@GLOBALS@
        '1: :->command' \
        '*:: :->argument' && return
    case $state in
    (command) _describe -t commands command commands ;;
    (argument)
        case ${words[1]} in
@ARGUMENTS@
        (help) _describe -t commands command commands ;;
        esac
        ;;
    esac
}

if [[ ${funcstack[1]} == _ocirt ]]; then
    _ocirt "$@"
else
    compdef _ocirt ocirt
fi
"""


def script() -> str:
    commands = supported_commands()
    described = [f"{_colon(command.name)}:{command.summary}" for command in commands]
    parts = {
        "COMMANDS": _lines(map(_quote, [*described, "help:show a help text"]), " " * 8),
        "GLOBALS": _lines((f"{spec} \\" for flag in GLOBAL_FLAGS for spec in _flag(flag, None)), " " * 8),
        "ARGUMENTS": "\n".join(_command(command) for command in commands),
    }
    text = _HEAD
    for name, part in parts.items():
        text = text.replace(f"@{name}@", part)
    return text


def _lines(lines: Iterable[str], indent: str) -> str:
    return "\n".join(indent + line for line in lines)


def _command(command: Command) -> str:
    specs = [spec for flag in own_and_global(command) for spec in _flag(flag, command)]
    arguments = arguments_of(command)
    specs += [_quote(f"{at}:{_colon(value.name)}:{_action(value)}") for at, value in enumerate(arguments, 1)]
    # -A: no flags after the first positional argument. What then comes is not ours.
    options = " -A '-*'" if command.stops_at_positional else ""
    if command.most is None:
        specs.append(_quote("*: : "))
    return (
        f"        ({command.name})\n            _arguments{options} \\\n"
        + _lines((f"{spec} \\" for spec in specs), " " * 16).removesuffix(" \\")
        + "\n            ;;"
    )


def _flag(flag: Flag, command: Command | None) -> Iterator[str]:
    names = names_of(flag, command)
    value = value_of(flag)
    others = "*" if flag.kind is Kind.TEXTS else f"({' '.join(names)})" if len(names) > 1 else ""
    for name in names:
        equals = "=" if value and name.startswith("--") else ""
        tail = f":{_colon(value.name)}:{_action(value)}" if value else ""
        yield _quote(f"{others}{name}{equals}[{_bracket(flag.help)}]{tail}")


def _action(value: Value) -> str:
    match value.kind:
        case "words":
            return f"({' '.join(value.words)})"
        case "directory":
            return "_files -/"
        case "file":
            return "_files"
        case "container":
            return "_ocirt_containers"
    return " "


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _colon(text: str) -> str:
    return text.replace(":", "\\:")


def _bracket(text: str) -> str:
    return text.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
