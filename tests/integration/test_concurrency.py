"""Commands at the same time: one winner, no hang, nothing left."""

from __future__ import annotations

import concurrent.futures
import subprocess

import pytest

from tests.integration.conftest import NewContainer
from tests.support.runtime import Container

pytestmark = [pytest.mark.root, pytest.mark.cgroup]


def all_at_once(container: Container, *commands: list[str]) -> list[int]:
    """Runs commands of the runtime at the same time; their exit codes, 124 for one that hangs."""
    with concurrent.futures.ThreadPoolExecutor(len(commands)) as pool:
        return [result.rc for result in pool.map(lambda words: container.runtime.run(*words, check=False), commands)]


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 lets two of them win now and then")
def test_eight_creates_of_one_id(container: Container) -> None:
    container.write_config()
    command = ["create", "--bundle", str(container.bundle), container.id]
    codes = all_at_once(container, *[command] * 8)
    assert codes.count(0) == 1, codes
    assert 124 not in codes
    assert container.status == "created"


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 hangs now and then: one of them opens the FIFO that another has emptied")
def test_six_starts(container: Container) -> None:
    container.shell("echo ran >> /log; sleep 1000")
    container.create()
    codes = all_at_once(container, *[["start", container.id]] * 6)
    assert codes.count(0) == 1, codes
    assert 124 not in codes
    assert (container.rootfs / "log").read_text() == "ran\n"


def test_six_deletes(container: Container) -> None:
    container.create()
    codes = all_at_once(container, *[["delete", "--force", container.id]] * 6)
    assert set(codes) == {0}
    assert not (container.runtime.root / container.id).exists()


@pytest.mark.common
@pytest.mark.parametrize("attempt", range(4))
def test_start_against_delete(container: Container, attempt: int) -> None:
    container.process["args"] = ["/probe", "hold"]
    container.create()
    codes = all_at_once(container, ["start", container.id], ["delete", "--force", container.id])
    assert 124 not in codes
    container.delete("--force", check=False)
    assert not (container.runtime.root / container.id).exists()


@pytest.mark.common
@pytest.mark.parametrize("attempt", range(4))
def test_kill_against_start(container: Container, attempt: int) -> None:
    container.process["args"] = ["/probe", "hold"]
    container.create()
    codes = all_at_once(container, ["start", container.id], ["kill", container.id, "KILL"])
    assert 124 not in codes
    assert container.wait() == 137


@pytest.mark.common
def test_create_against_list_and_state(container: Container, new: NewContainer) -> None:
    """The commands that only read never see a half-made state directory as an error."""
    others = [new() for _ in range(4)]
    for other in others:
        other.write_config()
    creates = [["create", "--bundle", str(other.bundle), other.id] for other in others]
    codes = all_at_once(container, *creates, *[["list", "-q"]] * 6)
    assert set(codes) == {0}


@pytest.mark.common
def test_many_containers_at_once(container: Container, new: NewContainer) -> None:
    others = [new() for _ in range(8)]
    for number, other in enumerate(others):
        other.shell(f"exit {number}")
        other.write_config()
    runs = [["run", "--bundle", str(other.bundle), other.id] for other in others]
    assert all_at_once(container, *runs) == list(range(8))


@pytest.mark.common
def test_init_killed_before_start(container: Container) -> None:
    container.create()
    container.kill("KILL")
    container.wait()
    assert container.status == "stopped"
    result = container.start(check=False)
    assert result.rc == 1


@pytest.mark.common
def test_init_killed_during_start(container: Container) -> None:
    """start hangs on nobody."""
    container.create()
    process = subprocess.Popen(
        container.runtime.argv("start", container.id), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    container.kill("KILL", check=False)
    assert process.wait(10) in (0, 1)
    container.wait()
