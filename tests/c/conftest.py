"""ocirt-init as it is shipped, and under the address and undefined-behaviour sanitizers: every test runs with both."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.c.init_runner import InitRunner
from tests.c.op_record import Record
from tests.c.sandbox import Container, Sandbox

BUILD = Path(__file__).parents[2] / "c_ext" / "build.py"
SANITIZE = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")


DESELECTED = pytest.StashKey[set[str]]()
LAST_TEST = "test_success_and_failure_of_every_operation"


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    for item in items:
        item.config.stash.setdefault(DESELECTED, set()).add(item.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The test that judges the others comes after them, also after pytest has put those with one `init` together."""
    items.sort(key=lambda item: item.name == LAST_TEST)


@pytest.fixture
def why_incomplete(request: pytest.FixtureRequest) -> str | None:
    """Why the tests in this folder are not all run before this one, if that is so."""
    folder, config = Path(__file__).parent, request.config
    here = [item for item in request.session.items if item.path.is_relative_to(folder)]
    if os.environ.get("PYTEST_XDIST_WORKER"):
        return "the tests are spread over several processes"
    if any("::" in argument for argument in config.args) or config.stash.get(DESELECTED, set()):
        return "some tests were left out"
    if {item.path for item in here} != set(folder.glob("test_*.py")):
        return "some files were left out"
    return None if here[-1] is request.node else "the tests have another order"


@pytest.fixture(scope="session")
def record() -> Record:
    """What the session has seen of each operation."""
    return Record()


@pytest.fixture(scope="session", params=[(), SANITIZE], ids=["shipped", "sanitized"])
def init(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, record: Record) -> InitRunner:
    path = tmp_path_factory.mktemp("init") / "ocirt-init"
    environment = os.environ | ({"CC": "clang"} if request.param else {})
    subprocess.run([sys.executable, BUILD, path, *request.param], check=True, env=environment)
    return InitRunner(path, record)


@pytest.fixture
def make_sandbox() -> Iterator[Callable[..., Sandbox]]:
    """Sandbox, closed at the end of the test."""
    with contextlib.ExitStack() as stack:

        def make(**options: Any) -> Sandbox:
            sandbox = Sandbox(**options)
            stack.callback(sandbox.close)
            return sandbox

        yield make


@pytest.fixture
def sandbox(make_sandbox: Callable[..., Sandbox]) -> Sandbox:
    """A user namespace in which we are root, with a mount namespace: for what needs no root."""
    return make_sandbox(user=True)


@pytest.fixture
def host_sandbox(make_sandbox: Callable[..., Sandbox]) -> Sandbox:
    """A mount namespace alone: for what needs root on the host."""
    return make_sandbox(user=False)


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    rootfs = tmp_path / "rootfs"
    rootfs.mkdir()
    return rootfs


@pytest.fixture
def container(init: InitRunner, sandbox: Sandbox, rootfs: Path) -> Container:
    """A root file system in a user namespace."""
    return Container(init, sandbox, rootfs)


@pytest.fixture
def root_container(init: InitRunner, host_sandbox: Sandbox, rootfs: Path) -> Container:
    """A root file system in a mount namespace of the host's root."""
    return Container(init, host_sandbox, rootfs)
