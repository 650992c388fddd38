"""What is printed, what is written, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import __main__ as main_module
from bench.__main__ import main, make_parser, report
from bench.results import Results


def test_without_a_flag_nothing_is_written(
    results: Results, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(main_module, "RESULTS", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    assert report(make_parser().parse_args([]), results, "") == 0
    assert "the run" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_write_makes_table_plot_and_samples(results: Results, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(main_module, "RESULTS", tmp_path / "results")
    assert report(make_parser().parse_args(["--write"]), results, "") == 0
    assert "| the run |" in (tmp_path / "results/table.md").read_text()
    assert ElementTree.parse(tmp_path / "results/plot.svg").getroot().tag.endswith("svg")
    assert "run" in json.loads((tmp_path / "results/samples.json").read_text())["cases"]


def test_check_tells_by_its_exit_code(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    options = make_parser().parse_args(["--check"])
    assert report(options, results, "") == 0
    results.pss_bytes["ocirt"] = 300_000
    assert report(options, results, "the counts") == 1
    out = capsys.readouterr().out
    assert "MISSED" in out
    assert "the counts" in out


@pytest.mark.parametrize("arguments", [["--only", "nothing"], ["--runtime", "nothing"]])
def test_an_error_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Found before anything is changed on the machine."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("bench: nothing")
    assert err.count("\n") == 1


@pytest.mark.parametrize("number", ["0", "-1", "x"])
def test_rounds_are_one_or_more(number: str) -> None:
    with pytest.raises(SystemExit):
        make_parser().parse_args(["--rounds", number])
