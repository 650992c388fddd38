"""Whether an operation succeeds or fails, it leaves no descriptor open."""

from __future__ import annotations

import dataclasses
import errno

import pytest

from ocirt import constants as k
from ocirt import ops
from ocirt._native import lib
from tests.c.sandbox import SLOT, Container

LIMIT = 24  # of descriptors: with one left open by each round, the rounds don't come to their end
ROUNDS = 30
SOME = ops.Attributes(set=k.MOUNT_ATTR_NOSUID, recursive_set=k.MOUNT_ATTR_NODEV, propagation=k.MS_PRIVATE)
TOO_MUCH = ops.Attributes(set=0x60, clear=k.MOUNT_ATTR__ATIME)  # no mode of access times: EINVAL


def failing(*operations: ops.Op, error: int) -> tuple[ops.Op, ...]:
    """Operations of which the last one fails, with this errno."""
    *before, last = operations
    return *before, dataclasses.replace(last, tolerated=(error,))


NULL = ops.OpenTree("", "/dev/null", 0, SLOT)
FOLDER = ops.OpenTree("", "/usr", lib.TREE_RECURSIVE, SLOT)
CASES: dict[str, tuple[ops.Op, ...]] = {
    "procfs": (ops.OpenProc(""),),
    "missing tree": failing(ops.OpenTree("", "/missing", 0, SLOT), error=errno.ENOENT),
    "tree": (NULL,),
    "propagation": (ops.SetPropagation("", k.MS_PRIVATE, True),),
    "open root": (ops.OpenRoot("", "/"),),
    "no root": failing(ops.OpenRoot("", "/missing"), error=errno.ENOENT),
    "attach nowhere": failing(FOLDER, ops.AttachRoot("", "/missing", SLOT), error=errno.ENOENT),
    "attach on a file": failing(FOLDER, ops.AttachRoot("", "/dev/null", SLOT), error=errno.ENOTDIR),
    "attach": (FOLDER, ops.AttachRoot("", "/mnt", SLOT)),
    "mount": (ops.MountFs("", "tmpfs", "tmpfs", "/a/b", ("size=8k",), lib.MOUNT_TAKE_OVER, attributes=SOME),),
    "mount in a slot": (ops.MountFs("", "tmpfs", "tmpfs", "/a/b", slot=SLOT),),
    "mount on a file": failing(ops.MountFs("", "tmpfs", "", "/file"), error=errno.ENOTDIR),
    "mount nonsense": failing(ops.MountFs("", "nonsense", "", "/a"), error=errno.ENODEV),
    "bad option": failing(ops.MountFs("", "tmpfs", "", "/a", ("size=much",)), error=errno.EINVAL),
    "bad attributes": failing(ops.MountFs("", "tmpfs", "", "/a", attributes=TOO_MUCH), error=errno.EINVAL),
    "over the root": (ops.MountFs("", "tmpfs", "tmpfs", "/"),),
    "copy up": (ops.MountFs("", "tmpfs", "tmpfs", "/folder", (), lib.MOUNT_COPY_UP),),
    "copy up too much": failing(
        ops.MountFs("", "tmpfs", "tmpfs", "/folder", ("size=4k",), lib.MOUNT_COPY_UP), error=errno.ENOSPC
    ),
    "bind": (NULL, ops.Bind("", "/made", SLOT, attributes=SOME)),
    "bind in a slot": (NULL, ops.Bind("", "/made", SLOT, 0, SLOT + 1)),
    "bind on a directory": failing(NULL, ops.Bind("", "/folder", SLOT), error=errno.ENOTDIR),
    "bind below a file": failing(NULL, ops.Bind("", "/file/a", SLOT), error=errno.ENOTDIR),
    "bind with bad attributes": failing(NULL, ops.Bind("", "/file", SLOT, attributes=TOO_MUCH), error=errno.EINVAL),
    "copy a link": (ops.CopySymlink("", "/proc/self", "/made/link", tolerated=(errno.EEXIST,)),),
    "remount": (ops.Remount("", "/", None, SOME),),
    "remount no mount": failing(ops.Remount("", "/folder", None, SOME), error=errno.EINVAL),
    "remount badly": (
        *failing(ops.Remount("", "/", ("nonsense",), SOME), error=errno.EINVAL),
        *failing(ops.Remount("", "/", None, TOO_MUCH), error=errno.EINVAL),
    ),
    "fifo": (ops.MakeDevice("", "/made/fifo", 0o010600, 0, 0, 0, 0),),
    "device": failing(ops.MakeDevice("", "/made/device", 0o020600, 1, 3, 0, 0), error=errno.EPERM),
    "another device": failing(ops.MakeDevice("", "/file", 0o010600, 0, 0, 0, 0), error=errno.EEXIST),
    "link": (ops.MakeSymlink("", "/made/link", "/file", lib.SYMLINK_REPLACE | lib.SYMLINK_IF_TARGET),),
    "link in the way": failing(ops.MakeSymlink("", "/file", "target"), error=errno.EEXIST),
    "masks": (NULL, ops.Bind("", "/dev/null", SLOT), ops.MaskPath("", "/file"), ops.MaskPath("", "/folder")),
    "mask nothing": (ops.MaskPath("", "/missing"),),
    "mask the root": failing(ops.MaskPath("", "/"), error=errno.EINVAL),
    "mask without a null device": failing(ops.MaskPath("", "/file"), error=errno.ENOENT),
    "read-only": (ops.MakeReadonly("", "/file"), ops.MakeReadonly("", "/missing")),
    "sysctl": failing(ops.SetSysctl("", "kernel/nonsense", "1"), error=errno.ENOENT),
    "sysctl that must not be written": failing(ops.SetSysctl("", "kernel/ostype", "1"), error=errno.EACCES),
    "path with links": (ops.MountFs("", "tmpfs", "tmpfs", "/link/new/../new/b"),),
    "path that cannot be made": failing(ops.MountFs("", "tmpfs", "", "/link/new/../../file/b"), error=errno.ENOTDIR),
    "pivot nowhere": failing(ops.OpenRoot("", "/dev"), ops.Pivot("", lib.PIVOT_ROOT), error=errno.EINVAL),
}


@pytest.mark.parametrize("name", CASES)
def test_no_descriptor_is_left(container: Container, name: str) -> None:
    (container.rootfs / "file").touch()
    (container.rootfs / "folder/below").mkdir(parents=True)
    (container.rootfs / "folder/below/file").write_bytes(bytes(16384))
    (container.rootfs / "link").symlink_to("/behind")
    if name == "masks":
        (container.rootfs / "dev").mkdir()
        (container.rootfs / "dev/null").touch()
    limit = ops.SetRlimit("", k.RLIMITS["RLIMIT_NOFILE"], LIMIT, LIMIT)
    container.do(limit, *CASES[name] * ROUNDS)


def test_a_descriptor_more_in_each_round_would_be_seen(container: Container) -> None:
    limit = ops.SetRlimit("", k.RLIMITS["RLIMIT_NOFILE"], LIMIT, LIMIT)
    trees = tuple(ops.OpenTree("", "/dev/null", 0, SLOT + number) for number in range(ROUNDS))
    outcome = container.run(limit, *trees)
    assert (outcome.error, outcome.detail) == (errno.EMFILE, "open_tree /dev/null")
