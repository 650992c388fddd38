#!/usr/bin/env python3
"""A runtime with one thing wrong: `mutant.py COMMAND...` is what the mutation that $CONFORMANCE_MUTATION names makes of
a real runtime's command. Without the variable, nothing is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

# What the tests share with the project's own.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from conformance.mutation import VARIABLE, Config
from conformance.mutations import named

from tests.support.bundle import default_config


def main(command: list[str]) -> int:
    if not os.environ.get(VARIABLE):
        return os.execvp(command[0], command)
    mutation = named(os.environ[VARIABLE])
    if mutation.command:
        command = mutation.command(command)
    if mutation.answer and mutation.answers in command:
        result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        sys.stdout.write(mutation.answer(result.stdout))
        return result.returncode
    config = configuration(command)
    if config and mutation.refuses and mutation.refuses(config):
        print("refused", file=sys.stderr)
        return 1
    if config and mutation.change:
        return with_config(command, config, mutation.change)
    if mutation.forgives:
        return forgiving(command, config)
    if mutation.after:
        status = subprocess.run(command, close_fds=False, check=False).returncode
        mutation.after(command, status == 0)
        return status
    return os.execvp(command[0], command)


def configuration(command: list[str]) -> Config | None:
    """What is in the bundle that a command names, where that is a configuration at all."""
    try:
        config = json.loads(config_path(command).read_text())
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) else None


def config_path(command: list[str]) -> Path:
    """Raises ValueError for a command without a bundle."""
    return Path(command[command.index("--bundle") + 1]) / "config.json"


def with_config(command: list[str], config: Config, change: Callable[[Config], object]) -> int:
    """Runs the command while the bundle has another configuration."""
    path = config_path(command)
    original = path.read_text()
    change(config)
    path.write_text(json.dumps(config))
    try:
        return subprocess.run(command, close_fds=False, check=False).returncode
    finally:
        path.write_text(original)


def forgiving(command: list[str], config: Config | None) -> int:
    """Runs the command, which succeeds whatever comes of it. Create falls back on a configuration that is valid."""
    failed = subprocess.run(command, close_fds=False, check=False).returncode != 0
    if failed and config and "create" in command:
        with_config(command, {**default_config(), "ociVersion": "1.0.0"}, lambda _: None)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
