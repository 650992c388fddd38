"""Our schema and checks against the specification's own schemas and examples (tests/data/oci-schema).

Where the two disagree, the lists here say why: STRICTER with the sentence of the specification that demands it, LOOSER
with what demands that. Nothing else may differ.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft4Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

from ocirt.errors import SpecError
from ocirt.spec import all_problems, decode, parse_config
from ocirt.spec.structure import load_schema, structure_problems
from tests.unit.spec_samples import findings, small_config, with_value, without
from tests.unit.test_spec_agreement import CONFIGS, mutated

DATA = Path(__file__).parent.parent / "data" / "oci-schema"
# Parts of other platforms whose schemas the specification has in files that are not among the data.
ABSENT = {"config-solaris.json": "solaris", "config-windows.json": "windows", "config-zos.json": "zos"}


@cache
def official(name: str) -> Draft4Validator:
    def retrieve(uri: str) -> Resource[Any]:
        file = uri.rpartition("/")[2]
        contents = {ABSENT[file]: {}} if file in ABSENT else json.loads((DATA / file).read_text())
        return Resource.from_contents(contents, default_specification=DRAFT4)

    schema = json.loads((DATA / name).read_text()) | {"id": f"file:///{name}"}
    registry: Registry[Any] = Registry(retrieve=retrieve)  # type: ignore[call-arg]
    return Draft4Validator(schema, registry=registry)


def theirs(config: Any) -> bool:
    return official("config-schema.json").is_valid(config)


def ours(config: Any) -> bool:
    """The structure alone: the official schema has no checks beyond it."""
    return not list(structure_problems(config))


def examples(kind: str, verdict: str) -> list[Path]:
    return sorted((DATA / "examples" / kind / verdict).glob("*.json"))


def by_name(path: Path) -> str:
    return path.stem


# Examples of the specification that are meant for schemas, and cannot run on Linux as they are.
NEEDS_MORE = {
    "linux-netdevice": [("/linux/netDevices", "spec.requires")],
    "freebsd-example": [("/hostname", "spec.requires")],
    "zos-example": [("/hostname", "spec.requires")],
    "spec-example": [
        (f"/linux/resources/{name}", "spec.unsupported")
        for name in (
            *("memory/useHierarchy", "cpu/realtimeRuntime", "cpu/realtimePeriod", "blockIO/leafWeight"),
            *("blockIO/weightDevice/0/leafWeight", "network/classID", "network/priorities"),
        )
    ],
}


@pytest.mark.parametrize("path", examples("config", "good"), ids=by_name)
def test_good_examples(path: Path) -> None:
    config = decode(path.read_bytes(), path.name)
    assert theirs(config)
    assert [str(problem) for problem in structure_problems(config)] == []
    assert findings(config) == NEEDS_MORE.get(path.stem, [])


@pytest.mark.parametrize("path", examples("config", "bad"), ids=by_name)
def test_bad_examples(path: Path) -> None:
    pointers = {
        "invalid-json": "",
        "linux-hugepage": "/linux/resources/hugepageLimits/0/pageSize",
        "linux-netdevice": "/linux/netDevices/eth0/name",
        "linux-rdma": "/linux/resources/rdma/mlx5_1/hcaHandles",
    }
    if path.stem == "freebsd-vnet-disable":
        # It MAY be set where the platform is FreeBSD (config.md), and is none of ours.
        assert ours(json.loads(path.read_text()))
        return
    with pytest.raises(SpecError) as caught:
        parse_config(decode(path.read_bytes(), path.name))
    assert caught.value.pointer == pointers[path.stem]
    if path.stem != "invalid-json":
        assert not theirs(json.loads(path.read_text()))


@pytest.mark.parametrize("path", examples("state", "good"), ids=by_name)
def test_good_states(path: Path) -> None:
    state = json.loads(path.read_text())
    assert official("state-schema.json").is_valid(state)
    assert list(structure_problems(state, load_schema("state"))) == []


STATE = {"ociVersion": "1.0.0", "id": "a", "status": "running", "pid": 1, "bundle": "/b"}
BAD_STATES = [
    *(without(f"/{name}", STATE) for name in ("ociVersion", "id", "status", "bundle")),
    STATE | {"status": "dead"},
    STATE | {"pid": -1},
    STATE | {"pid": "1"},
    STATE | {"annotations": {"a": 1}},
    STATE | {"bundle": 1},
    STATE | {"id": 1},
]


@pytest.mark.parametrize("state", BAD_STATES, ids=repr)
def test_bad_states(state: dict[str, Any]) -> None:
    assert not official("state-schema.json").is_valid(state)
    assert list(structure_problems(state, load_schema("state"))) != []


def test_states_that_differ() -> None:
    """runtime.md#state: the pid is REQUIRED when created or running; a runtime MAY define more statuses: paused."""
    for status in ("created", "running"):
        state = without("/pid", STATE | {"status": status})
        assert official("state-schema.json").is_valid(state)
        assert list(structure_problems(state, load_schema("state"))) != []
    assert list(structure_problems(without("/pid", STATE | {"status": "stopped"}), load_schema("state"))) == []
    paused = STATE | {"status": "paused"}
    assert not official("state-schema.json").is_valid(paused)
    assert list(structure_problems(paused, load_schema("state"))) == []


def linux(name: str, value: Any) -> dict[str, Any]:
    return with_value(f"/linux/{name}", value)


DEVICE = {"path": "/x", "type": "c", "major": 1, "minor": 1}
SYSCALL = {"names": ["a"], "action": "SCMP_ACT_ALLOW"}

# What the official schema accepts and ours refuses: (config, the sentence).
STRICTER: dict[str, tuple[dict[str, Any], str]] = {
    "no root": (without("/root"), "config.md#root: On all other platforms, this field is REQUIRED"),
    "no args": (without("/process/args"), "config.md#process: at least one entry is REQUIRED"),
    "empty args": (with_value("/process/args", []), "config.md#process: at least one entry is REQUIRED"),
    "user without uid": (without("/process/user/uid"), "config.md#posix-platform-user: uid (int, REQUIRED)"),
    "user without gid": (without("/process/user/gid"), "config.md#posix-platform-user: gid (int, REQUIRED)"),
    "uid -1": (
        with_value("/process/user/uid", 2**32 - 1),
        "setresuid(2): -1 leaves the id as it is, which would be root",
    ),
    "gid -1": (with_value("/process/user/gid", 2**32 - 1), "the same"),
    "group -1": (with_value("/process/user/additionalGids", [2**32 - 1]), "the same"),
    "device uid -1": (linux("devices", [DEVICE | {"uid": 2**32 - 1}]), "the same, chown(2)"),
    "mapping of -1": (
        linux("uidMappings", [{"containerID": 2**32 - 1, "hostID": 0, "size": 1}]),
        "user_namespaces(7): the range must not wrap",
    ),
    "empty mapping": (
        linux("uidMappings", [{"containerID": 0, "hostID": 0, "size": 0}]),
        "user_namespaces(7): the length must be greater than 0",
    ),
    "NUL": (
        with_value("/hostname", "a\0"),
        "config.md#valid-values: MUST generate an error when invalid values are met",
    ),
    "empty annotation": (
        with_value("/annotations", {"": "x"}),
        "config.md#annotations: Keys MUST NOT be an empty string",
    ),
    "empty annotation of any type": (
        with_value("/annotations", {"": 1}),
        "config.md#annotations: Values MUST be strings",
    ),
    "rlimit": (
        with_value("/process/rlimits", [{"type": "RLIMIT_NONE", "soft": 0, "hard": 0}]),
        "config.md#posix-process: MUST generate an error for any values which cannot be mapped to a kernel interface",
    ),
    "oomScoreAdj": (with_value("/process/oomScoreAdj", 1001), "config.md#valid-values; proc(5): -1000 to 1000"),
    "ioPriority without priority": (
        with_value("/process/ioPriority", {"class": "IOPRIO_CLASS_BE"}),
        "config.md#linux-process: priority (int, REQUIRED)",
    ),
    "ioPriority": (
        with_value("/process/ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 8}),
        "config.md#linux-process: ranging from 0 (highest) to 7 (lowest)",
    ),
    "nanosecs": (
        linux("timeOffsets", {"boottime": {"nanosecs": 10**9}}),
        "time_namespaces(7): less than 1,000,000,000",
    ),
    "unknown clock": (linux("timeOffsets", {"x": 1}), "config-linux.md#offset-for-time-namespace: values are objects"),
    "memory policy without mode": (linux("memoryPolicy", {}), "config-linux.md#memory-policy: mode (string, REQUIRED)"),
    "personality without domain": (linux("personality", {}), "config-linux.md#personality: domain (string, REQUIRED)"),
    "rate": (
        linux("resources", {"blockIO": {"throttleReadBpsDevice": [{"major": 1, "minor": 1}]}}),
        "config-linux.md#block-io: rate (uint64, REQUIRED)",
    ),
    "device rule": (
        linux("resources", {"devices": [{"allow": True, "type": "p"}]}),
        "config-linux.md#allowed-device-list: a (all), c (char), or b (block)",
    ),
    "argument": (
        linux(
            "seccomp",
            {
                "defaultAction": "SCMP_ACT_KILL",
                "syscalls": [SYSCALL | {"args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}],
            },
        ),
        "config.md#valid-values: a system call has six arguments",
    ),
    "long timeout": (
        with_value("/hooks", {"prestart": [{"path": "/a", "timeout": 2**31}]}),
        "config.md#valid-values: no timer of 68 years",
    ),
}

# What the official schema refuses and ours accepts: (config, who needs it).
LOOSER: dict[str, tuple[dict[str, Any], str]] = {
    "no pids.limit": (linux("resources", {"pids": {}}), "config-linux.md#pids: limit (int64, OPTIONAL)"),
    "fileMode": (linux("devices", [DEVICE | {"fileMode": 0o20666}]), "Docker writes st_mode, the file's type included"),
    "rootfsPropagation": (linux("rootfsPropagation", "rslave"), "containerd's CRI writes rslave and rshared"),
    "null": (with_value("/mounts", None), "a nil slice of Go, which runc takes as absent"),
    "memBwSchema": (linux("intelRdt", {"memBwSchema": "x"}), "the semantic checks refuse it"),
    "affinity": (with_value("/process/execCPUAffinity", {"final": "x"}), "the semantic checks refuse it"),
    "platform": (small_config() | {"vm": 1}, "another platform's section is ignored, with a warning"),
    "commandLine": (with_value("/process/commandLine", 1), "the same for Windows' properties"),
    "username": (with_value("/process/user/username", 1), "the same"),
}


@pytest.mark.parametrize("case", STRICTER)
def test_stricter(case: str) -> None:
    config, because = STRICTER[case]
    assert because
    assert theirs(config)
    assert not ours(config)


@pytest.mark.parametrize("case", LOOSER)
def test_looser(case: str) -> None:
    config, because = LOOSER[case]
    assert because
    assert not theirs(config)
    assert ours(config)


def test_what_the_checks_make_up_for() -> None:
    for case in ("memBwSchema", "affinity"):
        assert list(all_problems(parse_config(LOOSER[case][0]))) != []


# Maps whose keys a config chooses.
FREE_KEYS = ("/netDevices", "/rdma", "/timeOffsets", "/unified", "/sysctl", "/annotations")


def official_form(value: Any, at: str = "") -> Any:
    """Without what LOOSER lists, so that the official schema must accept what remains."""
    if isinstance(value, list):
        return [official_form(item, at) for item in value]
    if not isinstance(value, dict):
        return value
    strict: dict[str, object] = {
        "memBwSchema": "MB:0=1",
        "initial": "0",
        "final": "0",
        "rootfsPropagation": "private",
        "fileMode": 0o666,
    }
    if at.endswith(FREE_KEYS):
        strict = {}  # a key of this name is no such property
    members = {
        key: strict.get(key, official_form(item, f"{at}/{key}")) for key, item in value.items() if item is not None
    }
    return members | {"limit": 1} if at.endswith("/pids") else members


@settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
@given(CONFIGS)
def test_what_ours_accepts_theirs_accepts(config: Any) -> None:
    """But for LOOSER."""
    form = official_form(config)
    form.get("linux", {}).pop("sysctl", None)
    form.get("linux", {}).get("resources", {}).pop("unified", None)
    form.pop("annotations", None)
    errors = [error.message for error in official("config-schema.json").iter_errors(form)]
    assert errors == []


@settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
@given(mutated())
def test_what_theirs_refuses_ours_refuses(config: Any) -> None:
    """But for LOOSER."""
    if isinstance(config, dict) and ours(config):
        form = official_form(config)
        form.get("linux", {}).pop("sysctl", None)
        form.get("linux", {}).get("resources", {}).pop("unified", None)
        for name in ("annotations", "vm", "solaris", "windows", "zos", "freebsd"):
            form.pop(name, None)
        assert theirs(form)
