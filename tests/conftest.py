"""The session: what may run here, and that nothing is left behind.

Guarantees: as root each process of the session has a mount namespace of its own with cgroup v2 at /sys/fs/cgroup, so
that no test changes the machine's mounts, and hybrid hosts test like the others; at its end the session fails if there
are descendants, mounts, cgroups, folders or descriptors that were not there at its start. What cannot run here is
summed up by reason.
"""

from __future__ import annotations

import os
import signal
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import isolation
from tests.support.leaks import Snapshot

TOKEN_VARIABLE = "OCIRT_TEST_TOKEN"
SNAPSHOT = pytest.StashKey[Snapshot]()
LEAKS = pytest.StashKey[list[str]]()
IS_ROOT = os.geteuid() == 0


def is_worker(config: pytest.Config) -> bool:
    """Whether this is one of pytest-xdist's processes, and not the one that started them."""
    return hasattr(config, "workerinput")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the files in tests/golden anew")


def pytest_configure(config: pytest.Config) -> None:
    # Folders, containers and cgroups of this session have the token in their names: others may test at the same time.
    os.environ.setdefault(TOKEN_VARIABLE, f"ot{uuid.uuid4().hex[:8]}")
    # Tests interrupt what they start, which a shell's background job would have ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if IS_ROOT:
        isolation.enter_private_mounts()
        isolation.become_subreaper()
    config.stash[LEAKS] = []
    config.stash[SNAPSHOT] = Snapshot.take(os.environ[TOKEN_VARIABLE])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reasons = {
        "root": None if IS_ROOT else "needs root",
        "cgroup": isolation.why_no_cgroup(),
        "systemd": None if Path("/run/systemd/private").exists() else "needs a running systemd",
    }
    for item in items:
        for marker, reason in reasons.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))
        for mark in item.iter_markers("controllers"):
            if reason := isolation.why_no_controllers(*mark.args):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    # A worker's descendants may be the work of its last test: they are looked for in each process of the session.
    config.stash[LEAKS] += config.stash[SNAPSHOT].leaks(only_own_process=is_worker(config))
    if is_worker(config):
        config.workeroutput["leaks"] = config.stash[LEAKS]  # type: ignore[attr-defined]
    elif config.stash[LEAKS] and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Collects what a worker of pytest-xdist left behind."""
    config: pytest.Config = node.config  # type: ignore[attr-defined]
    config.stash[LEAKS] += getattr(node, "workeroutput", {}).get("leaks", [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = Counter(reason_of(report) for report in terminalreporter.stats.get("skipped", []))
    if skipped:
        terminalreporter.section("not run on this machine")
        for reason, count in skipped.most_common():
            terminalreporter.line(f"{count} skipped: {reason}")
    leaks = terminalreporter.config.stash[LEAKS]
    if leaks:
        terminalreporter.section("left behind by the session", red=True)
        for leak in leaks:
            terminalreporter.line(leak)


def reason_of(report: pytest.TestReport) -> str:
    """Why a test was skipped, without the place that says so."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


@pytest.fixture(scope="session")
def token() -> str:
    """What the names of the session's folders, containers and cgroups begin with."""
    return os.environ[TOKEN_VARIABLE]


@pytest.fixture(scope="session")
def scratch(token: str) -> Iterator[Path]:
    """A folder for bundles that unprivileged users may enter, unlike pytest's own; removed at the end."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    path = Path("/tmp") / f"{token}-{worker}"
    path.mkdir(mode=0o755)
    yield path
    isolation.remove_tree(path)
