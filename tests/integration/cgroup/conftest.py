"""Fixtures of the cgroup code on the kernel's own cgroup2: a manager, and a cgroup for each test alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt.cgroup.manager import CgroupfsManager, CgroupRecord
from ocirt.cgroup.paths import CgroupHost, probe_cgroup_host
from tests.support.cgroups import remove_tree


@pytest.fixture
def host() -> CgroupHost:
    found = probe_cgroup_host()
    assert found is not None
    return found


@pytest.fixture
def manager(host: CgroupHost) -> CgroupfsManager:
    return CgroupfsManager(host)


@pytest.fixture
def base(host: CgroupHost, token: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The path of a cgroup of this test alone, not made yet; whatever is there in the end is removed."""
    path = f"/{token}-{os.environ.get('PYTEST_XDIST_WORKER', '')}-{abs(hash(request.node.nodeid))}"
    yield path
    remove_tree(Path(host.directory(path)))


@pytest.fixture
def directory(host: CgroupHost, base: str) -> Path:
    return Path(host.directory(base))


def create(manager: CgroupfsManager, path: str, container_id: str = "c1") -> CgroupRecord:
    """A cgroup made to its end; its record."""
    created = manager.create(manager.prepare(path, container_id))
    assert created.cgroup is not None
    created.cgroup.close()
    return created.record


def is_alive(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
