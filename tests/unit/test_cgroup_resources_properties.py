"""For any resources: files and values, or a SpecError that points into the config; and nothing dropped in silence."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ocirt.cgroup.resources import compile_resources, resource_notices, resource_problems
from ocirt.spec import parse_resources
from tests.support import resource_samples as samples
from tests.support.resource_samples import REQUIRED, accepted, problems_of, steps, without

ANY = samples.resources(
    lists=st.sampled_from(["", "0", "0-3,7", "3-1", "x", "all"]) | st.text("0123,- N:/", max_size=6),
    nodes=st.sampled_from(["", "0", "1-0"]),
    devices=[(8, 0), (259, 7), (-1, 0), (4096, 0), (0, 2**20)],
    page_sizes=["2MB", "1GB", "64KB"],
    rdma=st.dictionaries(
        st.sampled_from(["mlx5_1", "a b"]),
        samples.object_of({}, hcaHandles=st.integers(0, 2**32 - 1), hcaObjects=st.integers(0, 2**32 - 1)),
        max_size=2,
    ),
    unified=st.dictionaries(
        st.sampled_from(["memory.high", "misc.max", "cgroup.max.depth", "cgroup.procs", "a/b.c", "x", "a..b"]),
        st.sampled_from(["", "1", "1\n2\n", " "]),
        max_size=2,
    ),
)

# What asks for nothing but what cgroup v2 does anyway, or is for `update`.
HARMLESS = {
    ("memory", "checkBeforeUpdate"): (True, False),
    ("memory", "useHierarchy"): (True,),
    ("memory", "disableOOMKiller"): (False,),
    ("memory", "kernel"): (-1,),
    ("memory", "kernelTCP"): (-1,),
    # The default; and what unlimited memory brings along.
    ("cpu", "period"): (100_000,),
    ("cpu", "cpus"): ("",),
    ("cpu", "mems"): ("",),
}


def values(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of all that is no object and no array."""
    if isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from values(item, (*path, key))
    else:
        yield path


def outcome(config: Any) -> Any:
    return compile_resources(parse_resources(config))


@given(ANY)
def test_every_verdict_points_into_the_config(config: Any) -> None:
    resources = parse_resources(config)
    problems = list(resource_problems(resources, ""))
    pointers = [problem.pointer for problem in problems]
    pointers += [notice.pointer for notice in resource_notices(resources, "")]
    if not problems:
        for setting in compile_resources(resources, "").settings:
            pointers.append(setting.origin)
            assert setting.value
            assert "\n" not in setting.value
            assert "/" not in setting.file
    for pointer in pointers:
        assert steps(config, pointer)


@given(ANY, st.data())
def test_no_value_is_dropped_in_silence(config: Any, data: st.DataObject) -> None:
    """Without it, something else is written, noticed, or refused."""
    config = accepted(config)
    removable = [
        path for path in values(config) if path[-1] not in REQUIRED and path[0] not in ("unified", "hugepageLimits")
    ]
    if not removable:
        return
    path = data.draw(st.sampled_from(removable))
    changed = without(config, path)
    value = config
    for key in path:
        value = value[key]
    if problems_of(changed) or value in HARMLESS.get((str(path[0]), str(path[-1])), ()):
        return
    assert outcome(changed) != outcome(config), f"{path}: {value!r} has no effect"


@given(ANY)
def test_it_is_a_function(config: Any) -> None:
    config = accepted(config)
    before = copy.deepcopy(config)
    assert outcome(config) == outcome(config)
    assert config == before
