"""The specification's text: its sections, the keywords in them, and what tells that one has changed."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spectext import COPIED_WORDS, KEYWORDS, Section, copied, digest_of, line_at, places_of, sections_of, slug_of

from tests.support.spec_text import TEXT


@pytest.mark.parametrize(
    ("heading", "slug"),
    [
        ('<a name="configMounts" />Mounts', "mounts"),
        ("POSIX-platform Hooks", "posix-platform-hooks"),
        ("Unsafe annotations in `config.json`", "unsafe-annotations-in-configjson"),
        ('<a name="x" /> Dev symbolic links', "dev-symbolic-links"),
        ("Moving a device:", "moving-a-device"),
    ],
)
def test_slug(heading: str, slug: str) -> None:
    assert slug_of(heading) == slug


def test_sections_and_lines() -> None:
    sections = sections_of("things.md", TEXT)
    assert [(section.anchor, section.line) for section in sections] == [
        ("things.md#things", 1),
        ("things.md#colours", 6),
    ]
    assert line_at(sections[1], 9) == "* **`shade`** (string, REQUIRED) is darker."


def test_headings_of_one_name_are_numbered() -> None:
    sections = sections_of("a.md", "## Example\nx\n## Other\nx\n### Example\nx\n# Example\nx\n")
    assert [section.anchor for section in sections] == [
        "a.md#example",
        "a.md#other",
        "a.md#example-1",
        "a.md#example-2",
    ]


def test_text_before_the_first_heading_is_a_section() -> None:
    assert [section.anchor for section in sections_of("a.md", "It MUST.\n# B\nx")] == ["a.md", "a.md#b"]


def test_places() -> None:
    found = [place for section in sections_of("things.md", TEXT) for place in places_of(section)]
    assert [(str(place), line) for place, line in found] == [
        ("things.md#things MUST NOT 1", 3),
        ("things.md#things MUST 1", 4),
        ("things.md#colours OPTIONAL 1", 8),
        ("things.md#colours REQUIRED 1", 9),
        ("things.md#colours SHOULD 1", 18),
        ("things.md#colours MAY 1", 20),
    ]


def test_each_keyword_is_one_place_and_no_part_of_another() -> None:
    text = ", ".join(KEYWORDS) + ", MUSTARD, mayor, required, **MUST NOT**, MUST/SHOULD"
    found = Counter(place.keyword for place, _ in places_of(Section("a", 1, text)))
    assert found == Counter(KEYWORDS) + Counter(["MUST NOT", "MUST", "SHOULD"])


@given(st.lists(st.sampled_from([*KEYWORDS, "thing", "\n", "```"])))
def test_places_have_their_lines_and_are_numbered_from_one(words: list[str]) -> None:
    text = " ".join(words)
    for section in sections_of("a.md", text):
        seen: Counter[str] = Counter()
        for place, line in places_of(section):
            seen[place.keyword] += 1
            assert place.ordinal == seen[place.keyword]
            assert place.keyword.split()[0] in line_at(section, line)


def test_digest_is_of_words_not_of_lines() -> None:
    digests = [digest_of(Section("a", 1, text)) for text in ("It MUST be.", "\nIt MUST\n  be.", "It MAY be.")]
    assert digests[0] == digests[1] != digests[2]


def test_copied() -> None:
    words = [f"w{number}" for number in range(COPIED_WORDS)]
    assert copied(f"Now, {' '.join(words)}.", f"So: {', '.join(words).upper()}!") == " ".join(words)
    assert copied(" ".join(words[1:]), " ".join(words)) is None
    assert copied("", "") is None
