"""kill: a signal to the container's init process, through a pidfd."""

from __future__ import annotations

import signal

from ocirt.cli import Args, Context
from ocirt.errors import StateError
from ocirt.membership import open_cgroup
from ocirt.record import Status
from ocirt.signals import parse_signal
from ocirt.state import Container


def run(args: Args, context: Context) -> int:
    container = context.store.load(args.positional[0])
    number = parse_signal(args.positional[1] if args.positional[1:] and args.positional[1] else "TERM")
    if not _kill(container, number) and not args.switch("all"):
        # The words that containerd, BuildKit and CRI-O match on, each of them alone.
        status = container.status()
        raise StateError(
            f"container not running: {container.id} is {status} (no such process)", code="state.not-running"
        )
    return 0


def _kill(container: Container, number: int) -> bool:
    """Send the signal; False when there is nothing to send it to, as in the status creating (runtime.md#kill).

    The end of a pid namespace's init ends all in it. Where the namespace is shared, SIGKILL is for the whole cgroup,
    also when init has ended: it is what engines send to get rid of a container's processes.
    """
    container.check_owner()
    # A paused container takes a signal as any other does: SIGKILL at once, the others when it runs again.
    status = container.status(with_pause=False)
    if status is Status.CREATING:
        return False
    if number == signal.SIGKILL and not container.record.private_pid and container.record.cgroup is not None:
        return _kill_cgroup(container)
    return status is not Status.STOPPED and container.send_signal(number)


def _kill_cgroup(container: Container) -> bool:
    cgroup = open_cgroup(container)
    if cgroup is None:
        return container.send_signal(signal.SIGKILL)
    with cgroup:
        if not cgroup.processes():
            return False
        cgroup.kill()
    return True
