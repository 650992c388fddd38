"""Runs a runtime's commands, and keeps hold of the containers that come of them.

Guarantees: no command waits for ever; a container made through `Container` is deleted, its process reaped and its
bundle removed by `cleanup()`, whatever the runtime did.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.support import leaks
from tests.support.bundle import Config, default_config, link_tree
from tests.support.facts import Facts

TIMEOUT_SECONDS = 30.0
# ocirt as this tree has it.
MODULES = (sys.executable, "-I", "-m", "ocirt")


@dataclass(frozen=True, slots=True)
class Result:
    """A finished command."""

    rc: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The last line on stderr, where an error stands."""
        lines = self.err.strip().splitlines()
        return lines[-1] if lines else ""


def run_to_end(
    argv: Sequence[str], *, stdout: IO[bytes] | None = None, timeout_seconds: float = TIMEOUT_SECONDS, **options: Any
) -> Result:
    """Runs a command to its end; exit code 124 where it had to be ended. `options` are Popen's.

    Its output goes to files: what it leaves in the background would hold pipes open. `stdout` takes the place of one.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(argv, stdout=stdout or out, stderr=err, **options)
        try:
            rc = process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            rc = 124
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="backslashreplace"))
    return Result(rc, *texts)


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime's command line, with a state directory of its own."""

    name: str
    command: tuple[str, ...]
    root: Path

    def run(
        self,
        *arguments: str | Path,
        check: bool = True,
        stdin: str = "",
        stdout: Path | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Result:
        """Runs a command to its end. With `check`, one that fails raises AssertionError with all it said.

        Its output goes to files: a container that inherits it outlives the command, and would keep a pipe open.
        `stdout` names the file (which is kept) for both streams of a container that is created.
        """
        with tempfile.TemporaryFile() as input_file, contextlib.ExitStack() as stack:
            input_file.write(stdin.encode())
            input_file.seek(0)
            result = run_to_end(
                self.argv(*arguments),
                stdout=stack.enter_context(stdout.open("wb")) if stdout else None,
                timeout_seconds=timeout_seconds,
                stdin=input_file,
                cwd=cwd,
                env=env,
                pass_fds=pass_fds,
            )
        if check:
            words = shlex.join(str(argument) for argument in arguments)
            assert result.rc == 0, f"{self.name} {words}: exit code {result.rc}\n{result.out}{result.err}"
        return result

    def argv(self, *arguments: str | Path) -> list[str]:
        """The whole command line."""
        return [*self.command, "--root", str(self.root), *map(str, arguments)]


def find_runtime(name: str, root: Path) -> Runtime | None:
    """The runtime of that name, or None where it isn't installed. ocirt's command line is $OCIRT, if set."""
    if name == "ocirt":
        words = shlex.split(os.environ.get("OCIRT", "")) or list(MODULES)
        if "/" in words[0]:  # tests change the working directory
            words[0] = os.path.abspath(words[0])
        return Runtime(name, tuple(words), root)
    path = shutil.which(name, path="/usr/sbin:/usr/bin")
    if path is None:
        return None
    # crun wants to raise RLIMIT_MEMLOCK for its device filter, which not every root may.
    extra = ("--cgroup-manager=disabled",) if name == "crun" else ()
    return Runtime(name, (path, *extra), root)


@dataclass(slots=True, repr=False)
class Container:
    """A container to be: change `config`, then call `create` or `run`."""

    runtime: Runtime
    id: str
    bundle: Path
    config: Config = field(default_factory=default_config)

    @classmethod
    def prepare(cls, runtime: Runtime, name: str, scratch: Path, template: Path) -> Container:
        """Makes the bundle's folder and its root filesystem."""
        bundle = scratch / name
        bundle.mkdir()
        link_tree(template, bundle / "rootfs")
        return cls(runtime, name, bundle)

    def __repr__(self) -> str:
        return f"<{self.runtime.name} {self.id}>"

    @property
    def rootfs(self) -> Path:
        return self.bundle / "rootfs"

    @property
    def process(self) -> dict[str, Any]:
        """config.json's `process`, to be changed."""
        process: dict[str, Any] = self.config["process"]
        return process

    @property
    def linux(self) -> dict[str, Any]:
        """config.json's `linux`, to be changed."""
        linux: dict[str, Any] = self.config["linux"]
        return linux

    @property
    def mounts(self) -> list[Config]:
        """config.json's `mounts`, to be changed."""
        mounts: list[Config] = self.config["mounts"]
        return mounts

    @property
    def pid_file(self) -> Path:
        return self.bundle / "pid"

    @property
    def pid(self) -> int:
        """The init's pid, as the pid file has it."""
        return int(self.pid_file.read_text())

    @property
    def output(self) -> str:
        """What a container that was created (not run) has written."""
        return (self.bundle / "output").read_text(errors="backslashreplace")

    def write_config(self) -> None:
        (self.bundle / "config.json").write_text(json.dumps(self.config, indent=1))

    def shell(self, script: str) -> None:
        """Makes a script the container's program."""
        self.process["args"] = ["/bin/sh", "-c", script]

    def create(self, *flags: str | Path, check: bool = True, **options: Any) -> Result:
        """Creates it, with its output in a file that `output` reads."""
        self.write_config()
        command = ["create", "--bundle", self.bundle, "--pid-file", self.pid_file, *flags, self.id]
        return self.runtime.run(*command, check=check, stdout=self.bundle / "output", **options)

    def run(self, *flags: str | Path, check: bool = True, **options: Any) -> Result:
        """Runs it in the foreground."""
        self.write_config()
        return self.runtime.run("run", "--bundle", self.bundle, *flags, self.id, check=check, **options)

    def run_in_background(self, *flags: str | Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Begins to run it in the foreground of another process, with its output where `output` reads it."""
        self.write_config()
        argv = self.runtime.argv("run", "--bundle", self.bundle, "--pid-file", self.pid_file, *flags, self.id)
        with (self.bundle / "output").open("wb") as output:
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env)

    def start(self, *, check: bool = True) -> Result:
        return self.runtime.run("start", self.id, check=check)

    def start_new(self, *flags: str | Path) -> None:
        """Creates and starts it."""
        self.create(*flags)
        self.start()

    def hold(self, *flags: str | Path) -> None:
        """Creates and starts it with a program that goes on until it gets a signal (SIGTERM: exit code 42)."""
        self.process["args"] = ["/probe", "hold"]
        self.start_new(*flags)
        wait_for(lambda: self.output == "ready\n")

    def exec(self, *arguments: str | Path, check: bool = True, **options: Any) -> Result:
        """Runs `exec` with flags and a program: `exec("--cwd", "/tmp", "/probe")`. The id goes where it belongs."""
        position = _first_positional([str(argument) for argument in arguments])
        command = ["exec", *arguments[:position], self.id, *arguments[position:]]
        return self.runtime.run(*command, check=check, **options)

    def facts(self, *paths: str) -> Facts:
        """Runs it with the probe as its program."""
        self.process["args"] = ["/probe", *paths]
        return Facts.parse(self.run().out)

    def exec_facts(self, *flags: str | Path) -> Facts:
        """What the probe sees when it is executed in the running container."""
        return Facts.parse(self.exec(*flags, "/probe").out)

    def refused(self, *flags: str) -> str:
        """Asserts that `create` fails in one line and leaves nothing; returns the error."""
        result = self.create(*flags, check=False)
        if result.rc == 0:
            self.delete("--force", check=False)
        assert result.rc not in (0, 124), f"{self.runtime.name} create was to fail: exit code {result.rc}"
        assert "Traceback" not in result.err
        state = self.runtime.run("state", self.id, check=False)
        assert state.rc != 0
        assert not (self.runtime.root / self.id).exists()
        return result.error

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.runtime.run("state", self.id).out)
        return state

    @property
    def status(self) -> str:
        return str(self.state()["status"])

    def kill(self, *arguments: str, check: bool = True) -> Result:
        return self.runtime.run("kill", self.id, *arguments, check=check)

    def delete(self, *flags: str, check: bool = True) -> Result:
        return self.runtime.run("delete", *flags, self.id, check=check)

    def wait(self, timeout_seconds: float = 10) -> int:
        """Waits until the init ends, and returns its exit code (128 + N for signal N). For `create`, not for `run`."""
        pid = self.pid
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            raise AssertionError(f"no process {pid}") from None
        try:
            assert select.select([pidfd], [], [], timeout_seconds)[0], f"process {pid} goes on"
        finally:
            os.close(pidfd)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return code if code >= 0 else 128 - code

    def cleanup(self) -> None:
        """Deletes what there is of it, and reaps its processes meanwhile, as an engine does."""
        process = subprocess.Popen(
            self.runtime.argv("delete", "--force", self.id),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            for _ in range(int(TIMEOUT_SECONDS / 0.05)):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.05)
                    break
                leaks.reap_children(but_not=process.pid)
        finally:
            process.kill()
            process.wait()
        leaks.reap_children()
        shutil.rmtree(self.bundle, ignore_errors=True)


def _first_positional(arguments: list[str]) -> int:
    """Where exec's program begins: flags with a value that these tests use, and those without, come first."""
    with_value = {"--process", "-p", "--env", "-e", "--user", "-u", "--additional-gids", "-g", "--cap", "-c", "--cwd"}
    with_value |= {
        "--console-socket",
        "--pid-file",
        "--pidfd-socket",
        "--preserve-fds",
        "--process-label",
        "--apparmor",
    }
    with_value |= {"--cgroup"}
    position = 0
    while position < len(arguments) and arguments[position].startswith("-"):
        position += 2 if arguments[position] in with_value else 1
    return position


def wait_for(condition: Any, timeout_seconds: float = 10) -> None:
    """Waits until a condition that nothing announces holds. Raises AssertionError."""
    poll = select.poll()
    for _ in range(int(timeout_seconds / 0.01)):
        if condition():
            return
        poll.poll(10)
    raise AssertionError("the condition did not come true")


def end_leftovers(before: leaks.Snapshot) -> list[str]:
    """Ends the processes that a test left, and says which."""
    new = before.new_processes()
    leaks.end_processes(list(new))
    return [f"process {pid} {name}" for pid, name in new.items()]
