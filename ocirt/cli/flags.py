"""The words with which a command line is described, and what came of it: Flag, Command, Args.

A flag's `--name` may be written with one dash, its value after `=` or as the next word; a name is never abbreviated and
single letters are never joined, as with runc. Nothing here reads the process it runs in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from ocirt.errors import UsageError

_TRUE = frozenset(["1", "t", "T", "true", "TRUE", "True"])
_FALSE = frozenset(["0", "f", "F", "false", "FALSE", "False"])
# At most what an int64 can need: Python's int() takes other scripts' digits, underscores and any length.
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_DURATION = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ns|us|µs|ms|s|m|h))+", re.ASCII)
_DURATION_PART = re.compile(r"([0-9.]+)(ns|us|µs|ms|s|m|h)", re.ASCII)
_UNIT_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class Kind(Enum):
    """What a flag takes."""

    SWITCH = "switch"  # nothing, or =true and =false in Go's spellings
    TEXT = "text"
    TEXTS = "texts"  # may be repeated; a comma doesn't separate
    INTEGER = "integer"
    COUNT = "count"  # an integer from 0
    DURATION = "duration"  # as Go writes it: 5s, 1m30s, 100ms


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. `value` names its value in help texts; a hidden flag is parsed and not shown."""

    name: str
    help: str
    kind: Kind = Kind.TEXT
    short: str = ""
    value: str = ""
    choices: tuple[str, ...] = ()
    default: str = ""
    hidden: bool = False

    def parse(self, text: str, written: str) -> bool | str | int | float:
        """The value that `text` stands for. `written` is the flag as the caller typed it, for the error."""
        match self.kind:
            case Kind.SWITCH:
                if text not in _TRUE and text not in _FALSE:
                    raise UsageError(f'invalid boolean value "{text}" for {written}')
                return text in _TRUE
            case Kind.INTEGER | Kind.COUNT:
                if not _INTEGER.fullmatch(text) or (self.kind is Kind.COUNT and text.startswith("-")):
                    wanted = "a number from 0" if self.kind is Kind.COUNT else "an integer"
                    raise UsageError(f'invalid value "{text}" for flag {written}: {wanted} is needed')
                return int(text)
            case Kind.DURATION:
                if not _DURATION.fullmatch(text):
                    raise UsageError(f'invalid value "{text}" for flag {written}: a duration such as 5s is needed')
                return _seconds(text)
            case _:
                if self.choices and text not in self.choices:
                    raise UsageError(f'invalid {self.name} option "{text}": {" or ".join(self.choices)} is needed')
                return text


def _seconds(text: str) -> float:
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _DURATION_PART.findall(text))


@dataclass(frozen=True, slots=True)
class Command:
    """One command of the table: how it is written, what it says of itself, and the module whose run() does it.

    `arguments` is the usage text of the positional arguments, of which there are `least` to `most` (None: any number).
    With `stops_at_positional` everything from the first positional argument on is left alone: exec, kill and ps hand it
    on. `failure` begins the message of an error that the command ends with, `failure_code` is the exit code then.
    """

    name: str
    summary: str
    flags: tuple[Flag, ...] = ()
    arguments: str = "<container-id>"
    least: int = 1
    most: int | None = 1
    stops_at_positional: bool = False
    module: str = ""
    description: str = ""
    failure: str = ""
    failure_code: int = 1
    supported: bool = True


Value = bool | str | int | float | list[str]


class Args:
    """The flags and positional arguments that a command was given, read by type. An unknown name is a bug: KeyError."""

    __slots__ = ("_flags", "_values", "command", "positional")

    def __init__(self, flags: Iterable[Flag], command: str = "", positional: Iterable[str] = ()) -> None:
        self._flags = {flag.name: flag for flag in flags}
        self.command = command
        self._values: dict[str, Value] = {}
        self.positional = tuple(positional)

    def set(self, name: str, text: str, written: str = "") -> None:
        """Take a value from the command line. The last one of a flag counts, but for TEXTS, which collects."""
        flag = self._flags[name]
        value = flag.parse(text, written or f"--{name}")
        if flag.kind is Kind.TEXTS:
            collected = self._values.setdefault(name, [])
            assert isinstance(collected, list)
            collected.append(text)
        else:
            self._values[name] = value

    def given(self, name: str) -> bool:
        """Whether the caller gave the flag, with whatever value."""
        return self._flags[name].name in self._values

    def switch(self, name: str) -> bool:
        value = self._value(name, Kind.SWITCH)
        return value is True

    def text(self, name: str) -> str:
        """The value, the flag's default, or "". An empty value is like none, as with runc."""
        value = self._value(name, Kind.TEXT)
        return value if isinstance(value, str) else self._flags[name].default

    def texts(self, name: str) -> tuple[str, ...]:
        """The values of a flag that may be repeated, in order."""
        value = self._value(name, Kind.TEXTS)
        return tuple(value) if isinstance(value, list) else ()

    def number(self, name: str) -> int | None:
        """The value, the flag's default, or None."""
        value = self._value(name, Kind.INTEGER, Kind.COUNT)
        if isinstance(value, int):
            return value
        return int(self._flags[name].default) if self._flags[name].default else None

    def seconds(self, name: str) -> float:
        """The value or the default of a duration."""
        value = self._value(name, Kind.DURATION)
        return value if isinstance(value, float) else _seconds(self._flags[name].default)

    def _value(self, name: str, *kinds: Kind) -> Value | None:
        if self._flags[name].kind not in kinds:
            raise TypeError(f"--{name} is a {self._flags[name].kind.value}")
        return self._values.get(name)
