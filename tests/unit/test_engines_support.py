"""What the engines' tests rely on to fail: the comparison of two runtimes, and the reading of logs and messages."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engines.cri import decode, encode
from tests.engines.engine import complaints
from tests.engines.seen import Comparison, differences


def test_the_second_value_has_to_equal_the_first() -> None:
    known: dict[tuple[str, str], Any] = {}
    Comparison("one", known).same("value", {"a": [1, 2]})
    Comparison("one", known).same("value", {"a": [1, 2]})
    Comparison("two", known).same("value", {"a": [1, 3]})
    with pytest.raises(AssertionError, match="value differs between the runtimes:\n/a/1: 2, then 3"):
        Comparison("one", known).same("value", {"a": [1, 3]})


def test_differences_name_their_places() -> None:
    first = {"a": {"b": [1, 2]}, "c": 1}
    second = {"a": {"b": [1]}, "d": 1}
    assert list(differences(first, second)) == ["/a/b/1: 2, then None", "/c: 1, then None", "/d: None, then 1"]


def test_complaints_of_two_runtimes_are_the_same_text() -> None:
    lines = 'time="2026-01-02T03:04:05.6Z" level=info msg="fine"\n'
    lines += 'time="2026-01-02T03:04:05.6Z" level=warning msg="{path} did not" id={id} pid={pid}\n'
    of_runc = complaints(lines.format(path="/usr/sbin/runc", id="0" * 64, pid=123))
    of_ocirt = complaints(lines.format(path="/tmp/x-1/bin/ocirt", id="f" * 64, pid=45678))
    assert of_runc == of_ocirt == ['msg="RUNTIME did not" id=ID pid=N']


def test_complaints_inside_a_shim_s_log_and_of_the_runtime_itself() -> None:
    embedded = r'msg="cleanup warnings time=\"T\" level=info msg=\"a\"\ntime=\"T\" level=warning msg=\"b\"\n"'
    log = f'time="T" level=warning {embedded}\nocirt: warning: /process: c\n'
    assert complaints(log) == ['msg="b"', "/process: c"]


def test_the_pointer_of_a_missing_program_is_no_difference() -> None:
    line = 'time="T" level=error msg="unable to start container process: {}exec: x: not found"\n'
    of_ocirt = line.format("error during container init: /process/args/0: ")
    assert complaints(line.format("")) == complaints(of_ocirt)


@given(st.dictionaries(st.integers(1, 100), st.one_of(st.integers(0, 2**63), st.binary()), max_size=5))
def test_messages_come_back(message: dict[int, int | bytes]) -> None:
    assert decode(encode(message)) == message


def test_messages_in_messages() -> None:
    # The example of protobuf's description of its wire format: 150 is 96 01.
    assert encode({3: {1: 150}}) == bytes.fromhex("1a03089601")
    assert encode({4: ["ab", "c"]}) == b"\x22\x02ab\x22\x01c"
