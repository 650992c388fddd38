"""tools/vm_image.py: pure functions that make the test bed's initramfs."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tools import vm_image

DEPENDENCIES = """\
kernel/fs/9p/9p.ko: kernel/net/9p/9pnet.ko kernel/fs/fscache/fscache.ko kernel/fs/netfs/netfs.ko
kernel/net/9p/9pnet.ko:
kernel/net/9p/9pnet_virtio.ko.xz: kernel/net/9p/9pnet.ko
kernel/fs/fscache/fscache.ko: kernel/fs/netfs/netfs.ko
kernel/fs/netfs/netfs.ko:
"""


def test_modules_follow_those_that_they_need() -> None:
    order = vm_image.load_order(["9p", "9pnet-virtio", "overlay"], DEPENDENCIES)
    names = [vm_image.module_name(path) for path in order]
    assert names == ["netfs", "fscache", "9pnet", "9p", "9pnet_virtio"]


def test_compressed_modules(tmp_path: Path) -> None:
    for name, content in (("a.ko", b"x"), ("a.ko.xz", lzma.compress(b"x")), ("a.ko.gz", gzip.compress(b"x"))):
        (tmp_path / name).write_bytes(content)
        assert vm_image.read_module(tmp_path / name) == b"x"
    (tmp_path / "a.ko.zst").touch()
    with pytest.raises(ValueError, match=r"a\.ko\.zst"):
        vm_image.read_module(tmp_path / "a.ko.zst")


@pytest.mark.skipif(shutil.which("busybox") is None, reason="needs busybox")
def test_archive_is_one(tmp_path: Path) -> None:
    files = {"init": b"#!/bin/sh\n", "a/b/empty": b"", "a/file": b"12345"}
    archive = vm_image.cpio_archive(files, executables=["init"])
    subprocess.run(["busybox", "cpio", "-i"], input=archive, cwd=tmp_path, check=True, capture_output=True)
    assert {name: (tmp_path / name).read_bytes() for name in files} == files
    assert os.access(tmp_path / "init", os.X_OK)
    assert not (tmp_path / "a/file").stat().st_mode & 0o111


def test_tree_is_a_copy_but_for_what_others_make(tmp_path: Path) -> None:
    for name in ("ocirt/a.py", "build/big", ".venv/bin/python", ".git/index", "tests/build/kept"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    with tarfile.open(fileobj=io.BytesIO(vm_image.tree_archive(tmp_path))) as archive:
        names = {member.name for member in archive if member.isfile()}
    root = str(tmp_path).removeprefix("/")
    assert names == {f"{root}/ocirt/a.py", f"{root}/tests/build/kept"}


def test_versions_are_compared_by_number() -> None:
    versions = ["6.1.0-9-amd64", "6.12.1-amd64", "6.1.0-56-amd64"]
    assert sorted(versions, key=vm_image.version_key) == ["6.1.0-9-amd64", "6.1.0-56-amd64", "6.12.1-amd64"]
