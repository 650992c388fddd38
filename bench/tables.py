"""The results as a table for a terminal, and as one in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from bench.results import Results, Subject
from bench.series import Ratio, Summary

NOTHING = "-"


def format_seconds(seconds: float) -> str:
    """In milliseconds with three digits; from ten seconds on in seconds."""
    if seconds >= 10:
        return f"{seconds:.1f} s"
    msec = seconds * 1000
    # Limits that rounding does not pass: 9.996 are 10.0.
    return f"{msec:.2f} ms" if msec < 9.995 else f"{msec:.1f} ms" if msec < 99.95 else f"{msec:.0f} ms"


def format_bytes(count: int | None) -> str:
    """In decimal units."""
    if count is None:
        return NOTHING
    return f"{count / 1e6:.1f} MB" if count >= 1_000_000 else f"{count / 1e3:.0f} KB"


def align(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Columns of a common width, the first `left` of them flush left, the others flush right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def machine_line(results: Results) -> str:
    """The machine in one line."""
    machine = results.machine
    parts = [machine.get(key, "") for key in ("system", "kernel", "processor")]
    if "processors" in machine:
        parts.append(f"{machine['processors']} of its processors")
    return ", ".join(part for part in parts if part)


def terminal_table(results: Results) -> str:
    """Everything that a person who measures wants to see."""
    rows = [["", "", "median", "quartiles, ms", "least", f"to {results.baseline}", "quartiles", "peak memory"]]
    for case, by_runtime in results.cases.items():
        title = results.title(case)
        for subject in results.subjects:
            if summary := results.summary(case, subject.name):
                peak = format_bytes(by_runtime[subject.name].peak_bytes)
                rows.append([title, subject.name, *_time_cells(summary, results.ratio(case, subject.name)), peak])
                title = ""
    names = ["", *(subject.name for subject in results.subjects)]
    facts = [f"{one.name} {one.version}: {one.command}{_remark(one)}" for one in results.subjects]
    head = [f"{machine_line(results)}; load {results.machine.get('load', NOTHING)}", *facts]
    lines = [*head, "", *align(rows, left=2), "", *align([names, *_sizes(results)])]
    return "\n".join(lines + (["", *results.notes] if results.notes else [])) + "\n"


def _time_cells(summary: Summary, ratio: Ratio | None) -> list[str]:
    quartiles = f"{summary.lower * 1000:.2f} to {summary.upper * 1000:.2f}"
    ratios = [f"{ratio.of_medians:.2f}", f"{ratio.lower:.2f} to {ratio.upper:.2f}"] if ratio else [NOTHING] * 2
    return [format_seconds(summary.median), quartiles, format_seconds(summary.least), *ratios]


def _sizes(results: Results) -> list[list[str]]:
    pss = [format_bytes(results.pss_bytes.get(one.name)) for one in results.subjects]
    sizes = [format_bytes(one.size_bytes) for one in results.subjects]
    return [["PSS of a created container's init", *pss], ["size of the runtime's file", *sizes]]


def _remark(subject: Subject) -> str:
    return f" ({subject.note})" if subject.note else ""


def markdown_table(results: Results) -> str:
    """Medians, and in brackets the ratio to the baseline with the quartiles of the rounds' ratios."""
    subjects = results.subjects
    rows = [["", *(f"{one.name} {one.version}" for one in subjects)], ["---", *["---:"] * len(subjects)]]
    for case in results.cases:
        title = results.title(case)
        words = f"of it {title.strip()}" if title.startswith(" ") else title
        rows.append([words, *(_markdown_cell(results, case, one.name) for one in subjects)])
    if runs := results.cases.get("run"):
        peaks = {name: series.peak_bytes for name, series in runs.items()}
        rows.append(["peak memory of `run`", *(format_bytes(peaks.get(one.name)) for one in subjects)])
    rows += _sizes(results)
    remarks = [f"{one.name}: {one.note}." for one in subjects if one.note]
    below = " ".join([f"{machine_line(results)}.", *remarks, *(f"{note}." for note in results.notes)])
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", below]) + "\n"


def _markdown_cell(results: Results, case: str, runtime: str) -> str:
    summary, ratio = results.summary(case, runtime), results.ratio(case, runtime)
    if summary is None:
        return NOTHING
    if ratio is None or runtime == results.baseline:
        return format_seconds(summary.median)
    return f"{format_seconds(summary.median)} (**{ratio.of_medians:.2f}**, {ratio.lower:.2f} to {ratio.upper:.2f})"
