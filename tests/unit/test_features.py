"""features: the structure of the specification, and lists that are true."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import referencing
from referencing.jsonschema import DRAFT4

from ocirt.cli import execute
from ocirt.commands.features import features, unsafe_annotations
from ocirt.spec import all_problems, parse_config

SCHEMAS = Path(__file__).parents[1] / "data" / "oci-schema"
OCIRT = Path(__file__).parents[2] / "ocirt"


def official_validator(name: str) -> jsonschema.Draft4Validator:
    registry: referencing.Registry[Any] = referencing.Registry().with_resources(
        (path.name, DRAFT4.create_resource(json.loads(path.read_text()))) for path in SCHEMAS.glob("*.json")
    )
    return jsonschema.Draft4Validator({"$ref": name}, registry=registry)


def test_output_follows_the_official_schema(capfd: pytest.CaptureFixture[str]) -> None:
    assert execute(["features"]) == 0
    value = json.loads(capfd.readouterr().out)
    assert value == features()
    official_validator("features-schema.json").validate(value)


def test_schema_can_refuse() -> None:
    broken: dict[str, Any] = features()
    broken["linux"] = {"seccomp": {"actions": ["SCMP_ACT_NONE"]}}
    with pytest.raises(jsonschema.ValidationError):
        official_validator("features-schema.json").validate(broken)


def test_everything_that_runc_s_example_knows() -> None:
    """What it is better not to lack: engines look for "rro" and the like."""
    example = json.loads((SCHEMAS / "examples/features/good/runc.json").read_text())
    ours: dict[str, Any] = features()
    assert set(example["hooks"]) == set(ours["hooks"])
    # iversion and the like are data for the file system, or the kernel's own; acl is so in the specification, too.
    assert set(example["mountOptions"]) - {"acl", "noacl"} <= set(ours["mountOptions"])
    for name in ("namespaces", "capabilities"):
        assert set(example["linux"][name]) <= set(ours["linux"][name])
    for name in ("actions", "operators", "archs", "knownFlags"):
        assert set(example["linux"]["seccomp"][name]) <= set(ours["linux"]["seccomp"][name])


def config(**linux: object) -> dict[str, Any]:
    return {
        "ociVersion": "1.0.0",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["x"], "user": {"uid": 0, "gid": 0}},
        "linux": {"namespaces": [{"type": "mount"}], **linux},
    }


def problems(value: dict[str, Any]) -> list[str]:
    return [str(problem) for problem in all_problems(parse_config(value))]


def test_what_is_listed_is_accepted_in_a_config() -> None:
    known: dict[str, Any] = features()
    linux = known["linux"]
    for version in (known["ociVersionMin"], known["ociVersionMax"]):
        assert problems(config() | {"ociVersion": version}) == []
    hooks = {kind: [{"path": "/x"}] for kind in known["hooks"]}
    assert problems(config() | {"hooks": hooks}) == []
    capabilities = config()
    capabilities["process"]["capabilities"] = {"bounding": linux["capabilities"]}
    assert problems(capabilities) == []
    for mode in linux["memoryPolicy"]["modes"]:
        nodes = {} if mode in ("MPOL_DEFAULT", "MPOL_LOCAL") else {"nodes": "0"}
        assert problems(config(memoryPolicy={"mode": mode, **nodes})) == []
    for architecture in linux["seccomp"]["archs"]:
        profile = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": [architecture]}
        assert problems(config(seccomp=profile)) == []
    for action in linux["seccomp"]["actions"]:
        syscalls = [{"names": ["getpid"], "action": action}]
        profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": syscalls, "listenerPath": "/x"}
        assert problems(config(seccomp=profile)) == []


def test_every_annotation_that_the_code_looks_at_is_listed() -> None:
    literals = {
        literal
        for path in OCIRT.rglob("*.py")
        for literal in re.findall(r'"(run\.oci\.[a-z_.-]+|org\.systemd\.property\.)"', path.read_text())
    }
    assert literals == set(unsafe_annotations())
    assert features()["potentiallyUnsafeConfigAnnotations"] == sorted(literals)
