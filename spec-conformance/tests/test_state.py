"""What a query of a container's state gives."""

from __future__ import annotations

import json
import os
import re
import signal
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
from conformance.bed import Bed
from conformance.expect import case_of, equal, that
from referencing import Registry
from referencing.jsonschema import DRAFT4
from requirements import Requirement

from tests.support.bundle import Config
from tests.support.runtime import Container, wait_for

SCHEMAS = Path(__file__).parents[2] / "tests" / "data" / "oci-schema"
SEMVER = re.compile(r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")


def hold(bed: Bed, **patch: Any) -> Container:
    """A container whose program goes on until it gets a signal."""
    container = bed.new(patch)
    container.process["args"] = ["/probe", "hold"]
    return container


def query(container: Container) -> dict[str, Any]:
    """The state as its JSON has it."""
    result = container.runtime.run("state", container.id, check=False)
    equal("the exit code of state", result.rc, 0)
    state: dict[str, Any] = json.loads(result.out)
    return state


def run_to_end(container: Container) -> None:
    """Makes a container stop whose program is running."""
    container.kill("KILL")
    container.wait()


# Annotations.

IMAGE_KEYS = (
    "created authors architecture variant os os.version os.features url documentation source version revision vendor "
    "licenses ref.name title description base.digest base.name exposedPorts stopSignal author"
).split()

ANNOTATIONS: dict[str, dict[str, str]] = {
    "runtime.state.annotations": {"org.example.one": "1", "two": "zwei"},
    "config.annotations.structure": {
        "org.example.json": '{"a": [1, 2, {"b": null}], "c": "\\u00e9 \\u2713"}',
        "org.example.lines": "first\nsecond\n\tthird\n",
        "org.example.text": ' äöü ✓ <&> " \\ ',
    },
    "config.annotations.image-keys": {f"org.opencontainers.image.{key}": f"value of {key}" for key in IMAGE_KEYS},
    "config.annotations.values-may-be-empty": {"org.example.empty": "", "org.example.other": "x"},
    "config.annotations.empty-or-absent": {},
}


def test_annotations(requirement: Requirement, bed: Bed) -> None:
    if requirement.id in ("runtime.state.no-annotations", "config.annotations.empty-or-absent"):
        nothing: tuple[Config | None, ...] = (None, {})
        for empty in nothing:
            container = bed.new({"annotations": empty})
            container.create()
            seen = query(container).get("annotations", {})
            # A runtime may have annotations of its own to tell; none of the configuration's is there.
            equal(f"the state's annotations where the configuration has {empty}", seen, {})
        return
    wanted = case_of(ANNOTATIONS, requirement.id)
    container = bed.new({"annotations": wanted})
    container.create()
    state = query(container)
    seen = state.get("annotations") or {}
    equal("the state's annotations", {key: seen.get(key) for key in wanted}, wanted)


def test_pid(requirement: Requirement, bed: Bed) -> None:
    container = hold(bed)
    container.create()
    equal("the pid of a created container", query(container)["pid"], container.pid)
    # By what only that process has: its parent is this one, and its pid namespace is not.
    that(
        os.stat(f"/proc/{container.pid}/ns/pid").st_ino != os.stat("/proc/self/ns/pid").st_ino,
        "the process of that pid",
        "in the container's pid namespace",
        "in the caller's",
    )
    container.start()
    wait_for(lambda: container.output == "ready\n")
    pid = query(container)["pid"]
    equal("the program of that pid", Path(f"/proc/{pid}/cmdline").read_text(), "/probe\0hold\0")
    run_to_end(container)


def test_properties(requirement: Requirement, bed: Bed) -> None:
    container = hold(bed)
    container.write_config()
    # The bundle as a path relative to the directory of the call.
    flags: list[str | Path] = ["--bundle", container.bundle.name, "--pid-file", container.pid_file, container.id]
    container.runtime.run("create", *flags, cwd=container.bundle.parent, stdout=container.bundle / "output")
    for phase in ("created", "running", "stopped"):
        if phase == "running":
            container.start()
        elif phase == "stopped":
            run_to_end(container)
        state = query(container)
        name = requirement.pointer.rpartition("/")[2]
        what = f"the state's {name} of a {phase} container"
        if name == "id":
            equal(what, state.get("id"), container.id)
        elif name == "bundle":
            that(state.get("bundle") and os.path.isabs(state["bundle"]), what, "an absolute path", state.get("bundle"))
            that(os.path.samefile(state["bundle"], container.bundle), what, container.bundle, state["bundle"])
        elif name == "status":
            that(isinstance(state.get("status"), str) and state["status"], what, "a text", state.get("status"))
        elif name == "ociVersion":
            version = str(state.get("ociVersion"))
            that(SEMVER.fullmatch(version), what, "a semantic version", version)
        else:
            missing = {"ociVersion", "id", "status", "bundle"} - state.keys()
            that(not missing, "the state", "ociVersion, id, status and bundle", sorted(state))


@cache
def validator() -> Any:
    """Of the official schema."""
    registry: Any = Registry().with_resources(
        (path.name, DRAFT4.create_resource(json.loads(path.read_text()))) for path in SCHEMAS.glob("*.json")
    )
    schema = json.loads((SCHEMAS / "state-schema.json").read_text())
    return jsonschema.Draft4Validator(schema, registry=registry)


def test_schema(requirement: Requirement, bed: Bed) -> None:
    container = hold(bed, annotations={"org.example.key": "value"})
    container.create()
    for phase in ("created", "running", "stopped"):
        if phase == "running":
            container.start()
        elif phase == "stopped":
            run_to_end(container)
        errors = [error.message for error in validator().iter_errors(query(container))]
        equal(f"what the schema finds in the state of a {phase} container", errors, [])


# Status.


def created(bed: Bed) -> None:
    container = hold(bed)
    container.create()
    equal("the status between create and start", query(container)["status"], "created")


def running(bed: Bed) -> None:
    container = hold(bed)
    container.create()
    container.start()
    equal("the status after start", query(container)["status"], "running")
    run_to_end(container)


def stopped(bed: Bed) -> None:
    for how in ("by itself", "by a signal", "before start"):
        container = bed.new() if how == "by itself" else hold(bed)
        container.create()
        if how != "before start":
            container.start()
        if how != "by itself":
            os.kill(container.pid, signal.SIGKILL)
        container.wait()
        equal(f"the status after the process ended {how}", query(container)["status"], "stopped")


def in_order(bed: Bed) -> None:
    created(bed)
    running(bed)
    stopped(bed)


STATUS = {
    "runtime.state.status-created": created,
    "runtime.state.status-running": running,
    "runtime.state.status-stopped": stopped,
    "runtime.state.status-values": in_order,
    "runtime.state.status-additional-is-new": in_order,
}


def test_status(requirement: Requirement, bed: Bed) -> None:
    case_of(STATUS, requirement.id)(bed)
