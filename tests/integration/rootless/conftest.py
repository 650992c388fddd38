"""Fixtures of an ordinary user: the runtime as he calls it, and containers that are his."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.conftest import NewContainer
from tests.support.runtime import Container, Runtime, find_runtime
from tests.support.unprivileged import User, give_bundle, make_rootless, map_ranges, why_no_ranges

NewUserContainer = Callable[[User], Container]


@pytest.fixture
def runtime_name(request: pytest.FixtureRequest) -> str:
    return str(request.node.callspec.params["runtime"])


@pytest.fixture
def plain_runtime(runtime_name: str, user: User) -> Runtime:
    """The runtime as root would call it."""
    found = find_runtime(runtime_name, user.home / "unused")
    if found is None:
        pytest.skip(f"{runtime_name} is not installed")
    return found


@pytest.fixture
def runtime(user: User, plain_runtime: Runtime) -> Runtime:
    """The runtime as the user calls it."""
    user, reached = user.reaching(plain_runtime)
    return user.runtime(reached)


@pytest.fixture
def as_user(new: NewContainer, plain_runtime: Runtime) -> NewUserContainer:
    """Makes rootless containers of a user: `as_user(user)`."""

    def make(user: User) -> Container:
        container = new()
        user, reached = user.reaching(plain_runtime)
        container.runtime = user.runtime(reached)
        give_bundle(container, user)
        make_rootless(container.config, user)
        return container

    return make


@pytest.fixture
def rootless(as_user: NewUserContainer, user: User) -> Container:
    """A container of the user with one id, as `spec --rootless` has it."""
    return as_user(user)


@pytest.fixture
def ranged(as_user: NewUserContainer, user: User) -> Container:
    """A container of the user with 65537 ids."""
    if reason := why_no_ranges():
        pytest.skip(reason)
    container = as_user(user.with_account())
    map_ranges(container.config, user)
    return container
