"""list: the containers below the root directory. What is no container there is passed over."""

from __future__ import annotations

import errno

from ocirt.cli import Args, Context
from ocirt.errors import HostError, OcirtError, StateError
from ocirt.output import container_object, table, write_json, write_out

_COLUMNS = ("id", "pid", "status", "bundle", "created", "owner")


def run(args: Args, context: Context) -> int:
    containers = _containers(context)
    if args.switch("quiet"):
        write_out("".join(f"{container['id']}\n" for container in containers))
    elif args.text("format") == "json":
        write_json(containers, indent=None)
    else:
        rows = [[str(container[column]) for column in _COLUMNS] for container in containers]
        write_out(table([[column.upper() for column in _COLUMNS], *rows]))
    return 0


def _containers(context: Context) -> list[dict[str, object]]:
    def warn(name: str, error: OcirtError) -> None:
        context.log.warning(f"{name} is left out: {error}")

    found = []
    try:
        for container in context.store.list(warn):
            try:
                found.append(container_object(container))
            except OcirtError as error:
                if error.code != "state.missing":  # deleted just now
                    warn(container.id, error)
            finally:
                container.close()
    except StateError:
        # No root directory, so no containers yet; one that the caller named should be there.
        if context.root_given:
            raise HostError("open", context.root, errno.ENOENT) from None
    return found
