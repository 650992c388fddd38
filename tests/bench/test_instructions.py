"""What is read out of valgrind's log."""

from __future__ import annotations

from bench.instructions import Count, parse_count

LOG = """\
==7== Callgrind, a call-graph generating cache profiler
==7== Events    : Ir
==7== Collected : 1287380
"""


def test_the_sum_is_found() -> None:
    assert parse_count(0, LOG) == Count(1287380)


def test_a_failed_command_has_no_number_but_a_reason() -> None:
    assert parse_count(1, f"{LOG}ocirt: it broke\n") == Count(None, "ocirt: it broke")
    assert parse_count(3, LOG) == Count(None, "exit code 3")


def test_valgrinds_own_failure_is_its_first_line() -> None:
    log = "BB# 7\n\nCallgrind: threads.c:1 (f): Assertion failed.\n\nhost stacktrace:\nmany lines\nThanks.\n"
    assert parse_count(1, log).reason == "Callgrind: threads.c:1 (f): Assertion failed."
