"""A machine for `ocirt doctor` in which everything is as it should be, and one thing at a time can be broken."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from ocirt import constants as k
from ocirt.cgroup.paths import CgroupHost
from ocirt.doctor.system import System
from ocirt.doctor.trials import CgroupTrial, Systemd, Trials
from ocirt.errors import HostError, OcirtError
from ocirt.seccomp import ALL_FLAGS
from ocirt.usermap import UserMapping

NAME = "alice"
CGROUP = "/sys/fs/cgroup/user.slice/test"


def denied(what: str) -> HostError:
    return HostError(what, "", 1)


@dataclass
class FakeTrials(Trials):
    """What is tried succeeds, but for what is named: a method, `namespace KIND`, or `cgroup STEP`."""

    failing: dict[str, OcirtError] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    flags: int = ALL_FLAGS
    host: CgroupHost | None = field(default_factory=lambda: CgroupHost("/sys/fs/cgroup", "/", "/a", "/"))
    controller_names: set[str] = field(default_factory=lambda: set("cpu cpuset io memory pids hugetlb rdma".split()))
    delegated_names: set[str] = field(default_factory=lambda: set("cpu cpuset io memory pids hugetlb rdma".split()))
    device_warning: str = ""
    mapped: list[UserMapping] = field(default_factory=list)

    def fail(self, *names: str) -> None:
        self.failing |= {name: denied(name) for name in names}

    def missing_calls(self) -> list[str]:
        return self.calls

    def init(self) -> OcirtError | None:
        return self.failing.get("init")

    def namespace(self, kind: str) -> OcirtError | None:
        return self.failing.get(f"namespace {kind}")

    def map_ids(self, mapping: UserMapping) -> OcirtError | None:
        self.mapped.append(mapping)
        return self.failing.get("map_ids")

    def container(self) -> OcirtError | None:
        return self.failing.get("container")

    def idmapped_mount(self, path: str) -> OcirtError | None:
        return self.failing.get("idmapped_mount")

    def raised_limit(self) -> OcirtError | None:
        return self.failing.get("raised_limit")

    def seccomp_filter(self, *, listener: bool = False) -> OcirtError | None:
        return self.failing.get("listener" if listener else "filter")

    def seccomp_flags(self) -> int:
        return self.flags

    def cgroup_host(self) -> CgroupHost | None:
        return self.host

    def controllers(self) -> set[str]:
        return self.controller_names

    def why_no_controller(self, name: str) -> str:
        return "the cgroups above do not have it: it is not delegated to this user or container"

    def cgroup(self) -> CgroupTrial | None:
        errors = {
            name: self.failing[f"cgroup {name}"] for name in CgroupTrial.STEPS if f"cgroup {name}" in self.failing
        }
        return CgroupTrial(CGROUP, errors, self.device_warning) if self.host else None

    def systemd(self, address: str) -> Systemd | OcirtError:
        return self.failing.get("systemd") or Systemd("252", "/user.slice/systemd")

    def controllers_of(self, cgroup: str) -> set[str]:
        assert cgroup == "/user.slice/systemd"
        return self.delegated_names

    def writable(self, directory: str) -> OcirtError | None:
        return self.failing.get("writable")


@dataclass
class Machine:
    """Files below a folder, which stand for the machine's; a user of it; and what comes of trials."""

    files: Path
    uid: int
    environ: dict[str, str] = field(default_factory=dict)
    state_root: str = "/run/ocirt"
    cgroup_manager: str = "cgroupfs"
    trials: FakeTrials = field(default_factory=FakeTrials)

    @classmethod
    def make(cls, files: Path, uid: int) -> Machine:
        machine = cls(files, uid)
        machine.status("CapEff", f"{k.ALL_CAPABILITIES if uid == 0 else 0:016x}")
        machine.status("CapBnd", f"{k.ALL_CAPABILITIES:016x}")
        machine.status("NoNewPrivs", "0")
        machine.status("Seccomp", "0")
        for path, text in _FILES.items():
            machine.write(path, text)
        for _, name in k.NAMESPACES.values():
            machine.write(f"/proc/self/ns/{name}", "")
        machine.mount("tmpfs")
        machine.write("/etc/passwd", f"root:x:0:0::/root:/bin/sh\n{NAME}:x:{uid or 1}:1::/:/bin/sh\n")
        for name in ("newuidmap", "newgidmap"):
            machine.write(f"/usr/bin/{name}", "").chmod(0o4755)
        for folder in ("/run/systemd/system", "/run/ocirt"):
            (files / folder[1:]).mkdir(parents=True)
        if uid:
            runtime = files / f"run/user/{uid}"
            runtime.mkdir(mode=0o700, parents=True)
            os.chown(runtime, uid, -1)
            machine.environ["XDG_RUNTIME_DIR"] = f"/run/user/{uid}"
            machine.environ["DBUS_SESSION_BUS_ADDRESS"] = "unix:path=/run/bus"
            machine.state_root = f"/run/user/{uid}/ocirt"
        return machine

    def path(self, path: str) -> Path:
        return self.files / path[1:]

    def write(self, path: str, text: str) -> Path:
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target

    def remove(self, path: str) -> None:
        target = self.path(path)
        target.rmdir() if target.is_dir() else target.unlink()

    def status(self, name: str, value: str) -> None:
        """Sets a line of /proc/self/status."""
        path = self.path("/proc/self/status")
        lines = path.read_text().splitlines() if path.exists() else []
        lines = [line for line in lines if not line.startswith(f"{name}:")] + [f"{name}:\t{value}"]
        self.write("/proc/self/status", "".join(f"{line}\n" for line in lines))

    def mount(self, kind: str) -> None:
        """Says of which type the file system is that all of this is on."""
        device = os.stat(self.files).st_dev
        self.write(
            "/proc/self/mountinfo",
            "20 1 8:1 / / rw - ext4 /dev/root rw\n"
            f"21 20 {os.major(device)}:{os.minor(device)} / /run rw - {kind} none rw\n"
            "22 20 0:90 / /sys/fs/resctrl rw - resctrl resctrl rw\n",
        )

    @property
    def system(self) -> System:
        return System(
            uid=self.uid,
            gid=self.uid,
            environ=self.environ,
            state_root=self.state_root,
            cgroup_manager=self.cgroup_manager,
            files=str(self.files),
        )


_FILES = {
    "/proc/sys/kernel/osrelease": "6.1.0-test\n",
    "/proc/sys/kernel/cap_last_cap": "40\n",
    "/proc/sys/kernel/seccomp/actions_avail": "kill_process kill_thread trap errno user_notif trace log allow\n",
    "/proc/sys/user/max_user_namespaces": "1000\n",
    "/proc/self/uid_map": "         0          0 4294967295\n",
    "/proc/self/cgroup": "0::/user.slice/test\n",
    "/proc/self/limits": (
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max processes             100                  200                  processes \n"
        "Max open files            1024                 4096                 files     \n"
    ),
    "/proc/filesystems": "nodev\tresctrl\n\text4\n",
    "/sys/module/apparmor/parameters/enabled": "Y\n",
    "/sys/fs/selinux/enforce": "1",
    f"/var/lib/systemd/linger/{NAME}": "",
    "/etc/subuid": f"{NAME}:100000:65536\n",
    "/etc/subgid": f"{NAME}:100000:65536\n",
    "/etc/nsswitch.conf": "passwd: files\n",
}
