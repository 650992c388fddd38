"""User namespaces: mappings, and what stays as it is on the host."""

from __future__ import annotations

import os

from conformance.bed import Bed
from conformance.expect import equal, that
from requirements import Requirement

from tests.support.bundle import Config, bind_entry

UIDS = [(0, 100000, 1000), (1000, 300000, 5)]
GIDS = [(0, 200000, 2000), (5000, 400000, 1)]


def mappings(bed: Bed) -> Config:
    """The base configuration with a user namespace of several mappings."""
    config = bed.config()
    config["linux"]["namespaces"] = [*config["linux"]["namespaces"], {"type": "user"}]
    for name, entries in (("uidMappings", UIDS), ("gidMappings", GIDS)):
        config["linux"][name] = [
            {"containerID": inside, "hostID": outside, "size": size} for inside, outside, size in entries
        ]
    return config


def test_mappings(requirement: Requirement, bed: Bed) -> None:
    facts = bed.attempt(mappings(bed)).facts()
    seen = {
        name: [tuple(map(int, line.split())) for line in facts[name].splitlines()] for name in ("uid_map", "gid_map")
    }
    wanted = {"uid_map": UIDS, "gid_map": GIDS}
    part = {"container-id-applied": 0, "host-id-applied": 1, "size-applied": 2}.get(requirement.id.rpartition(".")[2])
    for name, entries in wanted.items():
        if requirement.id.endswith({"uid_map": "gid-mappings-applied", "gid_map": "uid-mappings-applied"}[name]):
            continue
        if part is None:
            equal(name, seen[name], entries)
        else:
            equal(f"{name}: numbers {part}", [line[part] for line in seen[name]], [entry[part] for entry in entries])


def test_owners_untouched(requirement: Requirement, bed: Bed) -> None:
    container = bed.new()
    container.config = mappings(bed)
    source = container.bundle / "source"
    source.mkdir()
    (source / "file").write_text("x")
    container.mounts.append(bind_entry(source, "/mnt"))
    paths = [source, source / "file", *sorted((container.rootfs / "etc").iterdir()), container.rootfs / "probe"]
    before = {str(path): os.lstat(path)[4:6] for path in paths}
    attempt = bed.launch(container)
    that(attempt.taken, "the configuration", "taken", attempt.summary)
    attempt.facts()
    equal("the owners on the host", {str(path): os.lstat(path)[4:6] for path in paths}, before)
