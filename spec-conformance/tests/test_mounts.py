"""The entries of mounts: what is mounted, where, from where, and in which order."""

from __future__ import annotations

import os
from collections.abc import Callable

from conformance.bed import Bed
from conformance.expect import case_of, equal, that
from conformance.trees import tree
from requirements import Requirement

from tests.support.bundle import Config, bind_entry, mount_entry
from tests.support.facts import Facts


def observe(bed: Bed, *mounts: Config, paths: tuple[str, ...] = ()) -> Facts:
    return bed.observe({"mounts": [*bed.config()["mounts"], *mounts]}, *paths)


def test_bind(requirement: Requirement, bed: Bed) -> None:
    container = bed.new()
    with tree(container.bundle / "tree") as source:
        container.mounts.append(bind_entry(source, "/mnt", requirement.value))
        container.process["args"] = ["/probe", "/mnt/outer", "/mnt/sub/inner"]
        facts = bed.launch(container).facts()
    that("size" in facts.path("/mnt/outer"), "the file in the source", "at the destination", facts.path("/mnt/outer"))
    inner = "size" in facts.path("/mnt/sub/inner")
    equal("the file in the mount below the source is seen", inner, requirement.value == "rbind")


def test_default_filesystems(requirement: Requirement, bed: Bed) -> None:
    facts = bed.observe()
    for point, kind in {"/proc": "proc", "/sys": "sysfs", "/dev/pts": "devpts", "/dev/shm": "tmpfs"}.items():
        equal(f"the file system at {point}", facts.mount(point).kind, kind)


def all_applied(bed: Bed) -> None:
    facts = observe(bed, mount_entry("/mnt", "tmpfs", "a-name", "nosuid", "ro"), bind_entry("/etc", "/tmp"))
    info = facts.mount("/mnt")
    equal("the kind", info.kind, "tmpfs")
    equal("the source", info.source, "a-name")
    that({"nosuid", "ro"} <= info.options, "the options", "nosuid, ro", sorted(info.options))
    facts.mount("/tmp")
    for entry in bed.config()["mounts"]:
        equal(f"the kind at {entry['destination']}", facts.mount(entry["destination"]).kind, entry["type"])


def destination(bed: Bed) -> None:
    for point in ("/mnt", "/opt/deep/and new"):
        info = observe(bed, mount_entry(point, "tmpfs", "marker")).mount(point)
        equal(f"the source of what is at {point}", info.source, "marker")


def source(bed: Bed) -> None:
    container = bed.new()
    (container.bundle / "data").mkdir()
    (container.bundle / "data" / "file").write_text("of the bundle")
    absolute = container.bundle / "other"
    absolute.mkdir()
    (absolute / "file").write_text("absolute")
    container.mounts.extend(
        [bind_entry("data", "/mnt"), bind_entry("data/file", "/tmp/one"), bind_entry(absolute, "/opt")]
    )
    container.process["args"] = ["/bin/cat", "/mnt/file", "/tmp/one", "/opt/file"]
    attempt = bed.launch(container)
    that(attempt.taken, "bind mounts of a relative and an absolute source", "taken", attempt.summary)
    equal("what is in them", attempt.output, "of the bundleof the bundleabsolute")


def options(bed: Bed) -> None:
    info = observe(bed, mount_entry("/mnt", "tmpfs", "x", "nodev", "noexec", "size=64k")).mount("/mnt")
    that({"nodev", "noexec"} <= info.options, "the mount's options", "nodev, noexec", sorted(info.options))
    that("size=64k" in info.super_options, "the file system's options", "size=64k", sorted(info.super_options))


def kind(bed: Bed) -> None:
    for name in ("tmpfs", "proc", "sysfs", "mqueue", "devpts", "ramfs"):
        equal("the file system's type", observe(bed, mount_entry("/mnt", name, name)).mount("/mnt").kind, name)
    etc = os.stat("/etc").st_ino
    for name in ("none", "bind", "tmpfs", "nonsense"):
        facts = observe(bed, mount_entry("/mnt", name, "/etc", "bind"), paths=("/mnt",))
        equal(f"the directory at a bind mount of type {name}", facts.path("/mnt")["inode"], etc)


CASES: dict[str, Callable[[Bed], None]] = {
    "config.mounts-applied": all_applied,
    "config.mounts.destination-applied": destination,
    "config.mounts.source-applied": source,
    "config.mounts.options-applied": options,
    "config.posix-mounts.type-applied": kind,
}


def test_kinds(requirement: Requirement, bed: Bed) -> None:
    case_of(CASES, requirement.id)(bed)


def test_order(requirement: Requirement, bed: Bed) -> None:
    facts = observe(bed, mount_entry("/mnt", "tmpfs", "first"), mount_entry("/mnt", "tmpfs", "second"))
    equal("what covers what at one path", [m.source for m in facts.mounts() if m.point == "/mnt"], ["first", "second"])
    inside = observe(bed, mount_entry("/mnt", "tmpfs", "first"), mount_entry("/mnt/in", "tmpfs", "second"))
    equal("what is below", inside.mount("/mnt/in").source, "second")
    covered = observe(
        bed, mount_entry("/mnt/in", "tmpfs", "second"), mount_entry("/mnt", "tmpfs", "first"), paths=("/mnt/in",)
    )
    equal("a path below, mounted before", covered.path("/mnt/in").get("errno"), 2)


def test_relative_destination(requirement: Requirement, bed: Bed) -> None:
    for point in ("mnt", "opt/new"):
        attempt = bed.attempt(bed.config({"mounts": [*bed.config()["mounts"], mount_entry(point, "tmpfs", "marker")]}))
        that(attempt.taken, f"the destination {point}", "taken", attempt.summary)
        if requirement.id == "config.mounts.destination-relative":
            equal(f"the source of what is at /{point}", attempt.facts().mount(f"/{point}").source, "marker")


def test_remount(requirement: Requirement, bed: Bed) -> None:
    facts = observe(
        bed, mount_entry("/mnt", "tmpfs", "x", "nosuid"), mount_entry("/mnt", "tmpfs", "x", "remount", "ro", "nosuid")
    )
    equal("the number of mounts at /mnt", sum(info.point == "/mnt" for info in facts.mounts()), 1)
    that("ro" in facts.mount("/mnt").options, "the options after a remount", "ro", sorted(facts.mount("/mnt").options))


def test_label(requirement: Requirement, bed: Bed) -> None:
    label = "system_u:object_r:container_file_t:s0:c1,c2"
    mounts = [*bed.config()["mounts"], mount_entry("/mnt", "tmpfs", "tmpfs")]
    info = bed.observe({"linux": {"mountLabel": label}, "mounts": mounts}).mount("/mnt")
    that(any(label in option for option in info.super_options), "the context of a mount", label,
         sorted(info.super_options))  # fmt: skip
