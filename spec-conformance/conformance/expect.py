"""How a test says what was expected and what was seen, and why it shows nothing here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

import pytest

NOT_TESTABLE = "not testable here: "
NO_TEST = "no test yet: "

T = TypeVar("T")


class Mismatch(AssertionError):  # noqa: N818 - a finding about the runtime, not an error of the test
    """What was seen is not what the requirement asks for."""

    def __init__(self, what: str, expected: object, seen: object) -> None:
        super().__init__(f"{what}: expected {_text(expected)}, seen {_text(seen)}")
        self.expected = f"{what}: {_text(expected)}"
        self.seen = _text(seen)


def _text(value: object) -> str:
    return value if isinstance(value, str) else repr(value)


def equal(what: str, seen: object, expected: object) -> None:
    """Raises Mismatch where the two differ."""
    if seen != expected:
        raise Mismatch(what, expected, seen)


def that(condition: object, what: str, expected: object, seen: object) -> None:
    """Raises Mismatch where the condition does not hold."""
    if not condition:
        raise Mismatch(what, expected, seen)


def not_testable(reason: str) -> NoReturn:
    """Ends the test: neither passed nor failed, for a reason that lies in the machine."""
    pytest.skip(NOT_TESTABLE + reason)


def case_of(cases: Mapping[str, T], requirement_id: str) -> T:
    """The case for a requirement; without one, the requirement has no test yet."""
    if requirement_id not in cases:
        pytest.skip(f"{NO_TEST}{requirement_id}")
    return cases[requirement_id]


def merged(config: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with a JSON merge patch (RFC 7396) applied: null takes a property away, arrays are replaced."""
    result = dict(config)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            known = result.get(key)
            result[key] = merged(known if isinstance(known, Mapping) else {}, value)
        else:
            result[key] = value
    return result
