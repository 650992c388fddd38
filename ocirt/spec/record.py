"""The base of the classes in _generated.py: frozen dataclasses with slots that are cheap to define.

Guarantees: fields(), replace() and asdict() of dataclasses work, instances cannot be changed, and defining a class
executes no code that is made at import. The decorator would compile six functions for each class, which for the whole
model takes longer than the interpreter's own start: the generator writes __init__, and the rest is here, once.
"""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any, NoReturn


class Record:
    __slots__: tuple[str, ...] = ()

    def __setattr__(self, name: str, _value: Any) -> NoReturn:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in type(self).__slots__)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        attributes = (f"{name}={getattr(self, name)!r}" for name in type(self).__slots__)
        return f"{type(self).__name__}({', '.join(attributes)})"
