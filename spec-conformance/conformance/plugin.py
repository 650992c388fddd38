"""The tests' side of pytest: one runtime a session, one case a requirement, and the results as JSON.

Guarantees: a test function has exactly the cases of the requirements that name it; a requirement whose needs the
machine does not meet is skipped with the reason; nothing that a test makes outlives it; as root, each process of the
session has a mount namespace of its own with cgroup v2 at /sys/fs/cgroup, and a network namespace of its own.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import requirements
from conformance import results
from conformance.bed import Bed
from conformance.mutation import VARIABLE
from conformance.runtimes import resolve
from requirements import Catalogue, Requirement

from tests.support import isolation, leaks
from tests.support.bundle import make_template
from tests.support.runtime import Runtime

TOKEN_VARIABLE = "OCIRT_TEST_TOKEN"
CLONE_NEWNET = 0x40000000
# Of this session's process: by the requirement's id.
_RESULTS: dict[str, dict[str, Any]] = {}


@cache
def catalogue() -> Catalogue:
    return requirements.load()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--runtime", default="ocirt", help="the runtime's command line, or NAME=COMMAND")
    parser.addoption("--results", type=Path, help="a file for the results")
    parser.addoption("--mutations", type=Path, help="a file: what is wrong with mutant.py, by the requirement's id")


def is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    os.environ.setdefault(TOKEN_VARIABLE, f"oc{uuid.uuid4().hex[:8]}")
    if os.geteuid() == 0 and not config.option.collectonly:
        isolation.enter_private_mounts()
        isolation.unshare(CLONE_NEWNET)
        isolation.become_subreaper()


def identity(function: Any) -> str:
    """The name by which the data know a test function."""
    return f"{Path(function.__code__.co_filename).stem.removeprefix('test_')}::{function.__name__}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    name = identity(metafunc.function)
    found = [requirement for requirement in catalogue().requirements if requirement.checked_by == name]
    if not found or "requirement" not in metafunc.fixturenames:
        raise LookupError(f"{name}: no requirement names this test, or it does not take one")
    metafunc.parametrize("requirement", found, ids=[requirement.id for requirement in found], indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="not testable here: needs root"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    requirement = item.callspec.params["requirement"]  # type: ignore[attr-defined]
    entry = results.of_report(report, call.excinfo.value if call.excinfo else None)
    if entry:
        entry = results.neutral(entry, os.environ[TOKEN_VARIABLE])
    report.user_properties.append((requirement.id, entry))  # type: ignore[attr-defined]
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keeps the worst of a case's three phases."""
    for name, value in report.user_properties:
        entry: Any = value
        if entry and (name not in _RESULTS or entry["outcome"] == "failed"):
            _RESULTS[name] = entry


def pytest_sessionfinish(session: pytest.Session) -> None:
    target: Path | None = session.config.option.results
    if target is not None and not is_worker(session.config):
        target.write_text(json.dumps(_RESULTS, indent=1))


@pytest.fixture(scope="session")
def bed_of_session(request: pytest.FixtureRequest) -> Iterator[Bed]:
    # What other workers make is none of this one's.
    token = f"{os.environ[TOKEN_VARIABLE]}{os.environ.get('PYTEST_XDIST_WORKER', 'main')}x"
    scratch = Path("/tmp") / token
    scratch.mkdir(mode=0o755)
    found = resolve(request.config.option.runtime)
    runtime = Runtime(found.name, found.command, scratch / "state")
    bed = Bed(runtime, token, scratch, make_template(scratch / "template"))
    try:
        bed.find_version()
        bed.clean()
        yield bed
    finally:
        bed.clean()
        # What a runtime leaves that does not delete.
        leaks.reap_children()
        for path in sorted(leaks.cgroups(token), reverse=True):
            leaks.remove_cgroup(path)
        for point in reversed(leaks.mounts()):
            if Path(point).is_relative_to(scratch):
                isolation.umount(point)
        isolation.remove_tree(scratch)


@pytest.fixture
def bed(bed_of_session: Bed) -> Iterator[Bed]:
    """The runtime, with what a test made of it removed afterwards."""
    before = leaks.Snapshot.take(bed_of_session.token)
    cgroups = set(leaks.cgroups(bed_of_session.token))
    yield bed_of_session
    bed_of_session.clean()
    leaks.end_processes(list(before.new_processes()))
    for point in reversed(before.new_mounts()):
        isolation.umount(point)
    for path in sorted(set(leaks.cgroups(bed_of_session.token)) - cgroups, reverse=True):
        leaks.remove_cgroup(path)


@pytest.fixture
def requirement(
    request: pytest.FixtureRequest, bed: Bed, mutations: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Requirement:
    """The requirement that a case shows, whose needs are met. With --mutations, the runtime breaks it."""
    found: Requirement = request.param
    bed.require(*found.needs)
    if found.id in mutations:
        bed.forget()
        monkeypatch.setenv(VARIABLE, mutations[found.id])
    return found


@pytest.fixture(scope="session")
def mutations(request: pytest.FixtureRequest) -> dict[str, str]:
    path: Path | None = request.config.option.mutations
    return dict(json.loads(path.read_text())) if path else {}
