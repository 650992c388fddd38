"""RESOLVE_EXECUTABLE, CLOSE_DESCRIPTORS, WAIT_START and EXECUTE."""

from __future__ import annotations

import errno
import os
import select
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ocirt import constants as k
from ocirt import ops
from ocirt._native import lib
from tests.c.init_runner import InitRunner, failing, shell, status_field

POINTER = "/process/args"


def resolve(file: str, search_path: str | None = "/bin:/usr/bin") -> ops.ResolveExecutable:
    return ops.ResolveExecutable(POINTER, file, search_path)


def script(path: Path, mode: int = 0o755, text: str = "echo $0\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(mode)
    return path


def execute(*args: str) -> ops.Execute:
    return ops.Execute(POINTER, args, ())


def test_search_path_in_its_order(init: InitRunner, tmp_path: Path) -> None:
    script(tmp_path / "b/tool")
    script(tmp_path / "c/tool")
    search = f"{tmp_path}/a:{tmp_path}/b:{tmp_path}/c"
    assert init.run(resolve("tool", search), execute("tool")).text() == f"{tmp_path}/b/tool\n"


def test_what_cannot_be_executed_is_passed_over(init: InitRunner, tmp_path: Path) -> None:
    (tmp_path / "a/tool").mkdir(parents=True)
    script(tmp_path / "b/tool", 0o644)
    script(tmp_path / "c/tool")
    search = f"{tmp_path}/a:{tmp_path}/b:{tmp_path}/c"
    assert init.run(resolve("tool", search), execute("tool")).text() == f"{tmp_path}/c/tool\n"


@pytest.mark.parametrize("search_path", ["", "{}:", ":{}", "{}::{}"])
def test_empty_element_is_the_working_directory(init: InitRunner, tmp_path: Path, search_path: str) -> None:
    script(tmp_path / "here/tool")
    enter = ops.ChangeDirectory("", str(tmp_path / "here"), 0)
    search = search_path.format("/nowhere", "/nowhere")
    assert init.run(enter, resolve("tool", search), execute("tool")).text() == "./tool\n"


def test_default_search_path(init: InitRunner) -> None:
    assert init.run(resolve("sh", None), execute("sh", "-c", "echo found")).text() == "found\n"


def test_path_is_relative_to_the_working_directory(init: InitRunner, tmp_path: Path) -> None:
    script(tmp_path / "sub/tool")
    enter = ops.ChangeDirectory("", str(tmp_path), 0)
    assert init.run(enter, resolve("sub/tool", "/bin"), execute("other name")).text() == "sub/tool\n"


@pytest.mark.parametrize("file", ["no-such-program", ""])
def test_name_that_is_not_found(init: InitRunner, file: str) -> None:
    outcome = init.run(resolve(file))
    assert (outcome.error, outcome.detail) == (errno.ENOENT, "executable file not found in $PATH")
    assert outcome.message == f'/process/args: exec: "{file}": executable file not found in $PATH'


def test_path_that_is_not_found(init: InitRunner) -> None:
    outcome = init.run(resolve("/nowhere/tool"))
    assert (outcome.error, outcome.detail) == (errno.ENOENT, "stat /nowhere/tool")


def test_path_through_a_file(init: InitRunner) -> None:
    outcome = init.run(resolve("/bin/sh/tool"))
    assert (outcome.error, outcome.detail) == (errno.ENOTDIR, "stat /bin/sh/tool")


def test_path_that_is_too_long(init: InitRunner) -> None:
    assert init.run(resolve("/" + "x" * 5000)).error == errno.ENAMETOOLONG
    assert init.run(resolve("x" * 5000)).error == errno.ENOENT


def test_directory(init: InitRunner, tmp_path: Path) -> None:
    outcome = init.run(resolve(str(tmp_path)))
    assert (outcome.error, outcome.detail) == (errno.EACCES, f"access {tmp_path}")


def test_file_without_permission(init: InitRunner, tmp_path: Path) -> None:
    tool = script(tmp_path / "tool", 0o644)
    by_path, by_name = init.run(resolve(str(tool))), init.run(resolve("tool", f"/nowhere:{tmp_path}"))
    assert (by_path.error, by_path.detail) == (errno.EACCES, f"access {tool}")
    assert (by_name.error, by_name.detail) == (errno.EACCES, f"access {tool}")


@pytest.mark.root
def test_permission_is_the_users(init: InitRunner, scratch: Path) -> None:
    tool = script(scratch / "tool", 0o700)
    user = (ops.SetUser("", 1234, 1234), ops.SetCapabilities("", 0, 0, 0, 0))
    outcome = init.run(*user, resolve(str(tool)))
    tool.unlink()
    assert (outcome.error, outcome.detail) == (errno.EACCES, f"access {tool}")


def test_seccomp_profile_without_faccessat2(init: InitRunner, tmp_path: Path) -> None:
    plan = (ops.SetNoNewPrivileges(""), failing(faccessat2=errno.EPERM))
    closed = script(tmp_path / "tool", 0o644)
    assert init.run(*plan, resolve("/bin/sh"), execute("sh", "-c", "echo yes")).text() == "yes\n"
    assert init.run(*plan, resolve(str(closed))).error == errno.EACCES


# ---- the descriptors


def listing(*before: ops.Op) -> tuple[ops.Op, ...]:
    return (*before, resolve("sh"), ops.CloseDescriptors(""), execute("sh", "-c", "echo /proc/$$/fd/*"))


def numbers(text: str) -> list[int]:
    """The descriptors in a listing, but for the one of the listing itself: the lowest free number."""
    found = sorted(int(path.rpartition("/")[2]) for path in text.split())
    assert 3 in found
    return [number for number in found if number != 3]


def test_nothing_but_stdio_is_left(init: InitRunner) -> None:
    stray = os.open("/dev/zero", os.O_RDONLY)
    try:
        outcome = init.run(*listing(ops.OpenProc(""), ops.OpenRoot("", "/")), inherited=[stray], slots=[stray, stray])
    finally:
        os.close(stray)
    assert numbers(outcome.text()) == [0, 1, 2]


def test_preserved_ones_are_kept(init: InitRunner) -> None:
    kept = os.open("/dev/zero", os.O_RDONLY)
    try:
        outcome = init.run(*listing(), inherited=[kept], slots=[kept], preserve_fds=kept - 2)
        cut = init.run(*listing(), inherited=[kept], slots=[kept], preserve_fds=kept - 3)
    finally:
        os.close(kept)
    assert numbers(outcome.text()) == [0, 1, 2, kept]
    assert numbers(cut.text()) == [0, 1, 2]


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM])
def test_seccomp_profile_without_close_range(init: InitRunner, error: int) -> None:
    extra = os.open("/dev/zero", os.O_RDONLY)
    plan = (ops.OpenProc(""), ops.OpenRoot("", "/"), ops.SetNoNewPrivileges(""), failing(close_range=error))
    try:
        outcome = init.run(*listing(*plan), slots=[extra] * 8, preserve_fds=180)
    finally:
        os.close(extra)
    assert numbers(outcome.text()) == [0, 1, 2]


def test_close_range_that_fails(init: InitRunner) -> None:
    broken = failing(close_range=errno.EIO)
    outcome = init.run(ops.SetNoNewPrivileges(""), broken, ops.CloseDescriptors(""))
    assert (outcome.error, outcome.detail) == (errno.EIO, "close_range")


# ---- start


@dataclass(slots=True)
class Fifos:
    """The two FIFOs of a state directory, as create and start use them."""

    folder: Path
    slots: list[int]

    def start(self) -> None:
        fd = os.open(self.folder / "start", os.O_WRONLY | os.O_NONBLOCK)
        os.write(fd, b"\n")
        os.close(fd)

    def open_result(self) -> int:
        return os.open(self.folder / "result", os.O_RDONLY | os.O_NONBLOCK)

    def close_slots(self) -> None:
        while self.slots:
            os.close(self.slots.pop())


@pytest.fixture
def fifos(tmp_path: Path) -> Iterator[Fifos]:
    for name in ("start", "result"):
        os.mkfifo(tmp_path / name)
    fifos = Fifos(tmp_path, [os.open(tmp_path / name, os.O_RDWR | os.O_CLOEXEC) for name in ("start", "result")])
    yield fifos
    fifos.close_slots()


WAIT = (ops.Sync("", lib.SYNC_READY), ops.WaitStart("", 0, 1))


def created(program: tuple[ops.Op, ...], *between: ops.Op) -> tuple[ops.Op, ...]:
    return (program[0], ops.CloseDescriptors("", 0, 1), *WAIT, *between, program[1])


def test_start(init: InitRunner, fifos: Fifos) -> None:
    program = (resolve("sh"), execute("sh", "-c", "echo /proc/$$/fd/*"))
    with init.start(*created(program), slots=fifos.slots) as running:
        running.serve()  # the socket is closed by init itself
        assert running.failure is None
        fifos.close_slots()
        result = fifos.open_result()
        assert not select.select([running.pidfd], [], [], 0.1)[0], "init did not wait"
        fifos.start()
        assert [message.kind for message in running.read_result(result)] == [lib.MESSAGE_EXECUTE]
        assert numbers(running.outcome().text()) == [0, 1, 2]


def test_failure_after_start(init: InitRunner, fifos: Fifos, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o755)
    with init.start(*created((resolve(str(broken)), execute("broken"))), slots=fifos.slots) as running:
        running.serve()
        fifos.close_slots()
        result = fifos.open_result()
        fifos.start()
        executing, failure = running.read_result(result)
        assert (executing.kind, failure.kind) == (lib.MESSAGE_EXECUTE, lib.MESSAGE_FAILED)
        assert (failure.error, failure.detail, failure.op) == (errno.ENOEXEC, f"execve {broken}", 4)
        hint = "neither a binary for this machine nor a script with a #! line"
        assert running.message == f'/process/args: exec: "broken": execve {broken}: exec format error ({hint})'
        assert running.wait() == 1


def test_hook_that_fails_after_start(init: InitRunner, fifos: Fifos) -> None:
    hook = ops.RunHook("/hooks/startContainer/0", "/bin/sh", ("sh", "-c", "echo no; exit 5"), (), "", "")
    with init.start(*created(shell("true"), hook), slots=fifos.slots) as running:
        running.serve()
        fifos.close_slots()
        result = fifos.open_result()
        fifos.start()
        (failure,) = running.read_result(result)
        assert (failure.kind, failure.error, failure.detail) == (lib.MESSAGE_FAILED, 0, "exit status 5: no")


def test_init_that_is_killed_before_start(init: InitRunner, fifos: Fifos) -> None:
    with init.start(*created(shell("true")), slots=fifos.slots) as running:
        running.serve()
        fifos.close_slots()
        result = fifos.open_result()
        signal.pidfd_send_signal(running.pidfd, signal.SIGKILL)
        assert running.read_result(result) == []
        assert running.wait() == -signal.SIGKILL
        with pytest.raises(OSError, match=os.strerror(errno.ENXIO)):
            fifos.start()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM])
@pytest.mark.parametrize(("namespaces", "pid_one"), [(0, False), (k.CLONE_NEWUSER | k.CLONE_NEWPID, True)])
def test_signals_end_a_created_container(
    init: InitRunner, fifos: Fifos, number: signal.Signals, namespaces: int, pid_one: bool
) -> None:
    """Also as the first process of a pid namespace, to which the kernel delivers nothing without a handler."""
    with init.start(*created(shell("true")), slots=fifos.slots, clone_flags=namespaces) as running:
        running.serve()
        signal.pidfd_send_signal(running.pidfd, number)
        assert running.wait() == (128 + number if pid_one else -number)


def test_program_starts_with_default_signals(init: InitRunner) -> None:
    outcome = init.run(
        resolve("cat"), execute("cat", "/proc/self/status"), clone_flags=k.CLONE_NEWUSER | k.CLONE_NEWPID
    )
    assert {int(status_field(outcome, name), 16) for name in ("SigBlk", "SigIgn", "SigCgt")} == {0}


def test_start_fifo_at_its_end(init: InitRunner) -> None:
    end, other = os.open("/dev/null", os.O_RDONLY), os.open("/dev/null", os.O_WRONLY)
    try:
        outcome = init.run(*created(shell("true")), slots=[end, other])
    finally:
        os.close(end)
        os.close(other)
    assert outcome.status == 1
    assert outcome.stdout == ""


def test_start_fifo_that_cannot_be_read(init: InitRunner, fifos: Fifos) -> None:
    write_only = os.open("/dev/null", os.O_WRONLY)
    result = fifos.open_result()
    try:
        with init.start(*created(shell("true")), slots=[write_only, fifos.slots[1]]) as running:
            assert running.outcome().status == 1
            fifos.close_slots()
            (failure,) = running.read_result(result)
    finally:
        os.close(write_only)
    assert (failure.error, failure.detail) == (errno.EBADF, "read the start FIFO")
    assert running.message == "/tests/3: wait for start: read the start FIFO: bad file descriptor"


# ---- execve


def test_arguments_and_environment(init: InitRunner) -> None:
    env = ("A=1", "B=", "EMPTY", "A=2")
    outcome = init.run(resolve("cat"), ops.Execute(POINTER, ("cat", "/proc/self/environ", "/proc/self/cmdline"), env))
    assert outcome.text() == "A=1\0B=\0EMPTY\0A=2\0cat\0/proc/self/environ\0/proc/self/cmdline\0"


def test_many_arguments(init: InitRunner) -> None:
    args = ("sh", "-c", "echo $#", *("x" for _ in range(100_001)))
    assert init.run(resolve("sh"), execute(*args)).text() == "100000\n"


def test_argument_that_is_too_long(init: InitRunner) -> None:
    outcome = init.run(resolve("/bin/true"), execute("true", "x" * 200_000))
    assert (outcome.error, outcome.detail) == (errno.E2BIG, "execve /bin/true")


def test_more_arguments_than_execve_takes(init: InitRunner) -> None:
    outcome = init.run(resolve("/bin/true"), execute(*("" for _ in range(524_289))))
    assert (outcome.error, outcome.detail) == (errno.E2BIG, "execve /bin/true")


def test_file_of_an_unknown_format(init: InitRunner, tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("no interpreter\n")
    (tmp_path / "tool").chmod(0o755)
    outcome = init.run(resolve(str(tmp_path / "tool")), execute("tool"))
    assert (outcome.error, outcome.detail) == (errno.ENOEXEC, f"execve {tmp_path}/tool")


def test_interpreter_that_is_missing(init: InitRunner, tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/nowhere/interpreter\n")
    (tmp_path / "tool").chmod(0o755)
    outcome = init.run(resolve(str(tmp_path / "tool")), execute("tool"))
    assert (outcome.error, outcome.detail) == (errno.ENOENT, f"execve {tmp_path}/tool")


def test_execution_is_announced(init: InitRunner) -> None:
    """With no FIFO (exec), to the runtime itself."""
    with init.start(*shell("exit 3")) as running:
        outcome = running.outcome()
        assert running.conversation.executing
        assert outcome.status == 3


def test_nothing_to_execute(init: InitRunner) -> None:
    outcome = init.run(execute("sh"))
    assert (outcome.error, outcome.detail) == (errno.EINVAL, "invalid plan: nothing to execute")


def test_program_is_not_init_itself(init: InitRunner) -> None:
    """CVE-2019-5736: not even the memfd of ocirt-init is reachable from the program."""
    assert init.run(*shell("readlink /proc/$$/exe")).text().strip() == os.path.realpath("/bin/sh")


def test_runtime_that_dies_before_ready_takes_init_along(init: InitRunner, fifos: Fifos) -> None:
    with init.start(*created(shell("echo executed")), slots=fifos.slots) as running:
        running.serve(until=lib.SYNC_READY)
        running.socket.close()
        assert running.wait() == 1


def test_runtime_may_die_after_ready(init: InitRunner, fifos: Fifos) -> None:
    with init.start(*created(shell("echo executed")), slots=fifos.slots) as running:
        running.serve(until=lib.SYNC_READY)
        running.go()
        running.socket.close()
        fifos.start()
        assert running.wait() == 0
        assert os.read(running.output, 100) == b"executed\n"
