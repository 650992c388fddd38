"""Where a container's cgroup is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from conformance.bed import Bed
from conformance.expect import case_of, equal, not_testable, that
from requirements import Requirement

from tests.support.cgroups import process_in, remove_tree
from tests.support.isolation import CGROUP
from tests.support.runtime import Container


def path_of(bed: Bed, name: str) -> str:
    """A path for cgroups of this test's alone. Its first part is the session's."""
    return f"/{bed.token}-path/{name}"


def remove(bed: Bed) -> None:
    remove_tree(CGROUP / path_of(bed, "").strip("/"))


def cgroup_of(container: Container) -> str:
    """The cgroup of a container's process, below where the cgroups are mounted."""
    lines = Path(f"/proc/{container.pid}/cgroup").read_text().splitlines()
    return next(line[3:] for line in lines if line.startswith("0::"))


def holding(bed: Bed, path: str) -> Container:
    container = bed.new({"linux": {"cgroupsPath": path}})
    container.process["args"] = ["/probe", "hold"]
    created = container.create(check=False)
    that(created.rc == 0, f"a container in the cgroup {path}", "taken", created.error)
    return container


def absolute(bed: Bed) -> None:
    path = path_of(bed, "a/b")
    container = holding(bed, path)
    equal("the cgroup of the process", cgroup_of(container), path)
    procs = (CGROUP / path.lstrip("/") / "cgroup.procs").read_text().split()
    that(str(container.pid) in procs, f"the processes of {path}", container.pid, procs)


def consistent(bed: Bed) -> None:
    relative = path_of(bed, "x").lstrip("/") + "-relative"
    for path in (path_of(bed, "same"), relative):
        seen = set()
        for folder in ("/", "/tmp"):
            before = os.getcwd()
            os.chdir(folder)
            try:
                container = holding(bed, path)
            finally:
                os.chdir(before)
            seen.add(cgroup_of(container))
            bed.clean()
        equal(f"the number of cgroups that the path {path} led to", len(seen), 1)


def created(bed: Bed) -> None:
    path = path_of(bed, "one/two/three")
    that(not (CGROUP / path.lstrip("/")).exists(), "the cgroup before", "not there", "there")
    holding(bed, path)
    that((CGROUP / path.lstrip("/")).is_dir(), "the cgroup after create", "there", "not there")


CASES: dict[str, Callable[[Bed], None]] = {
    "config-linux.cgroups-path.absolute": absolute,
    "config-linux.cgroups-path.consistent": consistent,
    "config-linux.cgroups-path.created": created,
    "config-linux.cgroups-path-applied": absolute,
}


def test_path(requirement: Requirement, bed: Bed) -> None:
    try:
        case_of(CASES, requirement.id)(bed)
    finally:
        bed.clean()
        remove(bed)


def test_invalid(requirement: Requirement, bed: Bed) -> None:
    inner = path_of(bed, "in")
    try:
        # None of them leads to the root itself: what lives there is the machine's, and a runtime may end it all.
        outside = f"{inner.strip('/').partition('/')[0]}-out"
        for path in (f"../../{outside}", f"{inner}/../../../../{outside}", f"../../../../tmp/{outside}"):
            container = bed.new({"linux": {"cgroupsPath": path}})
            container.process["args"] = ["/probe", "hold"]
            result = container.create(check=False)
            if result.rc == 0:
                seen = cgroup_of(container)
                that(".." not in seen and seen != "/", f"the cgroup of the path {path}", "one below the root", seen)
            places = (CGROUP.parent / outside, CGROUP.parent.parent / outside, Path("/tmp") / outside)
            made = [str(place) for place in places if place.exists()]
            that(not made, "folders outside of the cgroups", "none made", made)
            bed.clean()
    finally:
        remove(bed)


def test_unfit(requirement: Requirement, bed: Bed) -> None:
    path = path_of(bed, "unfit")
    folder = CGROUP / path.lstrip("/")
    try:
        for state in ("not empty", "frozen"):
            folder.mkdir(parents=True, exist_ok=True)
            with process_in(folder) as pid:
                if state == "frozen":
                    if not (folder / "cgroup.freeze").exists():
                        not_testable("needs cgroup.freeze")
                    (folder / "cgroup.freeze").write_text("1")
                container = bed.new({"linux": {"cgroupsPath": path}})
                created = container.create(check=False, timeout_seconds=15)
                that(created.rc != 124, f"create in a cgroup that is {state}", "an end", "it hangs")
                if created.rc == 0:
                    started = container.runtime.run("start", container.id, check=False, timeout_seconds=15)
                    that(started.rc != 124, f"start in a cgroup that is {state}", "an end", "it hangs")
                that(os.path.exists(f"/proc/{pid}/exe"), "the process that was there", "alive", "gone")
                if state == "frozen" and folder.exists():
                    (folder / "cgroup.freeze").write_text("0")
                that(f"{pid}" in (folder / "cgroup.procs").read_text().split(), "the process that was there",
                     "in its cgroup", "elsewhere")  # fmt: skip
                if created.rc == 0:
                    # Not with the runtime's --force, which may end all of the cgroup.
                    os.kill(container.pid, 9)
            bed.clean()
    finally:
        remove(bed)
