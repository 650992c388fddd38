"""kill -9 at every system call: of the runtime, and of the processes that it starts.

Afterwards `list` and `state` answer, `delete --force` succeeds, and nothing is left: no process, mount, cgroup, file,
state or network device. A runtime whose init was killed says so in one line, at once, and has undone what it did.
"""

from __future__ import annotations

import pytest

from tests.faults.conftest import NewSubject
from tests.faults.injection import Done, sample_calls
from tests.faults.scenarios import COMMANDS
from tests.faults.sweep import Sweep, kill

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

KILLED = 128 + 9
# A thread that is being created may make for a call more or less: another one has the number then.
TRIES = 20
# How many points of each are tried where not all are: some 30 ms each.
RUNTIME_POINTS = {"create": 60, "start": 20, "run": 50, "exec": 40, "delete": 25, "delete --force": 25}
INIT_POINTS = {"create": 80, "start": 20, "exec": 40, "delete": 5}


def points_of(*kinds: str, counts: dict[str, int]) -> list[object]:
    return [pytest.param(kind, name, count, id=f"{kind}-{name}") for kind in kinds for name, count in counts.items()]


@pytest.mark.parametrize(
    ("kind", "name", "count"),
    [
        *points_of("plain", "hooked", "isolated", counts=RUNTIME_POINTS),
        *points_of("networked", counts={"create": 40, "delete --force": 10}),
        *points_of("brief", counts={"run in the foreground": 60}),
    ],
)
def test_runtime_is_killed(new_subject: NewSubject, kind: str, name: str, count: int) -> None:
    sweep = Sweep(COMMANDS[name], new_subject(kind))
    calls = sweep.calls(of_runtime=True)
    assert len(calls) > 20
    wrong = []
    for call, done in sweep.disturb(sample_calls(calls, count), kill):
        if what := (["hung"] if done.hung else []) + sweep.aftermath():
            wrong.append(f"{call} {done.text!r}: {'; '.join(what)}")
            sweep.subject.clear()
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("kind", "name", "count"),
    [
        *points_of("plain", "hooked", "isolated", counts=INIT_POINTS),
        *points_of("networked", counts={"create": 30}),
        *points_of("brief", counts={"run in the foreground": 40}),
    ],
)
def test_init_is_killed(new_subject: NewSubject, kind: str, name: str, count: int) -> None:
    sweep = Sweep(COMMANDS[name], new_subject(kind))
    wrong = []
    calls = sample_calls(sweep.calls(of_runtime=False), count)
    for call, done in sweep.disturb(calls, kill):
        what = [] if is_the_programs_end(name, done) else sweep.wrong_after_failure(done)
        if what := what + sweep.aftermath():
            wrong.append(f"{call} {done.text!r}: {'; '.join(what)}")
            sweep.subject.clear()
    assert not wrong, "\n".join(wrong)


def is_the_programs_end(name: str, done: Done) -> bool:
    """Killed as it enters execve(2), having said that this comes next, it is the user's program that was killed."""
    return name in ("exec", "run in the foreground") and done.fired == "execve" and (done.rc, done.err) == (KILLED, "")


def test_the_tracer_kills_where_it_says(new_subject: NewSubject) -> None:
    """What all the others are built upon: a kill at the call that makes the state directory leaves none.

    Killed at the rename with which the container comes to exist, there is no container yet; at the next call there is.
    """
    sweep = Sweep(COMMANDS["create"], new_subject("plain"))
    calls = sweep.calls(of_runtime=True)
    position = next(i for i, call in enumerate(calls) if call.name.startswith("mkdir"))
    rename = next(i for i in range(position, len(calls)) if calls[i].name == "renameat")
    found = []
    for call in (calls[position], calls[rename], calls[rename + 1]):
        kills = (done for _, done in sweep.disturb([call] * TRIES, kill))
        done = next(done for done in kills if done.fired == call.name or sweep.aftermath())
        assert (done.rc, done.fired) == (-9, call.name)
        entries = [path.name.removeprefix(sweep.subject.id) for path in sweep.subject.server.root.iterdir()]
        found.append((entries, sweep.subject.status()))
        assert not sweep.aftermath()
    assert found == [([], ""), ([":new"], ""), ([""], "stopped")]
