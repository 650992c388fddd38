"""Undoing what create has made (runtime.md#lifecycle, steps 12 and 13).

Every step works on what it finds and may be repeated: a destroy that is killed leaves a container that the next one
destroys. The state directory goes when everything that it stands for has gone, and the poststop hooks run then.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from typing import TYPE_CHECKING

from ocirt.errors import HostError, OcirtError, StateError
from ocirt.membership import remove_cgroup
from ocirt.record import Status
from ocirt.state import CONFIG, Container

if TYPE_CHECKING:
    from ocirt.log import Logger
    from ocirt.spec import Hook

# As long as runc waits for a process that was killed. One that sleeps in a driver doesn't die before it wakes.
KILL_DEADLINE_SECONDS = 10.0


def kill_init(container: Container, deadline_seconds: float = KILL_DEADLINE_SECONDS) -> None:
    """Kill the init process, if there is one, and wait until it has exited: its pid namespace is empty then."""
    pidfd = container.pidfd()
    if pidfd is None:
        return
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(deadline_seconds * 1000):
            raise StateError(f"container init still running: pid {container.record.pid} outlives SIGKILL")
    except OSError as error:
        raise HostError("pidfd_send_signal", str(container.record.pid), error.errno or 0) from None
    finally:
        os.close(pidfd)


def destroy_if_there(container: Container, log: Logger) -> None:
    """Lock and destroy a container that another command may have deleted in the meantime."""
    if container.removed:
        return
    try:
        with container.locked():
            destroy(container, log)
    except StateError as error:
        if error.code != "state.missing":
            raise


def destroy(container: Container, log: Logger) -> None:
    """Kill what is left of a container whose lock is held, remove all that create has made, run the poststop hooks."""
    kill_init(container)
    remove_cgroup(container)
    for directory in reversed(container.record.rdt_made):
        _remove_directory(directory)
    hooks = _poststop_hooks(container, log)
    container.remove()
    if hooks:
        from ocirt.hooks import run_hooks

        run_hooks(
            "poststop", hooks, container.record.oci_state(Status.STOPPED, 0), lambda error: log.warning(str(error))
        )


def _remove_directory(path: str) -> None:
    """Remove a directory of resctrl's, whose files vanish with it."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise HostError.of(error, "rmdir") from None


def _poststop_hooks(container: Container, log: Logger) -> tuple[Hook, ...]:
    """From the configuration as create saw it. One that can't be read (create was killed before) is a warning."""
    if "poststop" not in container.record.hooks:
        return ()
    from ocirt.spec import decode, parse_config

    try:
        spec = parse_config(decode(container.read(CONFIG), container.path(CONFIG)))
    except OcirtError as error:
        log.warning(f"poststop hooks are not run: {error}")
        return ()
    return spec.hooks.poststop if spec.hooks else ()
