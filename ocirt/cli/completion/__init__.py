"""Completion scripts for shells, made from the table of commands: script("bash").

Every script offers the commands, the flags of the command that has been typed, what a flag's value can be, and
containers' ids where one is due, of the root directory that the line names: it asks `ocirt list --quiet`. What the help
texts don't show, and commands that aren't supported, are not offered.
"""

from __future__ import annotations

from ocirt.errors import UsageError

SHELLS = ("bash", "zsh", "fish")


def script(shell: str) -> str:
    """The script for a shell, ending in a newline. Raises UsageError."""
    from ocirt.cli.completion import bash, fish, zsh

    match shell:
        case "bash":
            return bash.script()
        case "zsh":
            return zsh.script()
        case "fish":
            return fish.script()
    raise UsageError(f'there is no completion for "{shell}": {", ".join(SHELLS)} are known')
