"""The specification's text, as far as counting needs it: sections, the keywords in them, digests. Pure.

Guarantees: what stands in a code block is no keyword; a keyword that is broken over two lines is one; a place stays the
same when lines are added above its section.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass

# RFC 2119's words as the specification uses them, and what looks like them: "MAY NOT" and the ones in lower case.
STRENGTHS = {
    "MUST": ("MUST", "MUST NOT", "REQUIRED", "SHALL", "SHALL NOT"),
    "SHOULD": ("SHOULD", "SHOULD NOT", "RECOMMENDED", "NOT RECOMMENDED"),
    "MAY": ("MAY", "OPTIONAL"),
    "STATED": ("MAY NOT", "must", "must not", "should", "should not"),
}
KEYWORDS = tuple(keyword for keywords in STRENGTHS.values() for keyword in keywords)

# So many words in a row that stand in the text too are a copy.
COPIED_WORDS = 9

_LONGEST_FIRST = sorted(KEYWORDS, key=len, reverse=True)
_KEYWORD = re.compile(r"\b(?:" + "|".join(keyword.replace(" ", r"\s+") for keyword in _LONGEST_FIRST) + r")\b")


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """One keyword in the text: the `ordinal`-th of its kind in a section. Line numbers would not outlive an edit."""

    section: str
    keyword: str
    ordinal: int

    def __str__(self) -> str:
        return f"{self.section} {self.keyword} {self.ordinal}"


@dataclass(frozen=True, slots=True)
class Section:
    """The text below one heading, up to the next; `line` is the number of its first line, the heading's."""

    anchor: str
    line: int
    text: str


def slug_of(heading: str) -> str:
    """The anchor that hosts of Markdown make of a heading."""
    words = re.sub(r"<[^>]*>", "", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def sections_of(document: str, text: str) -> list[Section]:
    """The sections of a document, without the code blocks: what stands in an example demands nothing."""
    sections: list[Section] = []
    seen: Counter[str] = Counter()
    anchor, begin, lines, fenced = document, 1, list[str](), False
    for number, line in enumerate(text.splitlines(), 1):
        fence = line.lstrip().startswith("```")
        heading = None if fenced or fence else re.match(r"#{1,6}\s+(.*)", line)
        if heading:
            sections.append(Section(anchor, begin, "\n".join(lines)))
            slug = slug_of(heading[1])
            anchor, begin, lines = f"{document}#{slug}" + (f"-{seen[slug]}" if seen[slug] else ""), number, [""]
            seen[slug] += 1
        else:
            lines.append("" if fenced or fence else line)
        fenced ^= fence
    sections.append(Section(anchor, begin, "\n".join(lines)))
    return [section for section in sections if section.text.strip()]


def places_of(section: Section) -> list[tuple[Place, int]]:
    """Every keyword of the section with its line number, in the order of the text."""
    seen: Counter[str] = Counter()
    found = []
    for match in _KEYWORD.finditer(section.text):
        keyword = " ".join(match[0].split())
        seen[keyword] += 1
        line = section.line + section.text.count("\n", 0, match.start())
        found.append((Place(section.anchor, keyword, seen[keyword]), line))
    return found


def line_at(section: Section, line: int) -> str:
    """The line of that number in its document."""
    return section.text.split("\n")[line - section.line]


def digest_of(section: Section) -> str:
    """What tells that a section's words are others; how they are broken into lines does not matter."""
    return hashlib.sha256(" ".join(section.text.split()).encode()).hexdigest()[:12]


def copied(summary: str, text: str) -> str | None:
    """The first COPIED_WORDS words in a row that both have, or None."""
    words, known = (re.findall(r"\w+", part.lower()) for part in (summary, text))
    runs = {tuple(known[i : i + COPIED_WORDS]) for i in range(len(known) - COPIED_WORDS + 1)}
    for i in range(len(words) - COPIED_WORDS + 1):
        if tuple(words[i : i + COPIED_WORDS]) in runs:
            return " ".join(words[i : i + COPIED_WORDS])
    return None
