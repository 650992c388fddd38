"""What commands print: JSON, tables, and the object that stands for a container in both."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ocirt.errors import HostError
from ocirt.record import Status

if TYPE_CHECKING:
    from ocirt.state import Container

STDOUT_FD = 1
# As runc's tables: a column is at least 12 wide, with 3 spaces after its longest cell.
_LEAST_WIDTH = 12
_PADDING = 3


class OutputClosedError(Exception):
    """Whoever read the standard output has gone; no error for anybody to read."""


def write_out(text: str) -> None:
    """Write to the standard output, all of it, unbuffered. Raises HostError, OutputClosedError."""
    data = memoryview(text.encode(errors="backslashreplace"))
    while data:
        try:
            data = data[os.write(STDOUT_FD, data) :]
        except BrokenPipeError:
            raise OutputClosedError from None
        except OSError as error:
            raise HostError("write", "/dev/stdout", error.errno or 0) from None


def write_json(value: object, indent: int | str | None = 2) -> None:
    """Write a JSON document and a newline."""
    separators = (",", ":") if indent is None else (",", ": ")
    write_out(json.dumps(value, indent=indent, separators=separators, ensure_ascii=False) + "\n")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of as many cells each, in aligned columns; the last column is as long as it is."""
    widths = [max(_LEAST_WIDTH, *(len(cell) + _PADDING for cell in column)) for column in zip(*rows, strict=True)]
    lines = (
        "".join([*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)), *row[-1:]]) + "\n"
        for row in rows
    )
    return "".join(lines)


def container_object(container: Container) -> dict[str, object]:
    """What `state` and `list` tell about a container: runtime.md#state and runc's additions. No pid when stopped: 0."""
    status = container.status()
    record = container.record
    value: dict[str, object] = {
        "ociVersion": record.oci_version,
        "id": record.id,
        "pid": 0 if status is Status.STOPPED else record.pid,
        "status": status.value,
        "bundle": record.bundle,
        "rootfs": record.rootfs,
        "created": record.created,
    }
    if record.annotations:
        value["annotations"] = record.annotations
    return value | {"owner": user_name(container.owner_uid)}


def user_name(uid: int) -> str:
    """The user's name from /etc/passwd, else "#UID". Not through NSS: a directory service must not delay a `state`."""
    try:
        with open("/etc/passwd", "rb") as file:
            for line in file:
                fields = line.split(b":")
                if len(fields) > 2 and fields[2] == b"%d" % uid:
                    return fields[0].decode(errors="backslashreplace")
    except OSError:
        pass
    return f"#{uid}"
