"""Many containers under containerd, and containers that outlive it: nothing is left of them, and none is lost."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.engines.containerd import Containerd
from tests.engines.engine import is_alive
from tests.support.runtime import wait_for


def feature(name: str) -> pytest.MarkDecorator:
    return pytest.mark.feature("containerd", name)


def name_of(number: int) -> str:
    """A container's name, in which the log's reader knows the number for one."""
    return f"many-{number:03}"


@feature("200 containers one after another")
@pytest.mark.slow
def test_many_containers_one_after_another_leave_nothing(containerd: Containerd) -> None:
    for number in range(200):
        code = number % 4
        # Not its output: of one command in a thousand ctr loses that, with runc too.
        result = containerd.run(name_of(number), "sh", "-c", f"exit {code}", check=False)
        assert result.rc == code, result.err
    wait_for(lambda: not containerd.server.left_behind())


@feature("20 containers side by side")
def test_many_containers_side_by_side(containerd: Containerd) -> None:
    names = [name_of(number) for number in range(20)]
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(containerd.hold, names))
        assert {containerd.status(name) for name in names} == {"RUNNING"}
        commands = pool.map(
            lambda number: containerd.execute(name_of(number), "sh", "-c", f"exit {number}", check=False), range(20)
        )
        assert [result.rc for result in commands] == list(range(20))
        list(pool.map(lambda name: containerd.ctr("task", "kill", "--signal", "TERM", name), names))
        wait_for(lambda: {containerd.status(name) for name in names} == {"STOPPED"}, 60)
        results = pool.map(lambda name: containerd.ctr("task", "delete", name), names)
        assert all("exit code 42" in result.err for result in results)
        list(pool.map(lambda name: containerd.ctr("container", "delete", name), names))
    wait_for(lambda: not containerd.server.left_behind())


@feature("containerd restarted")
def test_containers_outlive_containerd(containerd: Containerd) -> None:
    containerd.hold("one")
    containerd.hold("two")
    pids = {name: containerd.pid(name) for name in ("one", "two")}
    containerd.server.stop()
    assert is_alive(pids["one"])
    os.kill(pids["two"], 15)
    wait_for(lambda: not is_alive(pids["two"]))
    containerd.server.start()
    assert containerd.pid("one") == pids["one"]
    assert (containerd.status("one"), containerd.status("two")) == ("RUNNING", "STOPPED")
    assert containerd.execute("one", "echo", "here").out == "here\n"
    assert "exit code 42" in containerd.ctr("task", "delete", "two").err
    containerd.ctr("task", "kill", "--signal", "TERM", "one")
    wait_for(lambda: containerd.status("one") == "STOPPED")
    assert "exit code 42" in containerd.ctr("task", "delete", "one").err
