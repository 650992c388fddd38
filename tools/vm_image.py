"""The initramfs that the test bed's virtual machine boots from: busybox, modules, scripts, and the tree as an archive.

The tree is a copy, unlike all the rest of the host's root, because it may be worked on while the guest runs, and the
guest caches what it reads. Guarantees: everything is made in memory, nothing is left behind.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import lzma
import re
import stat
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

MODULES = ("virtio_pci", "virtio_console", "virtio_rng", "virtio_blk", "9pnet_virtio", "9p", "overlay")
# Seen as they are on the host, or of no use in the guest.
NOT_IN_ARCHIVE = set(".git .venv build dist .demo .hypothesis .mypy_cache .pytest_cache .ruff_cache".split())


def module_name(path: str) -> str:
    """A module's name, from its path: .../virtio_mmio.ko.xz -> virtio_mmio."""
    return Path(path).name.split(".ko")[0].replace("-", "_")


def load_order(wanted: Iterable[str], dependencies: str) -> list[str]:
    """The paths of modules, those that others need first. `dependencies` is the text of modules.dep.

    A module that isn't listed is taken to be built into the kernel.
    """
    needs: dict[str, tuple[str, list[str]]] = {}
    for line in dependencies.splitlines():
        path, _, others = line.partition(":")
        needs[module_name(path)] = (path, others.split())
    order: list[str] = []
    for name in wanted:
        if name.replace("-", "_") in needs:
            module, modules = needs[name.replace("-", "_")]
            # depmod lists all of a module's needs, those that must be loaded first last.
            order += [path for path in (*reversed(modules), module) if path not in order]
    return order


def read_module(path: Path) -> bytes:
    """A module's contents, decompressed. Raises ValueError for a compression that Python cannot read."""
    content = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(content)
    if path.suffix == ".gz":
        return gzip.decompress(content)
    if path.suffix != ".ko":
        raise ValueError(f"cannot decompress the module {path}")
    return content


def cpio_archive(files: Mapping[str, bytes], executables: Iterable[str]) -> bytes:
    """An archive in the format "newc" of Documentation/driver-api/early-userspace/buffer-format.rst."""
    folders = {str(parent) for name in files for parent in Path(name).parents} - {"."}
    runs = set(executables)
    archive = bytearray()
    entries = [(name, stat.S_IFDIR | 0o755, b"") for name in sorted(folders)]
    entries += [(name, stat.S_IFREG | (0o755 if name in runs else 0o644), files[name]) for name in files]
    for inode, (name, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], start=1):
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = (inode, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        archive += b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        archive += b"\0" * (-len(archive) % 4) + content
        archive += b"\0" * (-len(archive) % 4)
    return bytes(archive)


def kernel_files(modules: Path) -> dict[str, bytes]:
    """The modules of a kernel and the order to load them in, as files of the archive. `modules`: its folder."""
    order = load_order(MODULES, (modules / "modules.dep").read_text())
    files = {f"modules/{module_name(path)}.ko": read_module(modules / path) for path in order}
    files["modules/order"] = "".join(f"{module_name(path)}.ko\n" for path in order).encode()
    return files


def version_key(name: str) -> list[tuple[int, str]]:
    """Sorts the versions of kernels: 6.1.0-9 before 6.1.0-56."""
    return [(int(number or 0), text) for number, text in re.findall(r"(\d+)|(\D+)", name)]


def tree_archive(tree: Path) -> bytes:
    """The tree as a tar archive with its absolute path, but for what others make in it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for entry in sorted(tree.iterdir()):
            if entry.name not in NOT_IN_ARCHIVE:
                add_to_archive(archive, entry)
    return buffer.getvalue()


def add_to_archive(archive: tarfile.TarFile, path: Path) -> None:
    """Adds a file or a folder, of which some may vanish meanwhile: tests, compilers and editors have such files."""
    with contextlib.suppress(FileNotFoundError):
        archive.add(path, recursive=False)
        if path.is_dir() and not path.is_symlink():
            for entry in sorted(path.iterdir()):
                add_to_archive(archive, entry)
