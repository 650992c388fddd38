"""The command line that Docker and Podman have in common, with the options that make them work on any machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.engines.engine import Engine, OciRuntime, run_command
from tests.engines.terminal import Terminal
from tests.support.runtime import Result

IMAGE = "localhost/ocirt-test"


@dataclass(slots=True)
class Cli:
    """Docker's or Podman's containers of one runtime; the names of containers are the test's."""

    engine: Engine
    runtime: OciRuntime

    name = ""

    def argv(self, *arguments: str | Path) -> list[str]:
        """The whole command line."""
        raise NotImplementedError

    def run_flags(self) -> list[str]:
        """What `run` and `create` get in any case."""
        raise NotImplementedError

    @property
    def env(self) -> dict[str, str]:
        return self.engine.env

    def __call__(self, *arguments: str | Path, check: bool = True, env: Mapping[str, str] | None = None) -> Result:
        """Runs a command of the engine; `env` is added to its environment."""
        result = run_command(self.argv(*arguments), env={**self.env, **(env or {})})
        assert result.rc == 0 or not check, f"{arguments}: exit code {result.rc}\n{result.out}{result.err}"
        return result

    def terminal(self, *arguments: str | Path, rows: int = 30, columns: int = 90) -> Terminal:
        """Runs a command of the engine on a terminal."""
        return Terminal(self.argv(*arguments), self.env, rows, columns)

    def run_arguments(self, *arguments: str | Path, network: str = "none") -> list[str | Path]:
        """`run`, the flags that are always needed, and the given ones, which end with the image and its command."""
        return ["run", *self.run_flags(), "--network", network, *arguments]

    def run(self, *command: str, flags: tuple[str, ...] = (), check: bool = True, network: str = "none") -> Result:
        """Runs a container in the foreground, and removes it."""
        return self(*self.run_arguments("--rm", *flags, IMAGE, *command, network=network), check=check)

    def hold(self, name: str, *flags: str) -> None:
        """Starts a container that goes on until SIGTERM (exit code 42)."""
        self(*self.run_arguments("--detach", "--name", name, *flags, IMAGE, "/probe", "hold"))

    def execute(self, name: str, *command: str, flags: tuple[str, ...] = (), check: bool = True) -> Result:
        return self("exec", *flags, name, *command, check=check)

    def inspect(self, name: str) -> dict[str, Any]:
        result: list[dict[str, Any]] = json.loads(self("container", "inspect", name).out)
        return result[0]

    def status(self, name: str) -> str:
        """created, running, paused or exited."""
        return str(self.inspect(name)["State"]["Status"])

    def pid(self, name: str) -> int:
        return int(self.inspect(name)["State"]["Pid"])

    def exit_code(self, name: str) -> int:
        return int(self.inspect(name)["State"]["ExitCode"])

    def clear(self) -> list[str]:
        """Removes the containers that there are, and says which."""
        names = self("ps", "--all", "--quiet").out.split()
        if names:
            self("rm", "--force", *names)
        return names
