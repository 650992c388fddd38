"""dockerd over a containerd of its own."""

from __future__ import annotations

import json
from pathlib import Path

from tests.engines.cli import IMAGE, Cli
from tests.engines.containerd import ContainerdServer
from tests.engines.engine import Daemon, Engine, OciRuntime, run_command
from tests.engines.image import Image


class DockerServer:
    """A dockerd of the tests' own, which knows ocirt beside its own runc."""

    def __init__(self, engine: Engine, ocirt: Path | None) -> None:
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
        argv += ["--containerd-plugins-namespace", f"{engine.mark}-plugins", "--cgroup-parent", f"/{engine.mark}"]
        argv += ["--exec-opt", "native.cgroupdriver=cgroupfs", "--storage-driver", "vfs"]
        # No bridge and no rules: nothing is changed in the machine's network.
        argv += ["--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]
        argv += ["--config-file", f"{folder}/daemon.json"]
        # In /etc/docker otherwise.
        (folder / "daemon.json").write_text(json.dumps({"deprecated-key-path": f"{folder}/key.json"}))
        if ocirt:
            argv += ["--add-runtime", f"ocirt={ocirt}"]
        self.daemon = Daemon(argv, log, engine.env)

    def start(self) -> None:
        self.containerd.start()
        self.daemon.start(lambda: run_command(self.argv("version"), env=self.engine.env).rc == 0)

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
