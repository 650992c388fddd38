"""The requirements of the OCI runtime specification as data: what is in `requirements/*.toml`, checked and counted.

Guarantees: a requirement has an id of its own, a known level, and either the test that shows it or the reason why none
does. With the specification's text (`--spec`), every keyword in it belongs to exactly one requirement or is set aside
with a reason, a section that reads otherwise than when its requirements were written is named, and no summary repeats
the text. requirements/README.md describes the form of the data.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from spectext import (
    KEYWORDS,
    STRENGTHS,
    Place,
    Section,
    copied,
    digest_of,
    line_at,
    places_of,
    sections_of,
)

DATA = Path(__file__).parent / "requirements"

STATED = "stated"
LEVELS = (*KEYWORDS, STATED)
ABOUT = ("runtime", "config", "bundle", "caller", "kernel", "specification")
TESTS = ("positive", "negative", "none")
SET_ASIDE = ("platform", "prose", "definition")
NEEDS = re.compile(
    "apparmor|block-device|cgroup1|cgroup2|device-weights|exec|features|hugepages|idmapped-mounts|netdev|numa|realtime|rdma|resctrl|"
    "resctrl-monitoring|selinux|swap|time-namespace|update|user-namespace|controller:[a-z]+|kernel:[0-9]+[.][0-9]+"
)

_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*(?:\.[a-z0-9]+(?:-[a-z0-9]+)*)+")
_CHECKED_BY = re.compile(r"[a-z][a-z0-9_]*::test_[a-z0-9_]+")


class DataError(Exception):
    """The data cannot be read as requirements at all."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One thing that is demanded, and how that is shown.

    `by` is the requirement that makes it binding where its own words don't. `pointer` is the property that it is about,
    `value` the one value of it. `tabled`: the line with its keyword is the one that introduces that property or value.
    """

    id: str
    section: str
    level: str
    about: str
    summary: str
    test: str
    checked_by: str = ""
    reason: str = ""
    by: str = ""
    note: str = ""
    pointer: str = ""
    value: str = ""
    needs: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()
    tabled: bool = False


@dataclass(frozen=True, slots=True)
class SetAside:
    """Keywords that demand nothing of Linux."""

    kind: str
    reason: str
    places: tuple[Place, ...]


@dataclass(slots=True)
class Catalogue:
    """All the data: requirements in the order of the files, what is set aside, and the digests of the sections."""

    requirements: list[Requirement] = field(default_factory=list)
    set_aside: list[SetAside] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)

    def strength(self, requirement: Requirement) -> str:
        """A key of STRENGTHS: that of the keyword, or without one that of the requirement that makes it binding."""
        by_id = {r.id: r for r in self.requirements}
        for _ in by_id:
            own = next((name for name, keywords in STRENGTHS.items() if requirement.level in keywords), "STATED")
            if own != "STATED" or requirement.by not in by_id:
                return own
            requirement = by_id[requirement.by]
        return "STATED"

    def owners(self) -> dict[Place, list[str]]:
        """Who claims each place."""
        owners: dict[Place, list[str]] = {}
        for requirement in self.requirements:
            for place in requirement.places:
                owners.setdefault(place, []).append(requirement.id)
        for aside in self.set_aside:
            for place in aside.places:
                owners.setdefault(place, []).append(f"what is set aside ({aside.kind})")
        return owners


# Reading the data.


def load(directory: Path = DATA) -> Catalogue:
    """Reads every file of the directory. Raises DataError where one is malformed; problems_of() checks the rest."""
    catalogue = Catalogue()
    for path in sorted(directory.glob("*.toml")):
        try:
            read_document(tomllib.loads(path.read_text()), catalogue)
        except (tomllib.TOMLDecodeError, DataError) as error:
            raise DataError(f"{path.name}: {error}") from error
    return catalogue


def read_document(data: Mapping[str, Any], catalogue: Catalogue) -> None:
    """Adds what one file says."""
    tables = {"requirement", "properties", "options", "outputs", "set_aside"}
    _check_keys(data, "the file", {"document", "sections"}, tables)
    document = data["document"]
    catalogue.digests |= {f"{document}#{slug}": digest for slug, digest in data["sections"].items()}
    for table in data.get("requirement", []):
        catalogue.requirements.append(_requirement(document, table))
    for table in data.get("properties", []):
        catalogue.requirements += _properties(document, table)
    for table in data.get("options", []):
        catalogue.requirements += _listed(document, table, of_values=True)
    for table in data.get("outputs", []):
        catalogue.requirements += _listed(document, table, of_values=False)
    for table in data.get("set_aside", []):
        _check_keys(table, "set_aside", {"section", "kind", "reason", "at"}, set())
        section = f"{document}#{table['section']}"
        places = [place for keyword, value in table["at"].items() for place in _places(section, keyword, value)]
        catalogue.set_aside.append(SetAside(table["kind"], table["reason"], tuple(places)))


def _check_keys(table: Mapping[str, Any], what: str, needed: set[str], allowed: set[str]) -> None:
    if missing := needed - table.keys():
        raise DataError(f"{what}: without {', '.join(sorted(missing))}")
    if unknown := table.keys() - needed - allowed:
        raise DataError(f"{what}: unknown {', '.join(sorted(unknown))}")


def _places(section: str, keyword: str, value: object) -> tuple[Place, ...]:
    """From the ordinals 3, or [1, 4], or "2-7"."""
    values = value if isinstance(value, list) else [value]
    if isinstance(value, str) and (match := re.fullmatch(r"([0-9]+)-([0-9]+)", value)):
        values = list(range(int(match[1]), int(match[2]) + 1))
    ordinals = [ordinal for ordinal in values if type(ordinal) is int]
    if len(ordinals) != len(values):
        raise DataError(f"{section} {keyword}: not ordinals: {value!r}")
    return tuple(Place(section, keyword, ordinal) for ordinal in ordinals)


def _requirement(document: str, table: Mapping[str, Any]) -> Requirement:
    needed = {"id", "section", "level", "about", "summary", "test"}
    what = str(table.get("id", "a requirement without id"))
    _check_keys(table, what, needed, {"at", "also", "checked_by", "reason", "by", "note", "pointer", "needs"})
    section, level = f"{document}#{table['section']}", table["level"]
    places = _places(section, level, table.get("at", []))
    for slug, value in table.get("also", {}).items():
        places += _places(f"{document}#{slug}", level, value)
    return Requirement(
        id=table["id"],
        section=section,
        level=level,
        about=table["about"],
        summary=table["summary"],
        test=table["test"],
        checked_by=table.get("checked_by", ""),
        reason=table.get("reason", ""),
        by=table.get("by", ""),
        note=table.get("note", ""),
        pointer=table.get("pointer", ""),
        needs=tuple(table.get("needs", ())),
        places=places,
    )


def kebab(name: str) -> str:
    """A property's name as it stands in an id: `additional-gids` of `additionalGids`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()


def _properties(document: str, table: Mapping[str, Any]) -> Iterator[Requirement]:
    """A table of properties: each is REQUIRED or OPTIONAL, and where it has an effect, that is stated."""
    _check_keys(table, "properties", {"section", "prefix", "pointer", "entries"}, {"checked_by", "needs", "by"})
    section, needs = f"{document}#{table['section']}", tuple(table.get("needs", ()))
    for entry in table["entries"]:
        allowed = {"required", "optional", "absent", "id", "effect", "checked_by", "untestable", "needs", "note"}
        _check_keys(entry, f"{table['prefix']}: an entry", {"name"}, allowed)
        name = f"{table['prefix']}.{entry.get('id', kebab(entry['name']))}"
        pointer = f"{table['pointer']}/{entry['name']}"
        common = Requirement(name, section, STATED, "config", "", "positive", pointer=pointer)
        for level in ("REQUIRED", "OPTIONAL"):
            if level.lower() in entry:
                places = _places(section, level, entry[level.lower()])
                present = replace(common, level=level, places=places, note=entry.get("absent", ""), tabled=True)
                yield _presence(present, needs)
        if "effect" in entry:
            untestable = entry.get("untestable", "")
            yield replace(
                common,
                id=f"{name}-applied",
                about="runtime",
                summary=entry["effect"],
                test="none" if untestable else "positive",
                reason=untestable,
                checked_by="" if untestable else entry.get("checked_by", table.get("checked_by", "")),
                by=table.get("by", "runtime.create.properties-applied"),
                needs=needs + tuple(entry.get("needs", ())),
                note=entry.get("note", ""),
            )


def _presence(common: Requirement, needs: tuple[str, ...]) -> Requirement:
    """That a property must be there, or need not: one test for all of either kind."""
    if common.level == "OPTIONAL":
        summary = f"A configuration without {common.pointer} is taken."
        return replace(common, id=f"{common.id}-optional", summary=summary, checked_by="presence::test_taken_without")
    # A refusal shows something only where the same configuration with the property is taken: hence the table's needs.
    return replace(
        common,
        id=f"{common.id}-required",
        summary=f"A configuration that lacks {common.pointer} is refused.",
        test="negative",
        checked_by="presence::test_refused_without",
        by="config.valid-values.error",
        needs=needs,
    )


def _listed(document: str, table: Mapping[str, Any], *, of_values: bool) -> Iterator[Requirement]:
    """A table of values of one property that a runtime has to know, or else of properties of what it prints."""
    _check_keys(table, "a table", {"section", "prefix", "pointer", "checked_by", "entries"}, {"needs"})
    section = f"{document}#{table['section']}"
    for entry in table["entries"]:
        allowed = {"at", "id", "checked_by", "by", "needs", "note"}
        _check_keys(entry, f"{table['prefix']}: an entry", {"name", "level", "effect"}, allowed)
        yield Requirement(
            id=f"{table['prefix']}.{entry.get('id', kebab(entry['name']))}",
            section=section,
            level=entry["level"],
            about="runtime",
            summary=entry["effect"],
            test="positive",
            checked_by=entry.get("checked_by", table["checked_by"]),
            by=entry.get("by", ""),
            note=entry.get("note", ""),
            pointer=table["pointer"] if of_values else f"{table['pointer']}/{entry['name']}",
            value=entry["name"] if of_values else "",
            needs=tuple(table.get("needs", ())) + tuple(entry.get("needs", ())),
            places=_places(section, entry["level"], entry.get("at", [])),
            tabled=True,
        )


# Checking it.


def problems_of(catalogue: Catalogue) -> list[str]:
    """What is wrong with the data by itself, without the text."""
    counts = Counter(requirement.id for requirement in catalogue.requirements)
    problems = [f"{name}: {count} requirements of that id" for name, count in counts.items() if count > 1]
    for requirement in catalogue.requirements:
        problems += [f"{requirement.id}: {problem}" for problem in _problems_of_one(requirement, counts.keys())]
    for aside in catalogue.set_aside:
        where = f"set aside at {aside.places[0] if aside.places else 'no place'}"
        if aside.kind not in SET_ASIDE:
            problems.append(f"{where}: unknown kind {aside.kind!r}")
        if not aside.reason or not aside.places:
            problems.append(f"{where}: needs a reason and places")
    for place, names in catalogue.owners().items():
        if len(names) > 1:
            problems.append(f"{place}: claimed by {' and by '.join(names)}")
        if place.ordinal < 1 or place.keyword not in KEYWORDS:
            problems.append(f"{names[0]}: {place} is no keyword's place")
    return problems


def _problems_of_one(requirement: Requirement, ids: Iterable[str]) -> Iterator[str]:
    document = requirement.section.partition(".md#")[0]
    if not _ID.fullmatch(requirement.id) or requirement.id.partition(".")[0] != document:
        yield f"not an id of {document}"
    for value, known, what in (
        (requirement.level, LEVELS, "level"),
        (requirement.about, ABOUT, "about"),
        (requirement.test, TESTS, "test"),
    ):
        if value not in known:
            yield f"unknown {what} {value!r}"
    if (requirement.level == STATED) == bool(requirement.places):
        yield "the level is that of the keywords that are claimed, and 'stated' where none is"
    if not re.fullmatch(r"\S.*\.", requirement.summary):
        yield "the summary must be one line, and end with a full stop"
    if requirement.test == "none":
        if not requirement.reason or requirement.checked_by:
            yield "without a test there must be a reason, and nothing that checks it"
    elif requirement.reason or not _CHECKED_BY.fullmatch(requirement.checked_by):
        yield "with a test there must be what checks it (module::test_name), and no reason against it"
    if requirement.by and (requirement.by == requirement.id or requirement.by not in ids):
        yield f"rests on {requirement.by}, which is no other requirement"
    yield from (f"unknown need {need!r}" for need in requirement.needs if not NEEDS.fullmatch(need))


def compare(catalogue: Catalogue, sections: Sequence[Section]) -> list[str]:
    """What is wrong beside the text: keywords that nobody claims, claims to what is not there, changed sections."""
    owners = catalogue.owners()
    found = {place: line for section in sections for place, line in places_of(section)}
    texts = {section.anchor: section for section in sections}
    problems = [f"unclaimed: {place} (line {line})" for place, line in found.items() if place not in owners]
    problems += [f"{names[0]}: there is no {place}" for place, names in owners.items() if place not in found]
    used = {place.section for place in found} | {requirement.section for requirement in catalogue.requirements}
    for anchor in sorted(used | catalogue.digests.keys()):
        if anchor not in texts:
            problems.append(f"{anchor}: there is no such section")
        elif anchor not in used:
            problems.append(f"{anchor}: has a digest, but no requirement")
        elif catalogue.digests.get(anchor) != digest_of(texts[anchor]):
            problems.append(f"{anchor}: reads otherwise than when its requirements were written")
    for requirement in catalogue.requirements:
        section = texts.get(requirement.section)
        if section and (words := copied(requirement.summary, section.text)):
            problems.append(f"{requirement.id}: the summary copies {words!r}")
        for place in requirement.places if requirement.tabled else ():
            if place in found and not _names_its_subject(requirement, line_at(texts[place.section], found[place])):
                problems.append(f"{requirement.id}: {place} (line {found[place]}) is about something else")
    return problems


def _names_its_subject(requirement: Requirement, line: str) -> bool:
    names = (requirement.value or requirement.pointer.rpartition("/")[2]).split("|")
    return all(re.search(rf"\b{re.escape(name)}\b", line) for name in names)


# Printing it.


def count_table(rows: Iterable[tuple[str, str]], columns: Sequence[str]) -> str:
    """A line for each first member, a column for each second one that occurs, with totals."""
    counts: dict[str, Counter[str]] = {}
    for name, column in rows:
        counts.setdefault(name, Counter())[column] += 1
    total = sum(counts.values(), Counter[str]())
    used = [column for column in columns if total[column]]
    lines = [["", *used, "all"]]
    for name, count in [*counts.items(), ("total", total)]:
        lines.append([name, *(str(count[column] or "") for column in used), str(count.total())])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        line[0].ljust(widths[0])
        + "".join(f"  {cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True))
        for line in lines
    )


def report(catalogue: Catalogue) -> str:
    """The counts by document, by section, by strength, and by whom they are about."""
    order = {anchor: number for number, anchor in enumerate(catalogue.digests)}
    requirements = sorted(catalogue.requirements, key=lambda r: order.get(r.section, len(order)))
    places = [(place, aside.kind) for aside in catalogue.set_aside for place in aside.places]
    checks = Counter(requirement.checked_by for requirement in requirements if requirement.checked_by)
    modules = {name.partition("::")[0] for name in checks}
    tables = {
        "Requirements by document and level": count_table(
            ((_document(r.section), r.level) for r in requirements), LEVELS
        ),
        "Requirements by section and level": count_table(((r.section, r.level) for r in requirements), LEVELS),
        "Requirements by strength and test": count_table(
            ((catalogue.strength(r), r.test) for r in requirements), TESTS
        ),
        "Whom they are about": count_table(((r.about, r.test) for r in requirements), TESTS),
        "Keywords set aside": count_table(((_document(place.section), kind) for place, kind in places), SET_ASIDE),
    }
    return "\n\n".join([f"{title}\n{table}" for title, table in tables.items()]) + (
        f"\n\n{len(checks)} test functions in {len(modules)} modules check {checks.total()} of "
        f"{len(requirements)} requirements."
    )


def _document(anchor: str) -> str:
    return anchor.partition("#")[0]


def checks_table(catalogue: Catalogue) -> str:
    """The test functions with the number of requirements that each checks, by test."""
    rows = sorted((r.checked_by, r.test) for r in catalogue.requirements if r.checked_by)
    return count_table(rows, TESTS)


def as_json(catalogue: Catalogue) -> list[dict[str, Any]]:
    """The requirements for other programs."""
    return [
        {**asdict(r), "places": [str(place) for place in r.places], "strength": catalogue.strength(r)}
        for r in catalogue.requirements
    ]


def show(catalogue: Catalogue, sections: Sequence[Section], pattern: str) -> str:
    """The requirements whose ids match, each with the lines of the text that it claims: for whoever reviews them."""
    lines = {place: line for section in sections for place, line in places_of(section)}
    texts = {section.anchor: section for section in sections}
    parts = []
    for r in catalogue.requirements:
        if fnmatch.fnmatchcase(r.id, pattern):
            parts.append(f"{r.id}  [{r.level}, {r.about}, {r.test}] {r.checked_by}\n    {r.summary}")
            for place in r.places:
                if place in lines:
                    text = line_at(texts[place.section], lines[place]).strip()
                    parts.append(f"    | {place} (line {lines[place]}): {text}")
    return "\n".join(parts)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="spec-conformance/requirements.py", description=__doc__)
    parser.add_argument("--spec", type=Path, metavar="DIR", help="a checkout of opencontainers/runtime-spec")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--show", metavar="GLOB", help="print the requirements with such ids, with --spec beside the text"
    )
    what.add_argument("--checks", action="store_true", help="print the tests that the requirements name")
    what.add_argument("--digests", action="store_true", help="print the digests of the sections with keywords")
    what.add_argument("--json", action="store_true", help="print every requirement as JSON")
    options = parser.parse_args(arguments)
    try:
        catalogue = load()
        documents = dict.fromkeys(map(_document, catalogue.digests))
        sections = [
            section
            for name in (documents if options.spec else ())
            for section in sections_of(name, (options.spec / name).read_text())
        ]
    except (DataError, OSError) as error:
        parser.error(str(error))
    if options.show:
        print(show(catalogue, sections, options.show))
    elif options.checks:
        print(checks_table(catalogue))
    elif options.digests:
        print("\n".join(f'"{section.anchor}" = "{digest_of(section)}"' for section in sections if places_of(section)))
    else:
        print(json.dumps(as_json(catalogue), indent=2) if options.json else report(catalogue))
    return _print_problems(catalogue, sections)


def _print_problems(catalogue: Catalogue, sections: Sequence[Section]) -> int:
    """On stderr: the problems, and how much of the text is claimed. The exit code."""
    problems = problems_of(catalogue) + (compare(catalogue, sections) if sections else [])
    for problem in problems:
        print(problem, file=sys.stderr)
    if sections:
        keywords = sum(len(places_of(section)) for section in sections)
        unclaimed = sum(problem.startswith("unclaimed: ") for problem in problems)
        print(f"{keywords} keywords, {unclaimed} unclaimed", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
