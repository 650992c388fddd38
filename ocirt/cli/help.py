"""Help texts, made from the table of commands."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from ocirt import SPEC_VERSION, __version__
from ocirt.cli.flags import Command, Flag, Kind
from ocirt.cli.table import COMMANDS, GLOBAL_FLAGS, unsupported_note

_COLUMNS = 100
_WIDEST_NAME = 30

_EXAMPLE = """\
To run one: make a directory with a root file system in it under the name rootfs, then there

    ocirt spec            # writes config.json, to be edited
    ocirt run my-container"""


def command_help(command: Command) -> str:
    """The help text of one command, ending in a newline."""
    words = ["ocirt", command.name, "[options]" if _flag_rows(command.flags) else "", command.arguments]
    parts = [
        "Usage: " + " ".join(word for word in words if word),
        _paragraph(command.summary[:1].upper() + command.summary[1:] + "."),
        _paragraph(unsupported_note(command)),
        _paragraph(command.description),
        _section("Options:", _flag_rows(command.flags)),
        'The global options ("ocirt --help") may stand here too.',
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def main_help() -> str:
    """The help text of ocirt itself, ending in a newline."""
    supported = [(command.name, command.summary) for command in COMMANDS.values() if command.supported]
    others = [(command.name, command.summary) for command in COMMANDS.values() if not command.supported]
    parts = [
        "Usage: ocirt [global options] <command> [options] [arguments]",
        f"ocirt {__version__} runs containers as the OCI runtime specification {SPEC_VERSION} describes them.",
        _EXAMPLE,
        _section("Commands:", supported),
        _section("Commands that this version parses, but does not support:", others) if others else "",
        _section("Global options:", _flag_rows(GLOBAL_FLAGS)),
        'More about a command: "ocirt <command> --help".',
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _paragraph(text: str) -> str:
    return textwrap.fill(text, _COLUMNS, break_long_words=False, break_on_hyphens=False)


def _flag_rows(flags: Iterable[Flag]) -> list[tuple[str, str]]:
    rows = []
    for flag in flags:
        if flag.hidden:
            continue
        name = f"-{flag.short}, " if flag.short else "    "
        name += f"--{flag.name}" + (f" {flag.value}" if flag.kind is not Kind.SWITCH else "")
        rows.append((name, flag.help + shown_default(flag)))
    return rows


def shown_default(flag: Flag) -> str:
    """What follows a flag's text: its default, where that says something."""
    return f" (default: {flag.default})" if flag.default not in ("", "0", "-1") else ""


def _section(title: str, rows: list[tuple[str, str]]) -> str:
    """A title and rows of two columns; a name too wide for its column has a line to itself."""
    if not rows:
        return ""
    width = max((len(name) for name, _ in rows if len(name) <= _WIDEST_NAME), default=0)
    lines = [title]
    for name, text in rows:
        indent = " " * (width + 4)
        wrapped = textwrap.wrap(text, _COLUMNS, initial_indent=indent, subsequent_indent=indent, break_long_words=False)
        if len(name) > width:
            lines += [f"  {name}", *wrapped]
        else:
            lines += [f"  {name:<{width}}  {wrapped[0].lstrip()}", *wrapped[1:]]
    return "\n".join(lines)
