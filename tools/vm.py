#!/usr/bin/env python3
"""Runs a command in a virtual machine with pure cgroup v2 and every controller: the bed of the tests that need those.

    vm.py [--systemd] [--timeout SECONDS] -- COMMAND [ARG...]

The guest is this machine's root file system, read-only below an overlay, under a kernel of the distribution: the
command sees this tree at its path, may write everywhere, and changes nothing here. Its output is this command's, and so
is its exit code. 77 says that QEMU or a kernel is missing, 124 that the time was up, and 125 that the machine failed;
each with one line that says what is wrong, and the console's last lines where there are any.

Guarantees: it ends within its time limit plus some seconds, and then neither a process nor a file of it is left.
Several may run at the same time. With --systemd, systemd is the first process, and the system's bus is up.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import vm_image

TREE = Path(__file__).resolve().parent.parent
CACHE = TREE / "build" / "vm"
QEMU = "qemu-system-x86_64"
BUSYBOX = Path("/bin/busybox")
SYSTEMD = Path("/lib/systemd/systemd")
EXIT_MISSING, EXIT_TIME, EXIT_MACHINE = 77, 124, 125
BOOT_SECONDS = 300
KVM_PROBE_SECONDS = 15
CONSOLE_LINES = 25
DISK_BYTES = 1 << 30

# What the guest's systemd starts: the bus, logins (for users' own service managers), and the command.
UNITS = {
    "ocirt-vm.target": """\
[Unit]
Requires=ocirt-vm.service
AllowIsolate=yes
""",
    "ocirt-vm.service": """\
[Unit]
Requires=dbus.service
Wants=systemd-logind.service
After=dbus.service systemd-logind.service systemd-user-sessions.service
[Service]
ExecStart=/run/ocirt-vm/session.sh
Delegate=yes
TimeoutStartSec=infinity
LimitNOFILE=1024:1048576
TasksMax=infinity
""",
}

# Parts of a system's start that take half of its time in emulation and give the tests nothing.
NOT_NEEDED_UNITS = (
    "systemd-udev-trigger.service systemd-timesyncd.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount"
    " systemd-journal-flush.service systemd-sysusers.service systemd-update-utmp.service systemd-modules-load.service"
    " systemd-random-seed.service kmod-static-nodes.service apparmor.service e2scrub_reap.service"
    " keyboard-setup.service console-setup.service modprobe@configfs.service modprobe@drm.service"
    " modprobe@efi_pstore.service modprobe@fuse.service modprobe@dm_mod.service modprobe@loop.service"
).split()


class BedError(Exception):
    """What keeps the machine from running the command, in one line, with this command's exit code."""

    def __init__(self, message: str, code: int, console: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.console = console


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel's image and its folder of modules."""

    image: Path
    modules: Path


def find_kernel(boot: Path = Path("/boot"), modules: Path = Path("/lib/modules")) -> Kernel:
    """The newest kernel that can be read and has its modules. Raises BedError."""
    images = {path.name.removeprefix("vmlinuz-"): path for path in boot.glob("vmlinuz-*") if os.access(path, os.R_OK)}
    for version in sorted(images, key=vm_image.version_key, reverse=True):
        if (modules / version / "modules.dep").exists():
            return Kernel(images[version], modules / version)
    raise BedError("no kernel with its modules in /boot (apt-get install linux-image-amd64)", EXIT_MISSING)


def check_host(systemd: bool) -> Kernel:
    """Whether all that the bed needs is installed. Returns the kernel to boot; raises BedError."""
    if platform.machine() != "x86_64":
        raise BedError(f"the test bed is for x86_64 and this is {platform.machine()}", EXIT_MISSING)
    if shutil.which(QEMU) is None:
        raise BedError(f"{QEMU} is not installed (apt-get install qemu-system-x86)", EXIT_MISSING)
    if not BUSYBOX.exists():
        raise BedError("busybox is not installed (apt-get install busybox-static)", EXIT_MISSING)
    if systemd and not SYSTEMD.exists():
        raise BedError("systemd is not installed (apt-get install systemd dbus)", EXIT_MISSING)
    return find_kernel()


@dataclass(frozen=True, slots=True)
class Machine:
    """What to boot, and what to run in it."""

    kernel: Kernel
    command: Sequence[str]
    systemd: bool = False
    accelerator: str = "tcg"
    memory_mib: int = 3072
    cpus: int = 2

    def initramfs(self) -> bytes:
        """The archive with everything that the guest needs before it sees the host's root."""
        settings = f"TREE={shlex.quote(str(TREE))}\nINIT={'systemd' if self.systemd else 'plain'}\n"
        command = f"cd {shlex.quote(str(TREE))} || exit 126\nexec {shlex.join(self.command)}\n"
        files = {
            "init": (TREE / "tools" / "vm_init.sh").read_bytes(),
            "bin/busybox": BUSYBOX.read_bytes(),
            "tree.tar": vm_image.tree_archive(TREE),
            "bin/sh": BUSYBOX.read_bytes(),
            "bed/settings": settings.encode(),
            "bed/session.sh": (TREE / "tools" / "vm_session.sh").read_bytes(),
            "bed/command.sh": command.encode(),
            **{f"units/{name}": text.encode() for name, text in UNITS.items()},
            **vm_image.kernel_files(self.kernel.modules),
        }
        return vm_image.cpio_archive(files, executables=("init", "bin/busybox", "bin/sh", "bed/session.sh"))

    def kernel_arguments(self) -> str:
        arguments = ["console=ttyS0", "earlyprintk=ttyS0", "panic=-1", "loglevel=6", "random.trust_cpu=on"]
        # No controller can be had in cgroup v1. Some huge pages are there for the tests of their limits.
        arguments += ["cgroup_no_v1=all", "hugepages=8"]
        # What emulation makes slow: reading the timer at each look at the clock, and clearing each page twice.
        arguments += ["tsc=reliable", "clocksource=tsc", "mitigations=off", "init_on_alloc=0", "audit=0"]
        if self.systemd:
            arguments += ["systemd.unit=ocirt-vm.target", "systemd.unified_cgroup_hierarchy=1", "fstab=no"]
            arguments += ["systemd.gpt_auto=no", "systemd.show_status=error", "systemd.log_target=console"]
            arguments += [f"systemd.mask={unit}" for unit in NOT_NEEDED_UNITS]
        return " ".join(arguments)

    def qemu_arguments(self, folder: Path, ports: dict[str, int]) -> list[str]:
        """QEMU's command line. `folder` has the initramfs and the disk; `ports`: name and descriptor of each."""
        cpu = "host" if self.accelerator == "kvm" else "max"
        arguments = [QEMU, "-M", "q35", "-accel", self.accelerator, "-cpu", cpu, "-smp", str(self.cpus)]
        arguments += ["-m", str(self.memory_mib), "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
        arguments += ["-kernel", str(self.kernel.image), "-initrd", str(folder / "initramfs")]
        arguments += ["-append", self.kernel_arguments()]
        arguments += ["-chardev", f"file,id=console,path={folder / 'console'}", "-serial", "chardev:console"]
        arguments += ["-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"]
        arguments += ["-device", "virtio-9p-pci,fsdev=host,mount_tag=host", "-device", "virtio-rng-pci"]
        arguments += ["-drive", f"if=none,id=disk,format=raw,file={folder / 'disk'}"]
        arguments += ["-device", "virtio-blk-pci,drive=disk", "-device", "virtio-serial-pci"]
        for name, descriptor in ports.items():
            # The guest's end of a pipe: reopening it by its link in /proc is how QEMU takes a descriptor as a file.
            arguments += ["-chardev", f"file,id={name},path=/proc/self/fd/{descriptor}"]
            arguments += ["-device", f"virtserialport,name=ocirt.{name},chardev={name}"]
        return arguments


@dataclass(slots=True)
class Progress:
    """What the guest has said of itself."""

    text: str = ""
    started: float = field(default_factory=time.monotonic)
    up_seconds: float | None = None
    status: int | None = None

    def feed(self, data: bytes) -> None:
        self.text += data.decode("ascii", "replace")
        for line in self.text.splitlines():
            kind, _, value = line.partition(" ")
            if kind == "up" and self.up_seconds is None:
                self.up_seconds = time.monotonic() - self.started
            if kind == "exit" and self.text.endswith("\n"):
                self.status = int(value)


@contextlib.contextmanager
def qemu_running(machine: Machine) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, int], Path]]:
    """QEMU in a session of its own, which is killed at the end: process, pipes to read by name, folder of its files."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ocirt-vm-")))
        (folder / "initramfs").write_bytes(machine.initramfs())
        with (folder / "disk").open("wb") as disk:
            disk.truncate(DISK_BYTES)
        reading, writing = {}, {}
        for name in ("stdout", "stderr", "result"):
            reading[name], writing[name] = os.pipe()
            stack.callback(os.close, reading[name])
        arguments = machine.qemu_arguments(folder, writing)
        messages = stack.enter_context((folder / "qemu").open("wb"))
        try:
            process = subprocess.Popen(
                # Should this process be killed, QEMU must not stay.
                ["setpriv", "--pdeathsig", "KILL", "--", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=messages,
                stderr=subprocess.STDOUT,
                pass_fds=list(writing.values()),
                start_new_session=True,
            )
        finally:
            for descriptor in writing.values():
                os.close(descriptor)
        stack.callback(end_group, process)
        yield process, reading, folder


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kills a process that leads a group, with that group, and reaps it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def console_tail(folder: Path) -> str:
    """The last lines of QEMU's own messages and of the guest's console."""
    lines: list[str] = []
    for name in ("qemu", "console"):
        with contextlib.suppress(FileNotFoundError):
            lines += (folder / name).read_text(errors="replace").splitlines()
    return "\n".join(line.rstrip() for line in lines[-CONSOLE_LINES:])


def run(machine: Machine, timeout_seconds: float, *, quiet: bool = False) -> Progress:
    """Runs the machine's command to its end, copying its output. `timeout_seconds` is for all. Raises BedError."""
    progress = Progress()
    with qemu_running(machine) as (process, pipes, folder), selectors.DefaultSelector() as selector:
        for name, descriptor in pipes.items():
            selector.register(descriptor, selectors.EVENT_READ, name)
        while selector.get_map() and progress.status is None:
            passed = time.monotonic() - progress.started
            if passed > timeout_seconds:
                where = "did not boot" if progress.up_seconds is None else "was not through"
                raise BedError(f"the machine {where} in {timeout_seconds:g} s", EXIT_TIME, console_tail(folder))
            if progress.up_seconds is None and passed > BOOT_SECONDS:
                raise BedError(f"the machine did not boot in {BOOT_SECONDS} s", EXIT_MACHINE, console_tail(folder))
            copy_output(selector, progress, quiet)
        # The guest says that it is through after the last byte of the output, which is in the pipes by then.
        end_group(process)
        while selector.get_map():
            copy_output(selector, progress, quiet)
        if progress.status is None:
            raise BedError("the machine ended before the command did", EXIT_MACHINE, console_tail(folder))
    return progress


def copy_output(selector: selectors.BaseSelector, progress: Progress, quiet: bool) -> None:
    """Copies what is in the pipes, after a wait for it of one second at most."""
    for key, _ in selector.select(timeout=1):
        data = os.read(key.fd, 65536)
        if not data:
            selector.unregister(key.fd)
        elif key.data == "result":
            progress.feed(data)
        elif not quiet:
            stream = sys.stdout if key.data == "stdout" else sys.stderr
            stream.buffer.write(data)
            stream.buffer.flush()


def kvm_works(kernel: Kernel) -> bool:
    """Whether a guest really runs with KVM: /dev/kvm may open where guests hang. Remembered until the next boot."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    known = CACHE / f"kvm-{boot}"
    with contextlib.suppress(FileNotFoundError):
        return known.read_text() == "works"
    try:
        works = run(Machine(kernel, ["true"], accelerator="kvm"), KVM_PROBE_SECONDS, quiet=True).status == 0
    except BedError:
        works = False
    CACHE.mkdir(parents=True, exist_ok=True)
    known.write_text("works" if works else "hangs")
    return works


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vm.py", description="runs a command in a machine with pure cgroup v2")
    parser.add_argument("--systemd", action="store_true", help="with systemd as the first process")
    parser.add_argument("--timeout", type=float, default=1800, metavar="SECONDS", help="for all; default 1800")
    parser.add_argument("--memory", type=int, default=3072, metavar="MIB", help="default 3072")
    parser.add_argument("--accel", choices=("auto", "kvm", "tcg"), default="auto", help="auto: KVM where it works")
    parser.add_argument("--check", action="store_true", help="say only whether all that is needed is installed")
    parser.add_argument("--verbose", action="store_true", help="say how long the boot and the command took")
    parser.add_argument("command", nargs="*", metavar="COMMAND")
    options = parser.parse_args(arguments)
    if not options.command and not options.check:
        parser.error("COMMAND is missing")
    return options


def on_signal(number: int, _: FrameType | None) -> None:
    """A signal that ends this command ends the machine too, on the way out."""
    sys.exit(128 + number)


def main(arguments: Sequence[str]) -> int:
    options = parse_arguments(arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    try:
        kernel = check_host(options.systemd)
        if options.check:
            return 0
        accelerator = options.accel
        if accelerator == "auto":
            accelerator = "kvm" if kvm_works(kernel) else "tcg"
        machine = Machine(kernel, options.command, options.systemd, accelerator, options.memory)
        progress = run(machine, options.timeout)
    except BedError as error:
        if error.console:
            print(error.console, file=sys.stderr)
        print(f"vm.py: {error}", file=sys.stderr)
        return error.code
    assert progress.status is not None
    if options.verbose:
        total = time.monotonic() - progress.started
        print(
            f"vm.py: {accelerator}, up after {progress.up_seconds:.1f} s, through after {total:.1f} s", file=sys.stderr
        )
    return progress.status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
