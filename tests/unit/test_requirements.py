"""The specification's requirements as data: their form, the counting against a text, and what is stored."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requirements
from hypothesis import given
from hypothesis import strategies as st
from requirements import Catalogue, DataError, Requirement, SetAside
from spectext import Place, digest_of, sections_of

from tests.support.spec_text import TEXT

DATA = tomllib.loads("""
document = "things.md"
sections = {}

[[requirement]]
id = "things.light"
section = "things"
level = "MUST NOT"
at = 1
about = "runtime"
summary = "Heavy ones are refused."
test = "negative"
checked_by = "things::test_weight"

[[requirement]]
id = "things.round"
section = "things"
level = "MUST"
at = 1
about = "config"
summary = "It has no corners."
test = "none"
reason = "Nobody can measure it."

[[requirement]]
id = "config.valid-values.error"
section = "things"
level = "stated"
about = "runtime"
summary = "What is not valid is refused."
test = "positive"
checked_by = "things::test_valid"
by = "things.light"

[[properties]]
section = "colours"
prefix = "things.colours"
pointer = "/things/-"
checked_by = "things::test_colours"
by = "things.light"
needs = ["numa"]
entries = [
  { name = "colour", optional = 1, absent = "In the dark.", effect = "It looks so.", needs = ["swap"] },
  { name = "shade", required = 1, effect = "It looks darker.", untestable = "It is dark here." },
]

[[options]]
section = "colours"
prefix = "things.colours"
pointer = "/things/-/colour"
checked_by = "things::test_colours"
entries = [{ name = "red", level = "SHOULD", at = 1, effect = "It is like blood." }]

[[set_aside]]
section = "colours"
kind = "platform"
at = { MAY = 1 }
reason = "Other planets."
""")


def catalogue_of(data: dict[str, Any] = DATA, text: str = TEXT) -> Catalogue:
    """The data read, with the digests that the text has."""
    catalogue = Catalogue()
    requirements.read_document(data, catalogue)
    catalogue.digests = {section.anchor: digest_of(section) for section in sections_of("things.md", text)}
    return catalogue


def by_id(catalogue: Catalogue, name: str) -> Requirement:
    (found,) = [requirement for requirement in catalogue.requirements if requirement.id == name]
    return found


def compared(catalogue: Catalogue, text: str = TEXT) -> list[str]:
    return requirements.compare(catalogue, sections_of("things.md", text))


# The form of the data.


def test_property_becomes_requirements() -> None:
    catalogue = catalogue_of()
    optional = by_id(catalogue, "things.colours.colour-optional")
    assert (optional.level, optional.about, optional.test, optional.needs) == ("OPTIONAL", "config", "positive", ())
    assert (optional.checked_by, optional.note) == ("presence::test_taken_without", "In the dark.")
    applied = by_id(catalogue, "things.colours.colour-applied")
    assert (applied.level, applied.about, applied.summary) == ("stated", "runtime", "It looks so.")
    assert (applied.pointer, applied.needs, applied.places) == ("/things/-/colour", ("numa", "swap"), ())
    assert applied.note == ""
    required = by_id(catalogue, "things.colours.shade-required")
    assert (required.test, required.by, required.needs) == ("negative", "config.valid-values.error", ("numa",))
    assert "/things/-/shade" in required.summary
    untestable = by_id(catalogue, "things.colours.shade-applied")
    assert (untestable.test, untestable.reason, untestable.checked_by) == ("none", "It is dark here.", "")


def test_option_and_output_become_requirements() -> None:
    red = by_id(catalogue_of(), "things.colours.red")
    assert (red.pointer, red.value, red.places) == (
        "/things/-/colour",
        "red",
        (Place("things.md#colours", "SHOULD", 1),),
    )
    output = by_id(catalogue_of({**DATA, "options": [], "outputs": DATA["options"]}), "things.colours.red")
    assert (output.pointer, output.value) == ("/things/-/colour/red", "")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("additionalGids", "additional-gids"),
        ("l3CacheSchema", "l3-cache-schema"),
        ("v1", "v1"),
        ("kernelTCP", "kernel-tcp"),
    ],
)
def test_kebab(name: str, words: str) -> None:
    assert requirements.kebab(name) == words


@pytest.mark.parametrize(("value", "ordinals"), [(3, [3]), ([1, 4], [1, 4]), ("2-5", [2, 3, 4, 5]), ([], [])])
def test_ordinals(value: object, ordinals: list[int]) -> None:
    table = {**DATA["requirement"][0], "at": value, "also": {"colours": 9}}
    (requirement,) = catalogue_of({**DATA, "requirement": [table], "properties": [], "options": []}).requirements
    assert [place.ordinal for place in requirement.places] == [*ordinals, 9]
    assert requirement.places[-1] == Place("things.md#colours", "MUST NOT", 9)


@pytest.mark.parametrize("value", ["", "1,2", "a-b", 1.5, True, ["1"], [1, None]])
def test_other_ordinals_are_refused(value: object) -> None:
    table = {**DATA["requirement"][0], "at": value}
    with pytest.raises(DataError, match="not ordinals"):
        catalogue_of({**DATA, "requirement": [table]})


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("requirement", {"colour": "red"}, "things.light: unknown colour"),
        ("requirement", {"level": None}, "things.light: without level"),
        ("requirement", {"id": None}, "a requirement without id: without id"),
        ("properties", {"entries": None}, "properties: without entries"),
        ("properties", {"entries": [{"name": "a", "requird": 1}]}, "an entry: unknown requird"),
        ("options", {"entries": [{"name": "a"}]}, "an entry: without effect, level"),
        ("set_aside", {"reason": None}, "set_aside: without reason"),
        ("requirements", {}, "the file: unknown requirements"),
    ],
)
def test_malformed_tables_are_refused(key: str, change: dict[str, Any], message: str) -> None:
    table = {**DATA.get(key, [{}])[0], **change}
    data = {**DATA, key: [{name: value for name, value in table.items() if value is not None}]}
    with pytest.raises(DataError, match=message):
        catalogue_of(data)


def test_malformed_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "things.toml").write_text("document = ")
    with pytest.raises(DataError, match=r"things\.toml: "):
        requirements.load(tmp_path)


# What is checked without the text.


def test_good_data_has_no_problems() -> None:
    catalogue = catalogue_of()
    assert requirements.problems_of(replace_id(catalogue, "config.valid-values.error", section="config.md#x")) == []
    assert compared(catalogue) == []


def replace_id(catalogue: Catalogue, name: str, **changes: Any) -> Catalogue:
    changed = [replace(r, **changes) if r.id == name else r for r in catalogue.requirements]
    return Catalogue(changed, catalogue.set_aside, catalogue.digests)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"id": "Things.Light"}, "not an id of things"),
        ({"id": "config.light"}, "not an id of things"),
        ({"id": "things"}, "not an id of things"),
        ({"level": "MIGHT"}, "unknown level 'MIGHT'"),
        ({"about": "someone"}, "unknown about 'someone'"),
        ({"test": "perhaps"}, "unknown test 'perhaps'"),
        ({"level": "stated"}, "'stated' where none is"),
        ({"places": ()}, "'stated' where none is"),
        ({"summary": ""}, "must be one line"),
        ({"summary": "No full stop"}, "must be one line"),
        ({"summary": "Two\nlines."}, "must be one line"),
        ({"test": "none"}, "without a test there must be a reason"),
        ({"test": "none", "reason": "x"}, "nothing that checks it"),
        ({"test": "none", "checked_by": ""}, "without a test there must be a reason"),
        ({"reason": "x"}, "no reason against it"),
        ({"checked_by": ""}, "there must be what checks it"),
        ({"checked_by": "things.test_weight"}, "there must be what checks it"),
        ({"by": "things.nowhere"}, "rests on things.nowhere"),
        ({"by": "things.light"}, "rests on things.light"),
        ({"needs": ("luck",)}, "unknown need 'luck'"),
        ({"needs": ("kernel:new",)}, "unknown need 'kernel:new'"),
        ({"places": (Place("things.md#things", "MUST NOT", 0),)}, "is no keyword's place"),
        ({"places": (Place("things.md#things", "MIGHT", 1),)}, "is no keyword's place"),
        ({"places": (Place("things.md#things", "MUST", 1),)}, "claimed by things.light and by things.round"),
        (
            {"places": (Place("things.md#colours", "MAY", 1),)},
            "claimed by things.light and by what is set aside (platform)",
        ),
        ({"id": "things.round"}, "things.round: 2 requirements of that id"),
    ],
)
def test_problems(changes: dict[str, Any], problem: str) -> None:
    assert [p for p in requirements.problems_of(replace_id(catalogue_of(), "things.light", **changes)) if problem in p]


@pytest.mark.parametrize("need", ["cgroup2", "controller:memory", "kernel:5.12", "idmapped-mounts"])
def test_needs(need: str) -> None:
    assert requirements.NEEDS.fullmatch(need)


@pytest.mark.parametrize(
    ("aside", "problem"),
    [
        (SetAside("whim", "x", (Place("a.md#a", "MAY", 1),)), "unknown kind 'whim'"),
        (SetAside("prose", "", (Place("a.md#a", "MAY", 1),)), "needs a reason and places"),
        (SetAside("prose", "x", ()), "set aside at no place: needs a reason and places"),
    ],
)
def test_problems_of_what_is_set_aside(aside: SetAside, problem: str) -> None:
    (found,) = requirements.problems_of(Catalogue(set_aside=[aside]))
    assert problem in found


@pytest.mark.parametrize(
    ("level", "by", "strength"),
    [
        ("REQUIRED", "", "MUST"),
        ("NOT RECOMMENDED", "things.round", "SHOULD"),
        ("OPTIONAL", "", "MAY"),
        ("stated", "", "STATED"),
        ("MAY NOT", "", "STATED"),
        ("must", "things.round", "MUST"),
        ("stated", "config.valid-values.error", "STATED"),
        ("stated", "things.nowhere", "STATED"),
    ],
)
def test_strength(level: str, by: str, strength: str) -> None:
    # config.valid-values.error rests on things.light: the last but one is a circle, which must end.
    catalogue = replace_id(catalogue_of(), "things.light", level=level, by=by)
    assert catalogue.strength(by_id(catalogue, "things.light")) == strength


# What is checked against the text.


def without(name: str) -> Catalogue:
    catalogue = catalogue_of()
    catalogue.requirements = [requirement for requirement in catalogue.requirements if requirement.id != name]
    return catalogue


@given(st.lists(st.text("ab \n"), max_size=5))
def test_what_stands_above_moves_no_place(above: list[str]) -> None:
    text = "# Above\n" + "\n".join(above) + "\n" + TEXT
    assert compared(catalogue_of(), text) == []


def test_unclaimed_keyword() -> None:
    assert compared(without("things.round")) == ["unclaimed: things.md#things MUST 1 (line 4)"]


def test_keyword_that_is_no_longer_there() -> None:
    text = TEXT.replace("it MUST be round", "it is round")
    assert compared(catalogue_of(text=text), text) == ["things.round: there is no things.md#things MUST 1"]


def test_new_keyword() -> None:
    text = TEXT.replace("it MUST be round", "it MUST be green. It MUST be round")
    assert compared(catalogue_of(), text) == [
        "unclaimed: things.md#things MUST 2 (line 4)",
        "things.md#things: reads otherwise than when its requirements were written",
    ]


def test_changed_words() -> None:
    problems = compared(catalogue_of(), TEXT.replace("blue", "green"))
    assert problems == ["things.md#colours: reads otherwise than when its requirements were written"]


def test_digest_of_a_section_without_requirements() -> None:
    catalogue = catalogue_of(text=TEXT + "\n# More\n\nNothing.\n")
    assert compared(catalogue) == ["things.md#more: there is no such section"]
    assert compared(catalogue, TEXT + "\n# More\n\nNothing.\n") == ["things.md#more: has a digest, but no requirement"]


def test_copied_summary() -> None:
    catalogue = replace_id(catalogue_of(), "things.light", summary="MUST NOT be heavy, and it must be round.")
    assert compared(catalogue) == ["things.light: the summary copies 'must not be heavy and it must be round'"]


def test_entry_beside_its_line() -> None:
    text = TEXT.replace("`shade`", "`shadow`")
    (problem,) = compared(catalogue_of(text=text), text)
    assert problem == "things.colours.shade-required: things.md#colours REQUIRED 1 (line 9) is about something else"


def test_entry_for_two_properties() -> None:
    both = TEXT.replace("`shade`", "`shade, hue`")
    catalogue = replace_id(catalogue_of(text=both), "things.colours.shade-required", pointer="/things/-/shade|hue")
    assert compared(catalogue, both) == []
    assert compared(replace_id(catalogue_of(), "things.colours.shade-required", pointer="/things/-/shade|hue"))


# What is printed.


def test_count_table() -> None:
    rows = [("a.md", "MUST"), ("a.md", "MAY"), ("b.md", "MUST"), ("a.md", "MUST")]
    assert requirements.count_table(rows, ["MUST", "SHOULD", "MAY"]).splitlines() == [
        "       MUST  MAY  all",
        "a.md      2    1    3",
        "b.md      1         1",
        "total     3    1    4",
    ]


def test_report_and_checks() -> None:
    catalogue = catalogue_of()
    text = requirements.report(catalogue)
    assert "6 of 8 requirements" in text
    assert "things.md#colours" in text
    assert requirements.checks_table(catalogue).splitlines()[1].split() == ["presence::test_refused_without", "1", "1"]


def test_show_is_beside_the_text() -> None:
    text = requirements.show(catalogue_of(), sections_of("things.md", TEXT), "*.round")
    assert text.splitlines() == [
        "things.round  [MUST, config, none] ",
        "    It has no corners.",
        "    | things.md#things MUST 1 (line 4): NOT be heavy, and it MUST be round.",
    ]


def test_json_has_strength_and_places() -> None:
    values = {value["id"]: value for value in json.loads(json.dumps(requirements.as_json(catalogue_of())))}
    assert values["things.colours.colour-applied"]["strength"] == "MUST"
    assert values["things.light"]["places"] == ["things.md#things MUST NOT 1"]


# What is stored.


@pytest.fixture(scope="module")
def stored() -> Catalogue:
    return requirements.load()


def test_stored_data_is_valid(stored: Catalogue) -> None:
    assert requirements.problems_of(stored) == []


def test_stored_data_has_every_document(stored: Catalogue) -> None:
    documents = {anchor.partition("#")[0] for anchor in stored.digests}
    assert documents == {
        f"{name}.md"
        for name in ("bundle", "config", "config-linux", "features", "features-linux", "runtime", "runtime-linux")
    }


def test_stored_requirements_have_digests(stored: Catalogue) -> None:
    places = {place.section for place in stored.owners()}
    assert places | {requirement.section for requirement in stored.requirements} == stored.digests.keys()


def test_stored_ordinals_are_without_holes(stored: Catalogue) -> None:
    """Claims of the first and the third without the second are a slip, which shows even without the text."""
    ordinals: dict[tuple[str, str], list[int]] = {}
    for place in stored.owners():
        ordinals.setdefault((place.section, place.keyword), []).append(place.ordinal)
    assert [key for key, found in ordinals.items() if sorted(found) != list(range(1, len(found) + 1))] == []


def test_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert requirements.main([]) == 0
    assert "Requirements by section and level" in capsys.readouterr().out
    assert requirements.main(["--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) > 700
    with pytest.raises(SystemExit):
        requirements.main(["--spec", str(tmp_path)])


def test_command_line_counts_against_a_text(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, stored: Catalogue
) -> None:
    for anchor in stored.digests:
        (tmp_path / anchor.partition("#")[0]).write_text("# New\n\nIt MUST.\n")
    assert requirements.main(["--spec", str(tmp_path)]) == 1
    assert "7 keywords, 7 unclaimed" in capsys.readouterr().err
