"""What holds for every plan: the order of its operations, their sections, slots and origins.

The order is docs/architecture.md's, with the reason of each rule; the configs are drawn from everything that a config
may ask for.
"""

from __future__ import annotations

import builtins
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ocirt.spec
from ocirt import constants as k
from ocirt import ops
from ocirt._native import lib
from ocirt.compile import Compiled, compile_create
from ocirt.compile.request import JoinedUser
from ocirt.errors import SpecError
from ocirt.host import Host
from ocirt.ops import Op
from ocirt.seccomp import Filter
from ocirt.spec import IDMapping, parse_config
from tests.unit.compile_samples import MAPPINGS, ROOT, ROOTLESS, Config, all_ops, created, executed, request
from tests.unit.spec_samples import small_config

SCHEMA = json.loads((Path(ocirt.spec.__file__).parent / "schema" / "config.json").read_text())
FILTER = Filter(b"\0" * 8, 0, False)

# ---- drawing configs

HOOK = {"path": "/h", "timeout": 1}
PROCESS_PARTS: list[Config] = [
    {"terminal": True},
    {"noNewPrivileges": True},
    {"apparmorProfile": "p"},
    {"selinuxLabel": "a:b:c"},
    {"oomScoreAdj": 1},
    {"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 9}]},
    {"scheduler": {"policy": "SCHED_BATCH"}, "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0}},
    {"capabilities": {"bounding": ["CAP_KILL", "CAP_X"], "permitted": ["CAP_KILL"], "ambient": ["CAP_KILL"]}},
    {"user": {"uid": 1, "gid": 2, "umask": 0}},
    {"env": ["PATH=/bin", "HOME=/h"]},
    {"execCPUAffinity": {"initial": "0", "final": "1"}},
    {"cwd": "/w"},
]
LINUX_PARTS: list[Config] = [
    {"maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"]},
    {"sysctl": {"net.ipv4.ip_forward": "1", "kernel/msgmax": "1"}},
    {"devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}, {"path": "/f", "type": "p"}]},
    {"rootfsPropagation": "shared"},
    {"rootfsPropagation": "unbindable"},
    {"personality": {"domain": "LINUX"}, "memoryPolicy": {"mode": "MPOL_LOCAL"}},
    {"netDevices": {"eth0": {"name": "e"}}},
    {"mountLabel": "a:b:c"},
]
MOUNTS: list[Config] = [
    {"destination": "/proc", "type": "proc"},
    {"destination": "/dev", "type": "tmpfs", "options": ["ro", "mode=755"]},
    {"destination": "/dev/pts", "type": "devpts", "options": ["newinstance"]},
    {"destination": "/sys", "type": "sysfs", "options": ["ro"]},
    {"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro"]},
    {"destination": "/dev/mqueue", "type": "mqueue"},
    {"destination": "/a", "source": "a", "options": ["rbind", "rro", "rslave", "rshared"]},
    {"destination": "/b", "source": "/b", "options": ["bind", "copy-symlink"]},
    {"destination": "/c", "source": "/c", "options": ["bind"], "uidMappings": MAPPINGS, "gidMappings": MAPPINGS},
    {"destination": "/run", "type": "tmpfs", "options": ["ro", "tmpcopyup", "slave", "shared"]},
    {"destination": "/run/x", "type": "tmpfs", "options": ["remount", "ro"]},
    {"destination": "/dev", "source": "/dev", "options": ["rbind"]},
]
HOOK_PARTS = [{name: [HOOK]} for name in ("prestart", "createRuntime", "createContainer", "startContainer", "poststop")]
HOSTS = [
    ROOT,
    ROOTLESS,
    replace(ROOT, apparmor=True, selinux=True, symlinks=frozenset({"/b"})),
    replace(ROOT, in_user_namespace=True, owned=frozenset({"user", "mount"})),
    replace(ROOT, in_user_namespace=True, setgroups_denied=True, owned=frozenset({"user"})),
    replace(ROOT, foreign=frozenset({"network"}), rlimits={"RLIMIT_NOFILE": (1, 2)}),
]


def some(parts: list[Config]) -> st.SearchStrategy[list[Config]]:
    return st.lists(st.sampled_from(parts), max_size=len(parts), unique_by=id)


@dataclass
class Case:
    """A config with what else the compiler is given. `raw` is the config as JSON."""

    raw: Config
    host: Host
    options: Config

    def create(self) -> Compiled:
        return created(self.raw, self.host, **self.options)

    def execute(self) -> Compiled:
        flags = sum(k.NAMESPACES[entry["type"]][0] for entry in self.raw["linux"]["namespaces"])
        mappings = (IDMapping(container_id=0, host_id=0, size=9),)
        user = JoinedUser(uid_mappings=mappings, gid_mappings=mappings) if flags & k.CLONE_NEWUSER else None
        return executed(self.raw, self.host, namespaces=flags, seccomp=self.options["seccomp"], user=user)


NEEDS = {
    "readonly": "mount",
    "rootfsPropagation": "mount",
    "maskedPaths": "mount",
    "readonlyPaths": "mount",
    "netDevices": "network",
    "sysctl": "network",
    "hostname": "uts",
    "domainname": "uts",
}


def keep_possible(part: Config, kinds: set[str]) -> Config:
    """Without what the spec's own checks would refuse for want of a namespace."""
    return {name: value for name, value in part.items() if NEEDS.get(name, "mount") in kinds or name not in NEEDS}


@st.composite
def cases(draw: st.DrawFn) -> Case:
    host = draw(st.sampled_from(HOSTS))
    kinds = set(k.NAMESPACES) - draw(st.sets(st.sampled_from(["user", "time", *sorted(k.NAMESPACES)]), max_size=4))
    joined = draw(st.sets(st.sampled_from(sorted(k.NAMESPACES)), max_size=3))
    config = small_config()
    linux: Config = {"namespaces": [{"type": kind} | ({"path": "/n"} if kind in joined else {}) for kind in kinds]}
    for part in draw(some(LINUX_PARTS)):
        linux |= keep_possible(part, kinds if "ipc" in kinds else kinds - {"network"})
    if "user" in kinds:
        linux |= {"uidMappings": MAPPINGS, "gidMappings": MAPPINGS}
    for part in draw(some(PROCESS_PARTS)):
        config["process"] |= part if host.selinux or "selinuxLabel" not in part else {}
    config |= {"linux": linux, "mounts": draw(some(MOUNTS))}
    config["root"] = {"path": "r"} | keep_possible({"readonly": draw(st.booleans())}, kinds)
    config |= keep_possible(draw(st.sampled_from([{}, {"hostname": "h", "domainname": "d"}])), kinds)
    hooks: Config = {}
    for part in draw(some(HOOK_PARTS)):
        hooks |= part
    if hooks:
        config["hooks"] = hooks
    options = {
        "no_pivot": draw(st.booleans()),
        "no_new_keyring": draw(st.booleans()),
        "listen_fds": draw(st.integers(0, 2)),
        "notify_directory": draw(st.sampled_from([None, "/s/notify"])),
        "seccomp": draw(st.sampled_from([None, FILTER])),
    }
    return Case(config, host, options)


def compiled_or_refused(compile_it: Callable[[], Compiled]) -> Compiled | None:
    """Many of these configs ask for what their host cannot do."""
    try:
        return compile_it()
    except SpecError:
        return None


# ---- the order

Matcher = Callable[[Op], bool]


def a(*kinds: type[Op]) -> Matcher:
    return lambda op: isinstance(op, kinds)


def sync(kind: int) -> Matcher:
    return lambda op: isinstance(op, ops.Sync) and op.kind == kind


def hook(kind: str) -> Matcher:
    return lambda op: isinstance(op, ops.RunHook) and op.origin.startswith(f"/hooks/{kind}/")


def host_path(op: Op) -> bool:
    return isinstance(op, (ops.OpenTree, ops.AttachRoot, ops.OpenRoot, ops.CopySymlink))


def makes_read_only(op: Op) -> bool:
    return isinstance(op, ops.SetMountAttributes) and bool(op.attributes.set & k.MOUNT_ATTR_RDONLY)


def makes_root_read_only(op: Op) -> bool:
    return op.origin == "/root/readonly"


MAKES = a(ops.MountFs, ops.Bind, ops.Remount, ops.CopySymlink, ops.MakeDevice, ops.MakeSymlink)
RESTRICTS = a(ops.MakeReadonly, ops.MaskPath)
# What comes before what, and why.
RULES: list[tuple[Matcher, Matcher, str]] = [
    (a(ops.NewKeyring), MAKES, "nothing may get into the caller's keyring"),
    (a(ops.OpenProc), a(ops.SetOomScoreAdj, ops.SetSysctl, ops.SetApparmor, ops.SetSelinux), "through our own procfs"),
    (a(ops.AttachRoot), MAKES, "everything is made below the root"),
    (a(ops.MountFs), a(ops.MakeDevice, ops.MakeSymlink), "devices go into the /dev that is mounted"),
    (sync(lib.SYNC_NETDEVS), sync(lib.SYNC_RUNTIME_HOOKS), "hooks see the devices"),
    (MAKES, sync(lib.SYNC_RUNTIME_HOOKS), "hooks see the mounts (config.md#createruntime-hooks)"),
    (MAKES, sync(lib.SYNC_DEVICES), "a device may be needed that the container may not have"),
    (a(ops.OpenConsole), sync(lib.SYNC_DEVICES), "likewise"),
    (sync(lib.SYNC_DEVICES), sync(lib.SYNC_READY), "the filter is attached before anything of the user's runs"),
    (sync(lib.SYNC_RUNTIME_HOOKS), hook("createContainer"), "config.md#createcontainer-hooks"),
    (sync(lib.SYNC_RUNTIME_HOOKS), a(ops.Pivot), "config.md#createruntime-hooks"),
    (hook("createContainer"), a(ops.Pivot), "config.md#createcontainer-hooks"),
    (host_path, a(ops.Pivot), "the host's paths are those before the pivot"),
    (MAKES, a(ops.Pivot), "sources are the runtime's"),
    (a(ops.Pivot), a(ops.OpenConsole), "the terminal is the container's devpts's"),
    (a(ops.OpenConsole), makes_read_only, "/dev/console is made in /dev"),
    (MAKES, makes_root_read_only, "mount points are made in the root"),
    (a(ops.SetSysctl), RESTRICTS, "they may cover what is written"),
    (a(ops.MakeReadonly), a(ops.MaskPath), "a mask covers what is read-only"),
    (RESTRICTS, a(ops.SetNoNewPrivileges), "SECURITY: the order in init"),
    (RESTRICTS, a(ops.SetUser), "mounting needs privileges"),
    (makes_root_read_only, a(ops.SetUser), "mounting needs privileges"),
    (a(ops.SetHostname, ops.SetDomainname, ops.SetSysctl), a(ops.SetUser), "they need privileges"),
    (a(ops.SetApparmor), a(ops.SetSelinux), "SECURITY: the order in init"),
    (a(ops.SetApparmor), a(ops.LoadSeccomp), "a filter may forbid it"),
    (a(ops.SetSelinux), a(ops.LoadSeccomp), "a filter may forbid it"),
    (a(ops.SetNoNewPrivileges), a(ops.LoadSeccomp), "seccomp without privileges needs it"),
    (a(ops.SetRlimit), a(ops.DropBounding), "raising limits needs CAP_SYS_RESOURCE"),
    (a(ops.SetScheduler, ops.SetIoPriority, ops.ChownStdio), a(ops.SetUser), "they need privileges"),
    (a(ops.DropBounding), a(ops.SetUser), "dropping needs CAP_SETPCAP"),
    (a(ops.SetUser), a(ops.SetCapabilities), "changing the user needs CAP_SETUID"),
    (a(ops.SetCapabilities), a(ops.ResolveExecutable), "found as the program will be executed"),
    (a(ops.ResolveExecutable), a(ops.CloseDescriptors), "SECURITY: the order in init"),
    (a(ops.ResolveExecutable), sync(lib.SYNC_READY), "create reports a missing program"),
    (a(ops.CloseDescriptors), sync(lib.SYNC_READY), "no descriptor of the host's waits for start"),
    (sync(lib.SYNC_READY), a(ops.WaitStart), "the state is saved before start"),
    (a(ops.WaitStart), hook("startContainer"), "config.md#startcontainer-hooks"),
    (hook("startContainer"), a(ops.Execute), "config.md#startcontainer-hooks"),
]
HOST_SECTION = a(
    ops.OpenProc, ops.OpenTree, ops.OpenRoot, ops.SetOomScoreAdj, ops.SetRlimit, ops.SetCpuAffinity, ops.JoinCgroup
)
ENDING = a(ops.LoadSeccomp, ops.Sync, ops.WaitStart, ops.RunHook, ops.Execute)


def assert_order(operations: tuple[Op, ...], before: Matcher, after: Matcher, why: str) -> None:
    last = max((index for index, op in enumerate(operations) if before(op)), default=-1)
    first = min((index for index, op in enumerate(operations) if after(op)), default=len(operations))
    assert last < first, why


def check_order(compiled: Compiled) -> None:
    inside = compiled.plan.ops
    for before, after, why in RULES:
        assert_order(all_ops(compiled), before, after, why)
    # In the host section limits are but raised.
    assert_order(inside, a(ops.FindHome), a(ops.SetRlimit), "RLIMIT_NOFILE may leave no descriptor to open")
    closing = next(index for index, op in enumerate(inside) if isinstance(op, ops.CloseDescriptors))
    assert all(ENDING(op) for op in inside[closing + 1 :])
    loads = [index for index, op in enumerate(inside) if isinstance(op, ops.LoadSeccomp)]
    if loads and any(isinstance(op, ops.SetNoNewPrivileges) for op in inside):
        assert loads == [closing + 1]
    elif loads:
        assert isinstance(inside[loads[0] + 1], ops.DropBounding)


def check_sections(compiled: Compiled) -> None:
    plan = compiled.plan
    assert isinstance(plan.host_ops[0], ops.OpenProc)
    assert all(HOST_SECTION(op) for op in plan.host_ops)
    assert all(isinstance(op, ops.OpenTree) for op in plan.entry_ops)
    assert not any(
        isinstance(op, (ops.OpenProc, ops.SetOomScoreAdj, ops.JoinCgroup, ops.SetCpuAffinity)) for op in plan.ops
    )


def check_slots(compiled: Compiled) -> None:
    """Filled before they are read, and a tree is bound once alone: binding takes it out of its slot."""
    plan = compiled.plan
    assert plan.filled_slots == len(compiled.needs)
    assert len(plan.encode()) > 0
    full = set(range(plan.filled_slots))
    for op in all_ops(compiled):
        if isinstance(op, (ops.Bind, ops.AttachRoot)):
            assert op.tree in full
            full.remove(op.tree)
        if isinstance(op, ops.SetMountAttributes) and op.slot != lib.NO_SLOT:
            assert op.slot in full
        if isinstance(op, (ops.OpenTree, ops.MountFs, ops.Bind)) and op.slot != lib.NO_SLOT:
            full.add(op.slot)


def check_origin(pointer: str, raw: Any) -> None:
    """Each part is in the config, or at least a property that the schema has there."""
    value, schema = raw, SCHEMA
    for part in pointer.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        while "$ref" in schema:
            schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
        if isinstance(value, list):
            value, schema = value[int(part)], schema["items"]
            continue
        schema = schema["properties"][part] if part in schema.get("properties", {}) else schema["additionalProperties"]
        value = value.get(part) if value is not None else None


def check_everything(compiled: Compiled, raw: Config) -> None:
    check_order(compiled)
    check_sections(compiled)
    check_slots(compiled)
    for op in all_ops(compiled):
        if op.origin:
            check_origin(op.origin, raw)
    for need in compiled.needs:
        if pointer := getattr(need, "pointer", ""):
            check_origin(pointer, raw)
    for warning in compiled.warnings:
        check_origin(warning.split(":")[0], raw)
    assert compiled.plan.render().count("\n") <= len(all_ops(compiled)) + 4


@given(cases())
def test_every_plan_of_create(case: Case) -> None:
    if compiled := compiled_or_refused(case.create):
        check_everything(compiled, case.raw)


@given(cases())
def test_every_plan_of_exec(case: Case) -> None:
    if compiled := compiled_or_refused(case.execute):
        check_everything(compiled, case.raw)


@given(cases())
def test_the_same_input_gives_the_same_plan(case: Case) -> None:
    first, second = compiled_or_refused(case.create), compiled_or_refused(case.create)
    assert first == second


def test_a_config_that_asks_for_everything_obeys_the_rules() -> None:
    """With every operation that there is, so that the rules above hold for something."""
    everything: Config = {"process": {"args": ["x"], "cwd": "/"}}
    for part in PROCESS_PARTS:
        everything["process"] |= part
    config = small_config() | everything | {"mounts": MOUNTS[:-1], "hostname": "h", "domainname": "d", "hooks": {}}
    for part in HOOK_PARTS:
        config["hooks"] |= part
    for part in LINUX_PARTS:
        config["linux"] |= part
    case = Case(config, HOSTS[2], {"seccomp": FILTER, "no_pivot": False})
    for compiled in (case.create(), case.execute()):
        check_everything(compiled, config)
    kinds = {type(op).__name__ for op in (*all_ops(case.create()), *all_ops(case.execute()))}
    assert {cls.__name__ for cls in Op.__subclasses__()} - kinds == {"ChownStdio", "OpenRoot", "FindHome"}


def test_the_rules_can_fail() -> None:
    compiled = created(small_config())
    plan = compiled.plan
    turned = replace(compiled, plan=replace(plan, ops=plan.ops[::-1]))
    with pytest.raises(AssertionError):
        check_order(turned)
    with pytest.raises(AssertionError):
        check_sections(replace(compiled, plan=replace(plan, host_ops=(*plan.host_ops, *plan.ops))))
    with pytest.raises((AssertionError, ValueError)):
        check_slots(turned)
    for pointer in ("/mounts/0", "/nothing", "/linux/namespaces/9"):
        with pytest.raises((KeyError, IndexError, AssertionError)):
            check_origin(pointer, small_config() | {"mounts": []})


def test_compiling_touches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = parse_config(small_config() | {"mounts": MOUNTS})

    def refuse(*_arguments: object, **_named: object) -> None:
        raise AssertionError("the compiler is pure")

    prepared = request(seccomp=FILTER)
    with monkeypatch.context() as patch:
        for module, names in (
            (builtins, ("open",)),
            (
                os,
                (
                    "open",
                    "stat",
                    "lstat",
                    "listdir",
                    "readlink",
                    "access",
                    "getuid",
                    "geteuid",
                    "getpid",
                    "getcwd",
                    "uname",
                ),
            ),
        ):
            for name in names:
                patch.setattr(module, name, refuse)
        compiled = compile_create(spec, ROOT, prepared)
    assert compiled.plan.ops
