"""The warnings of validate, and the command itself."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ocirt.cli import Args, Context
from ocirt.cli.table import COMMANDS
from ocirt.commands import validate
from ocirt.constants import ALL_CAPABILITIES, CAPABILITY_BITS
from ocirt.errors import HostError, SpecError
from ocirt.host import Host
from ocirt.log import Logger
from ocirt.spec import parse_config
from ocirt.spec.host_notices import host_notices
from ocirt.spec.notices import all_notices, unknown_properties
from ocirt.spec.structure import load_schema
from tests.unit.spec_samples import small_config, with_value
from tests.unit.test_spec_checks import (
    ACCEPTED,
    device,
    in_user_namespace,
    linux,
    mount,
    process,
    scheduler,
    seccomp,
)

CONTEXT = Context(Logger())
MAPPING = {"containerID": 0, "hostID": 0, "size": 1}


def notices(config: Any) -> list[tuple[str, str]]:
    return [(notice.pointer, notice.code) for notice in all_notices(parse_config(config))]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (small_config(), []),
        (with_value("/ociVersion", "1.4.0"), [("/ociVersion", "warning.version")]),
        (with_value("/ociVersion", "1.3.9"), []),
        (with_value("/ociVersion", "nonsense"), []),
        (
            process(capabilities={"bounding": ["CAP_KILL", "kill", "CAP_X"]}),
            [
                ("/process/capabilities/bounding/1", "warning.capability"),
                ("/process/capabilities/bounding/2", "warning.capability"),
            ],
        ),
        (
            process(capabilities={"effective": ["CAP_KILL"], "ambient": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"]}),
            [
                ("/process/capabilities/effective/0", "warning.capability"),
                ("/process/capabilities/ambient/0", "warning.capability"),
            ],
        ),
        (process(consoleSize={"height": 1, "width": 1}), [("/process/consoleSize", "warning.ignored")]),
        (process(user={"uid": 0, "gid": 0, "umask": 0o1022}), [("/process/user/umask", "warning.lossy")]),
        (process(user={"uid": 0, "gid": 0, "umask": 0o777}), []),
        (scheduler(policy="SCHED_FIFO", priority=1, nice=1), [("/process/scheduler/nice", "warning.ignored")]),
        (mount(destination="m"), [("/mounts/0/destination", "warning.deprecated")]),
        (mount(uidMappings=[MAPPING], gidMappings=[MAPPING]), [("/mounts/0/uidMappings", "warning.deprecated")]),
        (with_value("/hooks", {"prestart": [{"path": "/a"}]}), [("/hooks/prestart", "warning.deprecated")]),
        (
            linux(devices=[{"path": f"/{kind}", "type": kind, "major": 1, "minor": 3} for kind in "cub"]),
            [("/linux/devices/1", "warning.deprecated")],
        ),
        (device(fileMode=0o60644), [("/linux/devices/0/fileMode", "warning.ignored")]),
        (device(fileMode=0o20644), []),
        (seccomp(listenerPath="/s"), [("/linux/seccomp/listenerPath", "warning.ignored")]),
        (linux(resources={"memory": {"limit": 0}}), [("/linux/resources/memory/limit", "warning.ignored")]),
        (linux(resources={"cpu": {"shares": 1}}), [("/linux/resources/cpu/shares", "warning.lossy")]),
        (linux(intelRdt={"l3CacheSchema": "0=f"}), [("/linux/intelRdt/l3CacheSchema", "warning.deprecated")]),
        (linux(intelRdt={"l3CacheSchema": "L3:0=f\n"}), [("/linux/intelRdt/l3CacheSchema", "warning.deprecated")]),
        (linux(intelRdt={"l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=10", "schemata": ["L2:0=1"]}), []),
        (
            ACCEPTED["user namespace to join with its mappings"],
            [("/linux/uidMappings", "warning.ignored")],
        ),
    ],
)
def test_notices(config: Any, expected: list[tuple[str, str]]) -> None:
    assert notices(config) == expected


def test_unknown_properties() -> None:
    config = with_value("/linux/namespaces/0/typo", {"deep": [1]}, with_value("/process/Terminal", True))
    config |= {"windows": {}, "new": {"a": 1}, "annotations": {"free": "x"}}
    config["process"]["commandLine"] = "x"
    config["process"]["user"]["username"] = "x"
    config["linux"]["resources"] = {"unified": {"memory.high": "1"}, "rdma": {"any": {"hca": 1}}}
    found = {notice.pointer: notice for notice in unknown_properties(config, load_schema("config"))}
    assert {pointer: notice.code for pointer, notice in found.items()} == {
        "/windows": "warning.platform",
        "/process/commandLine": "warning.platform",
        "/process/user/username": "warning.platform",
        "/new": "warning.unknown",
        "/process/Terminal": "warning.unknown",
        "/linux/namespaces/0/typo": "warning.unknown",
        "/linux/resources/rdma/any/hca": "warning.unknown",
    }
    assert found["/process/Terminal"].message == "is unknown, and ignored: terminal is known"


@pytest.mark.parametrize(
    ("config", "host", "expected"),
    [
        (small_config(), Host(), []),
        (process(apparmorProfile="p"), Host(), [("/process/apparmorProfile", "warning.host")]),
        (process(apparmorProfile="p"), Host(apparmor=True), []),
        (process(selinuxLabel="l"), Host(), [("/process/selinuxLabel", "warning.host")]),
        (linux(mountLabel="l"), Host(), [("/linux/mountLabel", "warning.host")]),
        (linux(mountLabel="l"), Host(selinux=True), []),
        (linux(cgroupsPath="/a"), Host(), [("/linux/cgroupsPath", "warning.host")]),
        (small_config(), Host(euid=1000), [("/linux/namespaces", "warning.host")]),
        (ACCEPTED["user namespace"], Host(euid=1000), []),
        (
            linux(memoryPolicy={"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0"}),
            Host(kernel=(6, 8)),
            [("/linux/memoryPolicy/mode", "warning.host")],
        ),
        (linux(memoryPolicy={"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0"}), Host(kernel=(6, 9)), []),
        (
            seccomp(flags=["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]),
            Host(kernel=(5, 18)),
            [("/linux/seccomp/flags/1", "warning.host")],
        ),
        (
            process(capabilities={"bounding": ["CAP_CHOWN", "CAP_KILL"]}),
            Host(bounding=1),
            [("/process/capabilities/bounding/1", "warning.capability")],
        ),
    ],
)
def test_host_notices(config: Any, host: Host, expected: list[tuple[str, str]]) -> None:
    assert [(notice.pointer, notice.code) for notice in host_notices(parse_config(config), host)] == expected


FUSE = {"/dev/fuse": (0o660, 0, 5)}
WITHOUT_MKNOD = ALL_CAPABILITIES & ~CAPABILITY_BITS["CAP_MKNOD"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"fileMode": 0o660, "uid": 0, "gid": 5}, []),
        ({"fileMode": 0o20660}, []),
        ({"fileMode": 0o666}, ["fileMode"]),
        ({"fileMode": 0o666, "uid": 1, "gid": 0}, ["fileMode", "uid", "gid"]),
    ],
)
def test_a_device_that_is_bound_keeps_mode_and_owner(changes: dict[str, int], expected: list[str]) -> None:
    config = device(path="/dev/fuse", **changes)
    for host in (Host(in_user_namespace=True, device_access=FUSE), Host(effective=WITHOUT_MKNOD, device_access=FUSE)):
        found = [notice for notice in host_notices(parse_config(config), host) if "devices" in notice.pointer]
        assert [notice.pointer for notice in found] == [f"/linux/devices/0/{name}" for name in expected]
        assert {notice.code for notice in found} <= {"warning.host"}
    for host in (Host(device_access=FUSE), Host(effective=WITHOUT_MKNOD)):
        assert list(host_notices(parse_config(config), host)) == []


def test_the_mode_in_a_notice_is_octal() -> None:
    host = Host(effective=WITHOUT_MKNOD, device_access=FUSE)
    (notice,) = host_notices(parse_config(device(path="/dev/fuse", fileMode=0o666)), host)
    assert notice.message == "is not applied: no device can be made here, and the host's /dev/fuse has 0o660"


def test_the_owner_of_a_bound_device_is_seen_through_the_mapping() -> None:
    """Container id 0 is host id 1000: root of the host is nobody in there, and its group 5 may be mapped."""
    mappings = [{"containerID": 0, "hostID": 1000, "size": 1}, {"containerID": 7, "hostID": 5, "size": 1}]
    user = in_user_namespace()
    user["linux"] |= {"uidMappings": mappings, "gidMappings": mappings}
    config = with_value(
        "/linux/devices",
        [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666, "uid": 0, "gid": 7}],
        user,
    )
    host = Host(device_access=FUSE)
    assert [notice.pointer for notice in host_notices(parse_config(config), host)] == [
        "/linux/devices/0/fileMode",
        "/linux/devices/0/uid",
    ]
    joined = with_value("/linux/namespaces/6/path", "/ns/user", config)
    assert [notice.pointer for notice in host_notices(parse_config(joined), host)] == ["/linux/devices/0/fileMode"], (
        "whose mappings are not known"
    )


def arguments(*positional: str, **flags: str) -> Args:
    args = Args(COMMANDS["validate"].flags, "validate", positional)
    for name, text in flags.items():
        args.set(name, text)
    return args


def bundle_of(config: Any, directory: Path) -> str:
    (directory / "rootfs").mkdir(exist_ok=True)
    (directory / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return str(directory)


def run(capfd: pytest.CaptureFixture[str], *positional: str, **flags: str) -> tuple[int, str]:
    code = validate.run(arguments(*positional, **flags), CONTEXT)
    captured = capfd.readouterr()
    assert captured.err == ""
    return code, captured.out


def test_a_valid_bundle(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bundle = bundle_of(small_config(), tmp_path)
    code, out = run(capfd, bundle)
    assert code == 0
    assert out.splitlines()[-1] == "the bundle is valid"
    assert "error: " not in out


def test_every_error_and_warning_is_a_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = process(cwd="a", rlimits=[{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]) | {"vm": {}, "x\ny": 1}
    code, out = run(capfd, bundle=bundle_of(config, tmp_path))
    assert code == 1
    lines = out.splitlines()
    assert lines[:4] == [
        'error: /process/cwd: "a" is not an absolute path [spec.path]',
        "error: /process/rlimits/0/soft: 2 is above the hard limit 1 [spec.conflict]",
        "warning: /vm: is for another platform, and ignored [warning.platform]",
        "warning: /x\\ny: is unknown, and ignored [warning.unknown]",
    ]
    assert all(line.startswith(("error: ", "warning: ")) for line in lines)


def test_errors_of_the_structure_are_all_listed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = with_value("/mounts", "x", process(noNewPrivileges=1, cwd=None))
    code, out = run(capfd, bundle_of(config, tmp_path), format="json")
    assert code == 1
    report = json.loads(out)
    assert report["valid"] is False
    assert {(error["pointer"], error["code"]) for error in report["errors"]} == {
        ("/process/cwd", "spec.type"),
        ("/process/noNewPrivileges", "spec.type"),
        ("/mounts", "spec.type"),
    }


def test_json_of_a_valid_bundle(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out = run(capfd, bundle_of(small_config() | {"zos": {}}, tmp_path), format="json")
    report = json.loads(out)
    assert code == 0
    assert (report["valid"], report["errors"]) == (True, [])
    assert report["warnings"][0] == {
        "pointer": "/zos",
        "message": "is for another platform, and ignored",
        "code": "warning.platform",
    }


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{", "is not JSON: expecting property name enclosed in double quotes at line 1 column 2 [spec.json]"),
        ("[" * 100_000, "is nested too deeply [spec.json]"),
    ],
)
def test_what_is_no_json(text: str, line: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out = run(capfd, bundle_of(text, tmp_path))
    assert code == 1
    assert out == f"error: /: {tmp_path}/config.json {line}\n"


def test_all_duplicate_keys_are_listed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = json.dumps(small_config())[:-1] + ', "annotations": {"a": "1", "a": "2"}, "root": {"path": "rootfs"}}'
    code, out = run(capfd, bundle_of(text, tmp_path))
    assert code == 1
    assert {line.partition(": ")[2] for line in out.splitlines() if line.startswith("error")} == {
        "/root: the key stands twice in its object [spec.json]",
        "/annotations/a: the key stands twice in its object [spec.json]",
    }


def test_a_missing_root(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bundle = bundle_of(small_config(), tmp_path)
    (tmp_path / "rootfs").rmdir()
    assert run(capfd, bundle)[1].startswith(f"error: /root/path: {tmp_path}/rootfs: no such directory [spec.root]\n")
    (tmp_path / "rootfs").write_text("")
    assert run(capfd, bundle)[1].startswith(f"error: /root/path: {tmp_path}/rootfs: is not a directory [spec.root]\n")


def test_files_that_are_missing_on_this_host(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = with_value(
        "/mounts",
        [
            {"destination": "/a", "source": "here", "options": ["bind"]},
            {"destination": "/b", "source": "nowhere", "options": ["rbind"]},
            {"destination": "/c", "source": "tmpfs", "type": "tmpfs"},
        ],
        with_value("/linux/namespaces/1/path", "/nowhere/net"),
    )
    config["hooks"] = {"poststop": [{"path": "/nowhere/a"}, {"path": "/"}], "startContainer": [{"path": "/nowhere/b"}]}
    (tmp_path / "here").touch()
    code, out = run(capfd, bundle_of(config, tmp_path))
    assert code == 0
    assert [line for line in out.splitlines() if "does not exist" in line] == [
        "warning: /linux/namespaces/1/path: /nowhere/net does not exist on this host [warning.host]",
        f"warning: /mounts/1/source: {tmp_path}/nowhere does not exist on this host [warning.host]",
        "warning: /hooks/poststop/0/path: /nowhere/a does not exist on this host [warning.host]",
    ]


def test_a_host_that_cannot_be_asked_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: Any, **_flags: Any) -> Host:
        raise HostError("open", "/ns", 2, pointer="/linux/namespaces/1/path")

    monkeypatch.setattr(validate, "probe_host", fail)
    report = validate.examine(CONTEXT, bundle_of(small_config(), tmp_path))
    assert report.errors == []
    assert report.warnings == [
        ("/linux/namespaces/1/path", "open /ns: no such file or directory", "warning.host"),
    ]


def test_what_the_compiler_refuses_is_an_error(tmp_path: Path) -> None:
    report = validate.examine(CONTEXT, bundle_of(mount(destination="/proc/x"), tmp_path))
    if os.geteuid() == 0:
        assert [(error.pointer, error.code) for error in report.errors] == [("/mounts/0/destination", "spec.path")]
    else:
        assert "/mounts/0/destination" in {warning.pointer for warning in report.warnings}


def test_what_the_compiler_refuses_on_this_host_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: Any) -> None:
        raise SpecError("/process/selinuxLabel", "SELinux is disabled", "host.unsupported")

    monkeypatch.setattr(validate, "prepare", fail)
    report = validate.examine(CONTEXT, bundle_of(small_config(), tmp_path))
    assert report.errors == []
    assert ("/process/selinuxLabel", "SELinux is disabled", "warning.host") in report.warnings


def test_what_the_compiler_warns_of(tmp_path: Path) -> None:
    config = mount(source="/", type="none", options=["bind", "size=1k"])
    config["process"]["capabilities"] = {"bounding": ["CAP_NEW"]}
    report = validate.examine(CONTEXT, bundle_of(config, tmp_path))
    found = [(warning.pointer, warning.code) for warning in report.warnings]
    assert ("/mounts/0/options", "warning.plan") in found
    assert [code for pointer, code in found if pointer == "/process/capabilities/bounding/0"] == ["warning.capability"]


def test_a_missing_config_is_an_error_of_the_host(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no such file or directory"):
        validate.examine(CONTEXT, str(tmp_path))


def test_nothing_is_written_to_the_bundle(tmp_path: Path) -> None:
    bundle = bundle_of(small_config(), tmp_path)
    before = sorted(os.listdir(bundle))
    validate.examine(CONTEXT, bundle)
    assert sorted(os.listdir(bundle)) == before
