"""Runs ocirt-init with a plan made by hand, and plays the runtime's part of the conversation.

Guarantees: whatever a test does, no process is left when its `with` ends, and nothing waits for longer than
PATIENCE_SECONDS. Of each failure that init reports, the error that a user would get begins with the JSON pointer of the
operation that failed: where the test gives it none, it has one of its own. What was executed and what failed is
recorded.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import os
import select
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ocirt import constants as k
from ocirt import ops
from ocirt._native import lib
from ocirt.explain import plan_error
from ocirt.plan import Plan
from ocirt.protocol import GO, MESSAGE_BYTES, Conversation, Message
from tests.c.op_record import Record

PATIENCE_SECONDS = 20
FIRST_FD = 200  # beyond what the test process has open, which init's descriptors must not collide with
Handler = Callable[[int], None]
"""Answers a sync; owns the descriptor that came along (-1: none). GO is sent afterwards."""


def ignore(fd: int) -> None:
    if fd >= 0:
        os.close(fd)


@dataclass(slots=True)
class Outcome:
    """What became of a plan: the FAILED message and what a user is told, or how its program ended, and its output."""

    failure: Message | None
    message: str  # "" where nothing has failed
    status: int | None  # exit code, or the negative number of a signal
    stdout: str
    stderr: str
    syncs: list[int]

    @property
    def detail(self) -> str:
        assert self.failure is not None, f"nothing failed: {self}"
        return self.failure.detail

    @property
    def error(self) -> int:
        assert self.failure is not None, f"nothing failed: {self}"
        return self.failure.error

    def text(self) -> str:
        """The output of a program that ended well."""
        assert self.failure is None, self.failure
        assert self.status == 0, self
        return self.stdout


@dataclass(slots=True)
class Running:
    """An ocirt-init at work."""

    socket: socket.socket
    host_process: subprocess.Popen[bytes]
    output: int
    errors: int
    id_map: str
    plan: Plan
    record: Record
    pid: int = 0
    pidfd: int = -1
    failure: Message | None = None
    message: str = ""
    syncs: list[int] = field(default_factory=list)
    conversation: Conversation = field(default_factory=Conversation)

    def serve(self, handlers: Mapping[int, Handler] | None = None, until: int = 0) -> None:
        """Answer syncs until the end of the conversation, or until a sync of that kind, which is left unanswered."""
        while message := self._receive():
            for due in self.conversation.receive(message):
                if due.kind == lib.MESSAGE_CLONED:
                    self.pid, self.pidfd = due.value, due.fd
                elif due.kind == lib.MESSAGE_FAILED:
                    self._fail(due)
                elif due.kind == lib.MESSAGE_EXECUTE:
                    self.record.went_on(self.plan, due.op)
                elif due.kind == lib.MESSAGE_SYNC:
                    self.record.went_on(self.plan, due.op)
                    self.syncs.append(due.value)
                    if due.value == until:
                        return
                    if due.value == lib.SYNC_MAPS:
                        self._write_maps()
                    else:
                        (handlers or {}).get(due.value, ignore)(due.fd)
                    self.go()

    def _receive(self) -> Message | None:
        try:
            data, fds, _, _ = socket.recv_fds(self.socket, MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            return None
        return Message.decode(data, fds[0] if fds else -1) if data else None

    def read_result(self, fd: int) -> list[Message]:
        """Every message that comes through a result FIFO until its end of file; the descriptor is closed."""
        messages = []
        os.set_blocking(fd, True)
        while select.select([fd], [], [], PATIENCE_SECONDS)[0] and (data := os.read(fd, MESSAGE_BYTES)):
            message = Message.decode(data)
            messages.append(message)
            if message.kind == lib.MESSAGE_FAILED:
                self._fail(message)
            else:
                self.record.went_on(self.plan, message.op)
        os.close(fd)
        return messages

    def _fail(self, message: Message) -> None:
        """Take a FAILED message. Its error names what the operation came from, or the stage between operations."""
        op = self.plan.at(message.op)
        self.failure, self.message = message, str(plan_error(self.plan, message))
        pointer = "/linux/namespaces" if op is None else op.origin
        assert self.message.startswith(f"{pointer}: "), f"{self.message!r} does not begin with {pointer}"
        self.record.went_on(self.plan, message.op)
        self.record.failed(self.plan, message)

    def _write_maps(self) -> None:
        folder = Path(f"/proc/{self.pid}")
        if os.geteuid() != 0:
            (folder / "setgroups").write_text("deny")
        for name, own in (("uid_map", os.geteuid()), ("gid_map", os.getegid())):
            (folder / name).write_text(self.id_map or f"0 {own} 1")

    def go(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.socket.send(GO)

    def wait(self) -> int | None:
        """How the container's init ended: exit code or negative signal; None where there never was one."""
        self.host_process.wait(PATIENCE_SECONDS)
        if self.pidfd < 0:
            return None
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        assert poll.poll(PATIENCE_SECONDS * 1000), "init did not end"
        info = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        assert info is not None
        os.close(self.pidfd)
        self.pidfd = -1
        if (info.si_code, info.si_status) == (os.CLD_EXITED, 0):
            self.record.ended(self.plan)
        return info.si_status if info.si_code == os.CLD_EXITED else -info.si_status

    def outcome(self, handlers: Mapping[int, Handler] | None = None) -> Outcome:
        """Answer to the end, and wait for it."""
        self.serve(handlers)
        status = self.wait()
        stdout, stderr = (read_all(fd) for fd in (self.output, self.errors))
        return Outcome(self.failure, self.message, status, stdout, stderr, self.syncs)

    def end(self) -> None:
        self.socket.close()
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            self.wait()
        if self.host_process.poll() is None:
            self.host_process.kill()
            self.host_process.wait()
        for fd in (self.output, self.errors):
            os.close(fd)


def read_all(fd: int) -> str:
    data = b""
    while chunk := os.read(fd, 65536):
        data += chunk
    return data.decode()


def with_origins(plan: Plan) -> Plan:
    """The plan with a JSON pointer for each operation that has none: /tests/ and its index."""
    operations = iter(
        op if op.origin else dataclasses.replace(op, origin=f"/tests/{index}")
        for index, op in enumerate(plan.all_ops())
    )
    sections = [tuple(next(operations) for _ in section) for section in (plan.host_ops, plan.entry_ops, plan.ops)]
    return dataclasses.replace(plan, host_ops=sections[0], entry_ops=sections[1], ops=sections[2])


class InitRunner:
    """Starts one particular build of ocirt-init, and records what its operations do."""

    def __init__(self, path: Path, record: Record) -> None:
        self.path = path
        self.record = record

    @contextlib.contextmanager
    def start(
        self,
        *container_ops: ops.Op,
        host_ops: Sequence[ops.Op] = (),
        clone_flags: int = 0,
        flags: int = 0,
        slots: Sequence[int] = (),
        joins: Sequence[tuple[int, int]] = (),
        inherited: Sequence[int] = (),
        preserve_fds: int = 0,
        stdin: int | None = None,
        stdout: int | None = None,
        closed_stdin: bool = False,
        id_map: str = "",
    ) -> Iterator[Running]:
        """`slots` and `inherited` are descriptors of the caller, who keeps them; the latter keep their numbers.
        `joins` are (CLONE_NEW*, slot).

        In a new user namespace, root is who runs the test, unless there is an `id_map` for both users and groups.
        """
        if clone_flags & k.CLONE_NEWUSER:
            flags |= lib.PLAN_MAPS | lib.PLAN_SET_IDS | (0 if os.geteuid() == 0 else lib.PLAN_KEEP_GROUPS)
        plan = Plan(
            tuple(host_ops),
            container_ops,
            clone_flags=clone_flags,
            joins=tuple(joins),
            flags=flags,
            slot_count=lib.PLAN_MAX_SLOTS,
            filled_slots=len(slots),
            preserve_fds=preserve_fds,
        )
        plan = with_origins(plan)
        ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(PATIENCE_SECONDS)
        image = os.memfd_create("plan")
        os.write(image, plan.encode())
        output, errors = os.pipe(), os.pipe()
        placed = [os.dup2(fd, FIRST_FD + i) for i, fd in enumerate([peer.fileno(), image, *slots])]
        try:
            process = subprocess.Popen(
                [self.path, str(FIRST_FD)],
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=output[1] if stdout is None else stdout,
                stderr=errors[1],
                pass_fds=[*placed, *inherited],
                env={},
                preexec_fn=(lambda: os.close(0)) if closed_stdin else None,  # noqa: PLW1509
            )
        finally:
            for fd in (*placed, image, output[1], errors[1]):
                os.close(fd)
            peer.close()
        ours.send(GO)  # the plan is there
        running = Running(ours, process, output[0], errors[0], id_map, plan, self.record)
        try:
            yield running
        finally:
            running.end()

    def run(self, *container_ops: ops.Op, handlers: Mapping[int, Handler] | None = None, **how: object) -> Outcome:
        """Run a plan to its end."""
        with self.start(*container_ops, **how) as running:  # type: ignore[arg-type]
            return running.outcome(handlers)


def shell(script: str, env: Sequence[str] = ()) -> tuple[ops.Op, ...]:
    """The end of a plan whose program is a shell."""
    return (ops.ResolveExecutable("", "sh", "/bin:/usr/bin"), ops.Execute("", ("sh", "-c", script), tuple(env)))


def status_field(outcome: Outcome, name: str) -> str:
    """A line of /proc/PID/status, which the program has printed."""
    line = next(line for line in outcome.text().splitlines() if line.startswith(f"{name}:"))
    return " ".join(line.split()[1:])


RET_ALLOW, RET_ERRNO, RET_NOTIFY = 0x7FFF0000, 0x00050000, 0x7FC00000  # SECCOMP_RET_*, seccomp(2)


def syscall_number(name: str) -> int:
    """A system call's number on this machine."""
    number: int = ctypes.CDLL("libseccomp.so.2").seccomp_syscall_resolve_name(name.encode())
    assert number >= 0, name
    return number


def seccomp_filter(**actions: int) -> bytes:
    """A BPF program with an action for each of some system calls, which allows all others."""
    program = [(0x20, 0, 0, 0)]  # BPF_LD: the number of the system call
    for name, action in actions.items():
        program += [(0x15, 0, 1, syscall_number(name)), (0x06, 0, 0, action)]  # BPF_JEQ, BPF_RET
    return b"".join(struct.pack("=HBBI", *one) for one in [*program, (0x06, 0, 0, RET_ALLOW)])


def failing(**errors: int) -> ops.LoadSeccomp:
    """From here on, these system calls fail with these errnos. Needs CAP_SYS_ADMIN or no_new_privs."""
    return ops.LoadSeccomp("/linux/seccomp", seccomp_filter(**{n: RET_ERRNO | e for n, e in errors.items()}), 0, False)
