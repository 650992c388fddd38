"""Hooks that the runtime runs itself: prestart, createRuntime, poststart, poststop (config.md#posix-platform-hooks).

- A hook gets its own `env` and nothing of the runtime's, the container's state on stdin, and no descriptor beyond 2.
- Its working directory is the bundle (that of the runtime where the bundle is gone), so that it doesn't depend on who
  calls the runtime.
- It runs in a session of its own. When its time is over, or the runtime dies, or the container that is being created is
  killed, its whole process group is killed; nobody waits for a descendant that holds its output. A hook may leave a
  daemon behind when it succeeds.
- What it prints is kept for the error's text, the end of it; the annotations run.oci.hooks.stdout and .stderr, which
  crun introduced, append it to files instead.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ocirt._native import ffi, lib
from ocirt.errors import HostError, OcirtError

if TYPE_CHECKING:
    from ocirt.spec import Hook

STDOUT_ANNOTATION = "run.oci.hooks.stdout"
STDERR_ANNOTATION = "run.oci.hooks.stderr"

_KEPT_OUTPUT_BYTES = 1024

_TIMED_OUT = "ran past its timeout"
_INIT_ENDED = "the container was killed meanwhile"


class HookError(OcirtError):
    """A hook ended with an error or ran out of time."""

    code = "hook"


def run_hooks(
    kind: str,
    hooks: Sequence[Hook],
    state: Mapping[str, object],
    on_error: Callable[[OcirtError], None] | None = None,
    *,
    init_pidfd: int = -1,
) -> None:
    """Run the hooks of one kind ("createRuntime") in order, with `state` (runtime.md#state) on their stdin.

    The first that fails ends it with HookError or HostError; with `on_error`, that is told, and the next one is run.
    A hook fails, too, at the end of the process of `init_pidfd`, where one is given: there is no container to prepare.
    """
    for index, hook in enumerate(hooks):
        try:
            _run_hook(hook, state, f"/hooks/{kind}/{index}", f"{kind} hook #{index}", init_pidfd)
        except OcirtError as error:
            if on_error is None:
                raise
            on_error(error)


def _run_hook(hook: Hook, state: Mapping[str, object], pointer: str, name: str, init_pidfd: int) -> None:
    deadline = None if hook.timeout is None else time.monotonic() + hook.timeout
    with contextlib.ExitStack() as stack:
        stdin_fd = _state_fd(state)
        stack.callback(os.close, stdin_fd)
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        stack.callback(os.close, read_fd)
        with contextlib.ExitStack() as childs:
            childs.callback(os.close, write_fd)
            stdout_fd = _output_fd(state, STDOUT_ANNOTATION, childs)
            stderr_fd = _output_fd(state, STDERR_ANNOTATION, childs)
            stdio = (stdin_fd, write_fd if stdout_fd < 0 else stdout_fd, write_fd if stderr_fd < 0 else stderr_fd)
            pid, pidfd = _spawn(hook, stdio, str(state.get("bundle", "")), pointer)
        stack.callback(os.close, pidfd)
        with _guarded(pid):
            how, output = _wait(pid, pidfd, read_fd, deadline, init_pidfd)
    if how == _TIMED_OUT:
        how += f" of {hook.timeout} s"
    if how != "exit status 0":
        raise HookError(f"{pointer}: error running {name}: {hook.path}: {how}{output}")


def _spawn(hook: Hook, stdio: Sequence[int], bundle: str, pointer: str) -> tuple[int, int]:
    """Start the hook: its pid and pidfd. Raises HostError, also for an execve that fails."""
    cwd_fd = -1
    with contextlib.suppress(OSError):
        cwd_fd = os.open(bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        texts = [ffi.new("char[]", os.fsencode(text)) for text in (hook.path, *(hook.args or (hook.path,)), *hook.env)]
        split = 1 + len(hook.args or (hook.path,))
        argv, envp = ffi.new("char *[]", [*texts[1:split], ffi.NULL]), ffi.new("char *[]", [*texts[split:], ffi.NULL])
        request = ffi.new("struct spawn *")
        request.exe_fd, request.path, request.argv, request.envp = -1, texts[0], argv, envp
        request.stdio, request.fds, request.fd_count = list(stdio), ffi.NULL, 0
        request.first_fd, request.keep_below = 3, 3
        request.cgroup_fd, request.cwd_fd = -1, cwd_fd
        request.death_signal, request.new_session = signal.SIGKILL, 1
        pidfd = ffi.new("int *", -1)
        pid = lib.ocirt_spawn(request, pidfd)
    finally:
        if cwd_fd >= 0:
            os.close(cwd_fd)
    if pid < 0:
        raise HostError("execve", hook.path, -pid, pointer=pointer)
    return pid, pidfd[0]


@contextlib.contextmanager
def _guarded(group: int) -> Iterator[None]:
    """See to it that the hook's process group doesn't outlive this process; the death signal reaches the hook alone."""
    pipe_fd = ffi.new("int *", -1)
    guard: int = lib.ocirt_guard_group(group, pipe_fd)
    if guard < 0:
        os.killpg(group, signal.SIGKILL)
        raise HostError("fork", "", -guard)
    try:
        yield
    finally:
        with contextlib.suppress(BrokenPipeError):
            os.write(pipe_fd[0], b"\0")
        os.close(pipe_fd[0])
        _, failed = os.waitpid(guard, 0)
    if failed:
        raise HookError("the hook's guard failed, and killed it: close_range or read")


def _wait(pid: int, pidfd: int, read_fd: int, deadline: float | None, init_pidfd: int) -> tuple[str, str]:
    """Wait for the hook: how it ended, or why it was killed, and what it printed, as the end of a message."""
    os.set_blocking(read_fd, False)
    poll = select.poll()
    for fd in (pidfd, read_fd, init_pidfd):
        if fd >= 0:
            poll.register(fd, select.POLLIN)
    output = b""
    done = False
    why_killed = _TIMED_OUT
    try:
        while not done:
            left_msec = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            ready = [fd for fd, _ in poll.poll(left_msec)]
            done = pidfd in ready
            if init_pidfd in ready and not done:
                why_killed = _INIT_ENDED
                break
            if not ready:
                break
            if read_fd in ready:
                data = _read(read_fd)
                output = (output + (data or b""))[-_KEPT_OUTPUT_BYTES:]
                if data == b"":
                    poll.unregister(read_fd)
    finally:
        if not done:
            # Not yet waited for, so the pid is still its group's number.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        info = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    text = f", output: {output.decode(errors='backslashreplace').strip()}" if output.strip() else ""
    if not done or info is None:
        return why_killed, text
    return f"{'exit status' if info.si_code == os.CLD_EXITED else 'killed by signal'} {info.si_status}", text


def _read(fd: int) -> bytes | None:
    """What is there to read, b"" at the end, None for nothing at the moment."""
    try:
        return os.read(fd, 65536)
    except BlockingIOError:
        return None


def _state_fd(state: Mapping[str, object]) -> int:
    """A file with the state. Unlike a pipe it needs nobody who writes while the hook reads, or doesn't."""
    data = json.dumps(state).encode()
    fd: int = lib.ocirt_sealed_memfd(b"ocirt-state", data, len(data), 0)
    if fd < 0:
        raise HostError("memfd_create", "ocirt-state", -fd)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _output_fd(state: Mapping[str, object], annotation: str, stack: contextlib.ExitStack) -> int:
    """The file that an annotation names, opened to append, or -1."""
    annotations = state.get("annotations")
    path = annotations.get(annotation) if isinstance(annotations, Mapping) else None
    if not path:
        return -1
    pointer = f"/annotations/{annotation}"
    if not str(path).startswith("/"):
        raise HookError(f"{pointer}: {path} is not an absolute path")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HostError.of(error, "open", pointer=pointer) from None
    stack.callback(os.close, fd)
    return fd
