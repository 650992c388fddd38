"""Several commands at once: one winner, clean errors for the others, nothing that hangs, and nothing left behind."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Sequence

import pytest

from tests.faults.conftest import NewSubject
from tests.faults.injection import Done, is_complete
from tests.faults.scenarios import Subject, create_it, run_it

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

ROUNDS = 300 if is_complete() else 20
KILLED = 128 + 9


@pytest.fixture
def subject(new_subject: NewSubject) -> Subject:
    return new_subject("plain")


def race(subject: Subject, *commands: Sequence[str], delays_usec: Sequence[int] = ()) -> list[Done]:
    """Runs the commands together, and asserts that each succeeded or failed cleanly."""
    done = subject.server.together(*commands, delays_usec=delays_usec)
    for command, each in zip(commands, done, strict=True):
        # The exit code of a program that was killed is no error of the command's.
        assert not each.unclean or ((each.rc, each.err) == (KILLED, "") and not each.hung), f"{command[0]}: {each}"
    return done


def errors_of(done: Sequence[Done]) -> list[str]:
    return [each.err for each in done if each.rc]


def test_eight_creates(subject: Subject) -> None:
    for _ in range(ROUNDS):
        done = race(subject, *[("create", *subject.creating)] * 8)
        errors = errors_of(done)
        assert len(errors) == 7
        assert all("container with given ID already exists" in error for error in errors), errors
        assert subject.status() == "created"
        assert not subject.recover()


def test_six_starts(subject: Subject) -> None:
    for _ in range(ROUNDS):
        create_it(subject)
        errors = errors_of(race(subject, *[("start", subject.id)] * 6))
        assert len(errors) == 5
        assert all("cannot start an already running container" in error for error in errors), errors
        assert subject.status() == "running"
        assert not subject.recover()


def test_create_after_a_killed_one(new_subject: NewSubject) -> None:
    """Eight creates where a killed one left its unfinished directory: it stops none, and one wins."""
    subject = new_subject("plain")
    unfinished = subject.server.root / f"{subject.id}:new"
    for _ in range(ROUNDS):
        unfinished.mkdir(mode=0o700)
        (unfinished / "state.json.new").touch()
        assert len(errors_of(race(subject, *[("create", *subject.creating)] * 8))) == 7
        assert not subject.recover()


# Commands of a pair, and the one before them; {} is the id.
PAIRS = {
    "start against delete": (create_it, ("start", "{}"), ("delete", "{}")),
    "start against delete --force": (create_it, ("start", "{}"), ("delete", "--force", "{}")),
    "start against kill": (create_it, ("start", "{}"), ("kill", "{}", "KILL")),
    "kill against delete --force": (run_it, ("kill", "{}", "TERM"), ("delete", "--force", "{}")),
    "exec against delete --force": (run_it, ("exec", "{}", "/bin/true"), ("delete", "--force", "{}")),
    "exec against kill": (run_it, ("exec", "{}", "/bin/true"), ("kill", "{}", "KILL")),
    "delete against delete": (run_it, ("delete", "--force", "{}"), ("delete", "--force", "{}")),
    "create against delete --force": (None, ("create",), ("delete", "--force", "{}")),
    "run against kill": (None, ("run", "--detach"), ("kill", "{}", "KILL")),
    "run against delete --force": (None, ("run", "--detach"), ("delete", "--force", "{}")),
    "run in the foreground against kill": (None, ("run",), ("kill", "{}", "KILL")),
    "run in the foreground against delete --force": (None, ("run",), ("delete", "--force", "{}")),
}
# What a command says that came too late, or too early.
EXPECTED = (
    "does not exist",
    "not running",
    "no such process",
    "stopped",
    "already running",
    "not stopped",
    "ocirt-init ended",
    "container is gone",
    "while it was being",
)


@pytest.mark.parametrize("name", PAIRS)
def test_pair(subject: Subject, name: str) -> None:
    """One command after the other by up to 30 ms, in which each of them comes to its end."""
    before, *pair = PAIRS[name]
    chance = random.Random(name)
    for _ in range(ROUNDS):
        if before:
            before(subject)
        first, second = ([word.format(subject.id) for word in words] for words in pair)
        if first[0] in ("create", "run"):
            first += subject.creating
        delays = [0, chance.randrange(30000)]
        chance.shuffle(delays)
        # What runs in the foreground ends only with its container.
        extra = [("delete", "--force", subject.id)] if first[0] == "run" and "--detach" not in first else []
        done = race(subject, first, second, *extra, delays_usec=[*delays, 200000])
        for each in done:
            assert not each.rc or each.rc == KILLED or any(words in each.err for words in EXPECTED), each
        assert not subject.recover()


def test_init_killed_before_start(subject: Subject) -> None:
    create_it(subject)
    os.kill(subject.pid, signal.SIGKILL)
    subject.server.processes()
    assert subject.status() == "stopped"
    begin = time.monotonic()
    done = subject.server.run("start", subject.id)
    assert (done.rc, done.unclean) == (1, "")
    assert "cannot start a container that has stopped" in done.err
    assert time.monotonic() - begin < 1
    subject.ocirt("delete", subject.id)
    assert not subject.leftovers()


def test_list_during_everything(subject: Subject) -> None:
    """`list` never fails, and never warns of a container that is just being made or removed."""
    for _ in range(ROUNDS):
        commands = [
            ("create", *subject.creating),
            *[("list",)] * 4,
            ("delete", "--force", subject.id),
            *[("list",)] * 4,
        ]
        done = race(subject, *commands, delays_usec=[0, 2000, 8000, 14000, 20000, 25000, 26000, 28000, 30000, 32000])
        assert [each.err for each in done[1:5] + done[6:]] == [""] * 8
        assert not subject.recover()


def test_two_containers_in_one_cgroup_parent(new_subject: NewSubject) -> None:
    """Made and removed at once, again and again: neither takes the parent away from the other, and none stays."""
    one, two = new_subject("plain"), new_subject("plain")
    one.config["linux"]["cgroupsPath"] = f"/{one.token}/parent/one"
    two.config["linux"]["cgroupsPath"] = f"/{one.token}/parent/two"
    for subject in (one, two):
        subject.write_config()
    create = [("create", *subject.creating) for subject in (one, two)]
    delete = [("delete", "--force", subject.id) for subject in (one, two)]
    for _ in range(3 * ROUNDS):
        assert errors_of(race(one, create[0], create[1])) == []
        assert errors_of(race(one, delete[0], delete[1])) == []
        assert errors_of(race(one, create[0])) == []
        assert errors_of(race(one, delete[0], create[1])) == []
        assert errors_of(race(one, delete[1])) == []
        assert not one.leftovers()
