"""The five operations: what each does, and when it is refused."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from pathlib import Path

from conformance.bed import Bed, error_of
from conformance.expect import equal, not_testable, that
from requirements import Requirement

from tests.support.bundle import bind_entry
from tests.support.facts import MountInfo
from tests.support.held import held
from tests.support.runtime import Container, Result, wait_for


def holding(bed: Bed) -> Container:
    """A container to be, whose program goes on until it gets a signal."""
    container = bed.new()
    container.process["args"] = ["/probe", "hold"]
    return container


def created(bed: Bed) -> Container:
    container = holding(bed)
    container.create()
    return container


def running(bed: Bed) -> Container:
    container = holding(bed)
    container.hold()
    return container


def stopped(bed: Bed) -> Container:
    container = running(bed)
    os.kill(container.pid, signal.SIGKILL)
    container.wait()
    return container


def fails(what: str, result: Result) -> None:
    that(result.rc not in (0, 124), what, "an error", f"exit code {result.rc} {result.out}")


def succeeds(what: str, result: Result) -> None:
    that(result.rc == 0, what, "it succeeds", f"exit code {result.rc}: {error_of(result)}")


def exists(container: Container) -> bool:
    return container.runtime.run("state", container.id, check=False).rc == 0


# Without an id, or with one that is taken or malformed.


def test_without_id(requirement: Requirement, bed: Bed) -> None:
    operation = {"query-state": "state"}.get(name := requirement.id.split(".")[1], name)
    other = created(bed)
    with bed.unchanged():
        fails(f"{operation} without an id", bed.runtime.run(operation, check=False))
    that(exists(other), "the container that is there", "still there", "gone")
    equal("its status", other.status, "created")


def test_create_without_arguments(requirement: Requirement, bed: Bed) -> None:
    container = bed.new()
    container.write_config()
    elsewhere = container.bundle / "rootfs"
    with bed.unchanged():
        fails("create without an id", bed.runtime.run("create", "--bundle", container.bundle, check=False))
        result = bed.runtime.run("create", container.id, check=False, cwd=elsewhere)
        fails("create without a bundle, where there is none in the working directory", result)
    succeeds("create with both", container.create(check=False))


def test_taken_id(requirement: Requirement, bed: Bed) -> None:
    for make in (created, running, stopped):
        first = make(bed)
        second = bed.new()
        second.write_config()
        before = first.state()
        with bed.unchanged():
            result = bed.runtime.run("create", "--bundle", second.bundle, first.id, check=False)
            fails(f"create with the id of a {before['status']} container", result)
        equal("the state of the one that has it", first.state(), before)
    if requirement.id == "runtime.state.id-unique":
        return
    malformed = {"empty": "", "dots": "..", "a slash": f"{bed.token}/b", "a path out": f"../{bed.token}"}
    for what, name in malformed.items():
        container = bed.new()
        container.write_config()
        host = bed.snapshot()
        result = bed.runtime.run("create", "--bundle", container.bundle, name, check=False)
        left = bed.changes_since(host)
        if result.rc == 0:
            bed.runtime.run("delete", "--force", name, check=False)
        fails(f"create with a malformed id ({what})", result)
        that(not left, f"after create with a malformed id ({what})", "nothing changed", "; ".join(left))


def test_id_again(requirement: Requirement, bed: Bed) -> None:
    container = stopped(bed)
    container.delete()
    succeeds("create with the id of a container that was deleted", container.create(check=False))


def test_no_such_container(requirement: Requirement, bed: Bed) -> None:
    other = created(bed)
    with bed.unchanged():
        fails("state of no container", bed.runtime.run("state", f"{bed.token}-none", check=False))
    equal("the status of another container", other.status, "created")


# In the wrong status.


def test_start_in_wrong_status(requirement: Requirement, bed: Bed) -> None:
    for make in (running, stopped):
        container = make(bed)
        before = container.state()
        with bed.unchanged():
            fails(f"start of a {before['status']} container", container.start(check=False))
        equal("the state afterwards", container.state(), before)
    fails("start of no container", bed.runtime.run("start", f"{bed.token}-none", check=False))


def test_kill_in_wrong_status(requirement: Requirement, bed: Bed) -> None:
    container = stopped(bed)
    before = container.state()
    with bed.unchanged():
        result = container.kill("KILL", check=False)
        if requirement.id.endswith("error"):
            fails("kill of a stopped container", result)
            fails("kill of no container", bed.runtime.run("kill", f"{bed.token}-none", "KILL", check=False))
    equal("the state afterwards", container.state(), before)


def test_delete_in_wrong_status(requirement: Requirement, bed: Bed) -> None:
    fails("delete of no container", bed.runtime.run("delete", f"{bed.token}-none", check=False))
    seen = []
    for make in (running, created):
        container = make(bed)
        before, pid = container.state(), container.pid
        result = container.delete(check=False)
        if requirement.id.endswith("error"):
            if result.rc == 0:
                seen.append(f"delete of a {before['status']} container succeeds")
        elif not exists(container) or container.state() != before or not os.path.exists(f"/proc/{pid}/ns/mnt"):
            seen.append(f"delete changes a {before['status']} container")
    that(not seen, "delete of a container that has not stopped", "an error, and nothing changed", "; ".join(seen))


# What delete undoes, and what it leaves.


def test_delete_undoes_create(requirement: Requirement, bed: Bed) -> None:
    before = bed.snapshot()
    container = stopped(bed)
    succeeds("delete", container.delete(check=False))
    left = bed.changes_since(before)
    that(not left, "after delete", "all that create had made is gone", "; ".join(left))
    that(not exists(container), "a query after delete", "an error", "it succeeds")


def test_delete_keeps_others(requirement: Requirement, bed: Bed) -> None:
    with held("network", "ipc") as holder:
        container = holding(bed)
        source = container.bundle / "source"
        source.mkdir()
        (source / "file").write_text("kept")
        container.mounts.append(bind_entry(source, "/mnt"))
        joined = [entry for entry in container.linux["namespaces"] if entry["type"] not in ("network", "ipc")]
        container.linux["namespaces"] = [*joined, holder.entry("network"), holder.entry("ipc")]
        container.mounts[:] = [entry for entry in container.mounts if entry["type"] not in ("mqueue", "sysfs")]
        files = sorted(str(path) for path in (container.rootfs / "etc").rglob("*"))
        container.hold()
        container.kill("KILL")
        container.wait()
        container.delete()
        that(os.path.exists(f"/proc/{holder.pid}/ns/net"), "the process whose namespaces were joined", "alive", "gone")
        equal("the file in the source of a bind mount", (source / "file").read_text(), "kept")
        after = sorted(str(path) for path in (container.rootfs / "etc").rglob("*"))
        equal("the files of the root file system", after, files)


# create and start.


def test_create_runs_nothing(requirement: Requirement, bed: Bed) -> None:
    container = bed.new()
    container.mounts.append(bind_entry(container.bundle, "/mnt"))
    container.shell("echo ran > /mnt/mark")
    container.create()
    time.sleep(0.5)
    that(not (container.bundle / "mark").exists(), "what the program writes, before start", "nothing", "it is there")
    command = Path(f"/proc/{container.pid}/cmdline").read_bytes()
    that(b"echo ran" not in command, "the process before start", "not the program", command)
    container.start()
    wait_for((container.bundle / "mark").exists)


def test_configuration_changed_later(requirement: Requirement, bed: Bed) -> None:
    for change in ("changed", "removed"):
        container = bed.new({"annotations": {"org.example.key": "before"}})
        container.shell("echo before")
        container.create()
        path = container.bundle / "config.json"
        if change == "removed":
            path.unlink()
        else:
            config = json.loads(path.read_text())
            config["process"]["args"] = ["/bin/sh", "-c", "echo after"]
            config["annotations"]["org.example.key"] = "after"
            mark = f"cat > /dev/null; touch {container.bundle}/hooked"
            for kind in ("poststart", "poststop"):
                config.setdefault("hooks", {})[kind] = [{"path": "/bin/sh", "args": ["sh", "-c", mark]}]
            path.write_text(json.dumps(config))
        container.start()
        container.wait()
        equal(f"what the program wrote, the configuration being {change} after create", container.output, "before\n")
        annotations = container.state().get("annotations", {})
        equal("the annotation in the state", annotations.get("org.example.key"), "before")
        container.delete()
        that(not (container.bundle / "hooked").exists(), "a hook that was added after create", "not run", "it ran")


def test_environment_before_start(requirement: Requirement, bed: Bed) -> None:
    container = holding(bed)
    container.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 123, "hard": 234}]
    container.mounts.append(bind_entry("/etc", "/mnt", "ro"))
    container.linux["devices"] = [{"path": "/dev/one", "type": "c", "major": 1, "minor": 3}]
    container.create()
    pid = container.pid
    for kind in ("pid", "net", "ipc", "uts", "mnt", "cgroup"):
        inside, outside = (os.readlink(f"/proc/{who}/ns/{kind}") for who in (pid, "self"))
        that(inside != outside, f"the {kind} namespace after create", "a new one", "the caller's own")
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    mounts = {info.point: info for info in map(MountInfo.parse, lines)}
    for point in ("/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/sys", "/mnt"):
        that(point in mounts, "the mounts after create", point, sorted(mounts))
    that("ro" in mounts["/mnt"].options, "the options of /mnt after create", "ro", sorted(mounts["/mnt"].options))
    info = os.stat(f"/proc/{pid}/root/dev/one")
    that(
        stat.S_ISCHR(info.st_mode) and info.st_rdev == os.makedev(1, 3), "the device /dev/one after create", "1:3", info
    )
    container.start()
    wait_for(lambda: container.output == "ready\n")
    limits = Path(f"/proc/{pid}/limits").read_text()
    that("123" in limits and "234" in limits, "the limits of the program", "123 and 234", limits)


def test_start_runs_process(requirement: Requirement, bed: Bed) -> None:
    container = bed.new()
    container.process["args"] = ["/probe", "/first", "/second"]
    container.process["cwd"] = "/usr"
    container.create()
    container.start()
    equal("the exit code of the program", container.wait(), 0)
    facts = json.loads(container.output)
    equal("the arguments of the program", facts["argv"], ["/probe", "/first", "/second"])
    equal("the working directory of the program", facts["cwd"], "/usr")


def test_start_without_process(requirement: Requirement, bed: Bed) -> None:
    container = bed.new({"process": None})
    result = container.create(check=False)
    if requirement.id == "config.process.optional":
        succeeds("create without a process", result)
        return
    if result.rc != 0:
        if requirement.id == "config.process.required-for-start":
            return  # What cannot be created cannot be started.
        not_testable(f"create refuses it already, so that there is nothing to start: {error_of(result)}")
    fails("start without a process", container.start(check=False))


def test_kill(requirement: Requirement, bed: Bed) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGHUP):
        container = running(bed)
        succeeds(f"kill with {number.name}", container.kill(number.name.removeprefix("SIG"), check=False))
        # The probe exits with 42 for SIGTERM; a first process is not ended by a signal that it does not handle.
        if number != signal.SIGHUP:
            equal(f"the exit code after {number.name}", container.wait(), 42 if number == signal.SIGTERM else 137)
    container = bed.new()
    traps = "trap 'echo got USR1' USR1; trap 'echo got USR2; exit 3' USR2"
    container.shell(f"{traps}; echo ready; while :; do sleep 0.1; done")
    container.start_new()
    wait_for(lambda: "ready" in container.output)
    container.kill("USR1")
    wait_for(lambda: "got USR1" in container.output)
    container.kill(str(int(signal.SIGUSR2)))
    equal("the exit code after SIGUSR2 by its number", container.wait(), 3)
    container = created(bed)
    succeeds("kill of a created container", container.kill("KILL", check=False))
    equal("how a created container ended after SIGKILL", container.wait(), 137)


def test_life_in_separate_invocations(requirement: Requirement, bed: Bed) -> None:
    container = holding(bed)
    succeeds("create", container.create(check=False))
    equal("the status that a query gives", container.status, "created")
    succeeds("start", container.start(check=False))
    wait_for(lambda: container.output == "ready\n")
    succeeds("kill", container.kill("TERM", check=False))
    equal("the exit code", container.wait(), 42)
    succeeds("delete", container.delete(check=False))
    that(not exists(container), "a query after delete", "an error", "it succeeds")
