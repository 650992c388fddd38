"""Commands through the small program: what it sees, in which order, and what it says of those that fail."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import spawner as module
from bench.spawner import BenchError, CommandError, Spawner, elapsed_seconds
from tests.support import leaks

BUSYBOX = "/bin/busybox"
SH = ("/bin/sh", "-c")


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    running = Spawner()
    yield running
    running.close()


def test_it_times_commands(spawner: Spawner) -> None:
    (outcome,) = spawner.run([[BUSYBOX, "sleep", "0.2"]])
    assert 0.2 <= elapsed_seconds([outcome]) < 5


def test_steps_run_one_after_another_and_their_commands_side_by_side(spawner: Spawner) -> None:
    nap = [BUSYBOX, "sleep", "0.2"]
    first, second, third = spawner.run([nap, nap], [nap])
    assert second.begin_nsec < first.end_nsec
    assert third.begin_nsec >= max(first.end_nsec, second.end_nsec)


def test_a_small_command_shows_little_memory(spawner: Spawner) -> None:
    """A process begins with the peak of the one that spawned it, and this one's is far above."""
    (outcome,) = spawner.run([[BUSYBOX, "true"]])
    assert 0 < outcome.peak_bytes < 2_000_000


def test_a_large_command_shows_much(spawner: Spawner) -> None:
    (outcome,) = spawner.run([[BUSYBOX, "dd", "if=/dev/zero", "of=/dev/null", "bs=32M", "count=1"]])
    assert outcome.peak_bytes > 32_000_000


def test_a_failure_is_told_with_its_last_words(spawner: Spawner) -> None:
    with pytest.raises(CommandError, match=r"exit 7: exit code 7: second$"):
        spawner.run([[*SH, "echo first >&2; echo second >&2; exit 7"]])
    with pytest.raises(CommandError, match=r"exit code -9: nothing on stderr$"):
        spawner.run([[*SH, "kill -9 $$"]])


def test_after_a_failure_others_run(spawner: Spawner) -> None:
    with pytest.raises(CommandError, match="posix_spawn: no such file or directory"):
        spawner.run([["/does/not/exist"]])
    assert spawner.run([[BUSYBOX, "true"]])[0].code == 0


def test_the_steps_after_a_failure_are_carried_out(spawner: Spawner, tmp_path: Path) -> None:
    with pytest.raises(CommandError):
        spawner.run([[BUSYBOX, "false"]], [[BUSYBOX, "touch", str(tmp_path / "made")]])
    assert (tmp_path / "made").exists()


def test_words_may_be_anything(spawner: Spawner, tmp_path: Path) -> None:
    target = tmp_path / "words"
    spawner.run([[*SH, f'printf "%s|" "$@" > {target}', "sh", "", "a b", "ä"]])
    assert target.read_text() == "|a b|ä|"


def test_commands_get_no_descriptor_and_no_input(spawner: Spawner, tmp_path: Path) -> None:
    target = tmp_path / "descriptors"
    spawner.run([[*SH, f"for fd in /proc/$$/fd/*; do echo ${{fd##*/}} $(readlink $fd); done > {target}"]])
    found = dict(line.split(maxsplit=1) for line in target.read_text().splitlines())
    assert found["0"] == "/dev/null"
    assert not any("socket" in name for name in found.values())


def test_commands_get_no_variable_of_this_process(spawner: Spawner, tmp_path: Path) -> None:
    target = tmp_path / "variables"
    spawner.run([[*SH, f"env > {target}"]])
    assert "OCIRT_TEST_TOKEN" in os.environ
    assert "OCIRT_TEST_TOKEN" not in target.read_text()


def test_orphans_are_reaped(spawner: Spawner, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    spawner.run([[*SH, f"sleep 0.05 & echo $! > {pid_file}"]])
    spawner.run([[BUSYBOX, "sleep", "0.2"]])
    assert not Path("/proc", pid_file.read_text().strip()).exists()


def test_what_hangs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.2)
    running = Spawner()
    begin = time.monotonic()
    with pytest.raises(BenchError, match="not over after 0 s") as caught:
        running.run([[BUSYBOX, "sleep", "60"]])
    running.close()
    assert not isinstance(caught.value, CommandError)
    assert time.monotonic() - begin < 10
    # The session ends what is left; here the test does.
    leaks.end_processes([pid for pid, name in leaks.descendants().items() if name in ("busybox", "sleep")])
