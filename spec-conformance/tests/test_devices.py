"""The device nodes of a container."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from conformance.bed import Bed
from conformance.expect import case_of, equal, not_testable, that
from conformance.machine import why_not
from requirements import Requirement

from tests.support.bundle import Config
from tests.support.console import FdSocket
from tests.support.facts import Facts

DEFAULT = {
    "/dev/null": [1, 3],
    "/dev/zero": [1, 5],
    "/dev/full": [1, 7],
    "/dev/random": [1, 8],
    "/dev/urandom": [1, 9],
    "/dev/tty": [5, 0],
}


def device(path: str, kind: str, **properties: int) -> Config:
    return {"path": path, "type": kind, **properties}


def observe(bed: Bed, *devices: Config, paths: tuple[str, ...] = ()) -> Facts:
    linux = {"devices": list(devices)} | allowed(bed)
    return bed.observe({"linux": linux}, *[entry["path"] for entry in devices], *paths)


def allowed(bed: Bed) -> Config:
    """That the cgroup allows every device, where the runtime has to do with cgroups."""
    if why_not("cgroup2", bed.runtime):
        return {}
    return {"resources": {"devices": [{"allow": True, "access": "rwm"}]}}


def test_default(requirement: Requirement, bed: Bed) -> None:
    facts = bed.observe(None, *DEFAULT, "/dev/ptmx", "/dev/pts/ptmx")
    for path, numbers in DEFAULT.items():
        seen = facts.path(path)
        equal(f"the type of {path}", seen.get("type"), "c")
        equal(f"the numbers of {path}", seen["rdev"], numbers)
        if path != "/dev/tty":  # Which without a terminal is ENXIO.
            equal(f"the errno of opening {path}", seen["read_errno"], 0)
    ptmx = facts.path("/dev/ptmx")
    to_pts = ptmx.get("target", "").endswith("pts/ptmx") or ptmx.get("rdev") == [5, 2]
    that(to_pts, "/dev/ptmx", "a link to pts/ptmx, or the same device", ptmx)
    container = bed.new({"process": {"terminal": True, "args": ["/bin/stat", "-c", "%F %t", "/dev/console"]}})
    with FdSocket(container.bundle / "console.sock") as sock:
        container.create("--console-socket", sock.path)
        console = sock.receive_console()
        container.start()
        output = console.read_all()
        container.wait()
    that("character special file" in output, "/dev/console where there is a terminal", "a character device", output)


def test_links(requirement: Requirement, bed: Bed) -> None:
    links = {"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1"}
    links["/dev/stderr"] = "/proc/self/fd/2"
    facts = bed.observe(None, *links)
    for path, target in links.items():
        equal(f"the target of the link {path}", facts.path(path).get("target"), target)


def test_listed(requirement: Requirement, bed: Bed) -> None:
    case_of(LISTED, requirement.id)(bed)


def available(bed: Bed) -> None:
    facts = observe(bed, device("/dev/one", "c", major=1, minor=3), device("/dev/two", "c", major=1, minor=5))
    for path, numbers in {"/dev/one": [1, 3], "/dev/two": [1, 5]}.items():
        equal(f"the type of {path}", facts.path(path).get("type"), "c")
        equal(f"the numbers of {path}", facts.path(path)["rdev"], numbers)
        equal(f"the errno of opening {path}", facts.path(path)["read_errno"], 0)


def anywhere(bed: Bed) -> None:
    for path in ("/mnt/one", "/opt/deep/one"):
        facts = observe(bed, device(path, "c", major=1, minor=3))
        equal(f"the numbers of {path}", facts.path(path).get("rdev"), [1, 3])


def fifo(bed: Bed) -> None:
    equal("the type of a FIFO", observe(bed, device("/dev/pipe", "p")).path("/dev/pipe").get("type"), "p")


def types(bed: Bed) -> None:
    for kind, seen in {"c": "c", "u": "c", "b": "b", "p": "p"}.items():
        numbers = {} if kind == "p" else {"major": 7, "minor": 200} if kind == "b" else {"major": 1, "minor": 3}
        facts = observe(bed, device("/dev/one", kind, **numbers))
        equal(f"the type of a device of type {kind}", facts.path("/dev/one").get("type"), seen)


def mode(bed: Bed) -> None:
    before = os.umask(0o77)
    try:
        for bits in (0o666, 0o600, 0o640, 0o777):
            entry = device("/dev/one", "c", major=1, minor=3, fileMode=bits)
            config = bed.config({"linux": {"devices": [entry]}})
            config["process"]["args"] = ["/probe", "/dev/one"]
            equal("the mode", oct(bed.launch(bed.new(), config).facts().path("/dev/one")["mode"]), oct(bits))
    finally:
        os.umask(before)


def owner(name: str) -> Callable[[Bed], None]:
    def check(bed: Bed) -> None:
        for number in (0, 1234):
            entry = device("/dev/one", "c", major=1, minor=3, **{name: number})
            equal(f"the {name}", observe(bed, entry).path("/dev/one")[name], number)

    return check


LISTED: dict[str, Callable[[Bed], None]] = {
    "config-linux.devices.available": available,
    "config-linux.devices.anywhere": anywhere,
    "config-linux.devices.fifo-without-numbers": fifo,
    "config-linux.devices.type-applied": types,
    "config-linux.devices.path-applied": anywhere,
    "config-linux.devices.file-mode-applied": mode,
    "config-linux.devices.uid-applied": owner("uid"),
    "config-linux.devices.gid-applied": owner("gid"),
}


def test_other_file(requirement: Requirement, bed: Bed) -> None:
    wrong: dict[str, Callable[[Path], object]] = {
        "a regular file": lambda path: path.write_text("x"),
        "a device with other numbers": lambda path: os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5)),
        "a device of the other kind": lambda path: os.mknod(path, 0o666 | stat.S_IFBLK, os.makedev(1, 3)),
    }
    entry = device("/opt/one", "c", major=1, minor=3)
    for what, make in {"nothing": None, **wrong}.items():
        container = bed.new({"linux": {"devices": [entry]}})
        (container.rootfs / "opt").mkdir()
        if make:
            make(container.rootfs / "opt" / "one")
        attempt = bed.launch(container)
        if not make and not attempt.taken:
            not_testable(f"the device is refused where nothing is at its path: {attempt.error}")
        if make:
            that(attempt.failed == "create", f"create where there is {what} at a device's path", "an error",
                 attempt.summary)  # fmt: skip
            that(not attempt.left, "after the create that failed", "nothing changed", "; ".join(attempt.left))


def test_others_inaccessible(requirement: Requirement, bed: Bed) -> None:
    container = bed.new()
    for name, numbers in {"kmsg": (1, 11), "null": (1, 3)}.items():
        os.mknod(container.rootfs / name, 0o666 | stat.S_IFCHR, os.makedev(*numbers))
    container.linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    container.process["args"] = ["/probe", "/kmsg", "/null"]
    facts = bed.launch(container).facts()
    equal("the errno of opening a default device", facts.path("/null")["read_errno"], 0)
    equal("the errno of opening a device that is neither listed nor default", facts.path("/kmsg")["read_errno"], 1)
