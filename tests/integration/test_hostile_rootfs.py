"""Root filesystems made by an attacker: nothing outside of them is made, changed or shown.

Each test is an attack that succeeded against a runtime; SECURITY in docs/architecture.md says what must hold. `outside`
is a folder of the host that the image's symlinks point to.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import NewContainer
from tests.support.bundle import bind_entry, mount_entry
from tests.support.console import FdSocket
from tests.support.runtime import Container

pytestmark = [pytest.mark.root, pytest.mark.cgroup]


@pytest.fixture
def outside(container: Container) -> Path:
    folder = container.bundle / "outside"
    folder.mkdir()
    return folder


def use_dev_of_the_image(container: Container) -> Path:
    """Leaves out the mounts on /dev: its nodes are then made in the image's own folder, which is returned."""
    container.config["mounts"] = [entry for entry in container.mounts if not entry["destination"].startswith("/dev")]
    return container.rootfs / "dev"


def try_to_run(container: Container, *flags: str | Path) -> bool:
    """Creates and deletes it, if it can be created at all. Never may it hang."""
    result = container.create(*flags, check=False)
    assert result.rc != 124
    container.delete("--force", check=False)
    return result.rc == 0


@pytest.mark.common
@pytest.mark.known_bad("runc", "CVE-2026-41579")
@pytest.mark.parametrize("relative", [False, True])
def test_dev_is_a_symlink(container: Container, outside: Path, relative: bool) -> None:
    """CVE-2026-41579, CVE-2026-47766: device nodes, ptmx and links made on the host."""
    dev = use_dev_of_the_image(container)
    dev.rmdir()
    dev.symlink_to("../outside" if relative else outside)
    try_to_run(container)
    assert list(outside.iterdir()) == []


@pytest.mark.common
@pytest.mark.known_bad("runc", "CVE-2026-41579")
def test_dev_is_a_symlink_below_a_mount(container: Container, outside: Path) -> None:
    (container.rootfs / "dev").rmdir()
    (container.rootfs / "dev").symlink_to(outside)
    try_to_run(container)
    assert list(outside.iterdir()) == []


@pytest.mark.common
@pytest.mark.parametrize("name", ["console", "ptmx", "null", "fd", "stdin", "tty"])
def test_device_is_a_symlink_to_a_missing_file(container: Container, outside: Path, name: str) -> None:
    """CVE-2026-88264: a file made on the host."""
    dev = use_dev_of_the_image(container)
    (dev / name).symlink_to(f"../../outside/{name}")
    container.process["terminal"] = True
    with FdSocket(container.bundle / "console.sock") as listening:
        try_to_run(container, "--console-socket", listening.path)
    assert list(outside.iterdir()) == []


@pytest.mark.common
@pytest.mark.parametrize("name", ["console", "ptmx", "null", "fd", "stdin", "tty"])
def test_device_is_a_symlink_to_a_file_of_the_host(container: Container, outside: Path, name: str) -> None:
    """CVE-2026-88265: stdio redirected into it, its owner changed."""
    victim = outside / "victim"
    victim.write_text("kept")
    victim.chmod(0o600)
    dev = use_dev_of_the_image(container)
    (dev / name).symlink_to("../../outside/victim")
    container.process["user"] = {"uid": 1000, "gid": 1000}
    try_to_run(container)
    facts = victim.lstat()
    assert (victim.read_text(), facts.st_uid, facts.st_mode & 0o7777) == ("kept", 0, 0o600)


@pytest.mark.common
def test_null_device_of_the_image_as_mask(container: Container, outside: Path) -> None:
    """CVE-2025-31133, CVE-2025-62161: a link in its place puts what it points to where the mask should be."""
    (outside / "null").write_text("of the attacker")
    dev = use_dev_of_the_image(container)
    (dev / "null").symlink_to("/proc/sys/kernel/ostype")
    container.linux["maskedPaths"] = ["/proc/timer_list"]
    container.linux["readonlyPaths"] = []
    container.shell("cat /proc/timer_list")
    result = container.run(check=False)
    assert result.rc != 0 or result.out == ""


@pytest.mark.common
def test_null_device_of_the_image_is_a_file(container: Container) -> None:
    dev = use_dev_of_the_image(container)
    (dev / "null").write_text("of the attacker")
    (container.rootfs / "secret").write_text("secret")
    container.linux["maskedPaths"] = ["/secret"]
    container.shell("cat /secret")
    result = container.run(check=False)
    assert result.rc != 0 or result.out == ""


@pytest.mark.common
@pytest.mark.parametrize("name", ["proc", "sys"])
@pytest.mark.parametrize("target", ["/tmp", "/etc", "../outside"])
def test_kernel_file_system_on_a_symlink(container: Container, outside: Path, name: str, target: str) -> None:
    """CVE-2019-19921, CVE-2023-27561, CVE-2023-28642, CVE-2025-54867: it is not where it is thought to be."""
    (container.rootfs / name).rmdir()
    (container.rootfs / name).symlink_to(target)
    assert not try_to_run(container)
    assert list(outside.iterdir()) == []


@pytest.mark.common
@pytest.mark.parametrize("link", ["/../../../../..", "absolute", "../outside"])
def test_mount_point_is_made_through_a_symlink(container: Container, outside: Path, link: str) -> None:
    """CVE-2024-45310, CVE-2019-18837: folders and files made on the host."""
    (container.bundle / "source").mkdir()
    (container.bundle / "source/file").write_text("")
    (container.rootfs / "way").symlink_to(outside if link == "absolute" else link)
    container.mounts.append(bind_entry("source", f"/way/{container.id}/deep/folder"))
    container.mounts.append(bind_entry("source/file", f"/way/{container.id}-file/name"))
    try_to_run(container)
    assert list(outside.iterdir()) == []
    assert not Path("/", container.id).exists()


@pytest.mark.common
def test_file_mount_point_is_a_dangling_symlink(container: Container, outside: Path) -> None:
    (container.bundle / "source").write_text("")
    (container.rootfs / "file").symlink_to(outside / "made")
    container.mounts.append(bind_entry("source", "/file"))
    try_to_run(container)
    assert list(outside.iterdir()) == []


@pytest.mark.common
@pytest.mark.parametrize("destination", ["/../../outside/x", "../outside/x", "/mnt/../../../outside/x"])
def test_destination_goes_up(container: Container, outside: Path, destination: str) -> None:
    container.mounts.append(mount_entry(destination, "tmpfs"))
    try_to_run(container)
    assert list(outside.iterdir()) == []


@pytest.mark.common
def test_device_path_through_a_symlink(container: Container, outside: Path) -> None:
    (container.rootfs / "opt").symlink_to(outside)
    container.linux["devices"] = [{"type": "c", "major": 1, "minor": 5, "path": "/opt/sub/zero", "fileMode": 0o666}]
    try_to_run(container)
    assert list(outside.iterdir()) == []


@pytest.mark.common
def test_working_folder_through_a_symlink(container: Container, outside: Path) -> None:
    (container.rootfs / "work").symlink_to(outside)
    container.process["cwd"] = "/work/new"
    try_to_run(container)
    assert list(outside.iterdir()) == []


@pytest.mark.common
@pytest.mark.parametrize("key", ["maskedPaths", "readonlyPaths"])
def test_protected_path_through_a_symlink(container: Container, outside: Path, key: str) -> None:
    (outside / "file").write_text("kept")
    (container.rootfs / "way").symlink_to(outside)
    container.linux[key] = ["/way/file"]
    try_to_run(container)
    assert (outside / "file").read_text() == "kept"
    (outside / "file").write_text("still writable")


RENAME_EXCHANGE = 2
EXCHANGER = """
import ctypes, sys
libc = ctypes.CDLL(None)
one, two = (path.encode() for path in sys.argv[1:])
print(flush=True)
while True:
    libc.renameat2(-100, one, -100, two, 2)
"""


@pytest.fixture
def exchanging(container: Container, outside: Path) -> Iterator[None]:
    """A process that exchanges /way, a folder of the image, with a symlink to the host, all the time."""
    assert ctypes.CDLL(None).renameat2 is not None
    (container.rootfs / "way").mkdir()
    (container.rootfs / "other").symlink_to(outside)
    command = ["/usr/bin/python3", "-c", EXCHANGER, str(container.rootfs / "way"), str(container.rootfs / "other")]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield
    process.kill()
    process.communicate()


@pytest.mark.common
@pytest.mark.known_bad("runc", "CVE-2024-45310")
@pytest.mark.slow
def test_symlinks_exchanged_while_mounts_are_made(container: Container, outside: Path, exchanging: None) -> None:
    """CVE-2021-30465."""
    (container.bundle / "source").mkdir()
    for number in range(20):
        container.mounts.append(bind_entry("source", f"/way/folder-{number}/x"))
        container.mounts.append(mount_entry(f"/way/tmpfs-{number}", "tmpfs"))
    for _ in range(15):
        try_to_run(container)
        assert list(outside.iterdir()) == []


@pytest.mark.common
@pytest.mark.known_bad("runc", "CVE-2024-45310")
@pytest.mark.slow
def test_symlinks_exchanged_while_devices_are_made(container: Container, outside: Path, exchanging: None) -> None:
    container.linux["devices"] = [
        {"type": "c", "major": 1, "minor": 5, "path": f"/way/sub-{number}/zero", "fileMode": 0o666}
        for number in range(40)
    ]
    for _ in range(15):
        try_to_run(container)
        assert list(outside.iterdir()) == []


@pytest.mark.common
def test_fake_proc_swallows_no_sysctl(container: Container) -> None:
    """CVE-2019-16884, CVE-2025-52881, CVE-2025-62596: what protects is written into a file of the attacker's."""
    fake = container.rootfs / "fake/sys/net/ipv4"
    fake.mkdir(parents=True)
    (fake / "ip_forward").write_text("0")
    container.mounts[0] = mount_entry("/proc", "tmpfs", None, "tmpcopyup")
    shutil.copytree(container.rootfs / "fake", container.rootfs / "proc", dirs_exist_ok=True)
    container.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    container.linux["maskedPaths"] = container.linux["readonlyPaths"] = []
    container.process["args"] = ["/bin/sleep", "1000"]
    if container.create(check=False).rc != 0:
        return
    command = ["nsenter", "-t", str(container.pid), "-n", "cat", "/proc/sys/net/ipv4/ip_forward"]
    seen = subprocess.run(command, capture_output=True, check=True, stdin=subprocess.DEVNULL).stdout
    assert seen == b"1\n"


@pytest.mark.common
def test_bound_over_proc_redirects_no_sysctl(container: Container, outside: Path) -> None:
    (outside / "ip_forward").write_text("kept")
    container.mounts.insert(1, bind_entry(outside, "/proc/sys/net/ipv4"))
    container.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    try_to_run(container)
    assert (outside / "ip_forward").read_text() == "kept"


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 opens the FIFO and waits")
@pytest.mark.parametrize("name", ["passwd", "group"])
def test_user_database_is_a_fifo(container: Container, name: str) -> None:
    (container.rootfs / "etc" / name).unlink()
    os.mkfifo(container.rootfs / "etc" / name)
    container.process["env"] = []
    container.write_config()
    result = container.runtime.run(
        "create",
        "--bundle",
        container.bundle,
        container.id,
        check=False,
        timeout_seconds=5,
        stdout=container.bundle / "o",
    )
    assert result.rc != 124


@pytest.mark.common
def test_user_database_is_a_symlink_to_the_host(container: Container, outside: Path) -> None:
    (outside / "passwd").write_text("x:x:0:0:x:/stolen:/bin/sh\n")
    (container.rootfs / "etc/passwd").unlink()
    (container.rootfs / "etc/passwd").symlink_to(outside / "passwd")
    assert container.facts().env()["HOME"] != "/stolen"


@pytest.mark.common
def test_endless_user_database(container: Container) -> None:
    os.unlink(container.rootfs / "etc/passwd")
    with (container.rootfs / "etc/passwd").open("wb") as file:
        file.truncate(2**36)
    container.write_config()
    result = container.runtime.run("run", "--bundle", container.bundle, container.id, check=False, timeout_seconds=10)
    assert result.rc != 124


@pytest.mark.common
@pytest.mark.parametrize("odd", ["fifo", "link", "loop", "device"])
def test_copying_up_odd_files(container: Container, outside: Path, odd: str) -> None:
    (outside / "secret").write_text("secret")
    folder = container.rootfs / "data"
    folder.mkdir()
    if odd == "fifo":
        os.mkfifo(folder / "x")
    elif odd == "link":
        (folder / "x").symlink_to(outside / "secret")
    elif odd == "loop":
        (folder / "x").symlink_to("x")
    else:
        os.mknod(folder / "x", 0o020600, os.makedev(1, 5))
    container.mounts.append(mount_entry("/data", "tmpfs", None, "tmpcopyup"))
    container.shell("cat /data/x & sleep 0.1; kill $! 2>/dev/null")
    container.write_config()
    result = container.runtime.run("run", "--bundle", container.bundle, container.id, check=False, timeout_seconds=8)
    assert result.rc != 124
    assert "secret" not in result.out


@pytest.mark.common
def test_runtimes_executable_cannot_be_reached(container: Container) -> None:
    """CVE-2019-5736: /proc/1/exe of a created container cannot be written."""
    container.create()
    link = f"/proc/{container.pid}/exe"
    with pytest.raises(OSError, match=r"\[Errno (1|26|30)\]"):
        os.close(os.open(link, os.O_WRONLY))


def test_init_is_no_file_of_the_host(container: Container) -> None:
    container.create()
    assert os.readlink(f"/proc/{container.pid}/exe").startswith("/memfd:")


@pytest.mark.parametrize("program", ["/proc/self/exe", "/proc/1/exe"])
def test_program_is_the_runtimes_executable(container: Container, program: str) -> None:
    """CVE-2019-5736: the image has the runtime execute itself in the container."""
    container.process["args"] = [program, "--version"]
    result = container.run(check=False)
    assert "version" not in result.out
    container.delete("--force", check=False)


@pytest.mark.common
@pytest.mark.parametrize("number", range(3, 12))
def test_working_folder_is_a_descriptor_of_the_hosts(container: Container, number: int) -> None:
    """CVE-2024-21626."""
    container.process["cwd"] = f"/proc/self/fd/{number}"
    container.process["args"] = ["/bin/sh", "-c", "ls -d ../../../../root ../../../../work 2>/dev/null; /bin/pwd"]
    result = container.run(check=False)
    assert result.rc != 0 or str(container.bundle) not in result.out


@pytest.mark.common
@pytest.mark.parametrize("number", range(3, 12))
def test_exec_working_folder_is_a_descriptor_of_the_hosts(container: Container, number: int) -> None:
    """The descriptor of the container's own root would do no harm."""
    container.hold()
    result = container.exec("--cwd", f"/proc/self/fd/{number}", "/bin/stat", "-c", "%i", ".", check=False)
    assert result.rc != 0 or int(result.out) == container.rootfs.stat().st_ino


@pytest.mark.common
@pytest.mark.parametrize("number", range(3, 12))
def test_program_is_reached_through_a_descriptor_of_the_hosts(container: Container, number: int) -> None:
    container.process["args"] = [f"/proc/self/fd/{number}/bin/true"]
    result = container.run(check=False)
    assert result.rc != 0


@pytest.mark.common
def test_container_of_an_image_without_any_folder(container: Container, new: NewContainer) -> None:
    """Everything that is needed is made, or the refusal says what isn't there."""
    shutil.rmtree(container.rootfs)
    container.rootfs.mkdir()
    shutil.copy(new().rootfs / "probe", container.rootfs / "probe")
    assert container.facts().mount("/proc").kind == "proc"
