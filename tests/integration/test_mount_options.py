"""The options of mounts: every flag, propagation, the recursive attributes, id mappings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bundle import bind_entry, mount_entry, use_user_namespace
from tests.support.facts import Facts, MountInfo
from tests.support.isolation import mount, umount
from tests.support.runtime import Container

pytestmark = [pytest.mark.root, pytest.mark.cgroup]


@pytest.fixture
def nested(container: Container) -> Iterator[Path]:
    """A folder with a tmpfs mounted in it, at `inner`."""
    folder = container.bundle / "nested"
    (folder / "inner").mkdir(parents=True)
    mount("tmpfs", str(folder / "inner"), "tmpfs", 0, "mode=755")
    (folder / "inner/file").write_text("x")
    yield folder
    umount(str(folder / "inner"))


def options_of(container: Container, point: str = "/mnt") -> MountInfo:
    return container.facts().mount(point)


FLAGS = [
    ("ro", {"ro"}, set()),
    ("rw", {"rw"}, set()),
    ("nosuid", {"nosuid"}, set()),
    ("nodev", {"nodev"}, set()),
    ("noexec", {"noexec"}, set()),
    ("nosuid suid", set(), {"nosuid"}),
    ("nodev dev", set(), {"nodev"}),
    ("noexec exec", set(), {"noexec"}),
    ("ro rw", {"rw"}, {"ro"}),
    ("noatime", {"noatime"}, {"relatime"}),
    ("noatime atime", {"relatime"}, {"noatime"}),
    ("relatime", {"relatime"}, set()),
    ("strictatime", set(), {"relatime", "noatime"}),
    ("nodiratime", {"nodiratime"}, set()),
    ("nodiratime diratime", set(), {"nodiratime"}),
]


@pytest.mark.common
@pytest.mark.parametrize(("words", "there", "missing"), FLAGS, ids=[flag[0] for flag in FLAGS])
def test_flags_of_a_new_file_system(container: Container, words: str, there: set[str], missing: set[str]) -> None:
    container.mounts.append(mount_entry("/mnt", "tmpfs", None, *words.split()))
    options = options_of(container).options
    assert there <= options
    assert not missing & options


@pytest.mark.common
@pytest.mark.parametrize(("words", "there", "missing"), FLAGS, ids=[flag[0] for flag in FLAGS])
def test_flags_of_a_bind_mount(container: Container, words: str, there: set[str], missing: set[str]) -> None:
    (container.bundle / "source").mkdir()
    container.mounts.append(bind_entry("source", "/mnt", *words.split()))
    options = options_of(container).options
    assert there <= options
    assert not missing & options


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 takes it for the file system's data")
def test_defaults(container: Container) -> None:
    container.mounts.append(mount_entry("/mnt", "tmpfs", None, "defaults"))
    assert not {"nosuid", "nodev", "noexec", "ro"} & options_of(container).options


@pytest.mark.common
@pytest.mark.parametrize(("word", "seen"), [("sync", "sync"), ("dirsync", "dirsync"), ("mand", ""), ("silent", "")])
def test_flags_of_the_file_system_itself(container: Container, word: str, seen: str) -> None:
    container.mounts.append(mount_entry("/mnt", "tmpfs", None, word))
    info = options_of(container)
    assert info.kind == "tmpfs"
    assert not seen or seen in info.super_options


@pytest.mark.parametrize(
    "word", ["lazytime", "nolazytime", "iversion", "noiversion", "loud", "nomand", "async", "norelatime"]
)
def test_every_other_flag_is_taken(container: Container, word: str) -> None:
    container.mounts.append(mount_entry("/mnt", "tmpfs", None, word))
    assert options_of(container).kind == "tmpfs"


def test_nosymfollow(container: Container) -> None:
    (container.bundle / "source").mkdir()
    (container.bundle / "source/link").symlink_to("file")
    (container.bundle / "source/file").write_text("x")
    container.mounts.append(bind_entry("source", "/mnt", "nosymfollow"))
    container.shell("cat /mnt/link")
    result = container.run(check=False)
    assert result.rc == 1
    assert "Too many" in result.err or "level" in result.err


@pytest.mark.common
@pytest.mark.parametrize(
    ("word", "tags"),
    [("private", set()), ("slave", {"master"}), ("shared", {"shared"}), ("unbindable", {"unbindable"})],
)
def test_propagation(container: Container, nested: Path, word: str, tags: set[str]) -> None:
    """A slave needs something to be the slave of: the source is a shared mount."""
    mount("none", str(nested / "inner"), None, 1 << 20)  # MS_SHARED
    container.mounts.append(bind_entry(nested / "inner", "/mnt", word))
    propagation = options_of(container).propagation
    assert tags <= propagation
    assert tags or not propagation


@pytest.mark.common
@pytest.mark.parametrize(
    ("word", "tags"), [("rprivate", set()), ("rshared", {"shared"}), ("runbindable", {"unbindable"})]
)
def test_recursive_propagation(container: Container, nested: Path, word: str, tags: set[str]) -> None:
    container.mounts.append(bind_entry(nested, "/mnt", "rbind", word))
    assert options_of(container, "/mnt/inner").propagation == tags


@pytest.mark.common
def test_ro_with_rbind_is_for_the_top_alone(container: Container, nested: Path) -> None:
    container.mounts.append(bind_entry(nested, "/mnt", "rbind", "ro"))
    facts = container.facts()
    assert "ro" in facts.mount("/mnt").options
    assert "rw" in facts.mount("/mnt/inner").options


RECURSIVE = [
    ("rro", {"ro"}),
    ("rnosuid", {"nosuid"}),
    ("rnodev", {"nodev"}),
    ("rnoexec", {"noexec"}),
    ("rnodiratime", {"nodiratime"}),
    ("rnoatime", {"noatime"}),
    ("rrelatime", {"relatime"}),
]


@pytest.mark.common
@pytest.mark.parametrize(("word", "there"), RECURSIVE, ids=[word for word, _ in RECURSIVE])
def test_recursive_attributes(container: Container, nested: Path, word: str, there: set[str]) -> None:
    container.mounts.append(bind_entry(nested, "/mnt", "rbind", word))
    facts = container.facts()
    assert there <= facts.mount("/mnt").options
    assert there <= facts.mount("/mnt/inner").options


@pytest.mark.common
@pytest.mark.parametrize(
    ("word", "flags", "gone"),
    [("rrw", 0x1, "ro"), ("rsuid", 0x2, "nosuid"), ("rdev", 0x4, "nodev"), ("rexec", 0x8, "noexec")],
)
def test_recursive_attributes_clear(container: Container, nested: Path, word: str, flags: int, gone: str) -> None:
    ms_remount_bind = 0x20 | 0x1000
    mount("none", str(nested / "inner"), None, ms_remount_bind | flags)
    container.mounts.append(bind_entry(nested, "/mnt", "rbind", word))
    assert gone not in options_of(container, "/mnt/inner").options


@pytest.mark.common
def test_rstrictatime(container: Container, nested: Path) -> None:
    container.mounts.append(bind_entry(nested, "/mnt", "rbind", "rstrictatime"))
    assert not {"relatime", "noatime"} & options_of(container, "/mnt/inner").options


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 keeps them for bind mounts")
def test_recursive_attributes_of_a_new_file_system(container: Container) -> None:
    container.mounts.append(mount_entry("/mnt", "tmpfs", None, "rro"))
    assert "ro" in options_of(container).options


@pytest.mark.common
def test_rro_cannot_be_written_below(container: Container, nested: Path) -> None:
    container.mounts.append(bind_entry(nested, "/mnt", "rbind", "rro"))
    assert container.facts("/mnt/inner/file").path("/mnt/inner/file")["write_errno"] == 30


MAPPING = [{"containerID": 0, "hostID": 100000, "size": 65536}]


def idmapped(container: Container, source: Path, *options: str) -> Facts:
    """Binds the folder id-mapped at /mnt."""
    for name in ("", "file"):
        os.chown(source / name, 0, 0)
    entry = bind_entry(source, "/mnt", *options)
    container.mounts.append({**entry, "uidMappings": MAPPING, "gidMappings": MAPPING})
    return container.facts("/mnt", "/mnt/file")


@pytest.fixture
def source(container: Container) -> Path:
    folder = container.bundle / "source"
    folder.mkdir()
    (folder / "file").write_text("x")
    return folder


@pytest.mark.parametrize("options", [(), ("idmap",), ("ridmap",), ("bind", "idmap")])
def test_idmapped_bind_mount(container: Container, source: Path, options: tuple[str, ...]) -> None:
    facts = idmapped(container, source, *options)
    assert (facts.path("/mnt/file")["uid"], facts.path("/mnt/file")["gid"]) == (100000, 100000)
    assert (source / "file").stat().st_uid == 0


def test_idmapped_bind_mount_for_a_user_namespace(container: Container, source: Path) -> None:
    use_user_namespace(container.config)
    facts = idmapped(container, source)
    assert (facts.path("/mnt/file")["uid"], facts.path("/mnt/file")["gid"]) == (0, 0)
    assert facts.path("/mnt/file")["write_errno"] == 0


def test_idmap_takes_the_containers_mappings(container: Container, source: Path) -> None:
    use_user_namespace(container.config)
    container.mounts.append(bind_entry(source, "/mnt", "idmap"))
    assert container.facts("/mnt/file").path("/mnt/file")["uid"] == 0


def test_ridmap_reaches_the_mounts_below(container: Container, nested: Path) -> None:
    entry = {**bind_entry(nested, "/mnt", "rbind", "ridmap"), "uidMappings": MAPPING, "gidMappings": MAPPING}
    container.mounts.append(entry)
    facts = container.facts("/mnt/inner/file")
    assert facts.path("/mnt/inner/file")["uid"] == 100000


def test_idmap_stops_at_the_mounts_below(container: Container, nested: Path) -> None:
    entry = {**bind_entry(nested, "/mnt", "rbind", "idmap"), "uidMappings": MAPPING, "gidMappings": MAPPING}
    container.mounts.append(entry)
    facts = container.facts("/mnt/inner/file")
    assert facts.path("/mnt/inner/file")["uid"] == 0


def test_idmap_without_mappings_and_user_namespace(container: Container, source: Path) -> None:
    container.mounts.append(bind_entry(source, "/mnt", "idmap"))
    assert f"/mounts/{len(container.mounts) - 1}" in container.refused()


def test_idmap_with_one_kind_of_mapping(container: Container, source: Path) -> None:
    container.mounts.append({**bind_entry(source, "/mnt"), "uidMappings": MAPPING})
    assert f"/mounts/{len(container.mounts) - 1}" in container.refused()


def test_idmap_of_a_file_system_that_cannot_names_its_pointer(container: Container) -> None:
    container.mounts.append({**bind_entry("/proc/sys", "/mnt"), "uidMappings": MAPPING, "gidMappings": MAPPING})
    error = container.refused()
    assert f"/mounts/{len(container.mounts) - 1}" in error
