"""resume: let the processes of a paused container run."""

from __future__ import annotations

from ocirt.cgroup.freeze import is_to_freeze, thaw
from ocirt.cli import Args, Context
from ocirt.errors import StateError
from ocirt.membership import open_cgroup
from ocirt.record import Status
from ocirt.state import Container


def run(args: Args, context: Context) -> int:
    container = context.store.load(args.positional[0])
    with container.locked():
        status = container.status()
        cgroup = open_cgroup(container)
        if cgroup is None:
            raise _not_paused(container, status)
        with cgroup:
            # A pause that was killed while it waited leaves a cgroup that is to freeze, and perhaps has not yet.
            if status is not Status.PAUSED and not is_to_freeze(cgroup):
                raise _not_paused(container, status)
            thaw(cgroup)
    return 0


def _not_paused(container: Container, status: Status) -> StateError:
    return StateError(f"container not paused: {container.id} is {status}", code="state.not-paused")
