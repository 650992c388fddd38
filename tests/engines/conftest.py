"""Fixtures of the engines' tests: an image, two runtimes, engines in folders of their own, and a look at their logs.

Every test runs with Debian's runc, then with ocirt (dist/ocirt, or what $OCIRT names), in one engine. What a test hands
to `seen` has to be the same for both. At its end the containers that it left are removed; warnings and errors in the
engine's log that no runc test has caused too fail an ocirt test. What worked goes to build/engines, for table.py.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines import table
from tests.engines.cli import Cli
from tests.engines.containerd import Containerd, ContainerdServer
from tests.engines.cri import CriClient, cri_config
from tests.engines.docker import Docker, DockerServer
from tests.engines.engine import Engine, OciRuntime, find_program, log_checked, why_missing
from tests.engines.image import Image, make_image
from tests.engines.podman import Podman, PodmanStore
from tests.engines.seen import Comparison
from tests.support import leaks
from tests.support.isolation import remove_tree
from tests.support.unprivileged import User, delegated_cgroup, why_no_ranges, why_no_user_namespaces

PROJECT = Path(__file__).parent.parent.parent
SEEN: dict[tuple[str, str], Any] = {}
OUTCOMES = pytest.StashKey[list[dict[str, str]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[OUTCOMES] = []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`runtime` is runc first, so that ocirt's results can be compared with it."""
    if "runtime" in metafunc.fixturenames:
        metafunc.parametrize("runtime", ["runc", "ocirt"], indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.engines)
            item.add_marker(pytest.mark.root)


@pytest.fixture(scope="session")
def image(scratch: Path) -> Image:
    return make_image(scratch / "image")


@pytest.fixture(scope="session")
def runtimes(scratch: Path) -> Iterator[dict[str, OciRuntime]]:
    """The runtimes by name. ocirt is copied: somebody may be building it anew meanwhile."""
    found = {}
    folder = scratch / "bin"
    folder.mkdir()
    words = shlex.split(os.environ.get("OCIRT", "")) or [str(PROJECT / "dist" / "ocirt")]
    if len(words) == 1 and Path(words[0]).exists():
        found["ocirt"] = OciRuntime("ocirt", Path(shutil.copy(words[0], folder / "ocirt")))
    if path := find_program("runc"):
        found["runc"] = OciRuntime("runc", Path(path))
    yield found
    shutil.rmtree(folder)


@pytest.fixture
def runtime(request: pytest.FixtureRequest, runtimes: dict[str, OciRuntime]) -> OciRuntime:
    name: str = request.param
    if name not in runtimes:
        pytest.skip("needs dist/ocirt (make binary) or $OCIRT" if name == "ocirt" else f"{name} is not installed")
    return runtimes[name]


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Comparison:
    """Compares what this test sees with what it saw with the other runtime."""
    parameters = {name: value for name, value in request.node.callspec.params.items() if name != "runtime"}
    return Comparison(f"{request.node.path}::{request.node.originalname} {parameters}", SEEN)


@pytest.fixture(scope="session")
def runc_complaints() -> dict[str, set[str]]:
    """What each engine has complained of in the tests with runc."""
    return {}


@pytest.fixture(scope="session")
def containerd_server(scratch: Path, token: str, image: Image) -> Iterator[ContainerdServer]:
    if reason := why_missing("containerd", "ctr", "containerd-shim-runc-v2"):
        pytest.skip(reason)
    with ContainerdServer(Engine(scratch / "containerd", f"{token}-ctrd")).running() as server:
        server.load(image)
        yield server


@pytest.fixture
def containerd(
    containerd_server: ContainerdServer, runtime: OciRuntime, runc_complaints: dict[str, set[str]]
) -> Iterator[Containerd]:
    containerd = Containerd(containerd_server, runtime)
    with log_checked(containerd_server.engine, runtime, runc_complaints):
        yield containerd
        containerd.clear()


@pytest.fixture(scope="session")
def cri_server(scratch: Path, token: str, image: Image, runtimes: dict[str, OciRuntime]) -> Iterator[ContainerdServer]:
    """A containerd with the CRI plugin, and a handler for each runtime."""
    if reason := why_missing("containerd", "ctr", "containerd-shim-runc-v2"):
        pytest.skip(reason)
    engine = Engine(scratch / "cri", f"{token}-ckub")
    with ContainerdServer(engine, cri_config(engine, runtimes.values())).running() as server:
        server.load(image, "k8s.io")
        yield server


@pytest.fixture
def cri(cri_server: ContainerdServer, runtime: OciRuntime, runc_complaints: dict[str, set[str]]) -> Iterator[CriClient]:
    engine = cri_server.engine
    with (
        log_checked(engine, runtime, runc_complaints),
        CriClient(cri_server.socket, runtime.name, engine.cgroup_parent) as client,
    ):
        yield client


@pytest.fixture(scope="session")
def docker_server(scratch: Path, token: str, image: Image, runtimes: dict[str, OciRuntime]) -> Iterator[DockerServer]:
    if reason := why_missing("dockerd", "docker", "containerd", "containerd-shim-runc-v2"):
        pytest.skip(reason)
    with DockerServer(Engine(scratch / "docker", f"{token}-dock"), runtimes.get("ocirt")).running() as server:
        server.load(image)
        yield server


@pytest.fixture
def docker(docker_server: DockerServer, runtime: OciRuntime, runc_complaints: dict[str, set[str]]) -> Iterator[Docker]:
    docker = Docker(docker_server, runtime)
    with log_checked(docker_server.engine, runtime, runc_complaints):
        yield docker
        docker.clear()


@pytest.fixture(scope="session")
def podman_store(scratch: Path, token: str, image: Image, runtimes: dict[str, OciRuntime]) -> Iterator[PodmanStore]:
    if reason := why_missing("podman", "conmon"):
        pytest.skip(reason)
    with PodmanStore(Engine(scratch / "podman", f"{token}-podm"), runtimes.values()).used() as store:
        store.load(image)
        yield store


@pytest.fixture
def podman(podman_store: PodmanStore, runtime: OciRuntime, runc_complaints: dict[str, set[str]]) -> Iterator[Podman]:
    podman = Podman(podman_store, runtime)
    with log_checked(podman_store.engine, runtime, runc_complaints):
        yield podman
        podman.clear()


@pytest.fixture(scope="session")
def rootless_store(scratch: Path, token: str, image: Image, runtimes: dict[str, OciRuntime]) -> Iterator[PodmanStore]:
    """Podman's for an ordinary user; `delegated` gives him a cgroup of his own."""
    user = User.make(scratch / "rootless").with_account()
    if reason := why_missing("podman", "conmon") or why_no_ranges() or why_no_user_namespaces(user):
        remove_tree(user.home)
        pytest.skip(reason)
    with PodmanStore(Engine(user.home, f"{token}-less"), runtimes.values(), user).used() as store:
        store.load(image)
        yield store


@pytest.fixture
def rootless(
    rootless_store: PodmanStore, runtime: OciRuntime, runc_complaints: dict[str, set[str]]
) -> Iterator[Podman]:
    podman = Podman(rootless_store, runtime)
    with log_checked(rootless_store.engine, runtime, runc_complaints):
        yield podman
        podman.clear()


@pytest.fixture
def delegated(rootless_store: PodmanStore) -> Iterator[Path]:
    """A cgroup that is the user's, in a subgroup of which his commands begin."""
    user = rootless_store.user
    assert user
    with delegated_cgroup(user, f"{rootless_store.engine.mark}-user") as delegated:
        assert delegated.cgroup
        rootless_store.user = delegated
        yield delegated.cgroup.parent
        rootless_store.user = user
        rootless_store.stop()
        leaks.reap_children()


@pytest.fixture(params=["docker", "podman"])
def cli(request: pytest.FixtureRequest, runtime: OciRuntime) -> Cli:
    """Docker, then Podman: for what both do with the same words."""
    found: Cli = request.getfixturevalue(request.param)
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    mark = item.get_closest_marker("feature")
    if mark and (report.when == "call" or report.outcome != "passed"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        parameters: dict[str, Any] = dict(item.callspec.params) if isinstance(item, pytest.Function) else {}
        item.config.stash[OUTCOMES].append(
            {
                "test": item.nodeid,
                "engine": parameters.get("cli", mark.args[0]),
                "feature": mark.args[1],
                "runtime": parameters.get("runtime", ""),
                "outcome": "xfailed" if hasattr(report, "wasxfail") else report.outcome,
                "reason": reason.removeprefix("Skipped: "),
            }
        )
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Keeps what worked. The virtual machine's files are gone with it: there it is printed, for table.py."""
    outcomes = terminalreporter.config.stash[OUTCOMES]
    if not outcomes:
        return
    if "OCIRT_VM" in os.environ:
        terminalreporter.write_line(table.PREFIX + json.dumps(outcomes))
    else:
        table.write("host", outcomes)
