"""The build-time tool that compiles schema/config.json into _generated.py: `python -m ocirt.spec.generate [--check]`.

Guarantees: _generated.py accepts what the schema accepts, and refuses with the pointer of what it refuses, without
any work on the schema at run time. It knows the part of JSON Schema that schema/config.json uses, and stops at
anything else, so that no constraint is dropped in silence.

A schema with a "title" becomes a dataclass of that name and a function that parses it; its "description" becomes the
docstring, a property's the comment of the attribute.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

Schema = dict[str, Any]

SCHEMA = Path(__file__).parent / "schema" / "config.json"
OUTPUT = Path(__file__).parent / "_generated.py"
ENTRY_POINTS = {"parse_config": "Spec", "parse_process": "Process", "parse_resources": "Resources"}
NO_NUL = "^[^\\u0000]*$"
KNOWN_KEYWORDS = {
    *("$ref", "title", "description", "type", "enum", "pattern", "minimum", "maximum", "minLength", "default"),
    *("items", "minItems", "properties", "required", "propertyNames", "additionalProperties"),
}
HEAD = '''"""The model and the parser of config.json. Made by generate.py from schema/config.json: do not edit.

Guarantees: a value of these classes has exactly the declared types and ranges, all the way down. The parse_* functions
raise SpecError at the first problem. The rules are in values.py.
"""

# fmt: off
# ruff: noqa: A002, E501, RUF023
from __future__ import annotations

from dataclasses import dataclass

from ocirt.spec import values as v
from ocirt.spec.record import Record

_set = object.__setattr__
'''


def attribute(property_name: str) -> str:
    """throttleReadIOPSDevice -> throttle_read_iops_device; class -> class_, since that is a keyword."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", property_name).lower()
    return "class_" if name == "class" else name


DECORATOR = "@dataclass(init=False, repr=False, eq=False, match_args=False)"


class Property(NamedTuple):
    """What the generator writes for a property."""

    annotation: str
    call: str  # that parses it, without the module's name
    default: str = ""  # of the parameter of __init__; empty: it is required
    otherwise: str = ""  # what stands for None, where a default cannot be shared

    @property
    def parameter(self) -> str:
        annotation = f"{self.annotation} | None" if self.otherwise else self.annotation
        return f"{annotation} = {self.default}" if self.default else annotation


class Generator:
    """Walks the schema once and keeps the text of each class, of each parser and of each list of choices."""

    def __init__(self, schema: Schema) -> None:
        self.definitions: dict[str, Schema] = schema["$defs"]
        self.classes: dict[str, str] = {}
        self.parsers: dict[str, str] = {}
        self.choices: dict[tuple[str, ...], str] = {}
        self.choices_hint = ""
        self.add_class({key: value for key, value in schema.items() if key not in ("$schema", "$defs")})

    def text(self) -> str:
        choices = [
            f"{name} = (\n    " + ",\n    ".join(map(json.dumps, c)) + ",\n)\n" for c, name in self.choices.items()
        ]
        entries = [
            f'def {function}(value: object) -> {title}:\n    return _{attribute(title)}(value, "")\n'
            for function, title in ENTRY_POINTS.items()
        ]
        parts = [*self.classes.values(), "\n".join(choices), *self.parsers.values(), *entries]
        return HEAD + "\n\n" + "\n\n".join(parts)

    def resolve(self, schema: Schema) -> Schema:
        """The schema with its reference replaced by what it refers to."""
        if "$ref" in schema:
            target = self.definitions[schema["$ref"].removeprefix("#/$defs/")]
            schema = {**self.resolve(target), **{key: value for key, value in schema.items() if key != "$ref"}}
        if unknown := set(schema) - KNOWN_KEYWORDS:
            raise ValueError(f"the generator does not know {sorted(unknown)}")
        return schema

    def add_class(self, schema: Schema) -> str:
        title = str(schema["title"])
        if title in self.classes:
            return title
        attributes, parameters, settings, arguments = [], [], [], []
        for name, property_schema in schema["properties"].items():
            self.choices_hint = f"_{attribute(title)}_{attribute(name)}".upper()
            made = self.property(name, self.resolve(property_schema), name in schema.get("required", ()))
            if "description" in property_schema and "title" not in property_schema:
                attributes.append(f"    # {property_schema['description']}\n")
            attributes.append(f"    {attribute(name)}: {made.annotation}\n")
            parameters.append(f"        {attribute(name)}: {made.parameter},\n")
            value = f"{attribute(name)} or {made.otherwise}" if made.otherwise else attribute(name)
            settings.append(f'        _set(self, "{attribute(name)}", {value})\n')
            call = f'v.{made.call} if "{name}" in o else {made.default}' if made.default else f"v.{made.call}"
            arguments.append(f"        {attribute(name)}={call},\n")
        names = "".join(f'        "{attribute(name)}",\n' for name in schema["properties"])
        self.classes[title] = (
            f'{DECORATOR}\nclass {title}(Record):\n    """{schema["description"]}"""\n\n'
            f"    __slots__ = (\n{names}    )\n\n{''.join(attributes)}\n"
            f"    def __init__(\n        self,\n        *,\n{''.join(parameters)}    ) -> None:\n{''.join(settings)}"
        )
        self.parsers[title] = (
            f"def _{attribute(title)}(value: object, at: str) -> {title}:\n    o = v.json_object(value, at)\n"
            f"    return {title}(\n{''.join(arguments)}    )\n"
        )
        return title

    def property(self, name: str, schema: Schema, required: bool) -> Property:
        types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        nullable = "null" in types
        if required and nullable:
            raise ValueError(f"{name} is required and nullable")
        where = f'o, "{name}", at'
        match types[0]:
            case "boolean":
                return Property("bool", f"boolean({where})", "" if required else str(schema.get("default", False)))
            case "integer":
                return self.integer_property(where, schema, required)
            case "string":
                return self.string_property(where, schema, required)
            case "array":
                return self.array_property(where, schema, required, nullable)
            case "object":
                return self.object_property(where, schema, required, nullable)
        raise ValueError(f"the generator does not know the type {types[0]}")

    def integer_property(self, where: str, schema: Schema, required: bool) -> Property:
        call = f"integer({where}, {schema['minimum']}, {schema['maximum']})"
        if required:
            return Property("int", call)
        if "default" in schema:
            return Property("int", call, str(schema["default"]))
        return Property("int | None", call, "None")

    def string_property(self, where: str, schema: Schema, required: bool) -> Property:
        if "enum" in schema:
            call = f"choice({where}, {self.choice_name(schema)})"
            return Property("str", call) if required else Property("str | None", call, "None")
        if schema["pattern"] == NO_NUL:
            if required:
                return Property("str", f"string({where})")
            return Property("str | None", f"string({where}) or None", "None")
        if not required:
            raise ValueError("the generator knows a pattern only at a required string")
        pattern = schema["pattern"].removeprefix("^").removesuffix("$")
        return Property("str", f'matching({where}, "{pattern}")')

    def array_property(self, where: str, schema: Schema, required: bool, nullable: bool) -> Property:
        items = self.resolve(schema["items"])
        if required:
            if schema.get("minItems") != 1 or items.get("pattern") != NO_NUL:
                raise ValueError("the generator knows a required array only as one of at least one string")
            return Property("tuple[str, ...]", f"some_strings({where})")
        if "minItems" in schema:
            raise ValueError("the generator knows minItems only at a required array")
        if items["type"] == "integer":
            arguments = f"{where}, {items['minimum']}, {items['maximum']}, {nullable}"
            return Property("tuple[int, ...]", f"integers({arguments})", "()")
        if "enum" in items:
            return self.choices_property(where, schema, nullable)
        if items["type"] == "string" and items["pattern"] == NO_NUL:
            return Property("tuple[str, ...]", f"strings({where}, {nullable})", "()")
        title = self.add_class(items)
        return Property(f"tuple[{title}, ...]", f"objects({where}, _{attribute(title)}, {nullable})", "()")

    def choices_property(self, where: str, schema: Schema, nullable: bool) -> Property:
        call = f"choices_of({where}, {self.choice_name(self.resolve(schema['items']))}, {nullable})"
        if "default" not in schema:
            return Property("tuple[str, ...]", call, "()")
        if nullable:
            raise ValueError("the generator knows a default only at an array that is not nullable")
        default = f"({', '.join(map(json.dumps, schema['default']))},)"
        return Property("tuple[str, ...]", call, default)

    def object_property(self, where: str, schema: Schema, required: bool, nullable: bool) -> Property:
        if "additionalProperties" in schema:
            return self.map_property(where, schema, nullable)
        title = self.add_class(schema)
        parser = f"_{attribute(title)}"
        if required:
            return Property(title, f"required_object({where}, {parser})")
        call = f"{'nullable' if nullable else 'required'}_object({where}, {parser})"
        if "default" in schema:
            arguments = ", ".join(f"{attribute(key)}={value}" for key, value in schema["default"].items())
            return Property(title, call, "None", f"{title}({arguments})")
        return Property(f"{title} | None", call, "None")

    def map_property(self, where: str, schema: Schema, nullable: bool) -> Property:
        if self.resolve(schema["propertyNames"]) != self.resolve({"$ref": "#/$defs/key"}):
            raise ValueError("the generator knows no other keys of a map than #/$defs/key")
        entries = self.resolve(schema["additionalProperties"])
        if entries.get("pattern") == NO_NUL:
            return Property("dict[str, str]", f"string_map({where}, {nullable})", "None", "{}")
        title = self.add_class(entries)
        call = f"object_map({where}, _{attribute(title)}, {nullable})"
        return Property(f"dict[str, {title}]", call, "None", "{}")

    def choice_name(self, schema: Schema) -> str:
        return self.choices.setdefault(tuple(schema["enum"]), self.choices_hint)


def generate() -> str:
    return Generator(json.loads(SCHEMA.read_text(encoding="utf-8"))).text()


def main(arguments: list[str]) -> int:
    text = generate()
    if arguments == ["--check"]:
        if OUTPUT.read_text(encoding="utf-8") == text:
            return 0
        print(f"{OUTPUT} is not what {SCHEMA} compiles to: run python -m ocirt.spec.generate", file=sys.stderr)
        return 1
    OUTPUT.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
