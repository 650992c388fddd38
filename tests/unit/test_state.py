"""The state directory: one winner, whole records, and death at any moment."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.errors import HostError, OcirtError, StateError
from ocirt.record import Process, Record, Status, check_id, created_now, is_id, parse_stat, probe_process, timestamp
from ocirt.store import Store
from tests.support.child import in_child, rename_process


def record(container_id: str = "c1", **changes: object) -> Record:
    return replace(Record(container_id, "1.3.0", "/bundle", "/bundle/rootfs"), **changes)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(str(tmp_path / "root"))
    yield store
    store.close()


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process to stand for a container's init."""
    with subprocess.Popen(["sleep", "100"]) as process:
        yield process
        process.kill()


def start_time(pid: int) -> int:
    process = probe_process(pid)
    assert process is not None
    return process.start_time


def ids(store: Store) -> list[str]:
    errors: list[str] = []
    found = []
    for container in store.list(lambda name, _: errors.append(name)):
        found.append(container.id)
        container.close()
    assert errors == []
    return found


# ---- ids


@pytest.mark.parametrize("text", ["a", "A.b_c-d+1", "..a", ".hidden", "_", "+", "0", "x" * 251])
def test_ids(text: str) -> None:
    check_id(text)


@pytest.mark.parametrize(
    "text",
    [
        *(".", "..", "a/b", "../x", "/", "a b", "a\n", "\na", "a;b", "é", "ß", "٣", "-x", "--", "a:new", ":"),
        *("x" * 252, "x" * 100000, "a\0", "a*", "~", "\udc80"),
    ],
)
def test_bad_ids(text: str, store: Store) -> None:
    for use in (store.load, store.sweep, lambda name: store.create(name, record(name))):
        with pytest.raises(StateError, match="invalid container ID format") as caught:
            use(text)
        assert len(str(caught.value)) < 300
    assert not os.path.exists(store.root)


def test_empty_id() -> None:
    with pytest.raises(StateError, match="container id cannot be empty"):
        check_id("")


@given(st.text())
def test_an_id_is_one_harmless_file_name(text: str) -> None:
    if is_id(text):
        assert os.path.normpath("/root/" + text) == "/root/" + text
        assert text.isascii()
        assert text.isprintable()
        assert not text.startswith("-")
        assert 0 < len(text + ":new") <= 255


# ---- records


def test_record_survives(store: Store) -> None:
    cgroup: dict[str, object] = {"manager": "cgroupfs", "path": "/x", "made": ("/x",), "inode": 7}
    whole = record(
        created=created_now(),
        annotations={"a": "b\n", "ü": ""},
        status="created",
        pid=7,
        start_time=8,
        private_pid=False,
        has_process=False,
        cgroup=cgroup,
        rdt_made=("/sys/fs/resctrl/x",),
        hooks=("poststop",),
    )
    store.create("c1", whole).close()
    loaded = store.load("c1").record
    assert loaded.cgroup_record() == whole.cgroup_record()
    assert loaded.cgroup == {**cgroup, "made": ["/x"]}
    assert Record.decode(whole.encode()) == loaded


def test_created_is_rfc_3339_with_nanoseconds() -> None:
    import re

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", created_now())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"{}",
        b'{"version": 2}',
        b'{"version": "1"}',
        b"[" * 100000,
        record().encode()[:-1],
        record("other").encode(),
        record().encode().replace(b'"pid": 0', b'"pid": true'),
        record().encode().replace(b'"pid": 0', b'"pid": -1'),
        record().encode().replace(b'"hooks": []', b'"hooks": "x"'),
        record().encode().replace(b'"annotations": {}', b'"annotations": {"a": 1}'),
        b'{"version": 1, "id": "c1"}',
    ],
)
def test_unreadable_record_is_an_error_and_no_reason_for_list_to_fail(text: bytes, store: Store) -> None:
    store.create("c1", record()).close()
    store.create("c2", record("c2")).close()
    Path(store.root, "c1", "state.json").write_bytes(text)
    with pytest.raises(StateError, match=r"state of container c1 is unreadable: state\.json: "):
        store.load("c1")
    errors: list[str] = []
    assert [container.id for container in store.list(lambda name, _: errors.append(name))] == ["c2"]
    assert errors == ["c1"]


def test_properties_of_a_later_version_are_passed_over() -> None:
    assert Record.decode(record().encode().replace(b'"id"', b'"new": [1], "id"')) == record()


def test_cgroup_that_is_not_understood_is_an_error() -> None:
    with pytest.raises(StateError, match="cgroup"):
        record(cgroup={"nosuch": 1}).cgroup_record()


def test_oci_state_has_what_the_specification_asks_for() -> None:
    assert record(annotations={"a": "b"}).oci_state(Status.CREATED, 5) == {
        "ociVersion": "1.3.0",
        "id": "c1",
        "status": "created",
        "pid": 5,
        "bundle": "/bundle",
        "annotations": {"a": "b"},
    }
    assert "pid" not in record().oci_state(Status.STOPPED, 0)


# ---- directories


def test_nobody_else_may_look_inside(store: Store) -> None:
    before = os.umask(0)
    try:
        container = store.create("c1", record())
        container.write("config.json", b"{}")
        container.make_fifo("start")
    finally:
        os.umask(before)
    root = Path(store.root)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (root, *root.rglob("*"))}
    assert modes == {"root": 0o700, "c1": 0o700, "state.json": 0o600, "config.json": 0o600, "start": 0o600}


def test_all_parents_of_the_root_are_made_private(tmp_path: Path) -> None:
    Store(str(tmp_path / "a/b/root")).create("c1", record())
    assert [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a", tmp_path / "a/b")] == [0o700, 0o700]


def test_root_in_the_runtime_directory_is_sticky(tmp_path: Path) -> None:
    Store(str(tmp_path / "ocirt"), sticky=True).create("c1", record())
    assert stat.S_IMODE((tmp_path / "ocirt").stat().st_mode) == 0o1700


def test_long_root(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "/".join(["d" * 200] * 15)))
    store.create("c1", record()).close()
    assert ids(store) == ["c1"]


def test_missing_containers_and_roots(store: Store) -> None:
    with pytest.raises(StateError, match="container does not exist"):
        store.load("c1")
    with pytest.raises(StateError, match="container does not exist"):
        ids(store)
    store.sweep("c1")
    store.create("c2", record("c2"))
    with pytest.raises(StateError, match="container does not exist: c1"):
        store.load("c1")


def test_foreign_and_half_made_entries(store: Store, tmp_path: Path) -> None:
    store.create("c1", record()).close()
    root = Path(store.root)
    (root / "file").write_text("x")
    (root / "empty").mkdir()
    (root / "foreign").mkdir()
    (root / "foreign" / "data").write_text("x")
    (root / "link").symlink_to(root / "c1")
    (root / "dangling").symlink_to("nowhere")
    (root / "c2:new").mkdir()
    (root / "odd").mkdir()
    (root / "odd" / "state.json").mkdir()
    os.mkfifo(root / "fifo")
    errors: list[str] = []
    assert [container.id for container in store.list(lambda name, _: errors.append(name))] == ["c1"]
    assert errors == ["odd"]
    for name in ("file", "empty", "foreign", "link", "dangling", "fifo"):
        with pytest.raises(StateError, match="container does not exist"):
            store.load(name)
        store.sweep(name)
    assert (root / "foreign" / "data").exists()
    assert ids(Store(str(tmp_path / "root" / "c1"))) == []


def test_existing_id(store: Store) -> None:
    store.create("c1", record(bundle="/first")).close()
    with pytest.raises(StateError, match="container with given ID already exists"):
        store.create("c1", record())
    Path(store.root, "file").touch()
    with pytest.raises(StateError, match="container with given ID already exists"):
        store.create("file", record("file"))
    assert sorted(os.listdir(store.root)) == ["c1", "file"]
    assert store.load("c1").record.bundle == "/first"


def test_create_after_a_killed_create_or_delete(store: Store) -> None:
    root = Path(store.root)
    (root / "c1:new" / "sub").mkdir(parents=True)
    (root / "c1:new" / "sub" / "file").touch()
    (root / "c1").mkdir()
    store.create("c1", record())
    assert ids(store) == ["c1"]
    assert os.listdir(root) == ["c1"]


def test_failed_create_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(HostError, match="no space left on device"):
        store.create("c1", record())
    assert os.listdir(store.root) == []


def test_full_file_system(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    container = store.create("c1", record())
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "")))
        with pytest.raises(HostError, match=r"c1/state\.json: no space left on device"):
            container.update(status="created")
    assert store.load("c1").record.status == "creating"


def test_replacing_leaves_no_other_file(store: Store) -> None:
    container = store.create("c1", record())
    container.update(status="created")
    assert os.listdir(store.root + "/c1") == ["state.json"]
    assert store.load("c1").record.status == "created"


def test_files(store: Store) -> None:
    container = store.create("c1", record())
    container.write("config.json", b"x" * 100000)
    container.write("config.json", b'{"a": 1}')
    assert container.read("config.json") == b'{"a": 1}'
    os.symlink("/etc/passwd", container.path("link"))
    for use in (container.read, lambda name: container.open(name, os.O_RDONLY)):
        with pytest.raises(HostError, match="too many levels of symbolic links"):
            use("link")


def test_remove(store: Store) -> None:
    container = store.create("c1", record())
    container.make_fifo("start")
    os.makedirs(container.path("notify/deeper"))
    Path(container.path("notify/file")).touch()
    container.remove()
    container.remove()
    assert os.listdir(store.root) == []


def test_remove_leaves_a_new_container_of_the_id_alone(store: Store) -> None:
    old = store.create("c1", record())
    Path(store.root, "c1").rename(Path(store.root, "elsewhere"))
    store.create("c1", record(bundle="/new")).close()
    old.remove()
    assert store.load("c1").record.bundle == "/new"


# ---- the lock


def test_lock_is_held_from_create_on(store: Store) -> None:
    container = store.create("c1", record())
    other = store.load("c1")
    assert not other.try_lock()
    container.unlock()
    assert other.try_lock()
    assert not container.try_lock()


def test_waiting_for_the_lock_ends(store: Store) -> None:
    container = store.create("c1", record())
    other = store.load("c1")
    before = time.monotonic()
    with pytest.raises(StateError, match="container is busy"), other.locked(0.2):
        pass
    assert 0.2 <= time.monotonic() - before < 2
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    container.close()


def test_waiting_for_the_lock_ends_with_a_blocked_alarm(store: Store) -> None:
    """A caller's signal mask is inherited."""
    container = store.create("c1", record())
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    try:
        with pytest.raises(StateError, match="container is busy"), store.load("c1").locked(0.05):
            pass
        assert signal.SIGALRM in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        container.close()


def test_waiting_for_the_lock_gets_it_with_a_new_record(store: Store) -> None:
    container = store.create("c1", record())
    other = store.load("c1")
    container.update(status="created", pid=7)
    pid = in_child(lambda: time.sleep(0.2))
    container.close()  # the child still holds it
    with other.locked():
        assert other.record.pid == 7
    assert os.waitpid(pid, 0)[1] == 0


def test_lock_of_a_deleted_container(store: Store) -> None:
    container = store.create("c1", record())
    other = store.load("c1")
    container.remove()
    container.close()
    with pytest.raises(StateError, match="container does not exist"), other.locked():
        pass
    store.create("c1", record()).close()
    with pytest.raises(StateError, match="container does not exist"), other.locked():
        pass


def test_locks_nest(store: Store) -> None:
    container = store.create("c1", record())
    container.unlock()
    with container.locked():
        with container.locked():
            pass
        assert not store.load("c1").try_lock()
    assert store.load("c1").try_lock()


# ---- the process


def sleep_as(name: bytes, ready_fd: int) -> None:
    rename_process(name)
    os.write(ready_fd, b".")
    signal.pause()


def test_statuses(store: Store, sleeper: subprocess.Popen[bytes]) -> None:
    container = store.create("c1", record())
    other = store.load("c1")
    assert container.status() is Status.CREATING
    assert other.status() is Status.CREATING
    container.update(status="created", pid=sleeper.pid, start_time=start_time(sleeper.pid))
    container.unlock()
    assert container.status() is Status.RUNNING
    assert other.status() is Status.RUNNING, "the record was read before create had finished"
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert container.status() is Status.STOPPED, "a zombie has stopped"
    sleeper.wait()
    assert container.status() is Status.STOPPED


def test_waiting_init_is_told_by_its_name(store: Store) -> None:
    read_fd, write_fd = os.pipe()
    pid = in_child(lambda: sleep_as(b"ocirt-init", write_fd))
    try:
        os.read(read_fd, 1)
        container = store.create("c1", record(status="created", pid=pid, start_time=start_time(pid)))
        assert container.status() is Status.CREATED
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(read_fd)
        os.close(write_fd)


def test_killed_create_has_stopped(store: Store, sleeper: subprocess.Popen[bytes]) -> None:
    container = store.create("c1", record())
    container.unlock()
    assert container.status() is Status.STOPPED
    container.update(pid=sleeper.pid, start_time=start_time(sleeper.pid))
    assert container.status() is Status.CREATING, "its init is about to notice"
    sleeper.kill()
    sleeper.wait()
    assert container.status() is Status.STOPPED


def test_pid_of_another_process_is_not_taken_for_the_container(store: Store, sleeper: subprocess.Popen[bytes]) -> None:
    container = store.create("c1", record(status="created", pid=sleeper.pid, start_time=start_time(sleeper.pid) - 1))
    assert container.status() is Status.STOPPED
    assert container.pidfd() is None
    assert not container.send_signal(signal.SIGKILL)
    assert sleeper.poll() is None


@pytest.mark.parametrize("number", [errno.ESRCH, errno.EINVAL])
def test_a_process_that_is_gone_in_every_kernels_words(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """To Linux 6.1 a number that is still a session's is an invalid argument."""

    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    container = store.create("c1", record(pid=1234567, start_time=1))
    monkeypatch.setattr(os, "pidfd_open", fail)
    assert container.pidfd() is None
    assert not container.send_signal(9)


def test_signals(store: Store, sleeper: subprocess.Popen[bytes]) -> None:
    container = store.create("c1", record(status="created", pid=sleeper.pid, start_time=start_time(sleeper.pid)))
    assert container.send_signal(0)
    assert container.send_signal(signal.SIGTERM)
    assert sleeper.wait(5) == -signal.SIGTERM
    assert not container.send_signal(signal.SIGTERM)
    with pytest.raises(HostError, match="invalid argument"):
        store.create(
            "c2", record("c2", status="created", pid=os.getpid(), start_time=start_time(os.getpid()))
        ).send_signal(65)


@pytest.mark.parametrize("comm", [b"sleep", b"a b", b"(x) S 1 2 (", b") Z 1 1", b"", b"\xff\n"])
def test_stat_of_a_process_with_any_name(comm: bytes) -> None:
    text = b"12 (%s) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987 20\n" % comm
    assert parse_stat(text) == Process(comm, "S", 987)


def test_real_process_with_an_odd_name() -> None:
    read_fd, write_fd = os.pipe()
    pid = in_child(lambda: sleep_as(b") Z (x 1 2", write_fd))
    try:
        os.read(read_fd, 1)
        process = probe_process(pid)
        assert process is not None
        assert process.comm == b") Z (x 1 2"
        assert process.state in "RS"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(read_fd)
        os.close(write_fd)
    assert probe_process(pid) is None


def test_errors_are_one_line(store: Store) -> None:
    with pytest.raises(OcirtError) as caught:
        store.load("a\nb")
    assert "\n" not in str(caught.value)


def test_a_missing_file_of_a_container_that_is_being_deleted(store: Store) -> None:
    store.create("c1", record()).close()
    reader, other = store.load("c1"), store.load("c1")
    with pytest.raises(HostError):
        reader.read("config.json")
    with other.locked(), pytest.raises(StateError, match="does not exist"):
        reader.read("config.json")
    with other.locked():
        with pytest.raises(HostError):
            other.read("config.json")
        other.remove()
    with pytest.raises(StateError, match="does not exist"):
        reader.read("config.json")


@given(st.integers(0, 253402300800 * 10**9 - 1))
def test_timestamps_are_those_of_datetime(time_nsec: int) -> None:
    seconds, nsec = divmod(time_nsec, 10**9)
    expected = (datetime(1970, 1, 1) + timedelta(seconds=seconds)).isoformat()
    assert timestamp(time_nsec) == f"{expected}.{nsec:09d}Z"


# ---- a record that is prepared


def on_disk(store: Store) -> str:
    found = store.load("c1")
    try:
        return found.record.status
    finally:
        found.close()


def test_a_prepared_record_is_there_when_it_is_committed(store: Store) -> None:
    container = store.create("c1", record())
    prepared = container.prepare(status=Status.CREATED.value, pid=7)
    assert (container.record.status, on_disk(store)) == (Status.CREATING.value, Status.CREATING.value)
    container.commit(prepared)
    assert container.record == prepared
    assert on_disk(store) == Status.CREATED.value
    assert os.listdir(container.dir_fd) == ["state.json"]
    container.close()


def test_what_was_saved_after_it_is_replaced_by_it_too(store: Store) -> None:
    """The file beside is the other record's then."""
    container = store.create("c1", record())
    prepared = container.prepare(status=Status.CREATED.value)
    container.update(pid=7)
    container.commit(prepared)
    assert (container.record, on_disk(store)) == (prepared, Status.CREATED.value)
    container.commit(prepared)
    assert on_disk(store) == Status.CREATED.value
    container.close()


def test_one_that_is_not_committed_is_nothing(store: Store) -> None:
    container = store.create("c1", record())
    container.prepare(status=Status.CREATED.value)
    container.close()
    assert on_disk(store) == Status.CREATING.value
    found = store.load("c1")
    found.remove()
    assert ids(store) == []
    found.close()
