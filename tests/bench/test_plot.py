"""The picture is well-formed, complete, and inside its frame."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from bench.cases import CASES
from bench.plot import LEFT, RIGHT, WIDTH, draw
from bench.results import Results
from tests.bench.conftest import add

SVG = "{http://www.w3.org/2000/svg}"
CHARACTER_WIDTH = 6.4


def parse(results: Results, *cases: str) -> ElementTree.Element:
    return ElementTree.fromstring(draw(results, cases or list(results.cases)))


def texts(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def bars(root: ElementTree.Element, style: str) -> list[float]:
    """The lengths of the bars of a class, the legend's square excepted."""
    found = [element for element in root.iter(f"{SVG}rect") if element.get("class") == style]
    return [float(element.get("width", "")) for element in found if element.get("x") == str(LEFT)]


def test_it_names_runtimes_cases_times_and_ratios(results: Results) -> None:
    found = texts(parse(results, "run"))
    for words in ("runc 1.1.5", "ocirt 0.1.0", "the run", "20.0 ms", "4.00 ms · 0.20", "ocirt: <a note & more>"):
        assert words in found
    assert "the exec" not in found


def test_bars_are_as_long_as_the_medians(results: Results) -> None:
    root = parse(results, "run", "exec")
    baseline, own = bars(root, "bar0"), bars(root, "main")
    assert len(baseline) == len(own) == 2
    assert own[0] / baseline[0] == pytest.approx(0.2, abs=0.001)


def test_a_bar_that_is_too_long_is_cut_off(results: Results) -> None:
    add(results, "slow", "runc", 1)
    add(results, "slow", "ocirt", 37)
    root = parse(results, "slow")
    assert bars(root, "main") == [WIDTH - LEFT - RIGHT]
    assert any(element.get("class") == "cut" for element in root.iter(f"{SVG}path"))
    assert "37.0 ms · 37.00" in texts(root)


def test_what_failed_has_no_bar(results: Results) -> None:
    results.fail("exec", [], "ocirt", "it broke")
    assert len(bars(parse(results, "run", "exec"), "main")) == 1


def test_everything_is_inside(results: Results) -> None:
    add(results, "slow", "runc", 1)
    add(results, "slow", "ocirt", 12345)
    root = parse(results)
    height = float(root.get("height", ""))
    for element in root.iter():
        assert float(element.get("y", 0)) <= height
        assert float(element.get("x", 0)) + float(element.get("width", 0)) <= WIDTH


def test_the_titles_of_all_cases_have_room() -> None:
    assert max(len(case.title) for case in CASES) * CHARACTER_WIDTH < LEFT - 14


def test_both_colour_schemes_have_every_class(results: Results) -> None:
    style = parse(results).findtext(f"{SVG}style")
    assert style
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    classes = set(re.findall(r"\.(bar\d|main|ground|tick|one|spread|cut|small)\b", light))
    assert classes == set(re.findall(r"\.([a-z]+\d?) {", dark))
