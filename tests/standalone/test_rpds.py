"""The stand-in for rpds does what rpds does, as far as referencing and jsonschema go."""

from __future__ import annotations

from typing import Any

import rpds
from hypothesis import given
from hypothesis import strategies as st

from tools.standalone import rpds as stand_in

KEYS = st.sampled_from("abcdef")
CALLS = st.lists(
    st.tuples(st.sampled_from(["insert", "remove", "discard", "update", "convert"]), KEYS, st.integers(0, 9))
)


def applied(module: Any, calls: list[tuple[str, str, int]]) -> list[Any]:
    """Every value on the way, in terms that both modules share."""
    told: list[Any] = []
    value = module.HashTrieMap({"a": 1})
    for call, key, number in calls:
        before = dict(value)
        try:
            match call:
                case "insert":
                    changed = value.insert(key, number)
                case "update":
                    changed = value.update({key: number}, b=number)
                case "convert":
                    changed = module.HashTrieMap.convert(dict(value))
                case _:
                    changed = getattr(value, call)(key)
        except KeyError:
            told.append("KeyError")
            continue
        assert dict(value) == before, "a change must not be seen in the map that it was made from"
        value = changed
        told += [dict(value), len(value), key in value, value.get(key), sorted(value), sorted(value.items())]
        told.append(value == module.HashTrieMap(dict(value)))
        told.append(hash(value) == hash(module.HashTrieMap(dict(value))))
    return told


@given(CALLS)
def test_maps(calls: list[tuple[str, str, int]]) -> None:
    assert applied(stand_in, calls) == applied(rpds, calls)


@given(st.lists(KEYS), KEYS, st.lists(KEYS))
def test_sets(items: list[str], one: str, more: list[str]) -> None:
    def told(module: Any) -> list[Any]:
        value = module.HashTrieSet(items)
        changed = value.insert(one)
        removed = changed.remove(one)
        return [set(value), set(changed), set(removed), set(value.update(more)), set(value.discard(one)), len(changed)]

    assert told(stand_in) == told(rpds)


@given(st.lists(st.integers()), st.integers())
def test_lists(items: list[int], one: int) -> None:
    def told(module: Any) -> list[Any]:
        value = module.List(items)
        pushed = value.push_front(one)
        return [list(value), list(pushed), pushed.first, list(pushed.rest), list(pushed.drop_first()), len(pushed)]

    assert told(stand_in) == told(rpds)
