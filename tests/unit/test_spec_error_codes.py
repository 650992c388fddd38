"""docs/errors.md lists every code of the source, and none that is not there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = ROOT / "docs" / "errors.md"
# The constants of ocirt/spec, which are passed by name.
NAMED = re.compile(r"(spec|warning)\.[a-z-]+")


def literal(node: ast.AST | None) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def codes(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef():
                yield from of_class(node)
            case ast.Call():
                yield from of_call(node)
            case ast.arguments():
                yield from of_parameters(node)
            case ast.Assign():
                yield from (text for part in ast.walk(node.value) for text in literal(part) if NAMED.fullmatch(text))


def of_class(node: ast.ClassDef) -> Iterator[str]:
    """code = "..." in its body."""
    for statement in node.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="code")]):
                yield from literal(statement.value)


def of_call(node: ast.Call) -> Iterator[str]:
    """A keyword code, or the third argument of SpecError."""
    for keyword in node.keywords:
        if keyword.arg == "code":
            yield from literal(keyword.value)
    if isinstance(node.func, ast.Name) and node.func.id == "SpecError" and len(node.args) > 2:
        yield from literal(node.args[2])


def of_parameters(node: ast.arguments) -> Iterator[str]:
    """The default of a parameter code."""
    positional = zip(reversed(node.args), reversed(node.defaults), strict=False)
    for argument, default in (*positional, *zip(node.kwonlyargs, node.kw_defaults, strict=True)):
        if argument.arg == "code":
            yield from literal(default)


def codes_of_source() -> dict[str, str]:
    found: dict[str, str] = {}
    for path in sorted((ROOT / "ocirt").rglob("*.py")):
        for code in codes(ast.parse(path.read_text(encoding="utf-8"))):
            found.setdefault(code, str(path.relative_to(ROOT)))
    return found


def documented() -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_code_is_documented() -> None:
    missing = {code: path for code, path in codes_of_source().items() if code not in documented()}
    assert missing == {}


def test_every_documented_code_exists() -> None:
    assert sorted(set(documented()) - set(codes_of_source())) == []


def test_no_code_is_documented_twice() -> None:
    assert sorted(documented()) == sorted(set(documented()))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('class E(X):\n    code = "a"', ["a"]),
        ('StateError("m", code="a.b")', ["a.b"]),
        ('SpecError("/p", "m", "spec.x")', ["spec.x"]),
        ('def f(a, code="spec.y"): pass', ["spec.y"]),
        ('def f(*, code: str = "z"): pass', ["z"]),
        ('A, B = "spec.a", "warning.b-c"', ["spec.a", "warning.b-c"]),
        ('A = "spec.toml"; f("spec.x")', ["spec.toml"]),
        ('code = "a"', []),
    ],
)
def test_how_codes_are_found(source: str, expected: list[str]) -> None:
    assert list(codes(ast.parse(source))) == expected
