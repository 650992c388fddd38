"""The mappings of user namespaces (user_namespaces(7)): what an id in one is outside of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ocirt.pseudofile import read_text

if TYPE_CHECKING:
    from ocirt.spec import IDMapping


def maps_all(text: str) -> bool:
    """Whether a uid_map's text is that of the first user namespace: all ids, one to one."""
    return text.split() == ["0", "0", "4294967295"]


def host_id(container_id: int, mappings: Sequence[IDMapping]) -> int | None:
    """The id outside of the namespace; None where it has none."""
    for entry in mappings:
        if entry.container_id <= container_id < entry.container_id + entry.size:
            return entry.host_id + container_id - entry.container_id
    return None


def read_map(path: str) -> tuple[IDMapping, ...]:
    """A uid_map or gid_map of /proc/PID. Raises OSError."""
    from ocirt.spec import IDMapping

    rows = [[int(number) for number in line.split()] for line in read_text(path).splitlines()]
    return tuple(IDMapping(container_id=inside, host_id=outside, size=size) for inside, outside, size in rows)
