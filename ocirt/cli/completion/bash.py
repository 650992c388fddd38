"""The script for bash, which needs nothing of the package bash-completion."""

from __future__ import annotations

from collections.abc import Iterable

from ocirt.cli.completion.words import (
    Value,
    arguments_of,
    names_of,
    own_and_global,
    shown,
    supported_commands,
    value_of,
)
from ocirt.cli.flags import Command, Flag
from ocirt.cli.table import GLOBAL_FLAGS

# Bash breaks words at "=": "--root=DIR" is three of them.
_HEAD = r"""# bash completion for ocirt, made by "ocirt completion bash"

# COMMAND FLAG: sets `kind` and `choices` of its value, "none" for a switch and for what isn't known.
_ocirt_value() {
    kind=none choices=
    case "$1 $2" in
@VALUES@
    esac
}

# COMMAND POSITION: the same for a positional argument, from 1 on.
_ocirt_argument() {
    kind=none choices=
    case "$1 $2" in
@ARGUMENTS@
    esac
}

_ocirt_flags() {
    case "$1" in
@FLAGS@
    esac
}

_ocirt() {
    local program=$1 cur=${COMP_WORDS[COMP_CWORD]}
    local command= flag= kind= choices= ended= word name
    local -i i position=1
    local -a root=() candidates=()
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $flag && $word == = ]]; then
            continue
        elif [[ $flag ]]; then
            [[ $flag == root ]] && root=(--root "$word")
            flag=
        elif [[ ! $ended && $word == = ]]; then
            i+=1 # --switch=true
        elif [[ ! $ended && $word == -- ]]; then
            ended=1
        elif [[ ! $ended && $word == -?* ]]; then
            name=${word#-} name=${name#-}
            if [[ $name == root=* ]]; then
                root=(--root "${name#root=}")
            elif [[ $name != *=* ]]; then
                _ocirt_value "$command" "$name"
                [[ $kind == none ]] || flag=$name
            fi
        elif [[ ! $command ]]; then
            command=$word
        else
            position+=1
            case $command in @STOPPING@) ended=1 ;; esac
        fi
    done
    if [[ $flag ]]; then
        _ocirt_value "$command" "$flag"
        [[ $cur == = ]] && cur=
    elif [[ ! $ended && $cur == -* ]]; then
        kind=words choices=$(_ocirt_flags "$command")
    elif [[ ! $command ]]; then
        kind=words choices='@COMMANDS@'
    else
        _ocirt_argument "$command" "$position"
    fi
    case $kind in
    words) read -ra candidates <<<"$choices" ;;
    container) mapfile -t candidates < <("$program" "${root[@]}" list --quiet 2>/dev/null) ;;
    directory) mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
    file) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
    esac
    if [[ $kind == directory || $kind == file ]]; then
        compopt -o filenames 2>/dev/null
    fi
    for word in "${candidates[@]}"; do
        [[ $word == "$cur"* ]] && COMPREPLY+=("$word")
    done
}

complete -F _ocirt ocirt
"""


def script() -> str:
    commands = supported_commands()
    names = [command.name for command in commands]
    values = [line for command in commands for line in _values(command)]
    values += [_case(f"*' {name}'", value) for flag in GLOBAL_FLAGS for name, value in _named_values(flag)]
    arguments = [
        _case(f"'{command.name} {position}'", value)
        for command in commands
        for position, value in enumerate(arguments_of(command), 1)
        if value.kind
    ]
    arguments.append(_case("'help 1'", Value("words", words=tuple(names))))
    flags = [_flags_case(f"'{command.name}'", _all_names(own_and_global(command), command)) for command in commands]
    flags.append(_flags_case("*", _all_names(GLOBAL_FLAGS)))
    parts = {
        "VALUES": "\n".join(values),
        "ARGUMENTS": "\n".join(arguments),
        "FLAGS": "\n".join(flags),
        "STOPPING": " | ".join(command.name for command in commands if command.stops_at_positional),
        "COMMANDS": " ".join([*names, "help"]),
    }
    text = _HEAD
    for name, part in parts.items():
        text = text.replace(f"@{name}@", part)
    return text


def _values(command: Command) -> list[str]:
    """The cases of a command's own flags, switches too where a global flag of that name is none."""
    lines = []
    for flag in shown(command.flags):
        lines += [_case(f"'{command.name} {name}'", value) for name, value in _named_values(flag)]
        if value_of(flag) is None and any(other.name == flag.name and value_of(other) for other in GLOBAL_FLAGS):
            lines.append(f"    '{command.name} {flag.name}') ;;")
    return lines


def _named_values(flag: Flag) -> list[tuple[str, Value]]:
    value = value_of(flag)
    return [(name, value) for name in (flag.name, flag.short) if name and value]


def _case(pattern: str, value: Value) -> str:
    choices = f" choices='{' '.join(value.words)}'" if value.words else ""
    return f"    {pattern}) kind={value.kind or 'text'}{choices} ;;"


def _all_names(flags: Iterable[Flag], command: Command | None = None) -> list[str]:
    return [name for flag in flags for name in names_of(flag, command)]


def _flags_case(pattern: str, names: list[str]) -> str:
    return f"    {pattern}) echo '{' '.join(names)}' ;;"
