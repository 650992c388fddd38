"""The strict types of config.json: what the compiled parser (_generated.py) is made of.

Guarantees: each function returns a value of exactly the type that it names, or raises SpecError with the pointer of
the value that is wrong. No value is converted, so that a field which guards (noNewPrivileges, readonly, maskedPaths,
seccomp, user) is never open by a mistake of type. The rules, which are also those of the schema:

- A bool is no integer; 1.0 and 1e3 are no integers (Go's encoding/json says the same).
- No string holds a NUL, no key of a map is empty.
- null means absent at an optional array, map or object, since that is how programs in Go write nil ones; but not at
  those that confine the container: user, capabilities, rlimits, linux and its namespaces, mappings, resources, seccomp,
  maskedPaths, readonlyPaths. At a scalar, at an item and at what is required it is an error. The schema says it by
  "null" among the types.
- An optional string that is empty is absent (the zero value of runtimes in Go). An absent array is (), an absent map
  {}, an absent boolean False, anything else absent None, unless the schema has a default.
- Unknown properties are ignored (config.md#extensibility).

Whether an optional property is there the parser asks itself: most are not. Here it is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ocirt.errors import SpecError

T = TypeVar("T")
JsonObject = dict[str, Any]

JSON, TYPE, REQUIRED, RANGE, VALUE = "spec.json", "spec.type", "spec.required", "spec.range", "spec.value"


def pointer_to(at: str, key: str | int) -> str:
    """The RFC 6901 pointer of a member of the value at the pointer `at`."""
    return f"{at}/{key}" if type(key) is int else f"{at}/{str(key).replace('~', '~0').replace('/', '~1')}"


def type_name(value: object) -> str:
    """What a JSON value is called in messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    names = {str: "a string", int: "an integer", float: "a number", list: "an array", dict: "an object"}
    return names.get(type(value), type(value).__name__)


def wrong_type(expected: str, value: object, at: str) -> SpecError:
    return SpecError(at, f"must be {expected}, not {type_name(value)}", TYPE)


def has_nul(at: str) -> SpecError:
    return SpecError(at, "must not contain a NUL", VALUE)


def not_a_choice(value: str, choices: Sequence[str], at: str) -> SpecError:
    return SpecError(at, f'"{value:.60}" is not one of {", ".join(choices)}', VALUE)


def no_match(value: str, pattern: str, at: str) -> SpecError:
    return SpecError(at, f'"{value:.60}" does not match {pattern}', VALUE)


def out_of_range(low: int, high: int, at: str) -> SpecError:
    return SpecError(at, f"must be from {low} to {high}", RANGE)


def missing(name: str, at: str) -> SpecError:
    return SpecError(at, f'the property "{name}" is required', REQUIRED)


def empty_key(at: str) -> SpecError:
    """`at` is the pointer of the entry, with its empty last part."""
    return SpecError(at, "a key must not be empty", VALUE)


def no_item(at: str) -> SpecError:
    return SpecError(at, "must have at least one item", VALUE)


def _bad_string(value: object, at: str) -> SpecError:
    return has_nul(at) if isinstance(value, str) else wrong_type("a string", value, at)


def _bad_choice(value: object, choices: tuple[str, ...], at: str) -> SpecError:
    return not_a_choice(value, choices, at) if isinstance(value, str) else wrong_type("a string", value, at)


def json_object(value: object, at: str) -> JsonObject:
    if isinstance(value, dict):
        return value
    raise wrong_type("an object", value, at)


def required(obj: JsonObject, key: str, at: str) -> Any:
    try:
        return obj[key]
    except KeyError:
        raise missing(key, at) from None


def string(obj: JsonObject, key: str, at: str) -> str:
    value = obj.get(key)
    if isinstance(value, str) and "\0" not in value:
        return value
    raise _bad_string(required(obj, key, at), f"{at}/{key}")


def choice(obj: JsonObject, key: str, at: str, choices: tuple[str, ...]) -> str:
    value = obj.get(key)
    if isinstance(value, str) and value in choices:
        return value
    raise _bad_choice(required(obj, key, at), choices, f"{at}/{key}")


def matching(obj: JsonObject, key: str, at: str, pattern: str) -> str:
    """A string that matches the whole regular expression."""
    import re

    value = string(obj, key, at)
    if re.fullmatch(pattern, value):
        return value
    raise no_match(value, pattern, f"{at}/{key}")


def checked_integer(value: object, at: str, low: int, high: int) -> int:
    if type(value) is not int:
        raise wrong_type("an integer", value, at)
    if low <= value <= high:
        return value
    raise out_of_range(low, high, at)


def integer(obj: JsonObject, key: str, at: str, low: int, high: int) -> int:
    value = obj.get(key)
    if type(value) is int and low <= value <= high:
        return value
    return checked_integer(required(obj, key, at), f"{at}/{key}", low, high)


def boolean(obj: JsonObject, key: str, at: str) -> bool:
    value = obj.get(key)
    if isinstance(value, bool):
        return value
    raise wrong_type("a boolean", required(obj, key, at), f"{at}/{key}")


def array(obj: JsonObject, key: str, at: str, nullable: bool) -> list[Any]:
    """An array that is there, or an empty one for a null that may be."""
    value = obj[key]
    if isinstance(value, list):
        return value
    if value is None and nullable:
        return []
    raise wrong_type("an array", value, f"{at}/{key}")


def strings(obj: JsonObject, key: str, at: str, nullable: bool) -> tuple[str, ...]:
    items = array(obj, key, at, nullable)
    try:
        is_good = "\0" not in "".join(items)
    except TypeError:
        is_good = False
    if is_good:
        return tuple(items)
    index = next(index for index, item in enumerate(items) if not isinstance(item, str) or "\0" in item)
    raise _bad_string(items[index], f"{at}/{key}/{index}")


def some_strings(obj: JsonObject, key: str, at: str) -> tuple[str, ...]:
    """A required array of at least one string."""
    required(obj, key, at)
    items = strings(obj, key, at, False)
    if items:
        return items
    raise no_item(f"{at}/{key}")


def choices_of(obj: JsonObject, key: str, at: str, choices: tuple[str, ...], nullable: bool) -> tuple[str, ...]:
    items = array(obj, key, at, nullable)
    for index, item in enumerate(items):
        if not isinstance(item, str) or item not in choices:
            raise _bad_choice(item, choices, f"{at}/{key}/{index}")
    return tuple(items)


def integers(obj: JsonObject, key: str, at: str, low: int, high: int, nullable: bool) -> tuple[int, ...]:
    items = array(obj, key, at, nullable)
    return tuple([checked_integer(item, f"{at}/{key}/{index}", low, high) for index, item in enumerate(items)])


def objects(obj: JsonObject, key: str, at: str, parse: Callable[[object, str], T], nullable: bool) -> tuple[T, ...]:
    items = array(obj, key, at, nullable)
    return tuple([parse(item, f"{at}/{key}/{index}") for index, item in enumerate(items)])


def required_object(obj: JsonObject, key: str, at: str, parse: Callable[[object, str], T]) -> T:
    return parse(required(obj, key, at), f"{at}/{key}")


def nullable_object(obj: JsonObject, key: str, at: str, parse: Callable[[object, str], T]) -> T | None:
    """An object that is there, or None for null."""
    return None if obj[key] is None else parse(obj[key], f"{at}/{key}")


def _entries(obj: JsonObject, key: str, at: str, nullable: bool) -> JsonObject:
    if nullable and obj[key] is None:
        return {}
    entries = json_object(obj[key], f"{at}/{key}")
    for name in entries:
        if not name:
            raise empty_key(f"{at}/{key}/")
        if "\0" in name:
            raise _bad_string(name, pointer_to(f"{at}/{key}", name))
    return entries


def string_map(obj: JsonObject, key: str, at: str, nullable: bool) -> dict[str, str]:
    entries = _entries(obj, key, at, nullable)
    for name, value in entries.items():
        if not isinstance(value, str) or "\0" in value:
            raise _bad_string(value, pointer_to(f"{at}/{key}", name))
    return dict(entries)


def object_map(obj: JsonObject, key: str, at: str, parse: Callable[[object, str], T], nullable: bool) -> dict[str, T]:
    entries = _entries(obj, key, at, nullable)
    return {name: parse(value, pointer_to(f"{at}/{key}", name)) for name, value in entries.items()}
