"""Fixtures of the tests for faults: a server of commands, bundles to let fail, and containers of the real program."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.injection import Server
from tests.faults.scenarios import Subject
from tests.support import isolation
from tests.support.bundle import make_template
from tests.support.runtime import Container, Runtime, find_runtime

NewContainer = Callable[[], Container]
NewSubject = Callable[..., Subject]

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def folder(scratch: Path) -> Iterator[Path]:
    """Everything of these tests' own."""
    path = scratch / "faults"
    path.mkdir()
    yield path
    isolation.remove_tree(path)


@pytest.fixture(scope="session")
def worker_token(token: str) -> str:
    """What the names of this process's containers and cgroups have in them."""
    return f"{token}-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}-f"


@pytest.fixture(scope="session")
def template(folder: Path) -> Path:
    return make_template(folder / "template")


@pytest.fixture(scope="session")
def server(folder: Path) -> Iterator[Server]:
    root = folder / "root"
    root.mkdir()
    with Server(folder, root) as server:
        yield server


@pytest.fixture
def new_subject(server: Server, worker_token: str, folder: Path, template: Path) -> Iterator[NewSubject]:
    """Makes subjects: `new_subject(kind)`. What they leave is removed."""
    made: list[Subject] = []

    def make(kind: str) -> Subject:
        token = f"{worker_token}{next(_numbers)}-"
        made.append(Subject.prepare(server, token, kind, folder / token, template))
        return made[-1]

    yield make
    for subject in made:
        subject.clear()
        subject.close()
        shutil.rmtree(subject.bundle)


@pytest.fixture
def runtime(folder: Path) -> Runtime:
    found = find_runtime("ocirt", folder / "state")
    assert found
    return found


@pytest.fixture
def new(runtime: Runtime, worker_token: str, folder: Path, template: Path) -> Iterator[NewContainer]:
    """Makes containers of the real program: `new()`. They are deleted after the test."""
    made: list[Container] = []

    def make() -> Container:
        made.append(Container.prepare(runtime, f"{worker_token}{next(_numbers)}", folder, template))
        return made[-1]

    yield make
    for container in reversed(made):
        container.cleanup()


@pytest.fixture
def container(new: NewContainer) -> Container:
    return new()
