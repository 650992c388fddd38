"""Who owns the cgroup of a container in a user namespace."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conformance.bed import Bed
from conformance.expect import case_of, equal, that
from requirements import Requirement

from tests.support import isolation
from tests.support.bundle import mount_entry, use_user_namespace, without_namespace
from tests.support.isolation import CGROUP
from tests.support.runtime import Container

LIST = Path("/sys/kernel/cgroup/delegate")
FIRST = 100000
# Of user 1000 of the container's.
OWNER = FIRST + 1000


def container(bed: Bed, *, namespace: bool = True, mount: str | None = "rw") -> Container:
    """A container in a user namespace, whose process is its user 1000, and with its cgroups mounted, or not."""
    made = bed.new()
    use_user_namespace(made.config, FIRST)
    if not namespace:
        without_namespace(made.config, "cgroup")
    # A new sysfs cannot be mounted where parts of the host's are covered, as in some of these tests.
    made.mounts[:] = [entry for entry in made.mounts if entry["type"] != "sysfs"]
    if mount:
        (made.rootfs / "sys" / "fs" / "cgroup").mkdir(parents=True)
        made.mounts.append(mount_entry("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", mount))
    made.process["user"] = {"uid": 1000, "gid": 1000}
    made.process["args"] = ["/probe", "hold"]
    created = made.create(check=False)
    that(created.rc == 0, "a container in a user namespace", "taken", created.error)
    return made


def owners(made: Container) -> dict[str, int]:
    """The owners of the cgroup's folder ("") and files, but for those of root."""
    lines = Path(f"/proc/{made.pid}/cgroup").read_text().splitlines()
    folder = CGROUP / next(line[3:] for line in lines if line.startswith("0::")).lstrip("/")
    found = {name: os.stat(folder / name).st_uid for name in ["", *os.listdir(folder)]}
    return {name: number for name, number in found.items() if number != 0}


def delegatable(made: Container) -> set[str]:
    """What the kernel lists, as far as it is there."""
    lines = Path(f"/proc/{made.pid}/cgroup").read_text().splitlines()
    folder = CGROUP / next(line[3:] for line in lines if line.startswith("0::")).lstrip("/")
    return {name for name in LIST.read_text().split() if (folder / name).exists()}


@contextmanager
def other_list(bed: Bed, names: list[str] | None) -> Iterator[None]:
    """Another list over the kernel's, or none at all."""
    if names is None:
        isolation.mount("tmpfs", str(LIST.parent), "tmpfs")
        target = LIST.parent
    else:
        source = bed.scratch / "delegate"
        source.write_text("\n".join(names) + "\n")
        isolation.mount(str(source), str(LIST), None, 0x1000)
        target = LIST
    try:
        yield
    finally:
        isolation.umount(str(target))


def listed(bed: Bed) -> None:
    made = container(bed)
    expected = dict.fromkeys(["", *delegatable(made)], OWNER)
    equal("what of the cgroup belongs to the process's user", owners(made), expected)


def missing(bed: Bed) -> None:
    with other_list(bed, ["cgroup.procs", "no.such.file", "cgroup.threads"]):
        seen = owners(container(bed))
    that(
        seen.get("cgroup.procs") == OWNER, "a list with a file that is not there", "taken, and the others changed", seen
    )


def existing(bed: Bed) -> None:
    with other_list(bed, ["no.such.file", "cgroup.procs", "cgroup.threads"]):
        seen = owners(container(bed))
    equal("what belongs to the user", seen, dict.fromkeys(["", "cgroup.procs", "cgroup.threads"], OWNER))


def fallback(bed: Bed) -> None:
    with other_list(bed, None):
        seen = owners(container(bed))
    files = ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"]
    equal("what belongs to the user", seen, dict.fromkeys(files, OWNER))


FILES: dict[str, Callable[[Bed], Any]] = {
    "config-linux.cgroup-ownership.only-delegated-files": listed,
    "config-linux.cgroup-ownership.missing-files": missing,
    "config-linux.cgroup-ownership.existing-files": existing,
    "config-linux.cgroup-ownership.fallback": fallback,
    "config-linux.cgroup-ownership.no-other-files": listed,
}


def test_files(requirement: Requirement, bed: Bed) -> None:
    case_of(FILES, requirement.id)(bed)


def if_writable(bed: Bed) -> None:
    equal("the owner of the cgroup", owners(container(bed)).get(""), OWNER)


def only_with_namespace(bed: Bed) -> None:
    equal("what belongs to others than root", owners(container(bed, namespace=False)), {})


def not_without_mount(bed: Bed) -> None:
    for mount in (None, "ro"):
        equal(f"what belongs to others than root, the mount being {mount}", owners(container(bed, mount=mount)), {})


WHEN: dict[str, Callable[[Bed], Any]] = {
    "config-linux.cgroup-ownership.only-with-namespace": only_with_namespace,
    "config-linux.cgroup-ownership.if-writable": if_writable,
    "config-linux.cgroup-ownership.not-without-mount": not_without_mount,
}


def test_when(requirement: Requirement, bed: Bed) -> None:
    case_of(WHEN, requirement.id)(bed)


def test_v1(requirement: Requirement, bed: Bed) -> None:
    made = container(bed)
    seen = {}
    for line in Path(f"/proc/{made.pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        folder = CGROUP / controllers.removeprefix("name=") / path.lstrip("/")
        if controllers and folder.is_dir():
            seen[controllers] = os.stat(folder).st_uid
    equal("the owners of the cgroups of version 1", seen, dict.fromkeys(seen, 0))
