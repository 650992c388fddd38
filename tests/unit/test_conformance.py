"""The tests of the specification's requirements as a whole: each requirement has its own, and the report is true."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requirements
from conformance import outcome, page
from conformance.expect import Mismatch, merged, that
from conformance.outcome import Run
from requirements import Catalogue, Requirement

PROJECT = Path(__file__).parent.parent.parent
TESTS = PROJECT / "spec-conformance" / "tests"


@pytest.fixture(scope="module")
def collected() -> set[str]:
    """The ids of all the cases, as pytest finds them."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "conformance.plugin",
        "-p",
        "no:cacheprovider",
        "--collect-only",
        "-q",
    ]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    command += ["-p", "no:cacheprovider", str(TESTS)]
    result = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return {line for line in result.stdout.splitlines() if "::" in line}


def expected(requirement: Requirement) -> str:
    module, _, function = requirement.checked_by.partition("::")
    return f"spec-conformance/tests/test_{module}.py::{function}[{requirement.id}]"


def test_every_requirement_has_its_case_and_every_case_its_requirement(collected: set[str]) -> None:
    wanted = {expected(r) for r in requirements.load().requirements if r.test != "none"}
    assert wanted - collected == set()
    assert collected - wanted == set()


def test_no_table_of_cases_lacks_a_requirement() -> None:
    """What a function looks up by the requirement's id stands in its module."""
    bodies: dict[str, str] = {}
    texts = {path.stem.removeprefix("test_"): path.read_text() for path in TESTS.glob("test_*.py")}
    for module, text in texts.items():
        parts = re.split(r"^def (\w+)\(", text, flags=re.MULTILINE)
        bodies |= {f"{module}::{name}": body for name, body in zip(parts[1::2], parts[2::2], strict=True)}
    for requirement in requirements.load().requirements:
        if re.search(r"case_of\(\w+, requirement\.id\)", bodies.get(requirement.checked_by, "")):
            assert f'"{requirement.id}"' in texts[requirement.checked_by.partition("::")[0]], requirement.id


DATA: dict[str, Any] = {
    "document": "things.md",
    "sections": {},
    "requirement": [
        {
            "id": f"things.{name}",
            "section": "things",
            "level": level,
            "at": number,
            "about": "runtime",
            "summary": "It is so.",
            "test": test,
            **more,
        }
        for number, (name, level, test, more) in enumerate(
            [
                ("one", "MUST", "positive", {"checked_by": "m::test_one"}),
                ("two", "MUST", "negative", {"checked_by": "m::test_two", "note": "Look twice."}),
                ("three", "SHOULD", "positive", {"checked_by": "m::test_three"}),
                ("four", "MUST", "none", {"reason": "Nobody can see it."}),
                ("five", "MAY", "positive", {"checked_by": "m::test_five"}),
            ],
            1,
        )
    ],
}
RESULTS: dict[str, dict[str, Any]] = {
    "things.one": {"outcome": "passed"},
    "things.two": {"outcome": "failed", "expected": "the end </script>", "seen": "`a` tick"},
    "things.three": {"outcome": "not_testable", "reason": "needs the moon"},
}


@pytest.fixture
def catalogue() -> Catalogue:
    found = Catalogue()
    requirements.read_document(DATA, found)
    return found


@pytest.fixture
def run() -> Run:
    return Run("mine", "mine --flag", "mine 1.0", RESULTS)


def test_counts_tell_the_four_outcomes_apart(catalogue: Catalogue, run: Run) -> None:
    counts = outcome.counts(catalogue, run)
    assert counts["MUST"] == {"passed": 1, "failed": 1, "not_testable": 0, "no_test": 0}
    assert counts["SHOULD"] == {"passed": 0, "failed": 0, "not_testable": 1, "no_test": 0}
    assert counts["MAY"] == {"passed": 0, "failed": 0, "not_testable": 0, "no_test": 1}


def test_json_has_the_counts_and_every_requirement(catalogue: Catalogue, run: Run) -> None:
    report = json.loads(json.dumps(outcome.as_json(catalogue, [run], "here", {"caught": 3, "of": 4})))
    assert report["requirements"] == 5
    assert report["runtimes"]["mine"]["MUST"]["failed"] == 1
    assert report["mutations"] == {"caught": 3, "of": 4}
    assert report["results"]["mine"]["things.four"] == {"outcome": "untestable", "reason": "Nobody can see it."}
    assert report["results"]["mine"].keys() == {r.id for r in catalogue.requirements}


def test_markdown_says_what_was_expected_and_seen_and_where_it_stands(catalogue: Catalogue, run: Run) -> None:
    text = outcome.as_markdown(catalogue, [run], "here")
    assert "| mine | MUST | 1 | 1 | 0 | 0 | 0 |" in text
    assert "things.md#things): It is so." in text
    assert "expected `the end </script>`" in text
    assert "seen `'a' tick`" in text
    assert "note: Look twice." in text
    assert "- `needs the moon`: 1" in text
    assert "- `things.five` (m::test_five)" in text


def test_the_page_holds_its_data_whatever_is_in_them(catalogue: Catalogue, run: Run) -> None:
    text = page.render(catalogue, [run], "here")
    (data,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', text, re.S)
    rows = {row["id"]: row for row in json.loads(data)["rows"]}
    assert rows["things.two"]["cells"][0]["expected"] == "the end </script>"
    assert rows["things.five"]["cells"][0]["outcome"] == "no_test"
    assert not re.search(r'(?:src|href)="https?:', text)


def test_a_mismatch_says_both_sides() -> None:
    with pytest.raises(Mismatch, match=r"^the cwd: expected /, seen /tmp$") as caught:
        that(False, "the cwd", "/", "/tmp")
    assert (caught.value.expected, caught.value.seen) == ("the cwd: /", "/tmp")


def test_a_merge_patch_replaces_arrays_and_takes_away_what_is_null() -> None:
    base = {"a": {"b": [1, 2], "c": 1}, "d": 2}
    assert merged(base, {"a": {"b": [3], "c": None}, "e": {"f": 1}}) == {"a": {"b": [3]}, "d": 2, "e": {"f": 1}}
    assert base == {"a": {"b": [1, 2], "c": 1}, "d": 2}


def test_every_remark_is_about_something() -> None:
    ids = [requirement.id for requirement in requirements.load().requirements]
    for glob, text in outcome.remarks():
        assert fnmatch.filter(ids, glob), glob
        assert text.endswith(".")


def test_what_runc_and_crun_both_fail_was_looked_at_twice() -> None:
    results = json.loads((TESTS.parent / "report.json").read_text())["results"]
    both = [name for name, result in results["runc"].items() if result["outcome"] == "failed"]
    both = [name for name in both if results["crun"][name]["outcome"] == "failed"]
    globs = [glob for glob, _ in outcome.remarks()]
    assert [name for name in both if not any(fnmatch.fnmatchcase(name, glob) for glob in globs)] == []
