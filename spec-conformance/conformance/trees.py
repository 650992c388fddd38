"""Trees of mounts on the host, for a container to bind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.support import isolation

FLAGS = {
    "ro": 1,
    "nosuid": 2,
    "nodev": 4,
    "noexec": 8,
    "nosymfollow": 256,
    "noatime": 1024,
    "nodiratime": 2048,
    "relatime": 1 << 21,
    "strictatime": 1 << 24,
}
SHARED = 1 << 20


@contextlib.contextmanager
def tree(folder: Path, *flags: str, shared: bool = False) -> Iterator[Path]:
    """A tmpfs with another one in it, both mounted with those flags, and with a file in each."""
    bits = sum(FLAGS[flag] for flag in flags)
    outer, inner = folder, folder / "sub"
    outer.mkdir()
    mounted = []
    try:
        for path, name in ((outer, "outer"), (inner, "inner")):
            isolation.mount("tmpfs", str(path), "tmpfs", bits & ~FLAGS["ro"])
            mounted.append(path)
            (path / name).write_text(name)
            if path == outer:
                inner.mkdir()
        if "ro" in flags:
            for path in mounted:
                isolation.mount("none", str(path), None, 32 | 4096 | bits)
        if shared:
            for path in mounted:
                isolation.mount("none", str(path), None, SHARED)
        yield outer
    finally:
        for path in reversed(mounted):
            isolation.umount(str(path))
