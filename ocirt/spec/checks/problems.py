"""What the checks are made of: the type of a check, its codes and a few questions that many ask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from ocirt.errors import SpecError
from ocirt.spec._generated import IDMapping, Linux, Namespace, Spec

Problems: TypeAlias = Iterator[SpecError]

DUPLICATE = "spec.duplicate"
REQUIRES = "spec.requires"
CONFLICT = "spec.conflict"
PATH = "spec.path"
UNSUPPORTED = "spec.unsupported"
VERSION = "spec.version"

_NO_LINUX = Linux()


def linux_of(spec: Spec) -> Linux:
    """The Linux part; an absent one asks for nothing."""
    return spec.linux or _NO_LINUX


def namespace_of(spec: Spec, kind: str) -> Namespace | None:
    for namespace in linux_of(spec).namespaces:
        if namespace.type == kind:
            return namespace
    return None


def has_dotdot(path: str) -> bool:
    return ".." in path.split("/")


def absolute(path: str, pointer: str) -> Problems:
    if not path.startswith("/"):
        yield SpecError(pointer, f'"{path:.80}" is not an absolute path', PATH)


def duplicates(values: Iterable[str], pointer: str, member: str = "") -> Problems:
    """`pointer` is the array's; `member` what of an item is compared (empty: the item)."""
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            yield SpecError(f"{pointer}/{index}{member}", f"{value} stands twice", DUPLICATE)
        seen.add(value)


def mappings(ranges: tuple[IDMapping, ...], pointer: str) -> Problems:
    """What the kernel refuses in uid_map and gid_map (user_namespaces(7)): overflow, overlap, too many lines."""
    if len(ranges) > 340:
        yield SpecError(pointer, f"has {len(ranges)} entries, of which the kernel takes 340", "spec.range")
        return
    for index, entry in enumerate(ranges):
        for member, start in (("containerID", entry.container_id), ("hostID", entry.host_id)):
            if start + entry.size > 2**32 - 1:
                yield SpecError(
                    f"{pointer}/{index}/size", f"the range from {member} on ends beyond 2^32-2", "spec.range"
                )
        for other in ranges[:index]:
            for member, one, two in (
                ("containerID", entry.container_id, other.container_id),
                ("hostID", entry.host_id, other.host_id),
            ):
                if one < two + other.size and two < one + entry.size:
                    yield SpecError(f"{pointer}/{index}/{member}", "the range overlaps an earlier one", CONFLICT)
