"""The values of systemd properties in annotations: GVariant's text format, one meaning or an error."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.cgroup.gvariant import Variant, parse_variant

TAKEN = {
    "true": ("b", True),
    " false ": ("b", False),
    "boolean true": ("b", True),
    "5": ("i", 5),
    "-5": ("i", -5),
    "+5": ("i", 5),
    "0x1F": ("i", 31),
    "010": ("i", 8),
    "0": ("i", 0),
    "byte 0xff": ("y", 255),
    "int16 -1": ("n", -1),
    "uint16 65535": ("q", 65535),
    "int32 7": ("i", 7),
    "uint32 4294967295": ("u", 4294967295),
    "int64 -9223372036854775808": ("x", -(2**63)),
    "uint64 18446744073709551615": ("t", 2**64 - 1),
    "@t 5": ("t", 5),
    "1.5": ("d", 1.5),
    "2e3": ("d", 2000.0),
    "double 2": ("d", 2.0),
    "'inactive-or-failed'": ("s", "inactive-or-failed"),
    '"it\'s"': ("s", "it's"),
    r"'a\'b\\c\n'": ("s", "a'b\\c\n"),
    r"'\u00e9\U0001f600'": ("s", "é😀"),
    "''": ("s", ""),
    "string 'x'": ("s", "x"),
    "['a', 'b']": ("as", ["a", "b"]),
    "[ 'a' ]": ("as", ["a"]),
    "@as []": ("as", []),
    "@as ['a']": ("as", ["a"]),
    "[byte 1, 2]": ("ay", [1, 2]),
    "@ay [1, 0xff]": ("ay", [1, 255]),
    "[1, 2]": ("ai", [1, 2]),
    "[true,false]": ("ab", [True, False]),
}

REFUSED = {
    "": "a value is missing",
    "  ": "a value is missing",
    "inactive": "a value is needed instead of 'inactive'",
    "'open": "cannot understand",
    "uint64": "a value is missing",
    "uint64 -1": "-1 is out of range for type t",
    "uint32 4294967296": "out of range for type u",
    "2147483648": "out of range for type i",
    "byte 256": "out of range",
    "uint64 'x'": "'x' where t is needed",
    "uint64 1.5": "1.5 is no integer",
    "uint64 true": "True where t is needed",
    "boolean 1": "1 where b is needed",
    "09": "09 is no octal number",
    "1x": "cannot understand",
    "5 6": "unexpected '6' after the value",
    "'a' 'b'": "unexpected",
    "[]": "an empty array needs its type",
    "['a', 1]": "1 where s is needed",
    "[1, uint32 2]": "a value of type u where i is needed",
    "['a' 'b']": "',' is needed instead of",
    "['a',": "a value is missing",
    "['a'": "',' is missing",
    "['a',]": "a value is needed instead of ']'",
    "[['a']]": "arrays of arrays are not taken",
    "@z 1": "unknown type @z",
    "@as 'a'": "'a' where as is needed",
    r"'\u0000'": "is no character",
    r"'\ud800'": "is no character",
    "uint64 uint32 5": "a value of type u where t is needed",
}


@pytest.mark.parametrize("text", TAKEN)
def test_taken(text: str) -> None:
    variant = parse_variant(text)
    assert (variant.signature, variant.value) == TAKEN[text]
    assert type(variant.value) is type(TAKEN[text][1])


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(REFUSED[text])):
        parse_variant(text)


@given(st.text(max_size=40))
def test_any_text_is_a_value_or_a_value_error(text: str) -> None:
    try:
        variant = parse_variant(text)
    except ValueError:
        return
    assert isinstance(variant, Variant)


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40))
def test_a_quoted_string_is_itself(text: str) -> None:
    quoted = "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    assert parse_variant(quoted) == Variant("s", text)
