"""The script for fish."""

from __future__ import annotations

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

_HEAD = r"""# fish completion for ocirt, made by "ocirt completion fish"

# The words of the line that are neither flags nor their values: the command and its arguments, without the last word,
# which is being typed.
function __ocirt_words
    set -l found
    set -l valued @GLOBAL_VALUED@
    set -l is_value 0
    set -l ended 0
    for word in (commandline -opc)[2..]
        if test $is_value = 1
            set is_value 0
        else if test $ended = 0; and test "$word" = --
            set ended 1
        else if test $ended = 0; and string match -qr -- '^--?[a-zA-Z]' "$word"
            if contains -- (string replace -r -- '^--?' '' "$word") $valued
                set is_value 1
            end
        else
            set -a found $word
            if test (count $found) = 1
                set valued (__ocirt_valued $word)
            else if contains -- $found[1] @STOPPING@
                set ended 1
            end
        end
    end
    set -q found[1]; and printf '%s\n' $found
    test $ended = 0
end

# COMMAND: the names of the flags that take a value as the next word.
function __ocirt_valued
    switch $argv[1]
@VALUED@
        case '*'
            printf '%s\n' @GLOBAL_VALUED@
    end
end

# COMMAND...: whether the line has one of them, and a flag of it may come next; without any, whether it has none.
function __ocirt_has
    set -l words (__ocirt_words)
    or return 1
    if test (count $argv) = 0
        test (count $words) = 0
    else
        contains -- "$words[1]" $argv
    end
end

# POSITION COMMAND...: whether an argument of that position of one of them comes next.
function __ocirt_argument
    set -l words (__ocirt_words)
    test (count $words) = $argv[1]; and contains -- "$words[1]" $argv[2..]
end

# The containers of the root directory that the line names.
function __ocirt_containers
    set -l tokens (commandline -opc)
    set -l root
    for at in (seq 2 (count $tokens))
        switch $tokens[$at]
            case --root -root
                set root --root $tokens[(math $at + 1)]
            case '--root=*' '-root=*'
                set root --root (string replace -r -- '^--?root=' '' $tokens[$at])
        end
    end
    command $tokens[1] $root list --quiet 2>/dev/null
end

complete -c ocirt -f
"""


def script() -> str:
    commands = supported_commands()
    head = _HEAD
    parts = {
        "GLOBAL_VALUED": " ".join(_valued(list(GLOBAL_FLAGS))),
        "STOPPING": " ".join(command.name for command in commands if command.stops_at_positional),
        "VALUED": "\n".join(
            f"        case {command.name}\n            printf '%s\\n' {' '.join(_valued(own_and_global(command)))}"
            for command in commands
        ),
    }
    for name, part in parts.items():
        head = head.replace(f"@{name}@", part)
    lines = [f"complete -c ocirt -n __ocirt_has -a {c.name} -d {_quote(c.summary)}" for c in commands]
    lines.append("complete -c ocirt -n __ocirt_has -a help -d 'show a help text'")
    lines += [_flag("__ocirt_has", flag, None) for flag in GLOBAL_FLAGS]
    for command in commands:
        condition = _quote(f"__ocirt_has {command.name}")
        lines += [_flag(condition, flag, command) for flag in own_and_global(command)]
        for position, value in enumerate(arguments_of(command), 1):
            condition = _quote(f"__ocirt_argument {position} {command.name}")
            lines.append(f"complete -c ocirt -n {condition} -a {_candidates(value)}")
    names = Value("words", words=tuple(command.name for command in commands))
    lines.append(f"complete -c ocirt -n '__ocirt_argument 1 help' -a {_candidates(names)}")
    return head + "\n".join(lines) + "\n"


def _valued(flags: list[Flag]) -> list[str]:
    return [name for flag in shown(flags) if value_of(flag) for name in (flag.name, flag.short) if name]


def _flag(condition: str, flag: Flag, command: Command | None) -> str:
    words = ["complete -c ocirt -n", condition]
    for name in names_of(flag, command):
        words += ["-l", name[2:]] if name.startswith("--") else ["-s", name[1:]]
    value = value_of(flag)
    if value:
        words.append("-r" if value.kind == "file" else "-x")
        if value.kind == "file":
            words.append("-F")
        elif value.kind:
            words += ["-a", _candidates(value)]
    return " ".join([*words, "-d", _quote(flag.help)])


def _candidates(value: Value) -> str:
    match value.kind:
        case "words":
            return _quote(" ".join(value.words))
        case "container":
            return "'(__ocirt_containers)'"
    return "'(__fish_complete_directories)'"


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
