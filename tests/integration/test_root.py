"""root, rootfsPropagation, masked and read-only paths, and how the root is changed."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.isolation import mount, umount
from tests.support.runtime import Container

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

EROFS, ENOENT, EACCES = 30, 2, 13


@pytest.mark.common
@pytest.mark.parametrize("readonly", [True, False])
def test_readonly(container: Container, readonly: bool) -> None:
    container.config["root"]["readonly"] = readonly
    facts = container.facts("/etc/passwd")
    assert facts.path("/etc/passwd")["write_errno"] == (EROFS if readonly else 0)
    assert ("ro" in facts.mount("/").options) is readonly


@pytest.mark.common
def test_readonly_root_does_not_change_the_hosts_mount(container: Container) -> None:
    container.config["root"]["readonly"] = True
    container.create()
    (container.rootfs / "still-writable").write_text("")


@pytest.mark.common
def test_absolute_root_path(container: Container, scratch: Path) -> None:
    elsewhere = container.bundle / "elsewhere"
    container.rootfs.rename(elsewhere)
    container.config["root"]["path"] = str(elsewhere)
    container.shell("echo there")
    assert container.run().out == "there\n"


@pytest.mark.common
def test_root_path_with_odd_characters(container: Container) -> None:
    name = "a b\\c\tü%s"
    container.rootfs.rename(container.bundle / name)
    container.config["root"]["path"] = name
    container.shell("echo there")
    assert container.run().out == "there\n"
    shutil.rmtree(container.bundle / name)


@pytest.mark.common
def test_missing_root(container: Container) -> None:
    container.config["root"]["path"] = "nowhere"
    container.refused()


def test_missing_root_names_its_pointer(container: Container) -> None:
    container.config["root"]["path"] = "nowhere"
    error = container.refused()
    assert "/root/path" in error
    assert "no such file or directory" in error


@pytest.mark.common
def test_root_that_is_a_file(container: Container) -> None:
    (container.bundle / "file").write_text("")
    container.config["root"]["path"] = "file"
    container.refused()


@pytest.mark.common
def test_root_of_the_host_is_refused(container: Container) -> None:
    container.config["root"]["path"] = "/"
    container.refused()


@pytest.mark.common
def test_root_on_a_file_system_of_its_own(container: Container) -> None:
    target = container.bundle / "tmpfs"
    target.mkdir()
    mount("tmpfs", str(target), "tmpfs", 0, "mode=755")
    try:
        shutil.copytree(container.rootfs, target, symlinks=True, dirs_exist_ok=True)
        container.config["root"]["path"] = str(target)
        assert container.facts().mount("/").kind == "tmpfs"
    finally:
        umount(str(target))


@pytest.mark.common
def test_no_pivot(container: Container) -> None:
    """For a root on an initramfs; the program sees its root all the same."""
    container.shell("cat /etc/os-release; ls / | grep -c work")
    assert 'NAME="busybox"' in container.run("--no-pivot", check=False).out


@pytest.mark.common
def test_host_root_cannot_be_reached(container: Container) -> None:
    container.shell("ls -i -d / /.. /../.. | sed 's/ .*//' | sort -u | wc -l")
    assert container.run().out == "1\n"


@pytest.mark.common
@pytest.mark.known_bad("runc", "its exec joins the mount namespace at its root, which is that outside of the chroot")
@pytest.mark.parametrize("flags", [(), ("--no-pivot",)], ids=["pivot", "move"])
def test_runtime_in_a_chroot(container: Container, tmp_path: Path, flags: tuple[str, ...]) -> None:
    """What was "/" outside of the chroot is gone as well: exec would be there, and any process that may setns(2)."""
    script = 'mount --rbind / "$0" && exec chroot "$0" "$@"'
    chroot = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(tmp_path))
    container.runtime = replace(container.runtime, command=(*chroot, *container.runtime.command))
    container.hold(*flags)
    assert container.exec("/bin/ls", "/").out.split() == sorted(os.listdir(container.rootfs))
    mounts = container.exec("/bin/cat", "/proc/self/mountinfo").out.splitlines()
    assert mounts[0].split()[4] == "/"
    assert not [line for line in mounts if str(tmp_path) in line.split()[4]]


@pytest.mark.common
@pytest.mark.parametrize("given", ["private", "rprivate", "slave", "rslave"])
def test_rootfs_propagation(container: Container, given: str) -> None:
    container.linux["rootfsPropagation"] = given
    assert "shared" not in container.facts().mount("/").propagation


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 binds an unbindable root onto itself")
def test_unbindable_rootfs(container: Container) -> None:
    container.linux["rootfsPropagation"] = "unbindable"
    assert "unbindable" in container.facts().mount("/").propagation


def test_shared_rootfs(container: Container) -> None:
    container.linux["rootfsPropagation"] = "shared"
    assert "shared" in container.facts().mount("/").propagation


@pytest.mark.common
def test_mounts_of_the_container_stay_in_it(container: Container) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    container.create()
    assert Path("/proc/self/mountinfo").read_text() == before


@pytest.mark.common
def test_mounts_of_the_host_reach_a_slave(container: Container) -> None:
    shared = container.bundle / "shared"
    shared.mkdir()
    mount("tmpfs", str(shared), "tmpfs")
    mount("none", str(shared), None, 1 << 20)  # MS_SHARED
    (shared / "point").mkdir()
    try:
        container.linux["rootfsPropagation"] = "rslave"
        entry = {"destination": "/mnt", "type": "bind", "source": str(shared), "options": ["rbind", "rslave"]}
        container.mounts.append(entry)
        container.hold()
        mount("tmpfs", str(shared / "point"), "tmpfs")
        (shared / "point/file").write_text("seen\n")
        try:
            assert container.exec("/bin/cat", "/mnt/point/file").out == "seen\n"
        finally:
            umount(str(shared / "point"))
        container.delete("--force")
    finally:
        umount(str(shared))


@pytest.mark.common
def test_masked_file_is_empty(container: Container) -> None:
    (container.rootfs / "secret").write_text("secret")
    container.linux["maskedPaths"] = ["/secret", "/proc/keys"]
    container.shell("cat /secret /proc/keys; echo x > /secret")
    assert container.run().out == ""
    assert (container.rootfs / "secret").read_text() == "secret"


@pytest.mark.common
def test_masked_folder_is_empty_and_read_only(container: Container) -> None:
    (container.rootfs / "private").mkdir()
    (container.rootfs / "private/key").write_text("secret")
    container.linux["maskedPaths"] = ["/private"]
    facts = container.facts("/private/key")
    assert facts.path("/private/key")["errno"] == ENOENT
    assert "ro" in facts.mount("/private").options


@pytest.mark.common
def test_masked_path_that_does_not_exist_is_passed_over(container: Container) -> None:
    container.linux["maskedPaths"] = ["/proc/no-such-thing", "/nowhere/at/all"]
    container.facts()
    assert not (container.rootfs / "nowhere").exists()


@pytest.mark.common
def test_masked_path_through_a_symlink(container: Container) -> None:
    (container.rootfs / "secret").write_text("secret")
    (container.rootfs / "way").symlink_to("/secret")
    container.linux["maskedPaths"] = ["/way"]
    container.shell("cat /secret")
    assert container.run().out == ""


@pytest.mark.common
def test_readonly_paths(container: Container) -> None:
    (container.rootfs / "keep").mkdir()
    (container.rootfs / "keep/file").write_text("x")
    container.linux["readonlyPaths"] = ["/keep", "/etc/passwd", "/no/such/path"]
    facts = container.facts("/keep/file", "/etc/passwd", "/etc/group")
    assert facts.path("/keep/file")["write_errno"] == EROFS
    assert facts.path("/etc/passwd")["write_errno"] == EROFS
    assert facts.path("/etc/group")["write_errno"] == 0


@pytest.mark.common
def test_readonly_path_keeps_the_flags_of_its_mount(container: Container) -> None:
    container.linux["readonlyPaths"] = ["/dev/shm"]
    assert {"ro", "nosuid", "nodev", "noexec"} <= container.facts().mount("/dev/shm").options


@pytest.mark.common
def test_sys_is_read_only_as_asked(container: Container) -> None:
    assert container.facts("/sys/kernel/notes").mount("/sys").options >= {"ro", "nosuid", "noexec", "nodev"}


@pytest.mark.common
def test_executable_that_is_missing(container: Container) -> None:
    container.process["args"] = ["/no/such/program"]
    assert "no such file or directory" in container.refused()


@pytest.mark.common
def test_executable_that_is_not_in_the_path(container: Container) -> None:
    container.process["args"] = ["no-such-program"]
    assert 'exec: "no-such-program": executable file not found in $PATH' in container.refused().replace("\\", "")


@pytest.mark.common
def test_executable_that_may_not_be_executed(container: Container) -> None:
    (container.rootfs / "file").write_text("#!/bin/sh\n")
    (container.rootfs / "file").chmod(0o644)
    container.process["args"] = ["/file"]
    assert "permission denied" in container.refused()


@pytest.mark.common
def test_executable_that_is_a_folder(container: Container) -> None:
    container.process["args"] = ["/etc"]
    error = container.refused()
    assert "permission denied" in error or "is a directory" in error


def test_executable_with_a_missing_interpreter(container: Container) -> None:
    (container.rootfs / "script").write_text("#!/no/such/shell\n")
    (container.rootfs / "script").chmod(0o755)
    container.process["args"] = ["/script"]
    result = container.create(check=False)
    if result.rc == 0:
        result = container.start(check=False)
    assert result.rc == 1
    assert "no such file or directory" in result.error
    assert "/process/args" in result.error


def test_root_folder_in_which_no_mount_point_can_be_made(container: Container) -> None:
    """A folder's place is taken by a file: the error says which, and for which mount."""
    os.rmdir(container.rootfs / "sys")
    (container.rootfs / "sys").write_text("")
    error = container.refused()
    assert "/mounts/5" in error
    assert "not a directory" in error
