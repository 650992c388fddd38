"""What the specification does not know changes nothing."""

from __future__ import annotations

import copy
from typing import Any

from conformance.bed import Bed
from conformance.expect import equal, that
from requirements import Requirement

SAME = ("argv", "env", "cwd", "uids", "gids", "groups", "umask", "capabilities", "rlimits", "hostname", "no_new_privs")


def same(bed: Bed, config: dict[str, Any]) -> None:
    expected = bed.observe()
    attempt = bed.attempt(config)
    that(attempt.taken, "the configuration", "taken", attempt.summary)
    seen = attempt.facts()
    for key in SAME:
        equal(f"what the program sees: {key}", seen[key], expected[key])
    points = [info.point for info in seen.mounts()]
    equal("the mount points", points, [info.point for info in expected.mounts()])


def test_unknown_annotations(requirement: Requirement, bed: Bed) -> None:
    same(bed, bed.config({"annotations": {"org.example.unknown": "x", "unknown": "", "com.example/y": "{}"}}))


def test_unknown_properties(requirement: Requirement, bed: Bed) -> None:
    config = copy.deepcopy(bed.config())
    unknown: dict[str, Any] = {"unknownProperty": {"a": [1, None]}, "x-unknown": "value"}

    def add(value: Any) -> None:
        if isinstance(value, dict):
            for inner in value.values():
                add(inner)
            value.update(copy.deepcopy(unknown))
        elif isinstance(value, list):
            for inner in value:
                add(inner)

    add(config)
    same(bed, config)
