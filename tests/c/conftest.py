"""ocirt-init as it is shipped, and under the address and undefined-behaviour sanitizers: every test runs with both."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.c.init_runner import InitRunner
from tests.c.sandbox import Container, Sandbox

BUILD = Path(__file__).parents[2] / "c_ext" / "build.py"
SANITIZE = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")


@pytest.fixture(scope="session", params=[(), SANITIZE], ids=["shipped", "sanitized"])
def init(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> InitRunner:
    path = tmp_path_factory.mktemp("init") / "ocirt-init"
    environment = os.environ | ({"CC": "clang"} if request.param else {})
    subprocess.run([sys.executable, BUILD, path, *request.param], check=True, env=environment)
    return InitRunner(path)


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
