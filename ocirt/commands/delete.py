"""delete: undo create. With --force, kill first what still runs, and clean up after commands that were killed."""

from __future__ import annotations

from ocirt.cli import Args, Context
from ocirt.destroy import destroy, kill_init
from ocirt.errors import StateError
from ocirt.record import Status
from ocirt.state import Container

_DELETABLE = (Status.CREATED, Status.STOPPED)


def run(args: Args, context: Context) -> int:
    container_id, force = args.positional[0], args.switch("force")
    try:
        container = context.store.load(container_id)
        if force:
            # Before waiting for the lock: a create or start that hangs ends with its init, and lets go of it.
            kill_init(container)
        else:
            _check_deletable(container)
        with container.locked():
            if not force:
                _check_deletable(container)
            destroy(container, context.log)
    except StateError as error:
        if error.code != "state.missing":
            raise
        context.store.sweep(container_id)
        if not force:
            raise
    else:
        context.store.sweep(container_id)
    return 0


def _check_deletable(container: Container) -> None:
    """runtime.md#delete wants "stopped"; a created container too can be deleted, as with runc: Buildah counts on it."""
    status = container.status()
    if status not in _DELETABLE:
        raise StateError(
            f"cannot delete container {container.id} that is not stopped: {status}", code="state.not-stopped"
        )
