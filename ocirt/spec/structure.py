"""Everything that is wrong with the structure of a config.json, by jsonschema on schema/config.json.

Guarantees: the same verdict and the same messages as the compiled parser, which stops at the first problem; tests hold
them against each other. jsonschema is imported when it is needed, since it takes longer than all else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, TypeAlias

from ocirt.errors import SpecError
from ocirt.spec import values as v

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

Schema: TypeAlias = dict[str, Any]
Keyword: TypeAlias = Callable[[Any, Any, Any, Schema], "Iterator[ValidationError]"]

NO_NUL = "^[^\\u0000]*$"
TYPE_NAMES = {
    "string": "a string",
    "integer": "an integer",
    "boolean": "a boolean",
    "array": "an array",
    "object": "an object",
}


@cache
def load_schema(name: str) -> Schema:
    """A schema of ours: "config" or "state"."""
    text = (resources.files("ocirt.spec") / "schema" / f"{name}.json").read_text(encoding="utf-8")
    schema: Schema = json.loads(text)
    return schema


def structure_problems(value: Any, schema: Schema | None = None) -> Iterator[SpecError]:
    """All the problems, in the order of the schema."""
    for error in _validator_class()(schema or load_schema("config")).iter_errors(value):
        at = ""
        for key in error.absolute_path:
            at = v.pointer_to(at, key)
        yield _problem(error, at)


@cache
def _validator_class() -> type[Validator]:
    """Draft 2020-12, with Go's integers, patterns for the whole string, and one error for one mistake."""
    from jsonschema import validators

    extend: Any = validators.extend
    base = validators.Draft202012Validator
    keywords: dict[str, Keyword] = {
        "type": _type,
        "pattern": _pattern,
        "enum": _enum,
        "propertyNames": _property_names,
    }
    types = base.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    types = types.redefine("number", lambda _, value: type(value) is int)
    strict: type[Validator] = extend(base, validators=keywords, type_checker=types)
    return strict


def _type(validator: Validator, types: str | list[str], value: Any, _schema: Schema) -> Iterator[ValidationError]:
    """jsonschema's own puts the value's repr in its message, which for a deep one is a RecursionError."""
    from jsonschema.exceptions import ValidationError

    if not any(validator.is_type(value, name) for name in ([types] if isinstance(types, str) else types)):
        yield ValidationError("")


def _pattern(_validator: Validator, pattern: str, value: object, _schema: Schema) -> Iterator[ValidationError]:
    """ECMA 262's $ is the end alone; Python's is also before a last newline."""
    from jsonschema.exceptions import ValidationError

    if isinstance(value, str) and not re.fullmatch(pattern.removeprefix("^").removesuffix("$"), value):
        yield ValidationError("")


def _enum(_validator: Validator, choices: list[str], value: object, _schema: Schema) -> Iterator[ValidationError]:
    """Of strings alone: any other value has the wrong type already."""
    from jsonschema.exceptions import ValidationError

    if isinstance(value, str) and value not in choices:
        yield ValidationError("")


def _property_names(validator: Any, names: Schema, value: object, _schema: Schema) -> Iterator[ValidationError]:
    """With the key in the path, as everything else has."""
    if isinstance(value, dict):
        for key in value:
            yield from validator.descend(key, names, path=key)


def _problem(error: ValidationError, at: str) -> SpecError:
    """jsonschema's error in the words of values.py."""
    value: Any = error.instance
    schema: Any = error.schema
    expected: Any = error.validator_value
    match error.validator:
        case "type":
            return v.wrong_type(TYPE_NAMES[expected if isinstance(expected, str) else expected[0]], value, at)
        case "required":
            # The message begins with the name's repr, and there is one error for each name.
            name = next(name for name in schema["required"] if error.message.startswith(repr(name)))
            return v.missing(name, at)
        case "minimum" | "maximum":
            return v.out_of_range(schema["minimum"], schema["maximum"], at)
        case "enum":
            return v.not_a_choice(value, schema["enum"], at)
        case "pattern":
            pattern = schema["pattern"]
            return v.has_nul(at) if pattern == NO_NUL else v.no_match(value, pattern.strip("^$"), at)
        case "minLength":
            return v.empty_key(at)
        case "minItems":
            return v.no_item(at)
    return SpecError(at, error.message, v.VALUE)
