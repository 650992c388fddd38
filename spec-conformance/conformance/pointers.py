"""Properties by their pointers in the requirements: `-` is any element, `*` any key, `a|b` both of two."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

Config = dict[str, Any]


def alternatives(pointer: str) -> Iterator[str]:
    """One pointer for each of the properties that a pointer stands for."""
    head, bar, tail = pointer.partition("|")
    if not bar:
        yield pointer
        return
    parent, _, first = head.rpartition("/")
    second, slash, rest = tail.partition("/")
    for name in (first, second):
        yield from alternatives(f"{parent}/{name}{slash}{rest}")


def holders(config: Config, pointer: str) -> list[Config]:
    """The objects in which the property is, or would be."""
    objects: list[Any] = [config]
    for name in pointer.split("/")[1:-1]:
        found: list[Any] = []
        for value in objects:
            if name == "-":
                found += value
            elif name == "*":
                found += value.values()
            elif name in value:
                found.append(value[name])
        objects = found
    return objects


def name_of(pointer: str) -> str:
    return pointer.rpartition("/")[2]


def remove(config: Config, pointer: str) -> Config:
    """The configuration without the property, in whatever elements it is."""
    config = copy.deepcopy(config)
    for holder in holders(config, pointer):
        holder.pop(name_of(pointer), None)
    return config


def lacks(config: Config, pointer: str) -> bool:
    """Whether the property is missing somewhere."""
    return any(name_of(pointer) not in holder for holder in holders(config, pointer))
