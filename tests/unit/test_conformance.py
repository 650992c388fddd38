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
from xml.etree import ElementTree

import pytest
import requirements
from conformance import cli, mutations, outcome, page, pointers, results, session, vm
from conformance.expect import Mismatch, merged, that
from conformance.mutation import VARIABLE
from conformance.outcome import Report, Run
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
MUTATIONS: dict[str, Any] = {"caught": 3, "of": 4, "missed": ["odd"], "left_out": []}


@pytest.fixture
def catalogue() -> Catalogue:
    found = Catalogue()
    requirements.read_document(DATA, found)
    return found


@pytest.fixture
def run() -> Run:
    return Run("mine", "mine --flag", "mine 1.0", RESULTS)


@pytest.fixture
def report(run: Run) -> Report:
    return Report("here", [run], {"machine": "there", "called": {"mine": "mine"}}, MUTATIONS)


def test_counts_tell_the_four_outcomes_apart(catalogue: Catalogue, run: Run) -> None:
    counts = outcome.counts(catalogue, run)
    assert counts["MUST"] == {"passed": 1, "failed": 1, "not_testable": 0, "no_test": 0}
    assert counts["SHOULD"] == {"passed": 0, "failed": 0, "not_testable": 1, "no_test": 0}
    assert counts["MAY"] == {"passed": 0, "failed": 0, "not_testable": 0, "no_test": 1}


def test_json_has_the_counts_and_every_requirement(catalogue: Catalogue, report: Report) -> None:
    found = json.loads(json.dumps(report.as_json(catalogue)))
    assert found["requirements"] == 5
    assert found["runtimes"]["mine"]["MUST"]["failed"] == 1
    assert (found["mutations"]["caught"], found["mutations"]["of"]) == (3, 4)
    assert found["results"]["mine"]["things.four"] == {"outcome": "untestable", "reason": "Nobody can see it."}
    assert found["results"]["mine"].keys() == {r.id for r in catalogue.requirements}
    assert Report.of_json(found).as_json(catalogue) == found


def test_markdown_says_what_was_expected_and_seen_and_where_it_stands(catalogue: Catalogue, report: Report) -> None:
    text = outcome.as_markdown(catalogue, report)
    assert "| mine | MUST | 1 | 0 | 1 | 0 | 0 | 0 |" in text
    assert "(`tools/vm.py`: there)" in text
    assert "There mine is `mine`." in text
    assert "3 of 4 mutations are noticed (75.0 %); not noticed: odd." in text
    assert "things.md#things): It is so." in text
    assert "expected `the end </script>`" in text
    assert "seen `'a' tick`" in text
    assert "note: Look twice." in text
    assert "- `needs the moon`: 1" in text
    assert "- `things.five` (m::test_five)" in text


def test_the_page_holds_its_data_whatever_is_in_them(catalogue: Catalogue, report: Report) -> None:
    text = page.render(catalogue, report)
    (data,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', text, re.S)
    rows = {row["id"]: row for row in json.loads(data)["rows"]}
    assert rows["things.two"]["cells"][0]["expected"] == "the end </script>"
    assert rows["things.five"]["cells"][0]["outcome"] == "no_test"
    assert not re.search(r'(?:src|href)="https?:', text)


def test_what_the_machine_shows_takes_the_place_of_what_was_not_testable() -> None:
    there = {
        "things.one": {"outcome": "failed", "expected": "a", "seen": "b"},
        "things.three": {"outcome": "passed"},
        "things.five": {"outcome": "passed"},
    }
    assert vm.merged(RESULTS, there) == {**RESULTS, "things.three": {"outcome": "passed", "where": "vm"}}
    reason = {"outcome": "not_testable", "reason": "needs the sun"}
    assert vm.merged(RESULTS, {"things.three": reason})["things.three"] == reason


def test_counts_and_text_say_what_was_shown_in_the_machine(catalogue: Catalogue, report: Report) -> None:
    report.runs[0].results = vm.merged(RESULTS, {"things.three": {"outcome": "passed"}})
    assert "| mine | SHOULD | 1 | 1 | 0 | 0 | 0 | 0 |" in outcome.as_markdown(catalogue, report)


def test_sections_are_counted(catalogue: Catalogue, run: Run) -> None:
    head, section, total = outcome.table_by_section(catalogue, run).splitlines()
    assert head.split()[3:6] == ["MUST", "SHOULD", "MAY"]
    assert section.split() == ["things.md#things", "3", "1", "1", "1", "1", "1", "1", "1"]
    assert total.split()[1:] == section.split()[1:]


def test_a_failure_is_unexpected_unless_the_runtime_means_it(
    catalogue: Catalogue, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert outcome.unexpected(catalogue, run) == ["a MUST fails: things.two"]
    monkeypatch.setattr(outcome, "deviations", lambda name: {"things.two": "So.", "things.one": "So."})
    assert outcome.unexpected(catalogue, run) == ["no deviation any more: things.one"]


def test_every_deviation_is_from_a_must() -> None:
    found = requirements.load()
    musts = {r.id for r in found.requirements if found.strength(r) == "MUST"}
    assert outcome.deviations("ocirt").keys() <= musts
    assert outcome.deviations("another") == {}


def test_the_badge_is_an_image_that_says_how_many_are_kept(catalogue: Catalogue, run: Run) -> None:
    image = ElementTree.fromstring(outcome.badge(catalogue, run))
    assert image.attrib["aria-label"] == "OCI runtime 1.3, MUST: 1 of 2"
    assert [element.text for element in image.iter("{http://www.w3.org/2000/svg}text")] == [
        "OCI runtime 1.3, MUST",
        "1 of 2",
    ]


def test_pointers_name_properties_in_arrays_and_of_several_names() -> None:
    config = {"a": [{"b": 1}, {"c": 2}], "d": {"x": {"e": 1}, "y": {}}}
    assert pointers.remove(config, "/a/-/b") == {"a": [{}, {"c": 2}], "d": {"x": {"e": 1}, "y": {}}}
    assert pointers.remove(config, "/d/*/e") == {"a": [{"b": 1}, {"c": 2}], "d": {"x": {}, "y": {}}}
    assert [pointers.lacks(config, pointer) for pointer in ("/a", "/a/-/b", "/d/*/e", "/z", "/z/b")] == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert list(pointers.alternatives("/a|b/-/c|d")) == ["/a/-/c", "/a/-/d", "/b/-/c", "/b/-/d"]


def test_every_mutation_is_about_a_requirement_and_can_be_made() -> None:
    by_id = {r.id: r for r in requirements.load().requirements}
    wanted = cli.mutations_of(by_id.values())
    for name, targets in wanted.values():
        assert by_id.keys() >= set(targets)
        assert mutations.named(name) is not None
    assert len({target for _, targets in wanted.values() for target in targets}) > len(by_id) / 2


def test_a_round_breaks_each_requirement_once_and_none_is_left() -> None:
    chosen = {"a": ("a", ("one", "two")), "b": ("b", ("one",)), "c": ("c", ("three",))}
    assert cli.rounds(chosen) == [{"one": "a", "two": "a", "three": "c"}, {"one": "b"}]


@pytest.mark.parametrize(
    ("mutation", "command", "status", "output"),
    [
        (None, ["sh", "-c", "exit 3"], 3, ""),
        ("forgive", ["sh", "-c", "exit 3"], 0, ""),
        ("insist /hostname", ["sh", "-c", "cat $2/config.json", "create", "--bundle", "."], 1, ""),
        ("insist /root", ["sh", "-c", "cat $2/config.json", "create", "--bundle", "."], 0, '{"root": {"path": "x"}}'),
        ("drop /root/path", ["sh", "-c", "cat $2/config.json", "create", "--bundle", "."], 0, '{"root": {}}'),
    ],
)
def test_a_mutant_does_one_thing_wrong(
    mutation: str | None, command: list[str], status: int, output: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"root": {"path": "x"}}')
    environment = {**os.environ, **({VARIABLE: mutation} if mutation else {})}
    result = subprocess.run(
        [sys.executable, PROJECT / "spec-conformance" / "mutant.py", *command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout.strip()) == (status, output)
    assert (tmp_path / "config.json").read_text() == '{"root": {"path": "x"}}'


@pytest.mark.parametrize("reason", [None, "no QEMU"])
def test_the_machine_gets_what_it_may_show_and_the_report_has_all(
    reason: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here: dict[str, dict[str, Any]] = {
        "config-linux.resources.pids.limit-applied": {"outcome": "not_testable", "reason": "needs pids"},
        "config-linux.intel-rdt.tasks": {"outcome": "not_testable", "reason": "needs resctrl"},
        "runtime.kill.sends-signal": {"outcome": "failed", "expected": "a", "seen": "b"},
    }
    asked = []

    def run_there(runtime: str, ids: list[str]) -> dict[str, Any]:
        asked.append((runtime, ids))
        return {"machine": "there", "command": "true", "results": {ids[0]: {"outcome": "passed"}}}

    monkeypatch.setattr(session, "run", lambda *_, **__: here)
    monkeypatch.setattr(vm, "run", run_there)
    monkeypatch.setattr(vm, "why_not", lambda: reason)
    assert cli.run(["mine=true"], tmp_path, 1, "", in_vm=True) == 1
    report = cli.read(tmp_path)
    limit = report.runs[0].results["config-linux.resources.pids.limit-applied"]
    if reason:
        assert (asked, report.vm, limit["outcome"]) == ([], None, "not_testable")
    else:
        assert asked == [("mine=true", ["config-linux.resources.pids.limit-applied"])]
        assert report.vm == {"machine": "there", "called": {"mine": "true"}}
        assert limit == {"outcome": "passed", "where": "vm"}
    del here["runtime.kill.sends-signal"]
    assert cli.run(["mine=true"], tmp_path, 1, "") == 0


def test_a_machine_that_fails_is_an_error_and_leaves_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = "config-linux.resources.pids.limit-applied"

    def fail(runtime: str, ids: list[str]) -> dict[str, Any]:
        raise ValueError(f"{runtime} {ids}")

    monkeypatch.setattr(session, "run", lambda *_, **__: {limit: {"outcome": "not_testable", "reason": "needs pids"}})
    monkeypatch.setattr(vm, "run", fail)
    monkeypatch.setattr(vm, "why_not", lambda: None)
    assert cli.run(["mine=true"], tmp_path, 1, "", in_vm=True) == 1
    assert cli.read(tmp_path).runs[0].results[limit]["outcome"] == "not_testable"


def test_results_do_not_name_the_session() -> None:
    seen = "mount /tmp/oc12ab34gw0x/oc12ab34gw0x-22/rootfs, cgroup /sys/fs/cgroup/oc12ab34gw0x-7"
    assert results.neutral({"outcome": "failed", "seconds": 1, "seen": seen}, "oc12ab34") == {
        "outcome": "failed",
        "seconds": 1,
        "seen": "mount BED/ID/rootfs, cgroup /sys/fs/cgroup/ID",
    }


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
