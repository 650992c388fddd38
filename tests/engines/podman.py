"""Podman and Buildah with storage, state and configuration of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from tests.engines.cli import IMAGE, Cli
from tests.engines.engine import CAP_SYS_RESOURCE, Engine, OciRuntime, ended, has_capability, run_command
from tests.engines.image import Image
from tests.support.isolation import why_no_controllers
from tests.support.runtime import Result
from tests.support.unprivileged import User

CONFIG = """\
[containers]
{limits}
[engine]
# The machine's containers share a file in /dev/shm otherwise.
lock_type = "file"
events_logger = "file"
cgroup_manager = "{manager}"
# By name: without the first --cgroups=disabled is refused, without the second an error is what stderr says.
runtime_supports_nocgroup = ["ocirt"]
runtime_supports_json = ["ocirt", "runc"]
# Docker's.
init_path = "/usr/bin/docker-init"
[engine.runtimes]
{runtimes}
[network]
network_backend = "cni"
network_config_dir = "{folder}/networks"
"""


def limits() -> str:
    """What asks for no more limits than this machine has: Podman sets some unless told not to."""
    lines = []
    if not has_capability(CAP_SYS_RESOURCE):
        lines.append('default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]')
    if why_no_controllers("pids"):
        lines.append("pids_limit = 0")
    return "\n".join(lines)


class PodmanStore:
    """A Podman of the tests' own: there is no daemon. `user`: an ordinary user's, below that user's home."""

    def __init__(self, engine: Engine, runtimes: Iterable[OciRuntime], user: User | None = None) -> None:
        self.engine = engine
        self.user = user
        folder = engine.folder
        folder.mkdir(parents=True, exist_ok=user is not None)
        self.config = folder / "containers.conf"
        lines = [f'{runtime.name} = ["{runtime.path}"]' for runtime in runtimes]
        text = CONFIG.format(folder=folder, limits=limits(), manager=engine.cgroup_manager, runtimes="\n".join(lines))
        self.config.write_text(text)
        self.log = folder / "podman.log"
        engine.logs.append(self.log)
        self.image_tree = folder

    @property
    def env(self) -> dict[str, str]:
        return {**self.engine.env, "CONTAINERS_CONF": str(self.config), "TMPDIR": str(self.engine.folder)}

    def argv(self, *arguments: str | Path, runtime: OciRuntime | None = None) -> list[str]:
        folder = self.engine.folder
        argv = [
            "/usr/bin/podman",
            "--root",
            f"{folder}/root",
            "--runroot",
            f"{folder}/run",
            "--tmpdir",
            f"{folder}/tmp",
        ]
        argv += ["--storage-driver", "vfs"]
        if runtime:
            argv += ["--runtime", runtime.name]
        return self.as_user([*argv, *map(str, arguments)])

    def as_user(self, argv: list[str]) -> list[str]:
        """A command line that executes another as the user, in the environment of `env`."""
        if self.user is None:
            return argv
        return list(replace(self.user, env={**self.user.env, **self.env}).argv(*argv))

    def load(self, image: Image) -> None:
        """Makes the image known."""
        self.image_tree = image.tree
        result = run_command(self.argv("import", image.layer, IMAGE), env=self.env)
        assert result.rc == 0, result.err

    @contextlib.contextmanager
    def used(self) -> Iterator[PodmanStore]:
        """It is for use as long as the context lasts; raises AssertionError where something is left then."""
        with ended(self.engine, "rootless Podman" if self.user else "Podman", self.stop):
            yield self

    def stop(self) -> None:
        """Ends the process that keeps an ordinary user's namespaces."""
        if self.user:
            run_command(self.argv("system", "migrate"), env=self.env)

    def note(self, result: Result) -> None:
        """Podman's log is what it says on stderr."""
        with self.log.open("a") as log:
            log.write(result.err)


class Podman(Cli):
    """Podman's containers of one runtime."""

    name = "podman"

    def __init__(self, store: PodmanStore, runtime: OciRuntime) -> None:
        super().__init__(store.engine, runtime)
        self.store = store

    @property
    def env(self) -> dict[str, str]:
        return self.store.env

    def argv(self, *arguments: str | Path) -> list[str]:
        return self.store.argv(*arguments, runtime=self.runtime)

    def __call__(self, *arguments: str | Path, check: bool = True, env: Mapping[str, str] | None = None) -> Result:
        result = super().__call__(*arguments, check=check, env=env)
        self.store.note(result)
        return result

    def health(self, name: str) -> str:
        """What the container's last health check has found."""
        state = self.inspect(name)["State"]
        return str((state.get("Health") or state["Healthcheck"])["Status"])

    def clear(self) -> list[str]:
        """Also asserts that the runtime, which has its usual state directory, has forgotten them."""
        ids = self("ps", "--all", "--quiet", "--no-trunc").out.split()
        super().clear()
        state = Path(self.store.user.env["XDG_RUNTIME_DIR"]) if self.store.user else Path("/run")
        left = [name for name in ids if (state / self.runtime.name / name).exists()]
        assert not left, f"{self.runtime.name} still has {left}"
        return ids

    def run_flags(self) -> list[str]:
        return [] if self.store.user else ["--cgroup-parent", self.engine.cgroup_parent]


def check_health(podman: Podman) -> None:
    """A container whose health check fails, then succeeds."""
    # No interval: systemd would be asked for a timer.
    podman.hold("one", "--health-cmd", "test -e /tmp/healthy", "--health-interval", "disable", "--health-retries", "1")
    assert podman("healthcheck", "run", "one", check=False).rc == 1
    assert podman.health("one") == "unhealthy"
    podman.execute("one", "touch", "/tmp/healthy")
    assert podman("healthcheck", "run", "one", check=False).rc == 0
    assert podman.health("one") == "healthy"


class Buildah:
    """Buildah on Podman's storage, with the same runtime."""

    def __init__(self, podman: Podman) -> None:
        self.podman = podman

    def __call__(self, *arguments: str, check: bool = True) -> Result:
        """Runs a command of Buildah's."""
        folder = self.podman.engine.folder
        argv = ["/usr/bin/buildah", "--root", f"{folder}/root", "--runroot", f"{folder}/run", "--storage-driver", "vfs"]
        result = run_command([*argv, *arguments], env=self.podman.env)
        assert result.rc == 0 or not check, f"{arguments}: exit code {result.rc}\n{result.out}{result.err}"
        self.podman.store.note(result)
        return result

    def flags(self) -> list[str]:
        """What `from` and `build` get in any case."""
        # Buildah's containers are in the parent itself, which may thus not be Podman's, with cgroups below it.
        return ["--cgroup-parent", f"/{self.podman.engine.mark}-buildah", "--network", "none"]

    def run(self, container: str, *command: str, check: bool = True) -> Result:
        """Runs a command in a working container."""
        runtime = ("--runtime", str(self.podman.runtime.path), "--isolation", "oci")
        return self("run", *runtime, container, "--", *command, check=check)
