"""mounts: sources of every kind, mount points that are missing or odd, order, and the file systems of the kernel."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from tests.support.bundle import bind_entry, mount_entry
from tests.support.isolation import mount, umount
from tests.support.runtime import Container

pytestmark = [pytest.mark.root, pytest.mark.cgroup]


@pytest.fixture
def source(container: Container) -> Path:
    """A folder on the host with a file in it."""
    folder = container.bundle / "source"
    folder.mkdir()
    (folder / "file").write_text("from the host\n")
    return folder


@pytest.mark.common
def test_bind_folder(container: Container, source: Path) -> None:
    container.mounts.append(bind_entry(source, "/mnt"))
    container.shell("cat /mnt/file; echo changed > /mnt/file")
    assert container.run().out == "from the host\n"
    assert (source / "file").read_text() == "changed\n"


@pytest.mark.common
def test_bind_file_makes_a_file(container: Container, source: Path) -> None:
    container.mounts.append(bind_entry(source / "file", "/some/where/name"))
    container.shell("cat /some/where/name")
    assert container.run().out == "from the host\n"
    assert stat.S_ISREG((container.rootfs / "some/where/name").stat().st_mode)


@pytest.mark.common
def test_bind_folder_makes_folders(container: Container, source: Path) -> None:
    container.mounts.append(bind_entry(source, "/a/b/c"))
    assert container.facts("/a/b/c").mount("/a/b/c").root.endswith("/source")
    assert (container.rootfs / "a/b/c").is_dir()


@pytest.mark.common
def test_bind_file_over_a_file(container: Container, source: Path) -> None:
    container.mounts.append(bind_entry(source / "file", "/etc/hosts"))
    container.shell("cat /etc/hosts")
    assert container.run().out == "from the host\n"


@pytest.mark.common
def test_bind_symlink_binds_its_target(container: Container, source: Path) -> None:
    (container.bundle / "link").symlink_to(source)
    container.mounts.append(bind_entry(container.bundle / "link", "/mnt"))
    container.shell("cat /mnt/file")
    assert container.run().out == "from the host\n"


@pytest.mark.common
def test_bind_socket(container: Container, source: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(source / "s"))
        container.mounts.append(bind_entry(source / "s", "/run/s"))
        assert container.facts("/run/s").path("/run/s")["type"] == "s"


@pytest.mark.common
def test_bind_fifo(container: Container, source: Path) -> None:
    """Opening it must not wait for a writer."""
    os.mkfifo(source / "f")
    container.mounts.append(bind_entry(source / "f", "/run/f"))
    assert container.facts("/run/f").path("/run/f")["type"] == "p"


@pytest.mark.common
def test_bind_device(container: Container) -> None:
    container.mounts.append(bind_entry("/dev/null", "/run/n"))
    facts = container.facts("/run/n")
    assert facts.path("/run/n")["rdev"] == [1, 3]


@pytest.mark.common
def test_relative_source_is_below_the_bundle(container: Container, source: Path) -> None:
    container.mounts.append(bind_entry("source", "/mnt"))
    container.shell("cat /mnt/file")
    assert container.run(cwd=Path("/")).out == "from the host\n"


@pytest.mark.common
def test_missing_source(container: Container) -> None:
    container.mounts.append(bind_entry("/nowhere/at/all", "/mnt"))
    assert "no such file or directory" in container.refused()


def test_missing_source_names_its_pointer(container: Container) -> None:
    container.mounts.append(bind_entry("/nowhere/at/all", "/mnt"))
    error = container.refused()
    assert f"/mounts/{len(container.mounts) - 1}" in error
    assert "/nowhere/at/all" in error


def test_file_onto_a_folder_names_its_pointer(container: Container, source: Path) -> None:
    container.mounts.append(bind_entry(source / "file", "/tmp"))
    error = container.refused()
    assert f"/mounts/{len(container.mounts) - 1}" in error
    assert "is a directory" in error or "not a directory" in error


@pytest.mark.common
def test_bind_is_recursive_with_rbind_alone(container: Container, source: Path) -> None:
    (source / "inner").mkdir()
    mount("tmpfs", str(source / "inner"), "tmpfs")
    try:
        (source / "inner/deep").write_text("x")
        container.mounts.append(bind_entry(source, "/with", "rbind"))
        container.mounts.append(bind_entry(source, "/without", "bind"))
        facts = container.facts("/with/inner/deep", "/without/inner/deep")
    finally:
        umount(str(source / "inner"))
    assert facts.path("/with/inner/deep")["type"] == "f"
    assert facts.path("/without/inner/deep")["errno"] == 2


@pytest.mark.common
def test_bind_type_may_be_left_to_the_options(container: Container, source: Path) -> None:
    entry = bind_entry(source, "/mnt")
    del entry["type"]
    container.mounts.append(entry)
    container.shell("cat /mnt/file")
    assert container.run().out == "from the host\n"


@pytest.mark.common
def test_later_mounts_cover_earlier_ones(container: Container, source: Path) -> None:
    container.mounts.append(mount_entry("/mnt", "tmpfs"))
    container.mounts.append(bind_entry(source, "/mnt/sub"))
    container.mounts.append(mount_entry("/mnt/sub", "tmpfs"))
    container.shell("ls /mnt/sub; mount | grep -c ' /mnt'")
    assert container.run().out == "3\n"


@pytest.mark.common
def test_destination_through_a_symlink_stays_in_the_root(container: Container, source: Path) -> None:
    (container.rootfs / "link").symlink_to("/var/target")
    container.mounts.append(bind_entry(source, "/link/below"))
    facts = container.facts("/var/target/below/file")
    assert facts.path("/var/target/below/file")["type"] == "f"
    assert not Path("/var/target").exists()


@pytest.mark.common
def test_relative_destination_is_below_the_root(container: Container, source: Path) -> None:
    container.mounts.append(bind_entry(source, "mnt/rel"))
    assert container.facts("/mnt/rel/file").path("/mnt/rel/file")["type"] == "f"


@pytest.mark.common
def test_symlink_at_the_end_is_followed_in_the_root(container: Container, source: Path) -> None:
    (container.rootfs / "etc/resolv.conf").symlink_to("../run/resolved")
    (container.rootfs / "run/resolved").write_text("")
    container.mounts.append(bind_entry(source / "file", "/etc/resolv.conf"))
    container.shell("cat /run/resolved")
    assert container.run().out == "from the host\n"


@pytest.mark.common
def test_tmpfs_takes_over_mode(container: Container) -> None:
    folder = container.rootfs / "cache"
    folder.mkdir()
    folder.chmod(0o2751)
    container.mounts.append(mount_entry("/cache", "tmpfs"))
    assert container.facts("/cache").path("/cache")["mode"] & 0o777 == 0o751


def test_tmpfs_takes_over_mode_and_owner(container: Container) -> None:
    folder = container.rootfs / "cache"
    folder.mkdir()
    os.chown(folder, 12, 34)
    folder.chmod(0o1771)
    container.mounts.append(mount_entry("/cache", "tmpfs"))
    facts = container.facts("/cache").path("/cache")
    assert (facts["mode"], facts["uid"], facts["gid"]) == (0o1771, 12, 34)


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 sets the covered folder's mode all the same")
def test_tmpfs_options_prevail(container: Container) -> None:
    folder = container.rootfs / "cache"
    folder.mkdir(mode=0o700)
    container.mounts.append(mount_entry("/cache", "tmpfs", None, "mode=1777", "uid=5", "gid=6", "size=64k"))
    facts = container.facts("/cache")
    assert {"size=64k", "uid=5", "gid=6"} <= facts.mount("/cache").super_options
    assert facts.path("/cache")["mode"] == 0o1777


@pytest.mark.common
def test_tmpcopyup(container: Container) -> None:
    folder = container.rootfs / "data/sub"
    folder.mkdir(parents=True)
    (folder / "file").write_text("kept\n")
    (container.rootfs / "data/link").symlink_to("sub/file")
    container.mounts.append(mount_entry("/data", "tmpfs", None, "tmpcopyup"))
    container.shell("cat /data/link; echo new > /data/sub/file")
    assert container.run().out == "kept\n"
    assert (folder / "file").read_text() == "kept\n"


def test_tmpcopyup_keeps_owners_and_modes(container: Container) -> None:
    folder = container.rootfs / "data/sub"
    folder.mkdir(parents=True)
    (folder / "file").write_text("kept\n")
    (folder / "file").chmod(0o640)
    os.chown(folder / "file", 12, 34)
    container.mounts.append(mount_entry("/data", "tmpfs", None, "tmpcopyup"))
    facts = container.facts("/data/sub/file").path("/data/sub/file")
    assert (facts["mode"], facts["uid"], facts["gid"], facts["size"]) == (0o640, 12, 34, 5)


@pytest.mark.common
@pytest.mark.parametrize(("kind", "point"), [("proc", "/proc"), ("sysfs", "/sys"), ("mqueue", "/dev/mqueue")])
def test_kernel_file_systems(container: Container, kind: str, point: str) -> None:
    assert container.facts().mount(point).kind == kind


@pytest.mark.common
def test_devpts_is_a_new_instance(container: Container) -> None:
    facts = container.facts("/dev/ptmx", "/dev/pts/ptmx")
    assert facts.mount("/dev/pts").super_options >= {"gid=5", "mode=620", "ptmxmode=666"}
    assert facts.path("/dev/ptmx")["target"] == "pts/ptmx"
    assert facts.path("/dev/pts/ptmx")["rdev"] == [5, 2]


@pytest.mark.common
def test_proc_shows_the_containers_processes(container: Container) -> None:
    container.shell("cat /proc/1/comm")
    assert container.run().out == "cat\n" or container.run().out == "sh\n"


@pytest.mark.common
def test_nothing_of_the_host_is_mounted(container: Container) -> None:
    """After the pivot the old root is gone: what is mounted is what the configuration has."""
    points = {info.point for info in container.facts().mounts()}
    asked = {entry["destination"] for entry in container.mounts} | {"/"}
    masks = {*container.linux["maskedPaths"], *container.linux["readonlyPaths"]}
    assert asked <= points
    assert points - asked - masks == set()


@pytest.mark.common
def test_unknown_file_system(container: Container) -> None:
    container.mounts.append(mount_entry("/mnt", "nosuchfs"))
    assert "no such device" in container.refused()


def test_unknown_file_system_names_its_pointer(container: Container) -> None:
    container.mounts.append(mount_entry("/mnt", "nosuchfs"))
    assert f"/mounts/{len(container.mounts) - 1}" in container.refused()


@pytest.mark.common
def test_bad_data(container: Container) -> None:
    container.mounts.append(mount_entry("/mnt", "tmpfs", None, "size=nonsense"))
    assert "invalid argument" in container.refused()


def test_bad_data_names_its_pointer(container: Container) -> None:
    container.mounts.append(mount_entry("/mnt", "tmpfs", None, "size=nonsense"))
    error = container.refused()
    assert f"/mounts/{len(container.mounts) - 1}" in error


def test_proc_onto_a_symlink_names_its_pointer(container: Container) -> None:
    (container.rootfs / "proc").rmdir()
    (container.rootfs / "proc").symlink_to("/tmp")
    assert "/mounts/0" in container.refused()


@pytest.mark.common
def test_overlay(container: Container) -> None:
    """On a tmpfs: the kernel takes no overlay for the upper folder of another."""
    layers = container.bundle / "layers"
    layers.mkdir()
    mount("tmpfs", str(layers), "tmpfs")
    try:
        for name in ("lower", "upper", "work"):
            (layers / name).mkdir()
        (layers / "lower/file").write_text("lower\n")
        data = [f"{name}dir={layers}/{name}" for name in ("lower", "upper", "work")]
        container.mounts.append(mount_entry("/mnt", "overlay", "overlay", *data))
        container.shell("cat /mnt/file; echo x > /mnt/new")
        assert container.run().out == "lower\n"
        assert (layers / "upper/new").read_text() == "x\n"
    finally:
        umount(str(layers))
