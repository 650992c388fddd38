"""The warnings of `validate`: the type and its codes, which docs/errors.md lists."""

from __future__ import annotations

from typing import NamedTuple

UNKNOWN = "warning.unknown"
PLATFORM = "warning.platform"
CAPABILITY = "warning.capability"
IGNORED = "warning.ignored"
DEPRECATED = "warning.deprecated"
LOSSY = "warning.lossy"
VERSION = "warning.version"


class Notice(NamedTuple):
    pointer: str
    message: str
    code: str

    def __str__(self) -> str:
        return f"{self.pointer or '/'}: {self.message}"
