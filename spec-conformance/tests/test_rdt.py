"""Intel RDT: groups of the resctrl file system, on a machine that has one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conformance.bed import Bed
from conformance.expect import equal, not_testable, that
from requirements import Requirement

from tests.support import isolation
from tests.support.runtime import Container

ROOT = Path("/sys/fs/resctrl")


def schemata(folder: Path = ROOT) -> dict[str, str]:
    """The lines of a group by their resource: {"L3": "0=fff", "MB": "0=100"}."""
    lines = (folder / "schemata").read_text().split()
    return dict(line.split(":", 1) for line in lines)


def own_line(resource: str) -> str:
    """A schema of that resource which differs from the default group's as little as can be."""
    found = schemata()
    if resource not in found:
        not_testable(f"resctrl has no {resource}")
    parts = [part.split("=") for part in found[resource].split(";")]
    if resource == "MB":
        changed = [f"{domain}={max(10, int(value) // 2)}" for domain, value in parts]
    else:
        changed = [f"{domain}={int(value, 16) >> 1:x}" for domain, value in parts]
    return f"{resource}:{';'.join(changed)}"


def created(bed: Bed, **properties: Any) -> Container:
    container = bed.new({"linux": {"intelRdt": properties}})
    container.process["args"] = ["/probe", "hold"]
    result = container.create(check=False)
    that(result.rc == 0, f"a container with intelRdt {properties}", "taken", result.error)
    return container


def group_of(container: Container) -> Path:
    """The group that the container's process is in."""
    for folder in (ROOT, *(path for path in ROOT.iterdir() if (path / "tasks").exists())):
        if str(container.pid) in (folder / "tasks").read_text().split():
            return folder
    raise AssertionError(f"process {container.pid} is in no group")


@contextlib.contextmanager
def group(bed: Bed) -> Iterator[Path]:
    """A group that is there before."""
    folder = ROOT / f"{bed.token}-there"
    folder.mkdir()
    try:
        yield folder
    finally:
        bed.clean()
        folder.rmdir()


def test_group(requirement: Requirement, bed: Bed) -> None:
    what = requirement.id.rpartition(".")[2]
    name = f"{bed.token}-clos"
    if what == "default-group":
        equal("the group with closID /", group_of(created(bed, closID="/")), ROOT)
    elif what == "id-for-group":
        container = created(bed, schemata=[own_line("MB")])
        equal("the group without closID", group_of(container), ROOT / container.id)
    else:
        container = created(bed, closID=name, schemata=[own_line("MB")])
        equal("the group with closID", group_of(container), ROOT / name)
        bed.clean()
        with contextlib.suppress(OSError):
            (ROOT / name).rmdir()


def test_schemata(requirement: Requirement, bed: Bed) -> None:
    what = requirement.id.rpartition(".")[2]
    if what == "nothing-written":
        with group(bed) as folder:
            before = schemata(folder)
            created(bed, closID=folder.name)
            equal("the schemata", schemata(folder), before)
        return
    cache, bandwidth = own_line("L3"), own_line("MB")
    properties: dict[str, Any] = {"l3CacheSchema": cache, "memBwSchema": bandwidth}
    if what == "either-written":
        properties = {"memBwSchema": bandwidth}
    elif what == "schemata-written":
        properties = {"schemata": [cache, bandwidth]}
    elif what == "schemata-last":
        properties = {"memBwSchema": f"MB:{schemata()['MB']}", "schemata": [bandwidth]}
    seen = schemata(group_of(created(bed, **properties)))
    equal("the schema MB", seen["MB"], bandwidth.partition(":")[2])
    if cache in properties.values() or cache in properties.get("schemata", []):
        equal(
            "the schema L3", int(seen["L3"].split("=")[1].split(";")[0], 16), int(cache.split("=")[1].split(";")[0], 16)
        )


def test_existing_group(requirement: Requirement, bed: Bed) -> None:
    if requirement.id.endswith("compared"):
        with group(bed) as folder:
            different = {"linux": {"intelRdt": {"closID": folder.name, "schemata": [own_line("MB")]}}}
            seen = bed.attempt(bed.config(different))
            that(seen.failed == "create", "create with other schemata than the group's", "an error", seen.summary)
        return
    with group(bed) as folder:
        equal("the group of closID alone", group_of(created(bed, closID=folder.name)), folder)
    missing = bed.attempt(bed.config({"linux": {"intelRdt": {"closID": f"{bed.token}-none"}}}))
    that(missing.failed == "create", "create with a closID alone that is not there", "an error", missing.summary)


def test_delete(requirement: Requirement, bed: Bed) -> None:
    if requirement.id.endswith("own-group-removed"):
        container = created(bed, schemata=[own_line("MB")])
        folder = group_of(container)
        end(container)
        that(not folder.exists(), "the runtime's own group after delete", "gone", "there")
        return
    with group(bed) as folder:
        end(created(bed, closID=folder.name))
        that(folder.exists(), "a group that was there, after delete", "there", "gone")


def end(container: Container) -> None:
    container.kill("KILL")
    container.wait()
    container.delete()


def test_bad_schemata(requirement: Requirement, bed: Bed) -> None:
    line = own_line("MB")
    good = bed.config({"linux": {"intelRdt": {"memBwSchema": line}}})
    cases: dict[str, dict[str, Any]] = {
        "config-linux.intel-rdt.mb-prefix": {"memBwSchema": line.partition(":")[2]},
        "config-linux.intel-rdt.mb-one-line": {"memBwSchema": f"{line}\n{line}"},
        "config-linux.intel-rdt.schemata-one-line": {"schemata": [f"{line}\n{line}"]},
    }
    bed.refused(bed.config({"linux": {"intelRdt": cases[requirement.id]}}), good)


def test_monitoring(requirement: Requirement, bed: Bed) -> None:
    if requirement.id.endswith("error"):
        missing = bed.attempt(
            bed.config({"linux": {"intelRdt": {"closID": f"{bed.token}-no", "enableMonitoring": True}}})
        )
        that(missing.failed == "create", "create where no monitoring group can be made", "an error", missing.summary)
        return
    container = created(bed, closID="/", enableMonitoring=True)
    folder = ROOT / "mon_groups" / container.id
    that(folder.is_dir(), "the monitoring group", folder, "not there")
    that(str(container.pid) in (folder / "tasks").read_text().split(), "the group's tasks", container.pid, "others")
    if requirement.id.endswith("removed"):
        end(container)
        that(not folder.exists(), "the monitoring group after delete", "gone", "there")


def test_not_set(requirement: Requirement, bed: Bed) -> None:
    before = sorted(os.listdir(ROOT)), schemata()
    container = bed.new()
    container.create()
    equal("what is in resctrl", (sorted(os.listdir(ROOT)), schemata()), before)


def test_not_mounted(requirement: Requirement, bed: Bed) -> None:
    if os.path.exists(ROOT / "schemata"):
        # In the session's own mount namespace.
        isolation.umount(str(ROOT))
    cases: list[dict[str, Any]] = [
        {"closID": "x", "schemata": ["MB:0=50"]},
        {"closID": "x"},
        {"enableMonitoring": True},
    ]
    for properties in cases:
        attempt = bed.attempt(bed.config({"linux": {"intelRdt": properties}}))
        that(
            attempt.failed == "create", f"create with intelRdt {properties} and no resctrl", "an error", attempt.summary
        )
        that(not attempt.left, "after the create that failed", "nothing changed", "; ".join(attempt.left))
