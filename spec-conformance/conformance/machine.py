"""What this machine has, in the words of the requirements' `needs`, and what is on it at a moment."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import socket
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.support import isolation, leaks
from tests.support.runtime import Runtime

SYS_GET_MEMPOLICY = {"x86_64": 239, "aarch64": 236}


def why_not(need: str, runtime: Runtime) -> str | None:
    """The reason why what a requirement needs is not there, or None. Raises KeyError for an unknown need."""
    kind, _, value = need.partition(":")
    if kind == "kernel":
        return None if kernel_version() >= tuple(map(int, value.split("."))) else f"needs Linux {value}"
    if kind == "controller":
        return isolation.why_no_controllers(value) or _why_no_cgroups_by(runtime)
    if kind == "cgroup2":
        return isolation.why_no_cgroup() or _why_no_cgroups_by(runtime)
    if kind in ("exec", "update", "features"):
        return None if has_command(runtime, kind) else f"{runtime.name} has no command {kind}"
    return None if _HAS[kind]() else f"needs {kind}"


def _why_no_cgroups_by(runtime: Runtime) -> str | None:
    manager = "--cgroup-manager=disabled"
    return f"{runtime.name} is called with {manager}" if manager in runtime.command else None


@cache
def has_command(runtime: Runtime, name: str) -> bool:
    """Whether the runtime has a command beyond the five operations."""
    arguments = [name] if name == "features" else [name, "--help"]
    return runtime.run(*arguments, check=False).rc == 0


def kernel_version() -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"[0-9]+", platform.release())[:2]))


def _in_child(action: Callable[[], object]) -> bool:
    """Whether an action succeeds in a forked process, which it may change as it likes."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def _may_schedule_realtime() -> bool:
    return _in_child(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)))


def _has_user_namespaces() -> bool:
    return (
        subprocess.run(
            ["unshare", "--user", "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False
        ).returncode
        == 0
    )


def _has_memory_policies() -> bool:
    number = SYS_GET_MEMPOLICY.get(platform.machine())
    return number is not None and ctypes.CDLL(None).syscall(number, None, None, 0, None, 0) == 0


def _has_network_devices() -> bool:
    """Whether a pair of virtual Ethernet devices can be made, in a network namespace that goes with its process."""
    return _succeeds(*"unshare --net ip link add v0 type veth peer name v1".split())


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _is_dir_with_entries(path: str) -> bool:
    return os.path.isdir(path) and bool(os.listdir(path))


def disks() -> list[tuple[int, int]]:
    """The numbers of the whole block devices that have sectors, those that stand for files or memory last."""
    found = [path for path in sorted(Path("/sys/block").iterdir()) if int(_text(f"{path}/size") or 0) > 0]
    found.sort(key=lambda path: path.name.startswith(("loop", "ram", "zram", "nbd")))
    numbers = [_text(f"{path}/dev").split(":") for path in found]
    return [(int(major), int(minor)) for major, minor in numbers]


def _has_device_weights() -> bool:
    """Whether the first disk is scheduled by weights: by BFQ, or by the model of io.cost."""
    for major, minor in disks()[:1]:
        models = _text(f"{isolation.CGROUP}/io.cost.qos").splitlines()
        modelled = any(line.startswith(f"{major}:{minor} enable=1") for line in models)
        return modelled or "[bfq]" in _text(f"/sys/dev/block/{major}:{minor}/queue/scheduler")
    return False


def rdma_devices() -> list[str]:
    """The names of the machine's RDMA devices."""
    folder = Path("/sys/class/infiniband")
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


_HAS: dict[str, Callable[[], bool]] = {
    "apparmor": lambda: _text("/sys/module/apparmor/parameters/enabled").startswith("Y"),
    "block-device": lambda: bool(disks()),
    # Version 1 alone at the usual place: this session puts version 2 there, wherever the machine has it.
    "cgroup1": lambda: not isolation.is_cgroup2(isolation.CGROUP) and os.path.isdir("/sys/fs/cgroup/pids"),
    "device-weights": _has_device_weights,
    "hugepages": lambda: _is_dir_with_entries("/sys/kernel/mm/hugepages"),
    "idmapped-mounts": lambda: kernel_version() >= (5, 12) and _has_user_namespaces(),
    "netdev": cache(_has_network_devices),
    "numa": cache(_has_memory_policies),
    "rdma": lambda: bool(rdma_devices()),
    "realtime": cache(_may_schedule_realtime),
    "resctrl": lambda: os.path.exists("/sys/fs/resctrl/schemata"),
    "resctrl-monitoring": lambda: os.path.isdir("/sys/fs/resctrl/mon_groups"),
    "selinux": lambda: os.path.exists("/sys/fs/selinux/enforce"),
    "swap": lambda: len(_text("/proc/swaps").splitlines()) > 1,
    "time-namespace": lambda: os.path.exists("/proc/self/ns/time"),
    "user-namespace": cache(_has_user_namespaces),
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What an operation could have left or changed: names below the state directory, mounts, cgroups, processes and
    network interfaces. Only what belongs to this session counts."""

    state: frozenset[str]
    mounts: tuple[str, ...]
    cgroups: frozenset[str]
    processes: dict[int, str]
    interfaces: frozenset[str]

    @classmethod
    def take(cls, runtime: Runtime, token: str) -> Snapshot:
        names = {str(path.relative_to(runtime.root)) for path in runtime.root.rglob("*")}
        return cls(
            # A lock file of the whole directory is nothing of a container's.
            frozenset(name for name in names if not name.startswith(".")),
            tuple(leaks.mounts()),
            frozenset(leaks.cgroups(token)),
            leaks.descendants(),
            frozenset(name for _, name in socket.if_nameindex()),
        )

    def changes(self, later: Snapshot) -> list[str]:
        """What is there later and was not, or the other way round, a line each."""
        found = [f"process {pid} {later.processes[pid]}" for pid in later.processes.keys() - self.processes.keys()]
        found += [f"no process {pid} {self.processes[pid]}" for pid in self.processes.keys() - later.processes.keys()]
        for name, before, after in (
            ("mount", Counter(self.mounts), Counter(later.mounts)),
            ("cgroup", Counter(self.cgroups), Counter(later.cgroups)),
            ("state directory's", Counter(self.state), Counter(later.state)),
            ("interface", Counter(self.interfaces), Counter(later.interfaces)),
        ):
            found += [f"{name} {what}" for what in sorted((after - before).elements())]
            found += [f"no {name} {what}" for what in sorted((before - after).elements())]
        return found
