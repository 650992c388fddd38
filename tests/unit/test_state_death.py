"""The state directory under several commands at once, and death at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ocirt import state
from ocirt._native import lib
from ocirt.cli import execute
from ocirt.errors import HostError, StateError
from ocirt.record import Record
from ocirt.state import Container
from ocirt.store import Store
from tests.support.child import in_child


def record(container_id: str = "c1") -> Record:
    return Record(container_id, "1.3.0", "/bundle", "/bundle/rootfs")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(str(tmp_path / "root"))
    yield store
    store.close()


def test_eight_creates_have_one_winner(store: Store) -> None:
    for round_number in range(10):
        container_id = f"c{round_number}"
        go_read, go_write = os.pipe()
        read_fd, write_fd = os.pipe()

        def create(container_id: str = container_id, go: int = go_read, result: int = write_fd) -> None:
            os.read(go, 1)
            try:
                container = Store(store.root).create(container_id, record(container_id))
                os.write(result, b"+")
                time.sleep(0.05)  # with the lock held
                container.close()
            except StateError as error:
                os.write(result, b"-" if "container with given ID already exists" in str(error) else b"?")

        pids = [in_child(create) for _ in range(8)]
        os.write(go_write, b"." * 8)
        statuses = [os.waitpid(pid, 0)[1] for pid in pids]
        outcome = os.read(read_fd, 100)
        for fd in (go_read, go_write, read_fd, write_fd):
            os.close(fd)
        assert statuses == [0] * 8
        assert sorted(outcome) == sorted(b"+-------")
        assert container_id in os.listdir(store.root)


def test_create_and_delete_of_one_id_at_once(store: Store) -> None:
    """Whatever the order: no error but the expected ones, and the directory is in one of the two states."""

    def churn() -> None:
        mine = Store(store.root)
        for _ in range(150):
            try:
                container = mine.create("c1", record())
                container.unlock()
                with container.locked(5):
                    container.remove()
                container.close()
            except StateError as error:
                if error.code not in ("state.exists", "state.missing"):
                    raise

    pids = [in_child(churn) for _ in range(4)]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 4
    store.sweep("c1")
    assert os.listdir(store.root) == []


class Killer:
    """Kills this process before the call number `at` of the file operations that state.py uses."""

    CALLS = (
        "mkdir",
        "open",
        "close",
        "rename",
        "unlink",
        "rmdir",
        "stat",
        "fstat",
        "listdir",
        "fdopen",
        "chmod",
        "mkfifo",
    )

    def __init__(self, at: int) -> None:
        self.left = at
        for name in self.CALLS:
            setattr(os, name, self._killing(getattr(os, name)))
        # What happens inside of it: tests/faults.
        vars(state)["lib"] = SimpleNamespace(ocirt_replace=self._killing(lib.ocirt_replace))

    def _killing(self, call: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*args: object, **kwargs: object) -> object:
            self.left -= 1
            if self.left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return wrapped


def killed_at_every_step(action: Callable[[], object], check: Callable[[], None]) -> int:
    """Do it in a process that is killed at its first step, at its second, and so on. The number of kills."""
    for step in range(500):
        pid = in_child(lambda step=step: (Killer(step), action()))  # type: ignore[misc]
        status = os.waitpid(pid, 0)[1]
        if status == 0:
            check()
            return step
        assert status == signal.SIGKILL
        check()
    raise AssertionError("it never ended by itself")


def create_in_full(store: Store) -> Container:
    """All that a create does in its state directory."""
    container = store.create("c1", record())
    container.write("config.json", b"{}")
    container.make_fifo("start")
    container.make_fifo("result")
    container.update(pid=2**22 + 1, start_time=1)
    container.update(status="created")
    return container


Check = Callable[[], None]


@pytest.fixture
def cleaned_up(store: Store, capfd: pytest.CaptureFixture[str]) -> Check:
    """A check: list and state answer, delete --force succeeds, and nothing is left."""

    def run(*words: str) -> tuple[int, str, str]:
        code = execute(["--root", store.root, *words])
        return code, *capfd.readouterr()

    def check() -> None:
        os.makedirs(store.root, exist_ok=True)
        code, listed, error = run("list", "-q")
        assert (code, error) == (0, "")
        code, shown, error = run("state", "c1")
        assert (code == 0) == (listed == "c1\n")
        if code == 0:
            assert '"status": "stopped"' in shown
        else:
            assert error.startswith("ocirt: container does not exist")
        assert run("delete", "--force", "c1") == (0, "", "")
        assert os.listdir(store.root) == []

    return check


def test_create_killed_at_every_step(store: Store, cleaned_up: Check) -> None:
    assert killed_at_every_step(lambda: create_in_full(Store(store.root)), cleaned_up) >= 20


def test_delete_killed_at_every_step(store: Store, cleaned_up: Check) -> None:
    def action() -> None:
        with Store(store.root).load("c1").locked() as container:
            container.remove()

    def check() -> None:
        cleaned_up()
        create_in_full(store).close()

    create_in_full(store).close()
    assert killed_at_every_step(action, check) >= 10


def test_creates_killed_at_every_step_do_not_hinder_the_next(store: Store) -> None:
    def check() -> None:
        try:
            store.create("c1", record()).close()
        except StateError:
            assert os.listdir(store.root) == ["c1"]
        with store.load("c1").locked() as container:
            container.remove()
        assert os.listdir(store.root) == []

    os.mkdir(store.root)
    killed_at_every_step(lambda: create_in_full(Store(store.root)), check)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Mounts a tmpfs with options, and gives its path."""
    path = tmp_path / "mount"
    path.mkdir()
    mounts = 0

    def mount(options: str) -> str:
        nonlocal mounts
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=True)
        mounts += 1
        return str(path)

    yield mount
    for _ in range(mounts):
        subprocess.run(["umount", path], check=True)


@pytest.mark.root
@pytest.mark.parametrize(
    "options", ["nr_inodes=1", "nr_inodes=2", "nr_inodes=3", "nr_inodes=4", "size=4k,nr_inodes=100"]
)
def test_full_file_system(options: str, mounted: Callable[[str], str]) -> None:
    """A root, a container's directory, a file: with each number of inodes something else isn't to be had."""
    path = mounted(options)
    filler = Path(path, "filler")
    if "size" in options:
        filler.write_bytes(b"x" * 4096)
    store = Store(path + "/root")
    with pytest.raises(HostError, match="no space left on device"):
        create_in_full(store)
    left = (
        [name for name in os.listdir(path + "/root") if not name.startswith("c1")]
        if os.path.exists(path + "/root")
        else []
    )
    assert left == []
    store.sweep("c1")
    store.close()


@pytest.mark.root
def test_read_only_file_system(mounted: Callable[[str], str], capfd: pytest.CaptureFixture[str]) -> None:
    path = mounted("size=1m")
    store = Store(path)
    create_in_full(store).close()
    subprocess.run(["mount", "-o", "remount,ro", path], check=True)
    with pytest.raises(HostError, match="read-only file system"):
        store.create("c2", record("c2"))
    with pytest.raises(HostError, match="read-only file system"):
        Store(path + "/root").create("c2", record("c2"))
    assert execute(["--root", path, "delete", "c1"]) == 1
    assert execute(["--root", path, "state", "c1"]) == 0
    assert "read-only file system" in capfd.readouterr().err
    store.close()


@pytest.mark.root
def test_directory_that_is_not_for_this_user(tmp_path: Path) -> None:
    def unprivileged() -> None:
        os.setresuid(65534, 65534, 65534)
        with pytest.raises(HostError, match=r"permission denied \(XDG_RUNTIME_DIR or --root"):
            Store("/ocirt-nobody/root").create("c1", record())

    assert os.waitpid(in_child(unprivileged), 0)[1] == 0
