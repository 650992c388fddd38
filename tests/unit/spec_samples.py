"""Config.json values to begin with, and how tests change them."""

from __future__ import annotations

import copy
from typing import Any

from ocirt.errors import SpecError
from ocirt.spec import all_problems, parse_config

Json = Any

NAMESPACES = ("pid", "network", "mount", "ipc", "uts", "cgroup")


def small_config() -> dict[str, Json]:
    """A config that nothing is wrong with."""
    return {
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {"args": ["sh"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
        "linux": {"namespaces": [{"type": kind} for kind in NAMESPACES]},
    }


def with_value(pointer: str, value: Json, config: dict[str, Json] | None = None) -> dict[str, Json]:
    """A copy in which the value at the pointer is another; objects on the way are made, "-" is the end of an array."""
    config = copy.deepcopy(config or small_config())
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    place: Json = config
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
    if not isinstance(place, list):
        place[last] = value
    elif last == "-":
        place.append(value)
    else:
        place[int(last)] = value
    return config


def without(pointer: str, config: dict[str, Json] | None = None) -> dict[str, Json]:
    """A copy without the member at the pointer."""
    config = copy.deepcopy(config or small_config())
    *parents, last = pointer.split("/")[1:]
    place: Json = config
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    del place[int(last) if isinstance(place, list) else last]
    return config


def problems(config: Json) -> list[SpecError]:
    """Of the structure the first, otherwise all of the checks."""
    try:
        spec = parse_config(config)
    except SpecError as error:
        return [error]
    return list(all_problems(spec))


def findings(config: Json) -> list[tuple[str, str]]:
    """(pointer, code) of the problems."""
    return [(problem.pointer, problem.code) for problem in problems(config)]
