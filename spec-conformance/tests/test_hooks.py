"""Hooks: which are run, when, where, with what, and what becomes of a failure."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance.bed import Bed, error_of
from conformance.expect import Mismatch, case_of, equal, that
from requirements import Requirement

from tests.support.bundle import Config, bind_entry, mount_entry
from tests.support.runtime import Container, wait_for

KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
AT_CREATE = KINDS[:3]
IN_CONTAINER = ("createContainer", "startContainer")
PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"

# $0 is the hook's name, $1 the folder for what it sees, $2 a command of its own. It reads its stdin to the end first.
SCRIPT = """
state=$(cat)
echo "begin $0" >> "$1/log"
printf %s "$state" > "$1/$0.state"
for kind in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$kind; done > "$1/$0.namespaces"
eval "$2"
code=$?
echo "end $0" >> "$1/log"
exit $code
"""


@dataclass(slots=True)
class Recorder:
    """A container whose hooks write down what they see, in a folder that is /log in the container."""

    container: Container
    folder: Path
    hooks: dict[str, list[Config]] = field(default_factory=dict)

    @classmethod
    def prepare(cls, bed: Bed, program: str = "exec /probe hold") -> Recorder:
        container = bed.new()
        folder = container.bundle / "log"
        folder.mkdir()
        container.mounts.append(bind_entry(folder, "/log"))
        container.mounts.append(mount_entry("/mnt", "tmpfs", "marker"))
        container.shell(f"echo program >> /log/log; {program}")
        recorder = cls(container, folder)
        container.config["hooks"] = recorder.hooks
        return recorder

    def add(self, kind: str, name: str = "", command: str = ":", **entry: Any) -> None:
        """A hook of that kind, which runs a shell command after it has written down what it sees."""
        folder = "/log" if kind == "startContainer" else str(self.folder)
        arguments = ["sh", "-c", SCRIPT, name or kind, folder, command]
        hook = {"path": "/bin/sh", "args": arguments, "env": [PATH], **entry}
        self.hooks.setdefault(kind, []).append(hook)

    def add_all(self, command: str = ":") -> Recorder:
        for kind in KINDS:
            self.add(kind, command=command)
        return self

    @property
    def log(self) -> list[str]:
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []

    def ran(self, name: str) -> bool:
        return f"end {name}" in self.log

    def state(self, name: str) -> dict[str, Any]:
        """What the hook read from its stdin. Raises AssertionError where it is no JSON."""
        path = self.folder / f"{name}.state"
        that(path.exists(), f"the hook {name}", "it runs", f"only {self.log} ran")
        try:
            found: dict[str, Any] = json.loads(path.read_text())
        except json.JSONDecodeError:
            raise Mismatch(f"what the hook {name} read", "the state as JSON", path.read_text()) from None
        return found

    def seen(self, name: str) -> str:
        path = self.folder / name
        that(path.exists(), f"the file that the hook was to write, {name}", "it is there", f"only {self.log} ran")
        return path.read_text()

    def live(self) -> None:
        """All of a container's life, to its end."""
        self.start()
        self.end()

    def start(self) -> None:
        self.container.start_new()
        wait_for(lambda: "program" in self.log)

    def end(self) -> None:
        self.container.kill("KILL")
        self.container.wait()
        self.container.delete()


def kind_of(requirement: Requirement) -> str:
    """The kind of hook that a requirement's id names."""
    words = requirement.id.partition(".")[2]
    names = {"prestart": "prestart", "create-runtime": "createRuntime", "create-container": "createContainer"}
    names |= {"start-container": "startContainer", "poststart": "poststart", "poststop": "poststop"}
    return next(kind for word, kind in names.items() if f".{word}" in words)


def test_invoked(requirement: Requirement, bed: Bed) -> None:
    alone = requirement.id == "config.hooks.any-of-them"
    for kind in KINDS if alone else (kind_of(requirement),):
        recorder = Recorder.prepare(bed)
        if alone:
            recorder.add(kind)
        else:
            recorder.add_all()
        recorder.live()
        that(recorder.ran(kind), f"the {kind} hook", "it runs", f"only {recorder.log} ran")


def test_order(requirement: Requirement, bed: Bed) -> None:
    recorder = Recorder.prepare(bed)
    for kind in KINDS:
        recorder.add(kind, f"{kind}-1", "sleep 0.2")
        recorder.add(kind, f"{kind}-2")
    recorder.live()
    log = recorder.log
    pairs = {
        "config.hooks.order": [(f"{kind}-1", f"{kind}-2") for kind in KINDS],
        "config.hooks.prestart-before-create-runtime": [("prestart-2", "createRuntime-1")],
        "config.hooks.create-container-after-create-runtime": [("createRuntime-2", "createContainer-1")],
    }
    for first, second in pairs[requirement.id]:
        in_order = f"end {first}" in log and log.index(f"end {first}") < log.index(f"begin {second}")
        that(in_order, f"the hooks {first} and {second}", "the one ends before the other begins", log)


def test_namespaces(requirement: Requirement, bed: Bed) -> None:
    kind = kind_of(requirement)
    recorder = Recorder.prepare(bed).add_all()
    recorder.start()
    names = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
    container = [os.readlink(f"/proc/{recorder.container.pid}/ns/{name}") for name in names]
    recorder.end()
    runtime = [os.readlink(f"/proc/self/ns/{name}") for name in names]
    seen = recorder.seen(f"{kind}.namespaces").split()
    equal(f"the namespaces of the {kind} hook", seen, container if kind in IN_CONTAINER else runtime)


# When.


def environment_at_create(recorder: Recorder, kind: str) -> None:
    """Within create; the container's mounts are there and its root is still the runtime's."""
    root = str(recorder.container.rootfs)
    process = (
        "self" if kind == "createContainer" else '$(printf %s "$state" | sed "s/.*\\"pid\\": *\\([0-9]*\\).*/\\1/")'
    )
    command = f'cat /proc/{process}/mountinfo > "$1/$0.mounts"; ls -d /proc/{process}/root{root} > "$1/$0.root"; :'
    recorder.add(kind, command=command)
    recorder.container.create()
    that(recorder.ran(kind), f"the {kind} hook after create", "it has run", recorder.log)
    mounts = recorder.seen(f"{kind}.mounts")
    that(f" {root}/mnt " in mounts, "the mounts of the container's namespace", f"{root}/mnt is one of them", mounts)
    that(recorder.seen(f"{kind}.root"), "the root of the container's process", "the runtime's, with the bundle in it",
         "the bundle is not seen in it")  # fmt: skip


def start_container_time(recorder: Recorder) -> None:
    recorder.add("startContainer", command="sleep 0.2")
    recorder.container.create()
    equal("what ran by the end of create", recorder.log, [])
    recorder.container.start()
    wait_for(lambda: "program" in recorder.log)
    equal("what ran", recorder.log, ["begin startContainer", "end startContainer", "program"])


def poststart_time(recorder: Recorder) -> None:
    recorder.add("poststart", command=f'cat /proc/$(cat {recorder.container.pid_file})/cmdline > "$1/$0.cmdline"')
    recorder.container.create()
    equal("what ran by the end of create", recorder.log, [])
    recorder.container.start()
    that(recorder.ran("poststart"), "the poststart hook when start returns", "it has run", recorder.log)
    program = recorder.seen("poststart.cmdline")
    that(
        "echo program" in program or "hold" in program, "what the process ran", "the container's program", repr(program)
    )


def poststop_time(recorder: Recorder) -> None:
    runtime = recorder.container.runtime
    query = shlex.join(runtime.argv("state", recorder.container.id))
    recorder.add("poststop", command=f'{query} > /dev/null 2>&1; echo $? > "$1/$0.query"')
    recorder.start()
    recorder.container.kill("KILL")
    recorder.container.wait()
    time.sleep(0.2)
    that(not recorder.ran("poststop"), "the poststop hook before delete", "it has not run", recorder.log)
    recorder.container.delete()
    that(recorder.ran("poststop"), "the poststop hook when delete returns", "it has run", recorder.log)
    code = recorder.seen("poststop.query").strip()
    that(code != "0", "a query of the container in the poststop hook", "an error: it is gone", f"exit code {code}")


def test_time(requirement: Requirement, bed: Bed) -> None:
    kind = kind_of(requirement)
    recorder = Recorder.prepare(bed)
    if kind in AT_CREATE:
        environment_at_create(recorder, kind)
    else:
        cases = {"startContainer": start_container_time, "poststart": poststart_time, "poststop": poststop_time}
        cases[kind](recorder)


# What they are given.


def test_state_on_stdin(requirement: Requirement, bed: Bed) -> None:
    recorder = Recorder.prepare(bed).add_all()
    recorder.container.config["annotations"] = {"org.example.long": "x" * 100000}
    recorder.live()
    for kind in KINDS:
        state = recorder.state(kind)
        missing = {"ociVersion", "id", "status", "bundle"} - state.keys()
        that(not missing, f"the state that the {kind} hook reads", "ociVersion, id, status and bundle", sorted(state))
        equal(f"the id that the {kind} hook reads", state["id"], recorder.container.id)
        length = len((state.get("annotations") or {}).get("org.example.long", ""))
        equal(f"the length of the annotation that the {kind} hook reads", length, 100000)


def test_state_pid(requirement: Requirement, bed: Bed) -> None:
    recorder = Recorder.prepare(bed).add_all()
    recorder.start()
    pid = recorder.container.pid
    recorder.end()
    kinds = IN_CONTAINER if requirement.id.endswith("container-hooks") else ("prestart", "createRuntime", "poststart")
    for kind in kinds:
        expected = 1 if kind in IN_CONTAINER else pid
        equal(f"the pid that the {kind} hook reads", recorder.state(kind).get("pid"), expected)


def test_state_status(requirement: Requirement, bed: Bed) -> None:
    recorder = Recorder.prepare(bed).add_all()
    recorder.live()
    for kind in AT_CREATE:
        status = recorder.state(kind).get("status")
        # "Created" follows the second step, and prestart hooks are the third: for them the text can be read so too.
        wanted = ("creating", "created") if kind == "prestart" else ("creating",)
        that(status in wanted, f"the status that the {kind} hook reads", " or ".join(wanted), status)


def test_where_path_is_found(requirement: Requirement, bed: Bed) -> None:
    kind = kind_of(requirement)
    recorder = Recorder.prepare(bed)
    inside = kind == "startContainer"
    # A path that is there in one of the two places alone.
    path = Path(f"/hook-{bed.token}") if inside else recorder.container.bundle / "hook"
    script = recorder.container.rootfs / path.name if inside else path
    script.write_text(f"#!/bin/sh\ncat > /dev/null\necho 'end {kind}' >> {'/log' if inside else recorder.folder}/log\n")
    script.chmod(0o755)
    recorder.hooks[kind] = [{"path": str(path)}]
    recorder.live()
    that(recorder.ran(kind), f"a {kind} hook at {path}", "it runs", recorder.log)


# An entry.


def path_applied(bed: Bed, kind: str) -> None:
    recorder = Recorder.prepare(bed)
    recorder.add(kind)
    recorder.live()
    that(recorder.ran(kind), f"the {kind} hook", "it runs", recorder.log)


def args_applied(bed: Bed, kind: str) -> None:
    recorder = Recorder.prepare(bed)
    recorder.add(kind, command='exec 3< /proc/self/cmdline; cat <&3 > "$1/$0.cmdline"')
    hook = recorder.hooks[kind][0]
    # Its last part is what busybox, which is many programs, goes by.
    hook["args"] = ["/a name of its own/sh", *hook["args"][1:], "", "two words"]
    recorder.live()
    seen = recorder.seen(f"{kind}.cmdline").split("\0")[:-1]
    equal(f"the arguments of the {kind} hook", [seen[0], *seen[-2:]], ["/a name of its own/sh", "", "two words"])


def env_applied(bed: Bed, kind: str) -> None:
    recorder = Recorder.prepare(bed)
    wanted = [PATH, "A=1", "B=two words", "C="]
    recorder.add(kind, command='exec 3< /proc/self/environ; cat <&3 > "$1/$0.environ"', env=wanted)
    recorder.live()
    seen = recorder.seen(f"{kind}.environ").split("\0")[:-1]
    equal(f"the environment of the {kind} hook", sorted(seen), sorted(wanted))


def timeout_applied(bed: Bed, kind: str) -> None:
    recorder = Recorder.prepare(bed)
    recorder.add(kind, command="exec sleep 25", timeout=1)
    begin = time.monotonic()
    created = recorder.container.create(check=False)
    started = recorder.container.start(check=False) if created.rc == 0 else created
    if kind == "poststop":
        recorder.container.kill("KILL")
        recorder.container.wait()
        recorder.container.delete(check=False)
    elif created.rc == 0 and started.rc == 0:
        that(False, f"a {kind} hook that takes longer than its timeout", "the operation fails", "it succeeds")
    seconds = time.monotonic() - begin
    that(seconds < 15, f"a {kind} hook with a timeout of 1 second", "ended then", f"{seconds:.1f} seconds")
    that(not recorder.ran(kind), f"the {kind} hook", "ended before its end", recorder.log)


ENTRY: dict[str, Callable[[Bed, str], None]] = {
    "path-applied": path_applied,
    "args-applied": args_applied,
    "env-applied": env_applied,
    "timeout-applied": timeout_applied,
}


def test_entry(requirement: Requirement, bed: Bed) -> None:
    if requirement.id == "config.hooks.same-entries":
        for kind in KINDS[2:]:
            for check in ENTRY.values():
                check(bed, kind)
        return
    case_of(ENTRY, requirement.id.rpartition(".")[2])(bed, kind_of(requirement))


def test_bad_entry(requirement: Requirement, bed: Bed) -> None:
    good: Config = {"path": "/bin/cat", "args": ["cat"], "timeout": 10}
    changes: list[Config] = [{"path": "bin/cat"}, {"path": "cat"}]
    if "timeout" in requirement.id:
        changes = [{"timeout": 0}, {"timeout": -1}]
    for kind in ("prestart",) if kind_of(requirement) == "prestart" else KINDS[1:]:
        for change in changes:
            bed.refused(bed.config({"hooks": {kind: [good | change]}}), bed.config({"hooks": {kind: [good]}}))


# Failures.


def test_failure(requirement: Requirement, bed: Bed) -> None:
    kind = kind_of(requirement)
    recorder = Recorder.prepare(bed)
    before = bed.snapshot()
    for each in KINDS:
        recorder.add(each, command="exit 1" if each == kind else ":")
    container = recorder.container
    created = container.create(check=False)
    failed = created
    if kind not in AT_CREATE:
        equal("create, before the hook that fails", created.rc, 0)
        failed = container.start(check=False)
    operation = "create" if kind in AT_CREATE else "start"
    that(failed.rc not in (0, 124), f"{operation} with a {kind} hook that fails", "an error", f"exit code {failed.rc}")
    wait_for_end(bed, before)
    state = container.runtime.run("state", container.id, check=False)
    that(state.rc != 0, "a query afterwards", "an error: the container is gone", state.out)
    if kind == "startContainer":
        that("program" not in recorder.log, "the program", "it has not run", recorder.log)
    that(recorder.ran("poststop"), "the poststop hook", "it has run", recorder.log)


def wait_for_end(bed: Bed, before: Any) -> None:
    """Raises Mismatch where something of the container is left."""
    left = bed.changes_since(before)
    that(not left, "after the failure", "nothing is left of the container", "; ".join(left))


def test_poststop_failure(requirement: Requirement, bed: Bed) -> None:
    recorder = Recorder.prepare(bed)
    recorder.add("poststop", "first", "exit 1")
    recorder.add("poststop", "second")
    recorder.start()
    container = recorder.container
    container.kill("KILL")
    container.wait()
    result = container.delete(check=False)
    equal(f"the exit code of delete ({error_of(result)})", result.rc, 0)
    that(recorder.ran("second"), "the hook after the one that failed", "it has run", recorder.log)
    state = container.runtime.run("state", container.id, check=False)
    that(state.rc != 0, "a query afterwards", "an error: the container is gone", state.out)
