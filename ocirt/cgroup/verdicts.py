"""What a property of linux.resources comes to: something to write, a notice, or a refusal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from ocirt.cgroup.settings import Setting
from ocirt.errors import SpecError
from ocirt.notice import IGNORED, LOSSY, Notice

Verdict: TypeAlias = Setting | Notice | SpecError
Verdicts: TypeAlias = Iterator[Verdict]


def not_set(pointer: str) -> Notice:
    return Notice(pointer, "0 means that it is not set", IGNORED)


def ignored(pointer: str, message: str) -> Notice:
    return Notice(pointer, message, IGNORED)


def lossy(pointer: str, message: str) -> Notice:
    return Notice(pointer, message, LOSSY)


def unsupported(pointer: str, reason: str) -> SpecError:
    return SpecError(pointer, reason, "spec.unsupported")


def out_of_range(pointer: str, message: str) -> SpecError:
    return SpecError(pointer, message, "spec.range")


def conflict(pointer: str, message: str) -> SpecError:
    return SpecError(pointer, message, "spec.conflict")


def missing(pointer: str, message: str) -> SpecError:
    """Something that another property, or the entry itself, requires."""
    return SpecError(pointer, message, "spec.requires")


def bad_value(pointer: str, message: str) -> SpecError:
    return SpecError(pointer, message, "spec.value")
