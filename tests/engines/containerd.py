"""containerd with its shim for runc, driven with ctr(8)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.engines.engine import Daemon, Engine, OciRuntime, ended, run_command
from tests.engines.image import NAME, Image
from tests.engines.seen import mounts_below
from tests.support import leaks
from tests.support.isolation import why_no_controllers
from tests.support.runtime import Result

CONFIG = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{folder}/socket"
[plugins."io.containerd.internal.v1.opt"]
path = "{folder}/opt"
"""


class ContainerdServer:
    """A containerd of the tests' own. `engine` is what its shims and containers are marked with."""

    def __init__(self, engine: Engine, config: str = CONFIG) -> None:
        self.engine = engine
        self.socket = engine.folder / "socket"
        self.log = engine.folder / "containerd.log"
        engine.logs.append(self.log)
        self.sockets = shim_sockets()
        engine.folder.mkdir(parents=True, exist_ok=True)
        path = engine.folder / "containerd.toml"
        path.write_text(config.format(folder=engine.folder))
        self.daemon = Daemon(["/usr/bin/containerd", "--config", str(path)], self.log, engine.env)

    def start(self) -> None:
        self.daemon.start(lambda: self.ctr("version").rc == 0)

    @contextlib.contextmanager
    def running(self) -> Iterator[ContainerdServer]:
        """Runs it as long as the context lasts; raises AssertionError where something is left then."""
        with ended(self.engine, "containerd", self.stop):
            self.start()
            yield self

    def stop(self) -> None:
        self.daemon.stop()
        # A shim that cleans up passes its default for the runtime's state directory, whatever it was told.
        with contextlib.suppress(FileNotFoundError):
            Path("/run/containerd/runc", self.engine.mark).rmdir()

    def ctr(self, *arguments: str | Path) -> Result:
        return run_command(self.argv(*arguments), env=self.engine.env)

    def argv(self, *arguments: str | Path) -> list[str]:
        # The namespace is also the cgroup above its containers' cgroups.
        words = ["/usr/bin/ctr", "--address", str(self.socket), "--namespace", self.engine.mark]
        return [*words, *map(str, arguments)]

    def left_behind(self) -> list[str]:
        """What there is of containers: processes, mounts, cgroups, shims' sockets, folders."""
        mark, folder = self.engine.mark, self.engine.folder
        pids = self.engine.processes()
        if self.daemon.process:
            pids.pop(self.daemon.process.pid, None)
        left = [f"process {pid} {name}" for pid, name in pids.items()]
        left += [f"mount {point}" for point in mounts_below(folder)]
        left += [f"cgroup {path}" for top in leaks.cgroups(mark) for path in Path(top).iterdir() if path.is_dir()]
        left += [f"socket {path}" for path in sorted(shim_sockets() - self.sockets)]
        kind = "io.containerd.runtime.v2.task"
        for place in (folder / "root" / kind, folder / "state" / kind, *folder.glob("runtime-*")):
            with contextlib.suppress(FileNotFoundError):
                left += [f"folder {path}" for path in (place / mark).iterdir()]
        return left

    def load(self, image: Image, namespace: str = "") -> None:
        """Makes the image known, in another namespace than the containers' if need be."""
        flags = ("--namespace", namespace) if namespace else ()
        result = self.ctr(*flags, "image", "import", "--snapshotter", "native", image.oci)
        assert result.rc == 0, result.err


def shim_sockets() -> set[Path]:
    """Where the shims of all of the machine's containerds listen; the folder is no matter of configuration."""
    return set(Path("/run/containerd/s").glob("*"))


@dataclass(slots=True)
class Containerd:
    """containerd's containers of one runtime; the names of containers are the test's."""

    server: ContainerdServer
    runtime: OciRuntime

    @property
    def root(self) -> Path:
        """The runtime's state directory, in which the shim adds the namespace's name."""
        return self.server.engine.folder / f"runtime-{self.runtime.name}"

    def ctr(self, *arguments: str | Path, check: bool = True) -> Result:
        result = self.server.ctr(*arguments)
        assert result.rc == 0 or not check, f"ctr {arguments}: exit code {result.rc}\n{result.out}{result.err}"
        return result

    def run_arguments(self, *flags: str | Path) -> list[str | Path]:
        """`run` and its flags, up to the image."""
        # ctr asks for CPU shares unless told not to.
        shares: tuple[str, ...] = ("--cpu-shares", "0") if why_no_controllers("cpu") else ()
        words = ("run", "--snapshotter", "native", "--runc-binary", self.runtime.path, "--runc-root", self.root)
        return [*words, *shares, *flags, NAME]

    def run(self, name: str, *command: str, flags: tuple[str | Path, ...] = (), check: bool = True) -> Result:
        """Runs a container in the foreground, and removes it."""
        return self.ctr(*self.run_arguments("--rm", *flags), name, *command, check=check)

    def hold(self, name: str, *flags: str | Path) -> None:
        """Starts a container that goes on until SIGTERM (exit code 42)."""
        self.ctr(*self.run_arguments("--detach", *flags), name, "/probe", "hold")

    def execute(self, name: str, *command: str, flags: tuple[str, ...] = (), check: bool = True) -> Result:
        return self.ctr("task", "exec", "--exec-id", f"e-{time.monotonic_ns()}", *flags, name, *command, check=check)

    def status(self, name: str) -> str:
        """RUNNING, PAUSED, STOPPED, or nothing where there is no task."""
        lines = [line.split() for line in self.ctr("task", "list").out.splitlines()]
        return next((words[2] for words in lines if words[0] == name), "")

    def pid(self, name: str) -> int:
        lines = [line.split() for line in self.ctr("task", "list").out.splitlines()]
        return next(int(words[1]) for words in lines if words[0] == name)

    def clear(self) -> list[str]:
        """Removes the containers that there are, and says which."""
        names = self.ctr("container", "list", "--quiet").out.split()
        for name in names:
            self.ctr("task", "delete", "--force", name, check=False)
            self.ctr("container", "delete", name, check=False)
        return names
