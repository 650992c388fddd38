#!/usr/bin/env python3
"""A runtime with one thing wrong: `mutant.py MUTATION COMMAND...`, where the command is a real runtime's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from conformance.mutations import MUTATIONS, Config


def main(arguments: list[str]) -> int:
    mutation, command = MUTATIONS[arguments[0]], arguments[1:]
    if mutation.command:
        command = mutation.command(command)
    if mutation.answer and "state" in command:
        result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        sys.stdout.write(mutation.answer(result.stdout))
        return result.returncode
    if mutation.change and "--bundle" in command:
        return with_change(mutation.change, command)
    return os.execvp(command[0], command)


def with_change(change: Callable[[Config], object], command: list[str]) -> int:
    """Runs the command while the bundle has another configuration."""
    path = Path(command[command.index("--bundle") + 1]) / "config.json"
    try:
        original = path.read_text()
        config = json.loads(original)
    except (OSError, ValueError):
        return os.execvp(command[0], command)
    change(config)
    path.write_text(json.dumps(config))
    try:
        return subprocess.run(command, close_fds=False, check=False).returncode
    finally:
        path.write_text(original)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
