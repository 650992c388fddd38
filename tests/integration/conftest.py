"""Fixtures of the integration tests: a runtime, and containers of it that are gone after the test."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import leaks
from tests.support.bundle import make_template
from tests.support.isolation import remove_tree
from tests.support.runtime import Container, Runtime, end_leftovers, find_runtime
from tests.support.unprivileged import User, why_no_user_namespaces

NewContainer = Callable[[], Container]

_numbers = itertools.count(1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`runtime` is ocirt, and for a test marked `common` the other runtimes too: runc, or those that the mark names."""
    if "runtime" not in metafunc.fixturenames:
        return
    common = metafunc.definition.get_closest_marker("common")
    names = ["ocirt", *((common.args or ("runc",)) if common else ())]
    known_bad = {mark.args[0]: mark.args[1] for mark in metafunc.definition.iter_markers("known_bad")}
    parameters = [
        pytest.param(name, marks=[_expected_failure(name, known_bad[name])] if name in known_bad else [])
        for name in names
    ]
    metafunc.parametrize("runtime", parameters, indirect=True)


def _expected_failure(name: str, reason: str) -> pytest.MarkDecorator:
    """Not strict: another distribution's version of that runtime may have mended it."""
    return pytest.mark.xfail(reason=f"{name}: {reason}", strict=False)


@pytest.fixture(scope="session")
def template(scratch: Path) -> Path:
    """The root filesystem that bundles link to."""
    return make_template(scratch / "template")


@pytest.fixture
def runtime(request: pytest.FixtureRequest, scratch: Path) -> Runtime:
    name: str = request.param
    found = find_runtime(name, scratch / f"state-{name}")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture
def new(runtime: Runtime, token: str, scratch: Path, template: Path, no_leaks: None) -> Iterator[NewContainer]:
    """Makes containers: `new()`. They are deleted after the test."""
    made: list[Container] = []

    def make() -> Container:
        worker = os.environ.get("PYTEST_XDIST_WORKER", "")
        made.append(Container.prepare(runtime, f"{token}{worker}-{next(_numbers)}", scratch, template))
        return made[-1]

    yield make
    for container in reversed(made):
        container.cleanup()


@pytest.fixture
def user(scratch: Path) -> Iterator[User]:
    """An ordinary user of the machine, with a home of his own."""
    user = User.make(scratch / f"home-{next(_numbers)}")
    if reason := why_no_user_namespaces(user):
        pytest.skip(reason)
    yield user
    remove_tree(user.home)


@pytest.fixture
def container(new: NewContainer) -> Container:
    """A container to be, of the default configuration."""
    return new()


@pytest.fixture
def no_leaks(runtime: Runtime, token: str) -> Iterator[None]:
    """Removes the processes and cgroups that are left after a test's containers are deleted. ocirt's fail the test."""
    before = leaks.Snapshot.take(token)
    cgroups = set(leaks.cgroups(token))
    yield
    left = end_leftovers(before) + [f"mount {point}" for point in before.new_mounts()]
    for path in sorted(set(leaks.cgroups(token)) - cgroups, reverse=True):
        if _is_own(path):
            left.append(f"cgroup {path}")
            leaks.remove_cgroup(path)
    assert not left or runtime.name != "ocirt", f"left behind: {left}"


def _is_own(cgroup: str) -> bool:
    """Whether a cgroup is of this process's tests, and not of another worker's."""
    return os.environ.get("PYTEST_XDIST_WORKER", "") in cgroup
