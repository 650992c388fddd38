"""The errors of ocirt: each is one line for a person, and a stable code for a program.

A message carries the string that engines match on *and* the JSON pointer, the system call and the errno, so that the
line is enough to mend what went wrong. Errors are raised or logged, never both; cli.py prints the one that arrives.
The codes are listed in docs/errors.md, and stand in the field "code" of a JSON log line.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocirt.ops import Op


def errno_text(errno: int) -> str:
    """The errno's text as Go programs print it ("permission denied"): engines match on the lower-case form."""
    text = os.strerror(errno)
    return text[:1].lower() + text[1:]


def one_line(text: str) -> str:
    """Text from a config or a container, with what would break a line or a terminal escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


class OcirtError(Exception):
    """Any error that ends a command. `code` is stable; str() is one line without a trailing newline."""

    code = "internal"

    def __str__(self) -> str:
        return one_line(super().__str__())


class UsageError(OcirtError):
    """The command line cannot be understood."""

    code = "usage"


class SpecError(OcirtError):
    """config.json (or a process or resources file) is refused. `pointer` is an RFC 6901 JSON pointer."""

    def __init__(self, pointer: str, message: str, code: str = "spec.value") -> None:
        super().__init__(f"{pointer or '/'}: {message}")
        self.pointer = pointer
        self.message = message
        self.code = code


class HostError(OcirtError):
    """A system call of the runtime's own failed. `hint` says what would help, where that is known."""

    code = "host"

    def __init__(self, syscall: str, path: str, errno: int, *, pointer: str = "", hint: str = "") -> None:
        origin = f"{pointer}: " if pointer else ""
        where = f"{syscall} {path}" if path else syscall
        super().__init__(f"{origin}{where}: {errno_text(errno)}" + (f" ({hint})" if hint else ""))
        self.syscall, self.path, self.errno, self.pointer = syscall, path, errno, pointer

    @classmethod
    def of(cls, error: OSError, syscall: str, *, pointer: str = "", hint: str = "") -> HostError:
        """The same for an OSError that Python raised; its file name is the path."""
        path = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
        return cls(syscall, path, error.errno or 0, pointer=pointer, hint=hint)


class PlanError(OcirtError):
    """An operation of the plan failed in ocirt-init."""

    code = "plan"

    def __init__(self, op: Op, errno: int, detail: str, *, wording: str = "", hint: str = "") -> None:
        tried = f"{op.origin or '/'}: {op.describe()}"
        where = f": {detail}" if detail else ""
        text = wording or f"{tried}{where}: {errno_text(errno)}"
        super().__init__(text + (f" ({hint})" if hint else ""))
        self.op, self.errno, self.detail = op, errno, detail


class StateError(OcirtError):
    """The container's status does not allow the command, or there is no such container."""

    code = "state"

    def __init__(self, message: str, *, code: str = "state") -> None:
        super().__init__(message)
        self.code = code
