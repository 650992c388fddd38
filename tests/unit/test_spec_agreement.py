"""The compiled parser against its oracle, jsonschema on the same schema: one verdict, one pointer, one message."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocirt.errors import SpecError
from ocirt.spec import all_problems, decode, parse_config
from ocirt.spec.load import decode_with_problems
from ocirt.spec.notices import all_notices, unknown_properties
from ocirt.spec.structure import load_schema, structure_problems
from tests.unit.spec_samples import small_config, with_value
from tests.unit.test_spec_checks import ACCEPTED, REFUSED

SCHEMA = load_schema("config")
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, 1.0, 2**63, 2**64, -1, 4294967295, "", "\0", "a\0", "private\n", "RLIMIT_CORE", "pid"]),
    TEXT,
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=5,
)


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return {**resolved(SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")]), **schema}
    return schema


def values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that the schema accepts."""
    schema = resolved(schema)
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    strategy = st.deferred(lambda: values_of_type(types[0], schema))
    return st.one_of(strategy, st.none()) if "null" in types else strategy


def values_of_type(kind: str, schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    match kind:
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(schema["minimum"], schema["maximum"])
        case "string" if "enum" in schema:
            return st.sampled_from(schema["enum"])
        case "string" if "[KMG]" in schema.get("pattern", ""):
            return st.from_regex(r"[1-9][0-9]{0,3}[KMG]B", fullmatch=True)
        case "string":
            return TEXT
        case "array":
            return st.lists(values(schema["items"]), min_size=schema.get("minItems", 0), max_size=2)
    if "additionalProperties" in schema:
        return st.dictionaries(TEXT.filter(bool), values(schema["additionalProperties"]), max_size=2)
    required = schema.get("required", ())
    members = {name: values(member) for name, member in schema["properties"].items()}
    return st.fixed_dictionaries(
        {name: members[name] for name in required},
        optional={name: member for name, member in members.items() if name not in required},
    )


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in the value."""
    found: list[tuple[Any, Any]] = []
    todo = [value]
    while todo:
        container = todo.pop()
        keys: Any = list(container) if isinstance(container, dict) else range(len(container))
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], dict | list):
                todo.append(container[key])
    return found


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A config that the schema accepts, with up to three changes anywhere."""
    config = copy.deepcopy(draw(CONFIGS))
    for _ in range(draw(st.integers(1, 3))):
        found = places(config)
        if not found:
            break
        container, key = draw(st.sampled_from(found))
        change = draw(st.sampled_from(["replace", "remove", "add"]))
        if change == "remove":
            del container[key]
        elif change == "add" and isinstance(container, dict):
            container[draw(TEXT)] = draw(JSON)
        else:
            container[key] = draw(JSON)
    return config


CONFIGS = values(SCHEMA)


def described(problem: SpecError) -> tuple[str, str, str]:
    return problem.pointer, problem.code, problem.message


def refusal(config: Any) -> SpecError | None:
    try:
        parse_config(config)
    except SpecError as error:
        return error
    return None


def assert_agreement(config: Any) -> bool:
    """Whether both accept."""
    expected = [described(problem) for problem in structure_problems(config)]
    error = refusal(config)
    if not error:
        assert expected == []
        return True
    assert described(error) in expected
    return False


relaxed = settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))


@relaxed
@given(CONFIGS)
def test_what_the_schema_makes_is_accepted_and_never_crashes_a_check(config: Any) -> None:
    assert assert_agreement(config)
    spec = parse_config(config)
    for problem in all_problems(spec):
        assert problem.pointer.startswith("/")
        assert problem.message
        str(problem)
    for notice in all_notices(spec):
        str(notice)
    assert list(unknown_properties(config, SCHEMA)) == []


@relaxed
@given(mutated())
def test_changed_configs(config: Any) -> None:
    assert_agreement(config)
    for notice in unknown_properties(config, SCHEMA):
        assert notice.pointer.startswith("/")


@relaxed
@given(JSON)
def test_any_json(value: Any) -> None:
    assert_agreement(value)


@relaxed
@given(mutated())
def test_json_text_survives(config: Any) -> None:
    """What is written as JSON is decoded to the same value, but for integers beyond every range."""
    text = json.dumps(config).encode()
    decoded, problems = decode_with_problems(text, "x")
    assert problems == []
    assert json.dumps(decoded) == json.dumps(decode(text, "x"))
    assert assert_agreement(decoded) == assert_agreement(config)


@relaxed
@given(st.binary(max_size=200))
def test_any_bytes(raw: bytes) -> None:
    """A value, or SpecError; anything else ends the test."""
    try:
        decode(raw, "x")
    except SpecError as error:
        code = error.code
    else:
        code = "spec.json"
    assert code == "spec.json"


@pytest.mark.parametrize("case", [*ACCEPTED, *REFUSED])
def test_samples(case: str) -> None:
    assert_agreement(ACCEPTED[case] if case in ACCEPTED else REFUSED[case][0])


def test_all_problems_of_the_structure_are_found() -> None:
    config = with_value("/mounts", [{"destination": 1, "options": ["a", None]}, {}])
    config["process"] |= {"noNewPrivileges": "true", "args": []}
    config["annotations"] = {"": "a", "b": 1}
    del config["root"]
    found = {(problem.pointer, problem.code) for problem in structure_problems(config)}
    assert found == {
        ("", "spec.required"),
        ("/process/noNewPrivileges", "spec.type"),
        ("/process/args", "spec.value"),
        ("/mounts/0/destination", "spec.type"),
        ("/mounts/0/options/1", "spec.type"),
        ("/mounts/1", "spec.required"),
        ("/annotations/", "spec.value"),
        ("/annotations/b", "spec.type"),
    }


def test_one_mistake_is_one_problem() -> None:
    for pointer, value in (
        ("/linux/rootfsPropagation", 5),
        ("/process/user/uid", "x"),
        ("/process/user/uid", 1.5),
        ("/process/user/uid", -1),
        ("/linux/maskedPaths", "x"),
        ("/hostname", []),
    ):
        assert [problem.pointer for problem in structure_problems(with_value(pointer, value))] == [pointer]


@pytest.mark.parametrize("pointer", ["/hostname", "/mounts", "/unknown", "/annotations/a"])
def test_deep_values(pointer: str) -> None:
    """As deep as the decoder lets pass."""
    deep: Any = []
    for _ in range(20_000):
        deep = [deep]
    config = with_value("/annotations", {})
    place, _, last = pointer.rpartition("/")
    (config["annotations"] if place else config)[last] = deep
    assert assert_agreement(config) == (pointer == "/unknown")
    assert len(list(unknown_properties(config, SCHEMA))) == (pointer == "/unknown")


def test_the_schemas_are_schemas() -> None:
    from jsonschema import Draft202012Validator

    for name in ("config", "state"):
        Draft202012Validator.check_schema(load_schema(name))
        assert load_schema(name)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert list(structure_problems(small_config())) == []
