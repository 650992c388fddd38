"""The conformance report's page, in a real browser."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import browser

FOLDER = Path(__file__).parent.parent.parent / "spec-conformance"
VISIBLE_ROWS = "[...document.querySelectorAll('#rows tbody tr')].filter(row => row.offsetHeight > 0)"


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return dict(json.loads((FOLDER / "report.json").read_text()))


@pytest.fixture(scope="module")
def browser_page() -> Iterator[browser.Page]:
    program = browser.find()
    if program is None:
        pytest.skip("needs a browser: sh tools/setup.sh browser")
    with browser.page(program) as found:
        yield found


@pytest.fixture
def page(browser_page: browser.Page) -> Iterator[browser.Page]:
    browser_page.problems.clear()
    browser_page.open((FOLDER / "report.html").absolute().as_uri())
    yield browser_page
    assert browser_page.problems == []


def shown(page: browser.Page) -> int:
    return int(page.value(f"{VISIBLE_ROWS}.length"))


def test_every_requirement_has_a_row_and_every_runtime_a_column(page: browser.Page, report: dict[str, Any]) -> None:
    assert shown(page) == report["requirements"]
    heads = page.value("[...document.querySelectorAll('#rows thead th')].map(cell => cell.textContent)")
    assert heads == ["requirement", "level", *report["runtimes"]]
    cells = page.value(f"{VISIBLE_ROWS}.map(row => row.cells.length)")
    assert set(cells) == {len(heads)}


def test_the_counts_are_those_of_the_report(page: browser.Page, report: dict[str, Any]) -> None:
    rows = page.value(
        "[...document.querySelectorAll('#counts tr')].slice(1).map(r => [...r.cells].map(c => c.innerText))"
    )
    assert [row[:3] for row in rows] == [
        [name, strength, str(counts["passed"])]
        for name, strengths in report["runtimes"].items()
        for strength, counts in strengths.items()
    ]


def test_typing_leaves_the_rows_that_have_the_text(page: browser.Page, report: dict[str, Any]) -> None:
    page.type("#text", "mount-options.nosymfollow")
    assert shown(page) == 1
    assert page.value("document.querySelector('#shown').textContent") == f"1 of {report['requirements']}"
    page.type("#text", "there is no such requirement")
    assert shown(page) == 0
    page.type("#text", "config-linux.seccomp.")
    ids = page.value(f"{VISIBLE_ROWS}.map(row => row.querySelector('code').textContent)")
    assert sorted(ids) == sorted(
        name for name in report["results"]["ocirt"] if name.startswith("config-linux.seccomp.")
    )


def test_an_outcome_is_chosen_of_one_runtime(page: browser.Page, report: dict[str, Any]) -> None:
    for name, results in report["results"].items():
        choose(page, "runtime", name)
        choose(page, "outcome", "failed")
        assert shown(page) == sum(result["outcome"] == "failed" for result in results.values())


def choose(page: browser.Page, menu: str, value: str) -> None:
    found = f"document.querySelector('#{menu}')"
    page.value(f"{found}.value = {json.dumps(value)}; {found}.dispatchEvent(new Event('input'))")


def test_a_failure_opens_to_what_was_expected_and_seen(page: browser.Page, report: dict[str, Any]) -> None:
    name, result = next((n, r) for n, r in report["results"]["ocirt"].items() if r["outcome"] == "failed")
    page.type("#text", name)
    page.value("document.querySelector('#rows summary').click()")
    text = page.value("document.querySelector('#rows details').innerText")
    assert result["expected"].split() == text.partition("expected")[2].partition("seen")[0].split()
    assert all(word in text for word in result["seen"].split())


def test_it_is_laid_out_within_the_window(page: browser.Page, tmp_path: Path) -> None:
    assert page.value("document.documentElement.scrollWidth") <= page.value("window.innerWidth")
    boxes = page.value("[...document.querySelectorAll('#rows thead th')].map(h => h.getBoundingClientRect().width)")
    assert min(boxes) > 40
    colors = {
        outcome: page.value(f"getComputedStyle(document.querySelector('#rows .{outcome}')).backgroundColor")
        for outcome in ("passed", "failed", "not_testable")
    }
    assert len(set(colors.values())) == len(colors)
    picture = page.screenshot()
    (tmp_path / "page.png").write_bytes(picture)
    assert distinct_bytes(picture) > 100, "the screenshot is blank"


def distinct_bytes(picture: bytes) -> int:
    """How many different bytes the lines of a PNG have: few where all of it has one colour."""
    assert picture.startswith(b"\x89PNG")
    data, at = b"", 8
    while at < len(picture):
        length, kind = int.from_bytes(picture[at : at + 4]), picture[at + 4 : at + 8]
        data += picture[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        at += length + 12
    return len(set(zlib.decompress(data)))
