"""What becomes of a configuration that cannot be applied, and of one that is worth a warning."""

from __future__ import annotations

from conformance.bed import Bed
from conformance.expect import Mismatch, not_testable, that
from requirements import Requirement

from tests.support.bundle import Config, bind_entry, mount_entry

# What cannot be made, each with what is otherwise the same and can.
IMPOSSIBLE: dict[str, tuple[Config, Config]] = {
    "a bind mount of what is not there": (
        bind_entry("/no/such/source", "/mnt"),
        bind_entry("/etc", "/mnt"),
    ),
    "a file system that the kernel does not know": (
        mount_entry("/mnt", "nosuchfs"),
        mount_entry("/mnt", "tmpfs"),
    ),
    "an option that the file system refuses": (
        mount_entry("/mnt", "tmpfs", "tmpfs", "size=no"),
        mount_entry("/mnt", "tmpfs", "tmpfs", "size=64k"),
    ),
}
PROPERTIES: dict[str, tuple[Config, Config]] = {
    "a namespace that is not there": (
        {"linux": {"namespaces": [{"type": "mount"}, {"type": "uts"}, {"type": "network", "path": "/no/such/file"}]}},
        {"linux": {"namespaces": [{"type": "mount"}, {"type": "uts"}, {"type": "network"}]}},
    ),
    "a kernel parameter that is not there": (
        {"linux": {"sysctl": {"net.no_such_thing": "1"}}},
        {"linux": {"sysctl": {"net.ipv4.ip_forward": "1"}}},
    ),
    "a parameter of a namespace that is the host's": (
        {"linux": {"sysctl": {"vm.overcommit_memory": "1"}}},
        {"linux": {"sysctl": {"kernel.msgmax": "8192"}}},
    ),
    "a device's folder that is a file": (
        {"linux": {"devices": [{"path": "/etc/passwd/one", "type": "c", "major": 1, "minor": 3}]}},
        {"linux": {"devices": [{"path": "/etc/new/one", "type": "c", "major": 1, "minor": 3}]}},
    ),
    "a program that is not there": (
        {"process": {"args": ["/no/such/program"]}},
        {"process": {"args": ["/probe"]}},
    ),
    "a working directory that is a file": ({"process": {"cwd": "/etc/passwd"}}, {"process": {"cwd": "/etc"}}),
}


def cases(bed: Bed) -> dict[str, tuple[Config, Config]]:
    """By what is impossible: the configuration, and its control."""
    mounts = bed.config()["mounts"]
    found = {
        what: (bed.config({"mounts": [*mounts, bad]}), bed.config({"mounts": [*mounts, good]}))
        for what, (bad, good) in IMPOSSIBLE.items()
    }
    return found | {what: (bed.config(bad), bed.config(good)) for what, (bad, good) in PROPERTIES.items()}


def test_environment_cannot_be_made(requirement: Requirement, bed: Bed) -> None:
    shown = 0
    for what, (bad, good) in cases(bed).items():
        # The program is looked for by start as well: create has not yet to know that it is missing.
        operations = ("create", "start") if "process" in str(PROPERTIES.get(what, "")) else ("create",)
        if not bed.attempt(good).taken:
            continue
        seen = bed.attempt(bad)
        that(seen.failed in operations, what, f"{' or '.join(operations)} fails", seen.summary)
        shown += 1
    if not shown:
        not_testable("none of the controls is taken")


def test_nothing_left(requirement: Requirement, bed: Bed) -> None:
    shown = 0
    for what, (bad, _) in cases(bed).items():
        before = bed.snapshot()
        container = bed.new()
        seen = bed.launch(container, bad)
        if seen.taken:
            continue
        shown += 1
        if seen.left:
            raise Mismatch(f"after the create that failed over {what}", "nothing changed", "; ".join(seen.left))
        state = bed.runtime.run("state", container.id, check=False)
        that(state.rc != 0, f"a query after {what}", "an error: there is no container", state.out)
        left = bed.changes_since(before)
        that(not left, f"after {what}", "nothing changed", "; ".join(left))
    if not shown:
        not_testable("all of it is taken")


def test_warning_goes_on(requirement: Requirement, bed: Bed) -> None:
    names = ["CAP_KILL", "CAP_NO_SUCH_THING"]
    lists = dict.fromkeys(("bounding", "effective", "permitted"), names)
    facts = bed.observe({"process": {"capabilities": lists, "cwd": "/usr"}, "hostname": "applied"})
    that(facts["cwd"] == "/usr" and facts["hostname"] == "applied", "the rest of a configuration that is warned about",
         "applied", facts["cwd"])  # fmt: skip
    that(
        facts.capabilities("bounding") == {"CAP_KILL"}, "the capabilities", ["CAP_KILL"], facts.capabilities("bounding")
    )
