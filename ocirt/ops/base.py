"""What all operations have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

from ocirt import constants as k

_Class = TypeVar("_Class")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def operation(cls: type[_Class]) -> type[_Class]:
    """A dataclass with slots, frozen for the type checker alone: a start makes a hundred of them, and to set the fields
    of one that is frozen at run time too takes ten times as long."""
    return dataclass(slots=True, unsafe_hash=True)(cls)


@operation
class Op:
    """An operation. `tolerated` are the errnos (two at most) with which it counts as done."""

    origin: str
    tolerated: tuple[int, ...] = field(default=(), kw_only=True)

    def describe(self) -> str:
        raise NotImplementedError

    def phrase(self) -> tuple[str, str]:
        """What is done, and to what: operations in a row that do the same are printed together. "": never together."""
        return self.describe(), ""


@operation
class Attributes:
    """Changes to a mount: MOUNT_ATTR_* to set and to clear, at its top and in its tree, and its MS_* propagation."""

    set: int = 0
    clear: int = 0
    recursive_set: int = 0
    recursive_clear: int = 0
    propagation: int = 0
    recursive_propagation: int = 0

    def words(self) -> list[str]:
        """The option words of config.json that ask for this."""
        words = k.attribute_words(self.set, self.clear)
        words += ["r" + word for word in k.attribute_words(self.recursive_set, self.recursive_clear)]
        words += [k.PROPAGATION_NAMES[self.propagation]] if self.propagation else []
        words += ["r" + k.PROPAGATION_NAMES[self.recursive_propagation]] if self.recursive_propagation else []
        return words


NO_ATTRIBUTES = Attributes()


def listed(words: list[str]) -> str:
    return f" ({','.join(words)})" if words else ""
