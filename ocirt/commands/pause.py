"""pause: freeze the processes of a container."""

from __future__ import annotations

from ocirt.cgroup.freeze import freeze
from ocirt.cli import Args, Context
from ocirt.errors import StateError
from ocirt.membership import require_cgroup
from ocirt.record import Status
from ocirt.state import Container


def run(args: Args, context: Context) -> int:
    container = context.store.load(args.positional[0])
    with container.locked():
        _check_pausable(container)
        with require_cgroup(container) as cgroup:
            freeze(cgroup)
    return 0


def _check_pausable(container: Container) -> None:
    status = container.status()
    if status not in (Status.CREATED, Status.RUNNING):
        code = "state.paused" if status is Status.PAUSED else "state.not-running"
        raise StateError(f"cannot pause: container not running: {container.id} is {status}", code=code)
