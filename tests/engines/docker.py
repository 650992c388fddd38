"""dockerd over a containerd of its own."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from tests.engines.cli import IMAGE, Cli
from tests.engines.containerd import ContainerdServer
from tests.engines.engine import ENGINE_PATH, Daemon, Engine, OciRuntime, ended, run_command
from tests.engines.image import Image
from tests.support.runtime import Result


class DockerServer:
    """A dockerd of the tests' own, which knows ocirt beside its own runc."""

    def __init__(self, engine: Engine, ocirt: OciRuntime | None) -> None:
        self.engine = engine
        folder = engine.folder
        folder.mkdir(parents=True)
        self.containerd = ContainerdServer(Engine(folder / "containerd", engine.mark))
        log = folder / "dockerd.log"
        engine.logs += [log, *self.containerd.engine.logs]
        self.host = f"unix://{folder}/socket"
        argv = ["/usr/sbin/dockerd", "--host", self.host, "--data-root", f"{folder}/root"]
        argv += ["--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid"]
        argv += ["--containerd", str(self.containerd.socket), "--containerd-namespace", engine.mark]
        argv += ["--containerd-plugins-namespace", f"{engine.mark}-plugins", "--cgroup-parent", engine.cgroup_parent]
        argv += ["--exec-opt", f"native.cgroupdriver={engine.cgroup_manager}", "--storage-driver", "vfs"]
        # No bridge and no rules: nothing is changed in the machine's network.
        argv += ["--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]
        argv += ["--config-file", f"{folder}/daemon.json"]
        # In /etc/docker otherwise.
        (folder / "daemon.json").write_text(json.dumps({"deprecated-key-path": f"{folder}/key.json"}))
        if ocirt:
            argv += ["--add-runtime", f"ocirt={ocirt.path}"]
        # BuildKit, a part of dockerd here, looks for runc each time, and has no option for another one.
        self.builder = folder / "bin" / "runc"
        self.builder.parent.mkdir()
        self.daemon = Daemon(argv, log, {**engine.env, "PATH": f"{self.builder.parent}:{ENGINE_PATH}"})

    def start(self) -> None:
        self.containerd.start()
        self.daemon.start(lambda: run_command(self.argv("version"), env=self.engine.env).rc == 0)

    @contextlib.contextmanager
    def running(self) -> Iterator[DockerServer]:
        """Runs it as long as the context lasts; raises AssertionError where something is left then."""
        with ended(self.engine, "Docker", self.stop):
            self.start()
            yield self

    def stop(self) -> None:
        self.daemon.stop()
        self.containerd.stop()

    def argv(self, *arguments: str | Path) -> list[str]:
        folder = self.engine.folder
        return ["/usr/bin/docker", "--config", f"{folder}/config", "--host", self.host, *map(str, arguments)]

    def load(self, image: Image) -> None:
        """Makes the image known."""
        result = run_command(self.argv("import", image.layer, IMAGE), env=self.engine.env)
        assert result.rc == 0, result.err


class Docker(Cli):
    """Docker's containers of one runtime."""

    name = "docker"

    def __init__(self, server: DockerServer, runtime: OciRuntime) -> None:
        super().__init__(server.engine, runtime)
        self.server = server

    def argv(self, *arguments: str | Path) -> list[str]:
        return self.server.argv(*arguments)

    def run_flags(self) -> list[str]:
        return ["--runtime", self.runtime.name]

    def run_image(self, image: str, *command: str) -> Result:
        """Runs a container of another image than the tests' own."""
        return self(*self.run_arguments("--rm", image, *command))

    def build(self, context: Path, *flags: str, check: bool = True) -> Result:
        """Builds an image with BuildKit, on the runtime."""
        builder = self.server.builder
        builder.unlink(missing_ok=True)
        builder.symlink_to(self.runtime.path)
        words = ["build", "--progress", "plain", "--no-cache", "--network", "none", *flags, str(context)]
        return self(*words, check=check, env={"DOCKER_BUILDKIT": "1"})
