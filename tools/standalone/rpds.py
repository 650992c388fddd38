"""The part of rpds-py that `referencing` and `jsonschema` use, in Python.

rpds-py is written in Rust, and can't be linked into the standalone binary. Its collections are persistent: a change
makes a new one. Those here copy, which is fine for the few entries that there are. tests/standalone compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class HashTrieMap(Mapping[K, V]):
    __slots__ = ("_items",)

    def __init__(self, value: Mapping[K, V] | Iterable[tuple[K, V]] = (), **entries: V) -> None:
        self._items: dict[K, V] = dict(value, **entries)

    @classmethod
    def convert(cls, value: Any) -> HashTrieMap[K, V]:
        return value if isinstance(value, cls) else cls(value)

    @classmethod
    def fromkeys(cls, keys: Iterable[K], value: Any = None) -> HashTrieMap[K, V]:
        return cls(dict.fromkeys(keys, value))

    def __getitem__(self, key: K) -> V:
        return self._items[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return f"HashTrieMap({self._items!r})"

    def insert(self, key: K, value: V) -> HashTrieMap[K, V]:
        return HashTrieMap({**self._items, key: value})

    def remove(self, key: K) -> HashTrieMap[K, V]:
        """Raises KeyError."""
        items = dict(self._items)
        del items[key]
        return HashTrieMap(items)

    def discard(self, key: K) -> HashTrieMap[K, V]:
        return self.remove(key) if key in self._items else self

    def update(self, *others: Any, **entries: V) -> HashTrieMap[K, V]:
        items = dict(self._items)
        for other in others:
            items.update(other)
        items.update(entries)  # type: ignore[arg-type]
        return HashTrieMap(items)


class HashTrieSet(Generic[T]):
    __slots__ = ("_items",)

    def __init__(self, value: Iterable[T] = ()) -> None:
        self._items = frozenset(value)

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item: object) -> bool:
        return item in self._items

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HashTrieSet) and self._items == other._items

    def __hash__(self) -> int:
        return hash(self._items)

    def __repr__(self) -> str:
        return f"HashTrieSet({set(self._items)!r})"

    def insert(self, item: T) -> HashTrieSet[T]:
        return HashTrieSet(self._items | {item})

    def remove(self, item: T) -> HashTrieSet[T]:
        """Raises KeyError."""
        if item not in self._items:
            raise KeyError(item)
        return HashTrieSet(self._items - {item})

    def discard(self, item: T) -> HashTrieSet[T]:
        return HashTrieSet(self._items - {item})

    def update(self, *others: Iterable[T]) -> HashTrieSet[T]:
        return HashTrieSet(self._items.union(*others))


class List(Generic[T]):
    __slots__ = ("_items",)

    def __init__(self, value: Iterable[T] = ()) -> None:
        self._items = tuple(value)

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    def __reversed__(self) -> Iterator[T]:
        return reversed(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, List) and self._items == other._items

    def __hash__(self) -> int:
        return hash(self._items)

    def __repr__(self) -> str:
        return f"List({list(self._items)!r})"

    @property
    def first(self) -> T:
        """Raises IndexError."""
        return self._items[0]

    @property
    def rest(self) -> List[T]:
        return List(self._items[1:])

    def push_front(self, item: T) -> List[T]:
        return List((item, *self._items))

    def drop_first(self) -> List[T]:
        """Raises IndexError."""
        if not self._items:
            raise IndexError("empty list")
        return self.rest
