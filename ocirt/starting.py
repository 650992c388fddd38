"""start: let ocirt-init execute the user's program, and say what went wrong where it doesn't.

The lock is held until the program runs. Poststart hooks, and a program that is slow to say that it is ready, may take
as long as they like: nobody waits for them to kill the container or to delete it.

A byte into the start FIFO sets it off. The result FIFO then gives EXECUTE and end of file (init held it close-on-exec:
the program has been executed), or FAILED with what failed, or end of file alone: init was killed.
"""

from __future__ import annotations

import errno
import os

from ocirt import ops
from ocirt._native import lib
from ocirt.destroy import destroy, destroy_if_there
from ocirt.errors import HostError, OcirtError, PlanError, StateError
from ocirt.explain import op_error
from ocirt.hooks import run_hooks
from ocirt.log import Logger
from ocirt.notify import NotifyProxy
from ocirt.protocol import MESSAGE_BYTES, Message
from ocirt.record import Status
from ocirt.savedspec import saved_spec
from ocirt.spec import Hook, Spec
from ocirt.state import NOTIFY_DIRECTORY, RESULT_FIFO, START_FIFO, Container


def check_startable(container: Container) -> None:
    """Raises StateError for anything but a created container that has a process (runtime.md#start)."""
    status = container.status()
    if status is Status.STOPPED:
        raise StateError("cannot start a container that has stopped", code="state.not-created")
    if status is Status.RUNNING:
        raise StateError("cannot start an already running container", code="state.not-created")
    if status is not Status.CREATED:
        raise StateError(f"cannot start a container in the {status} state", code="state.not-created")
    if not container.record.has_process:
        raise StateError("/process: cannot start a container whose config has no process", code="spec.required")


def start(container: Container, log: Logger) -> None:
    """Start a created container whose lock is held. Raises as Start and its finish do."""
    Start(container).finish(log)


class Start:
    """A start that has been set off, of a created container whose lock is held. Raises StateError, HostError."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._notify = _notify_proxy(container)
        # Opened first: what init writes is lost when nobody has the FIFO open.
        self._result_fd = container.open(RESULT_FIFO, os.O_RDONLY | os.O_NONBLOCK)
        try:
            _write_start(container)
        except BaseException:
            os.close(self._result_fd)
            raise

    def finish(self, log: Logger) -> None:
        """Wait until the program runs, and let go of the lock.

        A hook that fails has the container destroyed (runtime.md#lifecycle, 7 and 9), where it is still this one that
        has the id. Raises StateError, PlanError for what init reports, HookError.
        """
        container = self._container
        message = self._outcome()
        if message is not None:
            error = start_error(saved_spec(container), message)
            if isinstance(error.op, ops.RunHook):
                destroy(container, log)
            raise error
        hooks = _poststart_hooks(container)
        container.unlock()
        try:
            run_hooks("poststart", hooks, container.record.oci_state(Status.RUNNING, container.record.pid))
        except OcirtError:
            destroy_if_there(container, log)
            raise
        if self._notify:
            _forward_ready(container, self._notify)

    def _outcome(self) -> Message | None:
        """What becomes of init: None where it executes the program, or its FAILED message."""
        try:
            os.set_blocking(self._result_fd, True)
            executing = False
            while data := os.read(self._result_fd, MESSAGE_BYTES):
                message = Message.decode(data)
                if message.kind == lib.MESSAGE_FAILED:
                    return message
                executing = message.kind == lib.MESSAGE_EXECUTE
            if not executing:
                text = "cannot start a container that has stopped: its init was killed"
                raise StateError(text, code="state.not-created")
            return None
        finally:
            os.close(self._result_fd)


def _poststart_hooks(container: Container) -> tuple[Hook, ...]:
    if "poststart" not in container.record.hooks:
        return ()
    hooks = saved_spec(container).hooks
    return hooks.poststart if hooks else ()


def _notify_proxy(container: Container) -> NotifyProxy | None:
    """The socket that the container says READY to, where create made a place for it and somebody wants to know."""
    host_socket = os.environ.get("NOTIFY_SOCKET")
    if not host_socket:
        return None
    try:
        directory_fd = os.open(NOTIFY_DIRECTORY, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=container.dir_fd)
    except FileNotFoundError:
        return None
    try:
        return NotifyProxy(directory_fd, host_socket)
    finally:
        os.close(directory_fd)


def _forward_ready(container: Container, notify: NotifyProxy) -> None:
    pidfd = container.pidfd()
    try:
        if pidfd is not None:
            notify.forward(container.record.pid, pidfd)
    finally:
        notify.close()
        if pidfd is not None:
            os.close(pidfd)


def _write_start(container: Container) -> None:
    try:
        fd = container.open(START_FIFO, os.O_WRONLY | os.O_NONBLOCK)
    except HostError as error:
        if error.errno == errno.ENXIO:  # nobody has it open for reading: init is gone
            raise StateError("cannot start a container that has stopped", code="state.not-created") from None
        raise
    try:
        os.write(fd, b"\n")
    finally:
        os.close(fd)


def start_error(spec: Spec, message: Message) -> PlanError:
    """The error for a FAILED message after the start, where a plan has the startContainer hooks and the execution."""
    hooks = spec.hooks.start_container if spec.hooks else ()
    if message.value == 1 or message.value > len(hooks) + 1:
        args = spec.process.args if spec.process else ()
        return op_error(ops.Execute("/process/args", args, ()), message)
    index = len(hooks) + 1 - message.value
    hook = hooks[index]
    op = ops.RunHook(f"/hooks/startContainer/{index}", hook.path, hook.args, hook.env, "", "", hook.timeout or 0)
    return op_error(op, message)
