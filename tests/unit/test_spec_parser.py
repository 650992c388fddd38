"""The compiled parser: types are strict, null and absence mean what values.py says, pointers are exact."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import pytest

import ocirt.spec
from ocirt.errors import SpecError
from ocirt.spec import Process, User, _generated, generate, parse_config, parse_process, parse_resources
from tests.unit.spec_samples import findings, small_config, with_value, without


def refusal(config: Any) -> SpecError:
    with pytest.raises(SpecError) as caught:
        parse_config(config)
    return caught.value


def test_generated_module_is_what_the_schema_compiles_to() -> None:
    assert generate.OUTPUT.read_text(encoding="utf-8") == generate.generate(), "run python -m ocirt.spec.generate"


def test_the_check_mode_tells_when_it_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    stale = tmp_path / "_generated.py"
    stale.write_text("pass\n")
    monkeypatch.setattr(generate, "OUTPUT", stale)
    assert generate.main(["--check"]) == 1
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 0, "maximum": 1, "multipleOf": 2},
        {"type": "string", "maxLength": 3},
        {"type": ["string", "null"], "pattern": generate.NO_NUL},
        {"type": "number"},
        {"oneOf": []},
    ],
)
def test_the_generator_stops_at_what_it_does_not_know(schema: dict[str, Any]) -> None:
    whole = {
        "title": "X",
        "description": "",
        "type": "object",
        "required": ["a"],
        "properties": {"a": schema},
        "$defs": {},
    }
    with pytest.raises((ValueError, KeyError)):
        generate.Generator(whole)


def test_every_class_is_exported() -> None:
    classes = {name for name, value in vars(_generated).items() if dataclasses.is_dataclass(value)}
    assert len(classes) == 37
    assert classes <= set(ocirt.spec.__all__)


def test_names_are_snake_case() -> None:
    names = {
        "ociVersion": "oci_version",
        "containerID": "container_id",
        "closID": "clos_id",
        "throttleReadIOPSDevice": "throttle_read_iops_device",
        "disableOOMKiller": "disable_oom_killer",
        "blockIO": "block_io",
        "execCPUAffinity": "exec_cpu_affinity",
        "l3CacheSchema": "l3_cache_schema",
        "kernelTCP": "kernel_tcp",
        "class": "class_",
    }
    assert {name: generate.attribute(name) for name in names} == names


def test_absent_values() -> None:
    spec = parse_config(
        {"ociVersion": "1.0.0", "root": {"path": "r"}, "linux": {}, "process": {"args": ["a"], "cwd": "/"}}
    )
    assert spec.process == Process(args=("a",), cwd="/")
    assert spec.process is not None
    assert spec.process.user == User(uid=0, gid=0)
    assert spec.linux is not None
    assert (spec.hostname, spec.hooks, spec.linux.seccomp, spec.process.oom_score_adj) == (None, None, None, None)
    assert (spec.mounts, spec.linux.masked_paths, spec.linux.namespaces) == ((), (), ())
    assert (spec.annotations, spec.linux.sysctl, spec.linux.net_devices) == ({}, {}, {})
    assert (spec.root.readonly, spec.process.terminal, spec.process.no_new_privileges) == (False, False, False)


def test_records_are_frozen_dataclasses() -> None:
    user = User(uid=1, gid=2, additional_gids=(3,))
    with pytest.raises(dataclasses.FrozenInstanceError):
        user.uid = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        del user.uid
    assert not hasattr(user, "__dict__")
    assert dataclasses.replace(user, gid=5) == User(uid=1, gid=5, additional_gids=(3,))
    assert dataclasses.asdict(user) == {"uid": 1, "gid": 2, "umask": None, "additional_gids": (3,)}
    assert user != User(uid=1, gid=2)
    assert hash(user) == hash(dataclasses.replace(user))
    assert repr(user) == "User(uid=1, gid=2, umask=None, additional_gids=(3,))"


def test_the_same_default_is_not_shared() -> None:
    one, two = ocirt.spec.Linux(), ocirt.spec.Linux()
    one.sysctl["a"] = "b"
    assert two.sysctl == {}


# A wrong type at a property that guards must not open it (each of these opens a well-known runtime, or did).
GUARDS = [
    ("/process/noNewPrivileges", "true"),
    ("/process/noNewPrivileges", 1),
    ("/process/noNewPrivileges", None),
    ("/root/readonly", "true"),
    ("/root/readonly", 1),
    ("/root/readonly", None),
    ("/linux/maskedPaths", "/proc/kcore"),
    ("/linux/maskedPaths", None),
    ("/linux/maskedPaths", {}),
    ("/linux/readonlyPaths", "/proc/sys"),
    ("/linux/readonlyPaths", None),
    ("/linux/seccomp", []),
    ("/linux/seccomp", None),
    ("/linux/seccomp", False),
    ("/linux/seccomp", ""),
    ("/process/user", None),
    ("/process/user", []),
    ("/process/capabilities", []),
    ("/process/capabilities", None),
    ("/process/capabilities/bounding", None),
    ("/process/rlimits", None),
    ("/process", None),
    ("/linux", None),
    ("/linux", []),
    ("/linux/namespaces", None),
    ("/linux/namespaces", {}),
    ("/linux/uidMappings", None),
    ("/linux/resources", None),
    ("/linux/resources/devices", None),
    ("/root", None),
    ("/mounts", {}),
    ("/hooks", []),
    ("/ociVersion", None),
]


@pytest.mark.parametrize(("pointer", "value"), GUARDS, ids=repr)
def test_a_guard_is_not_open_by_mistake_of_type(pointer: str, value: Any) -> None:
    error = refusal(with_value(pointer, value))
    assert (error.pointer, error.code) == (pointer, "spec.type")


@pytest.mark.parametrize(
    "pointer",
    [
        *("/mounts", "/hooks", "/annotations", "/hooks/prestart", "/process/env", "/process/consoleSize"),
        *("/process/user/additionalGids", "/process/scheduler", "/process/ioPriority", "/process/execCPUAffinity"),
        *("/linux/sysctl", "/linux/devices", "/linux/netDevices", "/linux/intelRdt", "/linux/memoryPolicy"),
        *("/linux/personality", "/linux/timeOffsets"),
    ],
)
def test_null_is_absent_where_go_writes_it(pointer: str) -> None:
    """And the model is the same as without the property."""
    parent = pointer.rpartition("/")[0]
    absent = with_value(parent, {}) if parent == "/hooks" else small_config()
    assert parse_config(with_value(pointer, None)) == parse_config(absent)


@pytest.mark.parametrize(
    "pointer", ["/hostname", "/process/terminal", "/process/oomScoreAdj", "/linux/cgroupsPath", "/process/args/0"]
)
def test_null_is_no_scalar(pointer: str) -> None:
    assert refusal(with_value(pointer, None)).pointer == pointer


@pytest.mark.parametrize("value", [True, 1.0, "1", None, [1], 1.5])
def test_what_is_no_integer(value: Any) -> None:
    error = refusal(with_value("/process/user/uid", value))
    assert (error.pointer, error.code) == ("/process/user/uid", "spec.type")


@pytest.mark.parametrize(
    ("pointer", "low", "high"),
    [
        ("/process/user/uid", 0, 2**32 - 2),
        ("/process/user/gid", 0, 2**32 - 2),
        ("/process/user/additionalGids", 0, 2**32 - 2),
        ("/process/user/umask", 0, 2**32 - 1),
        ("/process/oomScoreAdj", -1000, 1000),
        ("/process/consoleSize/height", 0, 2**64 - 1),
        ("/linux/resources/memory/limit", -(2**63), 2**63 - 1),
        ("/linux/resources/cpu/shares", 0, 2**64 - 1),
        ("/linux/resources/blockIO/weight", 0, 2**16 - 1),
        ("/linux/resources/network/classID", 0, 2**32 - 1),
        ("/linux/timeOffsets/monotonic/nanosecs", 0, 10**9 - 1),
        ("/process/ioPriority/priority", 0, 7),
    ],
)
def test_ranges(pointer: str, low: int, high: int) -> None:
    base = small_config()
    base["process"] |= {
        "consoleSize": {"height": 1, "width": 1},
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 0},
    }
    is_array = pointer.endswith("Gids")
    for value in (low, high):
        parse_config(with_value(pointer, [value] if is_array else value, base))
    for value in (low - 1, high + 1, 10**30):
        error = refusal(with_value(pointer, [value] if is_array else value, base))
        assert (error.pointer, error.code) == (f"{pointer}/0" if is_array else pointer, "spec.range")
        assert error.message == f"must be from {low} to {high}"


@pytest.mark.parametrize(
    ("pointer", "at"),
    [
        ("/ociVersion", ""),
        ("/root", ""),
        ("/root/path", "/root"),
        ("/process/args", "/process"),
        ("/process/cwd", "/process"),
        ("/process/user/uid", "/process/user"),
        ("/process/user/gid", "/process/user"),
        ("/linux/namespaces/2/type", "/linux/namespaces/2"),
    ],
)
def test_required_properties(pointer: str, at: str) -> None:
    error = refusal(without(pointer))
    name = pointer.rpartition("/")[2]
    assert (error.pointer, error.code, error.message) == (at, "spec.required", f'the property "{name}" is required')


@pytest.mark.parametrize(
    ("pointer", "value", "at"),
    [
        ("/hostname", "a\0b", "/hostname"),
        ("/root/path", "\0", "/root/path"),
        ("/process/args", ["a", "b\0"], "/process/args/1"),
        ("/annotations", {"a": "\0"}, "/annotations/a"),
        ("/annotations", {"a\0": ""}, "/annotations/a\0"),
        ("/annotations", {"": "x"}, "/annotations/"),
        ("/linux/sysctl", {"net/a~b": "\0"}, "/linux/sysctl/net~1a~0b"),
        ("/linux/rootfsPropagation", "private\0", "/linux/rootfsPropagation"),
        ("/linux/rootfsPropagation", "private\n", "/linux/rootfsPropagation"),
        ("/linux/namespaces/0/type", "net", "/linux/namespaces/0/type"),
        ("/process/args", [], "/process/args"),
        ("/process/rlimits", [{"type": "RLIMIT_X", "soft": 0, "hard": 0}], "/process/rlimits/0/type"),
    ],
)
def test_values(pointer: str, value: Any, at: str) -> None:
    error = refusal(with_value(pointer, value))
    assert (error.pointer, error.code) == (at, "spec.value")
    assert "\n" not in str(error)
    assert "\0" not in str(error)


@pytest.mark.parametrize("size", ["2MB", "64KB", "1GB"])
def test_page_sizes(size: str) -> None:
    parse_resources({"hugepageLimits": [{"pageSize": size, "limit": 1}]})


@pytest.mark.parametrize("size", ["64kB", "0KB", "2MB\n", "2M", "2MiB", "٢MB"])
def test_what_is_no_page_size(size: str) -> None:
    with pytest.raises(SpecError, match="/hugepageLimits/0/pageSize"):
        parse_resources({"hugepageLimits": [{"pageSize": size, "limit": 1}]})


def test_an_optional_string_that_is_empty_is_absent() -> None:
    config = with_value("/hostname", "", with_value("/linux/namespaces/0/path", ""))
    assert parse_config(config) == parse_config(small_config())


def test_required_strings_may_be_empty_for_the_checks_to_tell() -> None:
    assert findings(with_value("/root/path", "")) == [("/root/path", "spec.path")]


def test_unknown_properties_are_ignored() -> None:
    config = with_value("/linux/new", {"a": [None]}, with_value("/new", 1))
    config["windows"] = "of any type"
    assert parse_config(config) == parse_config(small_config())


@pytest.mark.parametrize("value", [None, [], "", 1, True, [{}]])
def test_what_is_no_config(value: Any) -> None:
    error = refusal(value)
    assert (error.pointer, error.code) == ("", "spec.type")


def test_entry_points_begin_at_their_own_root() -> None:
    with pytest.raises(SpecError) as caught:
        parse_process({"args": ["a"], "cwd": "/", "user": None})
    assert caught.value.pointer == "/user"
    with pytest.raises(SpecError) as caught:
        parse_resources({"memory": {"limit": "1"}})
    assert caught.value.pointer == "/memory/limit"


def test_importing_the_model_does_not_import_jsonschema() -> None:
    """The hot path needs none of what validate does."""
    import subprocess

    program = (
        "import sys, ocirt.spec; print(*sorted({'jsonschema', 'referencing', 'typing_extensions'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_parsed_config_is_not_the_input() -> None:
    config = with_value("/annotations", {"a": "b"})
    spec = parse_config(config)
    before = json.dumps(config)
    spec.annotations["a"] = "c"
    assert json.dumps(config) == before
