"""Limits, scheduling and memory policy of the process; its cgroup and its umask."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
from pathlib import Path

import pytest

from ocirt import constants as k
from ocirt import ops
from ocirt._native import lib
from tests.c.init_runner import InitRunner, failing, shell, syscall_number


@pytest.mark.root
@pytest.mark.cgroup
def test_cgroup(init: InitRunner, token: str) -> None:
    cgroup = Path("/sys/fs/cgroup") / f"{token}-join"
    cgroup.mkdir()
    fd = os.open(cgroup, os.O_PATH)
    try:
        outcome = init.run(ops.JoinCgroup("", 0), *shell("cat /proc/self/cgroup"), slots=[fd])
        assert f"0::/{token}-join" in outcome.text().splitlines()
    finally:
        os.close(fd)
        cgroup.rmdir()


def test_cgroup_that_is_none(init: InitRunner, tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_PATH)
    try:
        outcome = init.run(ops.JoinCgroup("", 0), slots=[fd])
    finally:
        os.close(fd)
    assert (outcome.error, outcome.detail) == (errno.ENOENT, "openat cgroup.procs")


def test_cpu_affinity(init: InitRunner) -> None:
    cpu = max(os.sched_getaffinity(0))
    affinity = ops.SetCpuAffinity("/process/execCPUAffinity", k.to_bitmask({cpu}))
    outcome = init.run(affinity, *shell("grep Cpus_allowed_list: /proc/self/status"))
    assert outcome.text().split() == ["Cpus_allowed_list:", str(cpu)]


def test_cpu_affinity_to_no_cpu(init: InitRunner) -> None:
    outcome = init.run(ops.SetCpuAffinity("/process/execCPUAffinity", bytes(8)))
    assert (outcome.error, outcome.detail) == (errno.EINVAL, "sched_setaffinity")


def test_rlimit(init: InitRunner) -> None:
    limit = ops.SetRlimit("/process/rlimits/0", k.RLIMITS["RLIMIT_NOFILE"], 50, 60)
    assert init.run(limit, *shell("ulimit -Sn; ulimit -Hn")).text().split() == ["50", "60"]


def test_rlimit_infinity(init: InitRunner) -> None:
    """The kernel's "no limit" is the largest number of 64 bits, whatever the libc makes of it."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    if hard != resource.RLIM_INFINITY:
        pytest.skip("needs an unlimited RLIMIT_CPU")
    limit = ops.SetRlimit("/process/rlimits/0", k.RLIMITS["RLIMIT_CPU"], k.RLIM_INFINITY, k.RLIM_INFINITY)
    assert init.run(limit, *shell("ulimit -St")).text() == "unlimited\n"


def test_rlimit_with_soft_above_hard(init: InitRunner) -> None:
    outcome = init.run(ops.SetRlimit("/process/rlimits/0", k.RLIMITS["RLIMIT_NOFILE"], 60, 50))
    assert (outcome.error, outcome.detail) == (errno.EINVAL, "prlimit64 RLIMIT_NOFILE")
    assert outcome.message == "/process/rlimits/0: set RLIMIT_NOFILE 60:50: prlimit64 RLIMIT_NOFILE: invalid argument"


def test_rlimit_that_is_unknown(init: InitRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(k.RLIMIT_NAMES, 99, "RLIMIT_99")
    outcome = init.run(ops.SetRlimit("/process/rlimits/0", 99, 1, 1))
    assert (outcome.error, outcome.detail) == (errno.EINVAL, "prlimit64 unknown resource")


def test_scheduler(init: InitRunner) -> None:
    batch = ops.SetScheduler("/process/scheduler", k.SCHEDULER_POLICIES["SCHED_BATCH"], nice=7)
    fields = init.run(batch, *shell("cat /proc/self/stat")).text().rpartition(")")[2].split()
    assert (fields[16], fields[38]) == ("7", "3")  # nice and policy (proc(5), /proc/pid/stat)


@pytest.mark.root
def test_scheduler_with_a_deadline(init: InitRunner) -> None:
    deadline = ops.SetScheduler(
        "/process/scheduler",
        k.SCHEDULER_POLICIES["SCHED_DEADLINE"],
        flags=k.SCHEDULER_FLAGS["SCHED_FLAG_RESET_ON_FORK"],
        runtime_nsec=1_000_000,
        deadline_nsec=50_000_000,
        period_nsec=100_000_000,
    )
    outcome = init.run(
        deadline, ops.ResolveExecutable("", "cat", "/bin"), ops.Execute("", ("cat", "/proc/self/stat"), ())
    )
    assert outcome.text().rpartition(")")[2].split()[38] == "6"


def test_scheduler_that_no_kernel_has(init: InitRunner) -> None:
    outcome = init.run(ops.SetScheduler("/process/scheduler", k.SCHEDULER_POLICIES["SCHED_ISO"]))
    assert (outcome.error, outcome.detail) == (errno.EINVAL, "sched_setattr")


def test_io_priority(init: InitRunner) -> None:
    value = 2 << k.IOPRIO_CLASS_SHIFT | 6  # best-effort
    with init.start(ops.SetIoPriority("/process/ioPriority", value), ops.Sync("", lib.SYNC_READY)) as running:
        running.serve(until=lib.SYNC_READY)
        assert ctypes.CDLL(None).syscall(syscall_number("ioprio_get"), 1, running.pid) == value  # IOPRIO_WHO_PROCESS


def test_io_priority_of_an_unknown_class(init: InitRunner) -> None:
    outcome = init.run(ops.SetIoPriority("/process/ioPriority", 7 << k.IOPRIO_CLASS_SHIFT))
    assert (outcome.error, outcome.detail) == (errno.EINVAL, "ioprio_set")


def test_personality(init: InitRunner) -> None:
    linux32 = ops.SetPersonality("/linux/personality", k.PERSONALITIES["LINUX32"])
    assert init.run(linux32, *shell("cat /proc/self/personality")).text() == "00000008\n"


def test_personality_that_is_refused(init: InitRunner) -> None:
    """Seccomp profiles allow some alone."""
    linux32 = ops.SetPersonality("/linux/personality", k.PERSONALITIES["LINUX32"])
    outcome = init.run(ops.SetNoNewPrivileges(""), failing(personality=errno.EPERM), linux32)
    assert (outcome.error, outcome.detail) == (errno.EPERM, "personality")


@pytest.mark.skipif(not Path("/proc/self/numa_maps").exists(), reason="needs a kernel with memory policies")
def test_memory_policy(init: InitRunner) -> None:
    bind = ops.SetMemoryPolicy("/linux/memoryPolicy", k.MEMORY_POLICY_MODES["MPOL_BIND"], k.to_bitmask({0}))
    assert " bind:0 " in init.run(bind, *shell("cat /proc/self/numa_maps")).text()


@pytest.mark.parametrize("mode", ["MPOL_DEFAULT", "MPOL_LOCAL", "MPOL_PREFERRED"])
def test_memory_policy_without_nodes(init: InitRunner, mode: str) -> None:
    outcome = init.run(ops.SetMemoryPolicy("/linux/memoryPolicy", k.MEMORY_POLICY_MODES[mode], b""), *shell("echo set"))
    if Path("/proc/self/numa_maps").exists():
        assert outcome.text() == "set\n"
    else:
        assert (outcome.error, outcome.detail) == (errno.ENOSYS, "set_mempolicy")


@pytest.mark.skipif(not Path("/proc/self/numa_maps").exists(), reason="needs a kernel with memory policies")
def test_memory_policy_counts_the_last_node_of_a_word(init: InitRunner) -> None:
    """set_mempolicy(2) takes one bit less than it is told: node 63 must not vanish from the mask, but be refused."""
    preferred = ops.SetMemoryPolicy("/linux/memoryPolicy", k.MEMORY_POLICY_MODES["MPOL_PREFERRED"], k.to_bitmask({63}))
    outcome = init.run(preferred)
    assert (outcome.error, outcome.detail) == (errno.EINVAL, "set_mempolicy")


def test_memory_policy_that_is_unknown(init: InitRunner) -> None:
    outcome = init.run(ops.SetMemoryPolicy("/linux/memoryPolicy", 999, b""))
    assert (outcome.error, outcome.detail) in [(errno.EINVAL, "set_mempolicy"), (errno.ENOSYS, "set_mempolicy")]


def test_umask_is_the_programs(init: InitRunner) -> None:
    assert init.run(ops.SetUmask("/process/user/umask", 0o027), *shell("umask")).text() == "0027\n"


def test_umask_is_the_callers_without_one(init: InitRunner) -> None:
    before = os.umask(0o026)
    try:
        assert init.run(*shell("umask")).text() == "0026\n"
    finally:
        os.umask(before)
