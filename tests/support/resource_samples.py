"""linux.resources as Hypothesis makes them: what a config may say, at its edges above all."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from hypothesis import strategies as st

from ocirt.cgroup.resources import resource_problems
from ocirt.errors import SpecError
from ocirt.spec import parse_resources

Json: TypeAlias = Any

# What an entry of an array cannot do without.
REQUIRED = {"major", "minor", "rate", "pageSize"}

INT64 = st.integers(-(2**63), 2**63 - 1)
UINT64 = st.integers(0, 2**64 - 1)
BYTES = st.sampled_from([-1, 0, 1, 4095, 4096, 65536, 2**30, 2**53, 2**62, 2**63 - 1]) | INT64
USEC = st.sampled_from([0, 1, 999, 1000, 100_000, 1_000_000, 1_000_001, 2**43, 2**44 - 1, 2**44]) | UINT64
WEIGHT = st.sampled_from([0, 1, 9, 10, 11, 500, 1000, 1001, 65535]) | st.integers(0, 65535)
SHARES = st.sampled_from([0, 1, 2, 3, 1024, 2048, 262_143, 262_144, 262_145, 2**64 - 1]) | UINT64


def object_of(required: Mapping[str, st.SearchStrategy[Json]], **optional: st.SearchStrategy[Json]) -> Any:
    return st.fixed_dictionaries(dict(required), optional=optional)


def memory() -> Any:
    return object_of(
        {},
        limit=BYTES,
        reservation=BYTES,
        swap=BYTES,
        kernel=st.sampled_from([-1, 0]) | INT64,
        kernelTCP=st.sampled_from([-1, 0]) | INT64,
        disableOOMKiller=st.booleans(),
        useHierarchy=st.booleans(),
        checkBeforeUpdate=st.booleans(),
    )


def cpu(lists: st.SearchStrategy[str], nodes: st.SearchStrategy[str]) -> Any:
    return object_of(
        {},
        shares=SHARES,
        quota=USEC | st.sampled_from([-1, -5]),
        period=USEC,
        burst=USEC,
        idle=st.integers(-1, 2),
        realtimeRuntime=st.sampled_from([0, 0, 5]),
        realtimePeriod=st.sampled_from([0, 0, 5]),
        cpus=lists,
        mems=nodes,
    ).map(lambda value: {**value, "quota": min(value["quota"], 2**63 - 1)} if "quota" in value else value)


def block_io(devices: Sequence[tuple[int, int]]) -> Any:
    number = st.sampled_from(list(devices)).map(lambda device: {"major": device[0], "minor": device[1]})
    throttles = st.lists(
        st.builds(lambda where, rate: {**where, "rate": rate}, number, UINT64 | st.sampled_from([0, 1, 2])), max_size=2
    )
    weights = st.lists(
        st.builds(
            lambda where, what: {**where, **what},
            number,
            object_of({}, weight=WEIGHT, leafWeight=st.sampled_from([0, 0, 10])),
        ),
        max_size=2,
    )
    return object_of(
        {},
        weight=WEIGHT,
        leafWeight=st.sampled_from([0, 0, 10]),
        weightDevice=weights,
        throttleReadBpsDevice=throttles,
        throttleWriteBpsDevice=throttles,
        throttleReadIOPSDevice=throttles,
        throttleWriteIOPSDevice=throttles,
    )


def resources(
    *,
    lists: st.SearchStrategy[str],
    nodes: st.SearchStrategy[str],
    devices: Sequence[tuple[int, int]],
    page_sizes: Sequence[str],
    **others: st.SearchStrategy[Json],
) -> Any:
    """Whole `resources` objects. `lists` and `nodes` are of CPUs and memory nodes; `others` are further properties."""
    huge = object_of({"pageSize": st.sampled_from(list(page_sizes)), "limit": UINT64 | st.sampled_from([0, 2**21])})
    return object_of(
        {},
        memory=memory(),
        cpu=cpu(lists, nodes),
        pids=object_of({}, limit=st.sampled_from([-1, 0, 1, 4194304, 4194305]) | INT64),
        blockIO=block_io(devices),
        hugepageLimits=st.lists(huge, max_size=2) if page_sizes else st.just([]),
        network=object_of({}, classID=st.sampled_from([0, 0, 1])),
        **others,
    )


def steps(value: Any, pointer: str) -> list[str | int]:
    """A JSON pointer as the keys on the way; LookupError where it leads to nothing."""
    path: list[str | int] = []
    for part in pointer.split("/")[1:]:
        key: str | int = int(part) if isinstance(value, list) else part.replace("~1", "/").replace("~0", "~")
        value = value[key]
        path.append(key)
    return path


def without(config: Any, path: Sequence[str | int]) -> Any:
    """A copy without what is at the path."""
    changed = copy.deepcopy(config)
    holder = changed
    for key in path[:-1]:
        holder = holder[key]
    del holder[path[-1]]
    return changed


def problems_of(config: Any) -> list[SpecError]:
    return list(resource_problems(parse_resources(config), ""))


def accepted(config: Any) -> Any:
    """What is left of it without the properties that are refused."""
    while problems := problems_of(config):
        path = steps(config, problems[0].pointer)
        config = without(config, path[:-1] if path[-1] in REQUIRED else path)
    return config
