"""The process, what confines it, the hooks that run inside, and exec."""

from __future__ import annotations

import errno
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt import constants as k
from ocirt._native import lib
from ocirt.compile import CgroupDirectory, compile_exec
from ocirt.compile.hooks import state_around_pid
from ocirt.compile.process import compile_env
from ocirt.errors import SpecError
from ocirt.ops import (
    ChangeDirectory,
    ChownStdio,
    DropBounding,
    Execute,
    FindHome,
    JoinCgroup,
    LoadSeccomp,
    NewKeyring,
    OpenConsole,
    ResolveExecutable,
    RunHook,
    SetApparmor,
    SetCapabilities,
    SetCpuAffinity,
    SetDomainname,
    SetHostname,
    SetIoPriority,
    SetMemoryPolicy,
    SetNoNewPrivileges,
    SetOomScoreAdj,
    SetPersonality,
    SetRlimit,
    SetScheduler,
    SetSelinux,
    SetSysctl,
    SetUmask,
    SetUser,
    Sync,
    WaitStart,
)
from ocirt.seccomp import Filter
from ocirt.spec import parse_config, parse_process
from tests.unit.compile_samples import (
    ROOT,
    Config,
    all_ops,
    created,
    exec_request,
    executed,
    only,
    ops_of,
    use_user_namespace,
)
from tests.unit.spec_samples import small_config, with_value, without

FILTER = Filter(b"\0" * 16, 2, False)


def with_process(**values: Any) -> Config:
    config = small_config()
    return config | {"process": config["process"] | values}


# ---- properties, one operation each


def test_small_process_asks_for_nothing_else() -> None:
    kinds = {type(op) for op in all_ops(created(small_config()))}
    optional = {
        SetApparmor,
        SetSelinux,
        SetScheduler,
        SetIoPriority,
        SetPersonality,
        SetMemoryPolicy,
        SetUmask,
        SetRlimit,
    }
    optional |= {SetOomScoreAdj, SetNoNewPrivileges, LoadSeccomp, OpenConsole, SetHostname, SetDomainname, SetSysctl}
    assert not kinds & optional


def test_oom_score_is_set_outside() -> None:
    compiled = created(with_process(oomScoreAdj=0))
    assert SetOomScoreAdj("/process/oomScoreAdj", 0) in compiled.plan.host_ops


def test_scheduling() -> None:
    scheduler = {"policy": "SCHED_FIFO", "priority": 5, "flags": ["SCHED_FLAG_RESET_ON_FORK"] * 2}
    compiled = created(with_process(scheduler=scheduler, ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 4}))
    assert only(compiled, SetScheduler) == SetScheduler("/process/scheduler", policy=1, priority=5, flags=1)
    assert only(compiled, SetIoPriority).value == 2 << 13 | 4


def test_deadline_scheduling() -> None:
    scheduler = {"policy": "SCHED_DEADLINE", "runtime": 10000, "deadline": 20000, "period": 30000}
    made = only(created(with_process(scheduler=scheduler)), SetScheduler)
    assert (made.policy, made.runtime_nsec, made.deadline_nsec, made.period_nsec) == (6, 10000, 20000, 30000)


def test_personality_and_memory_policy() -> None:
    config = with_value("/linux/personality", {"domain": "LINUX32"})
    policy = {"mode": "MPOL_BIND", "nodes": "0,2-3", "flags": ["MPOL_F_STATIC_NODES"]}
    compiled = created(with_value("/linux/memoryPolicy", policy, config))
    assert only(compiled, SetPersonality).persona == 8
    made = only(compiled, SetMemoryPolicy)
    assert (made.mode, made.nodes) == (2 | 1 << 15, (0b1101).to_bytes(8, "little"))
    assert only(created(with_value("/linux/memoryPolicy", {"mode": "MPOL_DEFAULT"})), SetMemoryPolicy).nodes == b""


@pytest.mark.parametrize(("umask", "mask"), [(0, 0), (0o22, 0o22), (0o7022, 0o22)])
def test_umask(umask: int, mask: int) -> None:
    assert only(created(with_process(user={"uid": 0, "gid": 0, "umask": umask})), SetUmask).mask == mask


def test_names() -> None:
    compiled = created(small_config() | {"hostname": "h", "domainname": "d"})
    assert (only(compiled, SetHostname).name, only(compiled, SetDomainname).name) == ("h", "d")


def test_keyring() -> None:
    made = only(created(small_config()), NewKeyring)
    assert (made.name, made.label, made.tolerated) == ("_ses.c1", None, (errno.ENOSYS,))
    assert not ops_of(created(small_config(), no_new_keyring=True), NewKeyring)
    labelled = created(with_process(selinuxLabel="a:b:c"), replace(ROOT, selinux=True))
    assert only(labelled, NewKeyring).label == "a:b:c"


def test_user() -> None:
    compiled = created(with_process(user={"uid": 7, "gid": 8, "additionalGids": [9, 10]}))
    assert only(compiled, SetUser) == SetUser("/process/user", 7, 8, (9, 10))
    assert only(compiled, ChownStdio).uid == 7
    assert only(compiled, FindHome).uid == 7


def test_terminal() -> None:
    size = {"height": 24, "width": 80}
    compiled = created(with_process(terminal=True, consoleSize=size, user={"uid": 5, "gid": 0}))
    assert only(compiled, OpenConsole) == OpenConsole("/process/terminal", 24, 80, lib.CONSOLE_BIND, 5)
    assert not ops_of(compiled, ChownStdio)
    assert not ops_of(created(with_process(consoleSize=size)), OpenConsole)
    assert only(executed(with_process(terminal=True)), OpenConsole).flags == 0


def test_rlimits() -> None:
    limits = [{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 10}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 2**64 - 1}]
    made = ops_of(created(with_process(rlimits=limits)), SetRlimit)
    assert made == [SetRlimit("/process/rlimits/0", 7, 5, 10), SetRlimit("/process/rlimits/1", 4, 0, k.RLIM_INFINITY)]


def test_limits_are_raised_outside_of_a_user_namespace() -> None:
    config = use_user_namespace(with_process(rlimits=[{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 1000}]))
    raised = created(config, replace(ROOT, rlimits={"RLIMIT_NOFILE": (100, 500)}))
    assert [op for op in raised.plan.host_ops if isinstance(op, SetRlimit)] == [
        SetRlimit("/process/rlimits/0", 7, 1000, 1000)
    ]
    assert [op for op in raised.plan.ops if isinstance(op, SetRlimit)] == [SetRlimit("/process/rlimits/0", 7, 5, 1000)]
    lowered = created(config, replace(ROOT, rlimits={"RLIMIT_NOFILE": (100, 5000)}))
    assert len(ops_of(lowered, SetRlimit)) == 1
    powerless = replace(
        ROOT, rlimits={"RLIMIT_NOFILE": (100, 500)}, effective=ROOT.effective & ~k.CAPABILITY_BITS["CAP_SYS_RESOURCE"]
    )
    assert len(ops_of(created(config, powerless), SetRlimit)) == 1


def test_working_directory() -> None:
    entered = [op.flags for op in ops_of(created(with_process(cwd="/w")), ChangeDirectory)]
    assert entered == [lib.CHDIR_CREATE, lib.CHDIR_AGAIN]
    config = with_value("/root/readonly", True, with_process(cwd="/w"))
    assert next(op.flags for op in ops_of(created(config), ChangeDirectory)) == lib.CHDIR_CREATE
    assert [op.flags for op in ops_of(executed(with_process(cwd="/w")), ChangeDirectory)] == [0, lib.CHDIR_AGAIN]


def test_search_path() -> None:
    compiled = created(with_process(args=["a", "b"], env=["PATH=/x", "PATH=/bin:/y"]))
    assert only(compiled, ResolveExecutable) == ResolveExecutable("/process/args/0", "a", "/bin:/y")
    assert only(compiled, Execute).args == ("a", "b")
    assert only(created(small_config()), ResolveExecutable).search_path is None


@pytest.mark.parametrize(
    ("env", "result", "finds_home"),
    [
        ((), (), True),
        (("A=1", "HOME=/h"), ("A=1", "HOME=/h"), False),
        (("HOME=", "A=1"), ("A=1",), True),
        (("HOME=/h", "HOME="), (), True),
        (("A=1", "B=2", "A=3"), ("B=2", "A=3"), True),
        (("A=", "A=B=C"), ("A=B=C",), True),
    ],
)
def test_environment(env: tuple[str, ...], result: tuple[str, ...], finds_home: bool) -> None:
    assert compile_env(env) == (result, finds_home)


@given(st.lists(st.tuples(st.sampled_from(["A", "B", "HOME", "PATH"]), st.sampled_from(["", "1", "x=y"]))))
def test_environment_has_the_last_value_of_each_name(pairs: list[tuple[str, str]]) -> None:
    result, finds_home = compile_env(tuple(f"{name}={value}" for name, value in pairs))
    expected = dict(pairs)
    if finds_home:
        assert not expected.pop("HOME", "")
    assert dict(entry.split("=", 1) for entry in result) == expected
    assert len(result) == len(expected)


def test_descriptors_and_notification_of_the_caller() -> None:
    compiled = created(with_process(env=["LISTEN_FDS=9"]), listen_fds=2, preserve_fds=3, notify_directory="/s/notify")
    assert compiled.plan.preserve_fds == 5
    assert only(compiled, Execute).env == ("LISTEN_FDS=2", "LISTEN_PID=1", "NOTIFY_SOCKET=/run/notify/notify.sock")


# ---- labels, no_new_privs, seccomp, sysctls


def test_apparmor() -> None:
    config = with_process(apparmorProfile="p")
    assert only(created(config, replace(ROOT, apparmor=True)), SetApparmor).profile == "p"
    without_module = created(config)
    assert not ops_of(without_module, SetApparmor)
    assert without_module.warnings == (
        "/process/apparmorProfile: p is not applied: AppArmor is not enabled on this host",
    )


def test_selinux() -> None:
    config = with_process(selinuxLabel="a:b:c")
    assert only(created(config, replace(ROOT, selinux=True)), SetSelinux).label == "a:b:c"
    with pytest.raises(SpecError, match="selinux is disabled or not supported") as caught:
        created(config)
    assert caught.value.pointer == "/process/selinuxLabel"


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_seccomp_is_loaded_late_where_that_is_possible(no_new_privileges: bool) -> None:
    for compiled in (
        created(with_process(noNewPrivileges=no_new_privileges), seccomp=FILTER),
        executed(with_process(noNewPrivileges=no_new_privileges), seccomp=FILTER),
    ):
        kinds = [type(op).__name__ for op in all_ops(compiled)]
        assert kinds.count("LoadSeccomp") == 1
        late = kinds.index("LoadSeccomp") > kinds.index("CloseDescriptors")
        early = kinds.index("LoadSeccomp") < kinds.index("DropBounding")
        assert (late, early) == (no_new_privileges, not no_new_privileges)
        assert ("SetNoNewPrivileges" in kinds) == no_new_privileges


def test_sysctls() -> None:
    config = with_value("/linux/sysctl", {"net.ipv4.ip_forward": "1", "kernel/msgmax": "2"})
    assert [(op.origin, op.name, op.value) for op in ops_of(created(config), SetSysctl)] == [
        ("/linux/sysctl/net.ipv4.ip_forward", "net/ipv4/ip_forward", "1"),
        ("/linux/sysctl/kernel~1msgmax", "kernel/msgmax", "2"),
    ]
    with pytest.raises(SpecError, match="not allowed in host network namespace") as caught:
        created(config, replace(ROOT, shared=frozenset({"network"})))
    assert caught.value.pointer == "/linux/sysctl/net.ipv4.ip_forward"


# ---- capabilities

NAMES = st.lists(st.sampled_from([*k.CAPABILITIES, "CAP_TEST", "cap_kill"]), max_size=6)


def capabilities(**sets: list[str]) -> Config:
    return with_process(capabilities=sets)


def test_without_capabilities_there_are_none() -> None:
    compiled = created(small_config())
    assert only(compiled, DropBounding).keep == 0
    assert only(compiled, SetCapabilities) == SetCapabilities("/process/capabilities", 0, 0, 0, 0)


def test_capability_sets() -> None:
    kill, chown = k.CAPABILITY_BITS["CAP_KILL"], k.CAPABILITY_BITS["CAP_CHOWN"]
    names = ["CAP_KILL", "CAP_CHOWN"]
    compiled = created(
        capabilities(bounding=names, permitted=names, effective=names[:1], inheritable=names, ambient=names[1:])
    )
    assert only(compiled, DropBounding).keep == kill | chown
    both = kill | chown
    assert only(compiled, SetCapabilities) == SetCapabilities("/process/capabilities", kill, both, both, chown)
    assert not compiled.warnings


@pytest.mark.parametrize(
    ("sets", "pointer"),
    [
        ({"bounding": ["CAP_TEST"]}, "bounding/0"),
        ({"permitted": ["CAP_KILL", "CAP_SYSLOG"]}, "permitted/1"),
        ({"effective": ["CAP_KILL"]}, "effective/0"),
        ({"inheritable": ["CAP_KILL"]}, "inheritable/0"),
        ({"permitted": ["CAP_KILL"], "ambient": ["CAP_KILL"]}, "ambient/0"),
    ],
)
def test_what_cannot_be_granted_is_a_warning(sets: dict[str, list[str]], pointer: str) -> None:
    host = replace(ROOT, bounding=k.CAPABILITY_BITS["CAP_KILL"])
    (warning,) = created(capabilities(**sets), host).warnings
    assert warning.startswith(f"/process/capabilities/{pointer}: ")
    assert "ignored" in warning


def test_several_that_cannot_be_granted_are_one_warning() -> None:
    """As Buildah asks for them: ambient ones, and none inheritable."""
    names = ["CAP_KILL", "CAP_CHOWN"]
    (warning,) = created(capabilities(permitted=names, ambient=names)).warnings
    assert warning == (
        "/process/capabilities/ambient: CAP_KILL, CAP_CHOWN cannot be granted"
        " (permitted or inheritable lacks them), ignored"
    )


@given(NAMES, NAMES, NAMES, NAMES, NAMES, st.integers(0, k.ALL_CAPABILITIES), st.booleans())
def test_the_kernel_takes_every_result(
    bounding: list[str],
    permitted: list[str],
    effective: list[str],
    inheritable: list[str],
    ambient: list[str],
    host_bounding: int,
    in_user_namespace: bool,
) -> None:
    """The rules of capset(2) and PR_CAP_AMBIENT_RAISE, for a process that starts with the bounding set permitted."""
    config = capabilities(
        bounding=bounding, permitted=permitted, effective=effective, inheritable=inheritable, ambient=ambient
    )
    had = k.ALL_CAPABILITIES if in_user_namespace else host_bounding
    compiled = created(
        use_user_namespace(config) if in_user_namespace else config, replace(ROOT, bounding=host_bounding)
    )
    kept, sets = only(compiled, DropBounding).keep, only(compiled, SetCapabilities)
    assert not kept & ~had
    assert not sets.permitted & ~had
    assert not sets.effective & ~sets.permitted
    assert not sets.inheritable & ~kept
    assert not sets.ambient & ~(sets.permitted & sets.inheritable)
    asked = sum({k.CAPABILITY_BITS.get(name, 0) for name in inheritable})
    assert not sets.inheritable & ~asked  # CVE-2022-29162
    for name, words in (("bounding", bounding), ("permitted", permitted)):
        warnings = [text for text in compiled.warnings if text.startswith(f"/process/capabilities/{name}")]
        for word in words:
            granted = bool(k.CAPABILITY_BITS.get(word, 0) & had)
            assert any(word in re.findall(r"\w+", text) for text in warnings) == (not granted)


def test_rootless_grants_what_the_user_namespace_has() -> None:
    config = use_user_namespace(capabilities(bounding=["CAP_KILL"], permitted=["CAP_KILL"]))
    compiled = created(config, replace(ROOT, bounding=0))
    assert only(compiled, SetCapabilities).permitted == k.CAPABILITY_BITS["CAP_KILL"]


# ---- hooks, and the lack of a process


def test_hooks() -> None:
    hook = {"path": "/h", "args": ["h", "1"], "env": ["A=1"], "timeout": 3}
    config = small_config() | {
        "hooks": {
            "createRuntime": [{"path": "/r"}],
            "createContainer": [hook, {"path": "/g"}],
            "startContainer": [{"path": "/s"}],
            "poststop": [{"path": "/p"}],
        }
    }
    compiled = created(config)
    first, second, start = ops_of(compiled, RunHook)
    assert (first.origin, first.path, first.args, first.env, first.timeout_sec) == (
        *("/hooks/createContainer/0", "/h"),
        *(("h", "1"), ("A=1",), 3),
    )
    assert (second.args, second.env, second.timeout_sec) == (("/g",), (), 0)
    assert start.origin == "/hooks/startContainer/0"
    for op, status in ((first, "creating"), (start, "created")):
        state = json.loads(f"{op.state_head}42{op.state_tail}")
        assert state == {"ociVersion": "1.3.0", "id": "c1", "status": status, "pid": 42, "bundle": "/b"}
    kinds = [op.kind for op in ops_of(compiled, Sync)]
    assert kinds == [lib.SYNC_RUNTIME_HOOKS, lib.SYNC_DEVICES, lib.SYNC_READY]
    assert isinstance(compiled.plan.ops[-2], RunHook)


@given(
    st.dictionaries(st.sampled_from(["ociVersion", "id", "bundle", "annotations", "pid", "status"]), st.text()),
    st.integers(1, 2**31),
)
def test_state_around_the_pid_is_json(state: dict[str, str], pid: int) -> None:
    head, tail = state_around_pid(state, "creating")
    assert json.loads(f"{head}{pid}{tail}") == state | {"status": "creating", "pid": pid}


def test_without_a_process_init_waits_for_ever() -> None:
    compiled = created(without("/process"))
    assert isinstance(compiled.plan.ops[-1], WaitStart)
    assert not compiled.plan.executes()
    assert not ops_of(compiled, SetUser)


# ---- exec


def test_exec_completes_the_process_from_the_containers() -> None:
    config = with_process(
        capabilities={"bounding": ["CAP_KILL"]},
        oomScoreAdj=5,
        rlimits=[{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
        noNewPrivileges=True,
        user={"uid": 1, "gid": 1, "umask": 0o77},
    )
    spec = parse_config(config)
    bare = parse_process({"args": ["x"], "cwd": "/", "user": {"uid": 2, "gid": 2}})
    compiled = compile_exec(bare, spec, ROOT, exec_request(pointer=""))
    assert only(compiled, DropBounding).keep == k.CAPABILITY_BITS["CAP_KILL"]
    assert only(compiled, SetOomScoreAdj).value == 5
    assert only(compiled, SetRlimit).resource == 4
    assert only(compiled, SetUmask).mask == 0o77
    assert only(compiled, SetUser).uid == 2
    assert not ops_of(compiled, SetNoNewPrivileges)
    assert only(compiled, ResolveExecutable).origin == "/args/0"
    own = parse_process({"args": ["x"], "cwd": "/", "oomScoreAdj": 0, "capabilities": {}, "user": {"uid": 2, "gid": 2}})
    compiled = compile_exec(own, spec, ROOT, exec_request(pointer=""))
    assert only(compiled, SetOomScoreAdj).value == 0
    assert only(compiled, DropBounding).keep == 0


@pytest.mark.parametrize(
    ("affinity", "steps", "needs"),
    [
        ({"initial": "0-1", "final": "2"}, [b"\3", None, b"\4"], 2),
        ({"initial": "1"}, [b"\2", None], 2),
        ({"final": "0,2"}, [b"\5"], 1),
        ({}, [], 1),
    ],
)
def test_exec_affinity(affinity: Config, steps: list[bytes | None], needs: int) -> None:
    compiled = executed(with_process(execCPUAffinity=affinity))
    about = [op for op in compiled.plan.host_ops if isinstance(op, (SetCpuAffinity, JoinCgroup))]
    assert [op.mask.rstrip(b"\0") if isinstance(op, SetCpuAffinity) else None for op in about] == steps
    assert len(compiled.needs) == needs
    assert (CgroupDirectory() in compiled.needs) == (needs == 2)
    assert not ops_of(created(with_process(execCPUAffinity=affinity)), SetCpuAffinity)


def test_exec_executes_at_once() -> None:
    compiled = executed(small_config(), preserve_fds=2)
    assert not ops_of(compiled, Sync) + ops_of(compiled, WaitStart) + ops_of(compiled, RunHook)
    assert isinstance(compiled.plan.ops[-1], Execute)
    assert compiled.plan.preserve_fds == 2
    assert not executed(small_config(), no_new_keyring=True).plan.render().count("keyring")
