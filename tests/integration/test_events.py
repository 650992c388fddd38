"""events: statistics as runc prints them, out-of-memory kills when they happen, and when the command ends."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cgroups import cgroup_of, counters
from tests.support.runtime import Container, Runtime, wait_for

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

MIB = 1 << 20


@contextlib.contextmanager
def streaming(container: Container, *flags: str) -> Iterator[Stream]:
    process = subprocess.Popen(
        container.runtime.argv("events", *flags, container.id), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    stream = Stream(process)
    try:
        yield stream
    finally:
        process.kill()
        process.wait()
        stream.close()


class Stream:
    """The output of a running `events`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self.process, self._fd = process, process.stdout.fileno()
        self._rest = b""

    def next(self, timeout_seconds: float = 20) -> Any:
        """The next event; None when there are no more."""
        while b"\n" not in self._rest:
            assert select.select([self._fd], [], [], timeout_seconds)[0], "no event came"
            data = os.read(self._fd, 65536)
            if not data:
                assert not self._rest
                return None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    def close(self) -> None:
        assert self.process.stdout is not None
        self.process.stdout.close()


def stats(container: Container) -> Any:
    event = json.loads(container.runtime.run("events", "--stats", container.id).out)
    assert (event["type"], event["id"]) == ("stats", container.id)
    return event["data"]


@pytest.mark.common
def test_statistics(container: Container) -> None:
    container.shell("i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done; echo done; sleep 1000 & wait")
    container.start_new()
    wait_for(lambda: container.output == "done\n")
    data = stats(container)
    assert {"cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt", "network_interfaces"} <= set(data)
    usage = data["cpu"]["usage"]
    assert 10**6 < usage["total"] < 10**11, "nanoseconds"
    assert abs(usage["user"] + usage["kernel"] - usage["total"]) <= 2000
    assert data["pids"]["current"] == 2


@pytest.mark.controllers("memory", "pids", "cpu")
@pytest.mark.common
def test_statistics_of_limits(container: Container) -> None:
    container.linux["resources"] = {
        "memory": {"limit": 64 * MIB, "swap": 96 * MIB},
        "pids": {"limit": 20},
        "cpu": {"quota": 10000, "period": 20000},
    }
    container.hold()
    data = stats(container)
    assert data["memory"]["usage"]["limit"] == 64 * MIB
    assert 0 < data["memory"]["usage"]["usage"] < 64 * MIB
    assert data["memory"]["swap"]["limit"] == 96 * MIB
    assert data["memory"]["raw"]["anon"] > 0
    assert data["pids"] == {"current": 1, "limit": 20}
    assert data["cpu"]["throttling"]["periods"] > 0


def test_stream_of_statistics_ends_with_the_container(container: Container) -> None:
    """Also without the memory controller, where runc refuses."""
    container.hold()
    with streaming(container, "--interval", "200ms") as stream:
        for _ in range(2):
            assert stream.next()["type"] == "stats"
        container.kill("KILL")
        container.wait()
        while event := stream.next():
            assert event["type"] == "stats"
        assert stream.process.wait(10) == 0


def test_nothing_comes_before_its_time(container: Container) -> None:
    container.hold()
    with streaming(container, "--interval", "1h") as stream:
        with pytest.raises(AssertionError, match="no event came"):
            stream.next(0.5)
        container.kill("KILL")
        container.wait()
        assert stream.next() is None
        assert stream.process.wait(10) == 0


def test_container_that_is_deleted_meanwhile(container: Container) -> None:
    container.create()
    with streaming(container, "--interval", "100ms") as stream:
        assert stream.next()["type"] == "stats"
        container.delete()
        while stream.next():
            pass
        assert stream.process.wait(10) == 0


def test_paused_container(container: Container, runtime: Runtime) -> None:
    container.hold()
    runtime.run("pause", container.id)
    assert stats(container)["pids"]["current"] == 1


def test_reader_that_goes_away_ends_it(container: Container) -> None:
    container.hold()
    with streaming(container, "--interval", "1h") as stream:
        with pytest.raises(AssertionError, match="no event came"):
            stream.next(0.5)
        stream.close()
        assert stream.process.wait(10) == 141


def test_interrupt_ends_it(container: Container) -> None:
    container.hold()
    with streaming(container, "--interval", "100ms") as stream:
        stream.next()
        stream.process.send_signal(signal.SIGINT)
        assert stream.process.wait(10) == 130


@pytest.mark.common
def test_container_that_has_ended(container: Container, runtime: Runtime) -> None:
    container.shell("true")
    container.start_new()
    container.wait()
    result = runtime.run("events", "--stats", container.id, check=False)
    assert result.rc != 0
    assert "not running" in result.error


@pytest.mark.common
def test_interval_of_zero(container: Container, runtime: Runtime) -> None:
    container.hold()
    result = runtime.run("events", "--interval", "0s", container.id, check=False)
    assert result.rc != 0
    assert "interval" in result.error


def test_without_a_cgroup_of_its_own(container: Container, runtime: Runtime) -> None:
    container.write_config()
    argv = ("--cgroup-manager", "disabled", "create", "--bundle", container.bundle, "--pid-file", container.pid_file)
    runtime.run(*argv, container.id, stdout=container.bundle / "output")
    result = runtime.run("events", "--stats", container.id, check=False)
    assert result.rc == 1
    assert "has no cgroup of its own" in result.error


# A hog that grows only when it is told to, and init, which outlives it and says how it ended.
HOG = "mkfifo /go; read line < /go; head -c 200m /dev/zero | tail -c 200m >/dev/null; echo rc $?; sleep 1000"


@pytest.mark.controllers("memory")
@pytest.mark.common
def test_kill_for_want_of_memory(container: Container) -> None:
    container.linux["resources"] = {"memory": {"limit": 24 * MIB, "swap": 24 * MIB}}
    container.shell(HOG)
    container.start_new()
    with streaming(container, "--interval", "300ms") as stream:
        assert stream.next()["type"] == "stats"
        (container.rootfs / "go").write_text("\n")
        wait_for(lambda: container.output != "", 60)
        assert container.output == "rc 137\n"
        while (event := stream.next())["type"] == "stats":
            pass
        assert event == {"type": "oom", "id": container.id}
        time.sleep(1)  # where the hog's memory is slow to come back, the kernel kills another
        kills = counters(cgroup_of(container), "memory.events")["oom_kill"]
        container.kill("KILL")
        container.wait()
        events = ["oom"]
        while event := stream.next():
            events.append(event["type"])
        assert container.runtime.name != "ocirt" or events.count("oom") <= kills, "more events than kills"
        assert stream.process.wait(10) == 0


@pytest.mark.controllers("memory")
def test_kill_of_init_for_want_of_memory(container: Container) -> None:
    """The event still comes, though there is nobody left in the cgroup."""
    container.linux["resources"] = {"memory": {"limit": 24 * MIB, "swap": 24 * MIB}}
    container.shell("mkfifo /go; read line < /go; exec tail -c 200m /dev/zero")
    container.start_new()
    with streaming(container, "--interval", "1h") as stream:
        with pytest.raises(AssertionError, match="no event came"):
            stream.next(3)
        (container.rootfs / "go").write_text("\n")
        assert stream.next(60) == {"type": "oom", "id": container.id}
        assert stream.next() is None
        assert stream.process.wait(10) == 0
    assert container.wait() == 137


@pytest.mark.controllers("memory")
def test_kills_of_the_past_are_no_events(container: Container) -> None:
    container.linux["resources"] = {"memory": {"limit": 24 * MIB, "swap": 24 * MIB}}
    container.shell("head -c 200m /dev/zero | tail -c 200m >/dev/null; echo rc $?; sleep 1000")
    container.start_new()
    wait_for(lambda: container.output == "rc 137\n", 60)
    assert stats(container)["memory"]["usage"]["failcnt"] > 0
    with streaming(container, "--interval", "300ms") as stream:
        assert [stream.next()["type"] for _ in range(2)] == ["stats", "stats"]
