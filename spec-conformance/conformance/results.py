"""What became of the requirements with a runtime: passed, failed, not testable here, or without a test."""

from __future__ import annotations

import re
from typing import Any

import pytest
from conformance.expect import NO_TEST, NOT_TESTABLE, Mismatch

OUTCOMES = ("passed", "failed", "not_testable", "no_test")


def neutral(result: dict[str, Any], token: str) -> dict[str, Any]:
    """A result without the names that are of one session alone: those with its token, and the folder of its bundles."""

    def replaced(text: str) -> str:
        return re.sub(rf"{token}\w*(?:-\d+)?", "ID", re.sub(rf"/tmp/{token}\w*", "BED", text))

    return {key: replaced(value) if isinstance(value, str) else value for key, value in result.items()}


def of_report(report: Any, error: BaseException | None) -> dict[str, Any] | None:
    """A case's result, or None where this phase of it (set-up, call, tear-down) says nothing new."""
    seconds = round(report.duration, 3)
    if report.failed:
        return {"outcome": "failed", "seconds": seconds, **_expected_and_seen(report.when, error)}
    if report.skipped:
        reason = str(error).removeprefix("Skipped: ") if isinstance(error, pytest.skip.Exception) else str(error)
        outcome = "no_test" if reason.startswith(NO_TEST) else "not_testable"
        return {"outcome": outcome, "seconds": seconds, "reason": reason.removeprefix(NOT_TESTABLE)}
    return {"outcome": "passed", "seconds": seconds} if report.when == "call" else None


def _expected_and_seen(when: str, error: BaseException | None) -> dict[str, str]:
    if isinstance(error, Mismatch):
        return {"expected": error.expected, "seen": error.seen}
    lines = f"{type(error).__name__}: {error}" if error else "?"
    return {"expected": "the test's steps succeed" if when == "call" else f"the test's {when}", "seen": lines[:1000]}
