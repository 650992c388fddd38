"""The root file system."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from conformance.bed import Bed
from conformance.expect import case_of, equal, merged, that
from requirements import Requirement

from tests.support import isolation
from tests.support.bundle import mount_entry
from tests.support.facts import MountInfo
from tests.support.runtime import wait_for

EROFS = 30


def test_path(requirement: Requirement, bed: Bed) -> None:
    if requirement.id == "config.root.path-is-directory":
        good = bed.config()
        bed.refused(merged(good, {"root": {"path": "nothing-there"}}), good)
        bed.refused(merged(good, {"root": {"path": "config.json"}}), good)
        bed.refused(merged(good, {"root": {"path": "rootfs/etc/passwd"}}), good)
        return
    for absolute in (False, True):
        container = bed.new()
        (container.rootfs / "marker").write_text("this one")
        (container.bundle / "elsewhere").mkdir()
        moved = container.bundle / "elsewhere" / "root"
        shutil.move(container.rootfs, moved)
        container.config["root"]["path"] = str(moved) if absolute else "elsewhere/root"
        container.process["args"] = ["/bin/cat", "/marker"]
        attempt = bed.launch(container)
        that(attempt.taken, f"the root at {container.config['root']['path']}", "taken", attempt.summary)
        equal("what is in it", attempt.output, "this one")


def test_readonly(requirement: Requirement, bed: Bed) -> None:
    script = "for d in /etc /tmp /mnt; do echo x 2>/dev/null > $d/new && echo $d can be written to; done; exit 0"
    mounts = [*bed.config()["mounts"], mount_entry("/mnt", "tmpfs", "x")]
    for readonly in (True,) if requirement.id.endswith("true") else (False, None):
        config = bed.config({"root": {"readonly": readonly}, "mounts": mounts})
        config["process"]["args"] = ["/bin/sh", "-c", script]
        attempt = bed.attempt(config)
        that(attempt.taken, "the configuration", "taken", attempt.summary)
        expected = ["/mnt"] if readonly else ["/etc", "/tmp", "/mnt"]
        seen = [line.split()[0] for line in attempt.output.splitlines()]
        equal(f"what can be written to with readonly {readonly}", seen, expected)


# Propagation.


def root_of(bed: Bed, propagation: str) -> MountInfo:
    return bed.observe({"linux": {"rootfsPropagation": propagation}}).mount("/")


def shared(bed: Bed) -> None:
    info = root_of(bed, "shared")
    equal("the propagation of the root", sorted(info.propagation), ["shared"])


def private(bed: Bed) -> None:
    equal("the propagation of the root", sorted(root_of(bed, "private").propagation), [])


def unbindable(bed: Bed) -> None:
    equal("the propagation of the root", sorted(root_of(bed, "unbindable").propagation), ["unbindable"])


def slave(bed: Bed) -> None:
    container = bed.new({"linux": {"rootfsPropagation": "slave"}})
    # A shared mount on the host, for the root to be a slave of.
    isolation.mount(str(container.rootfs), str(container.rootfs), None, 0x1000)
    try:
        isolation.mount("none", str(container.rootfs), None, 1 << 20)
        container.shell("echo ready; while ! [ -e /mnt/from-the-host ]; do sleep 0.05; done; echo seen; exec sleep 100")
        container.start_new()
        wait_for(lambda: "ready" in container.output)
        target = container.rootfs / "mnt"
        isolation.mount("tmpfs", str(target), "tmpfs")
        (target / "from-the-host").touch()
        try:
            wait_for(lambda: "seen" in container.output, 3)
        except AssertionError:
            that(False, "what the host mounts below the root", "it appears in the container", "it does not")
        finally:
            isolation.umount(str(target))
        container.kill("KILL")
        container.wait()
    finally:
        isolation.umount(str(container.rootfs))


PROPAGATION: dict[str, Callable[[Bed], None]] = {
    "shared": shared,
    "slave": slave,
    "private": private,
    "unbindable": unbindable,
}


def test_propagation(requirement: Requirement, bed: Bed) -> None:
    case_of(PROPAGATION, requirement.value)(bed)
