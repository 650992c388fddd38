"""Where the blocks of the image heap go: the profile, and the file that image_heap.c reads.

1. An image without a placement tells which blocks are kept.
2. An image with every kept block on pages of its own is started for the usual commands, and tells which pages each has
   written to: those blocks are hot.
3. The image that is wanted has the hot blocks together, then the others that are kept.

The serial numbers of blocks are the same in all three, since the build is deterministic; `Blocks.likeness` checks it.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.seccomp_profile import make_profile
from tools.mkrootfs import make_rootfs

ALWAYS, HOT, READ, SOMETIMES, SPREAD, KEPT, OTHER = range(1, 8)  # 0: before there is a placement
PAGE_BYTES = 4096
# A block of so many pages, of which one is used, costs less in the company of others than by itself.
SMALL_PAGES = 4
_HEADER = struct.Struct("<II")
_SERIAL = (1 << 22) - 1
_SEGMENT = struct.Struct("<IIQQQQQQ")


@dataclass(frozen=True)
class Blocks:
    """What is in an image heap: serial number -> offset and bytes of its chunk."""

    at: dict[int, tuple[int, int]]

    @classmethod
    def read(cls, image: Path, heap_address: int) -> Blocks:
        """From a saved image. Chunks follow each other; between zones, and between spread ones, there are gaps."""
        data = image.read_bytes()
        (table,) = struct.unpack_from("<Q", data, 32)
        segments = [_SEGMENT.unpack_from(data, table + 56 * i) for i in range(struct.unpack_from("<H", data, 56)[0])]
        segment = next(s for s in segments if s[0] == 1 and s[3] <= heap_address < s[3] + s[6])
        start = segment[2] + heap_address - segment[3]
        end = segment[2] + segment[5]
        found: dict[int, tuple[int, int]] = {}
        position = start + 8
        while position + _HEADER.size <= end:
            size, serial = _HEADER.unpack_from(data, position)
            if not size:
                position = start + (position - start + 8 + PAGE_BYTES - 1) // PAGE_BYTES * PAGE_BYTES + 8
                continue
            serial &= _SERIAL
            if serial:
                found[serial] = (position - start, size)
            position += size if size % 16 == 0 else size + 8
        return cls(found)

    def likeness(self, other: Blocks) -> float:
        """The share of blocks that the two have in common."""
        common = self.at.keys() & other.at.keys()
        return len(common) / max(1, len(self.at), len(other.at))


def write_placement(path: Path, blocks: Blocks, zones: dict[int, int]) -> None:
    """`zones`: serial number -> zone, OTHER where it is not there. With some room, as blocks come and go meanwhile."""
    sizes = [0] * OTHER
    for serial, zone in zones.items():
        size = blocks.at[serial][1]
        sizes[zone] += (size + 16 + PAGE_BYTES - 1) // PAGE_BYTES * PAGE_BYTES if zone == SPREAD else size
    table = bytearray([OTHER]) * max(zones, default=0)
    for serial, zone in zones.items():
        table[serial - 1] = zone
    rooms = [size + size // 64 + PAGE_BYTES if size else 0 for size in sizes]
    # The largest table, that of all strings, is made anew beside the old one whenever it grows. Room costs nothing.
    rooms[KEPT] += 4 * max(size for _, size in blocks.at.values())
    path.write_bytes(struct.pack("<8Q", *rooms, len(table)) + table)


def add_strays(path: Path, blocks: Blocks) -> int:
    """Changes a placement so that what an image made with it has in the last zone is with what is kept; how many.

    The image would have to be as long as the farthest of them is away. There are few: what depends on addresses.
    """
    data = bytearray(path.read_bytes())
    head = struct.calcsize("<8Q")
    strays = [serial for serial in blocks.at if serial > len(data) - head or data[head + serial - 1] == OTHER]
    data += bytes([OTHER]) * (max(strays, default=0) - (len(data) - head))
    for serial in strays:
        data[head + serial - 1] = KEPT
    struct.pack_into("<Q", data, head - 8, len(data) - head)
    path.write_bytes(data)
    return len(strays)


@dataclass(frozen=True)
class Use:
    """Serial numbers of blocks: what every start wrote to, what some did, what was only read, and what only less usual
    starts used."""

    always: set[int]
    written: set[int]
    read: set[int]
    sometimes: set[int]


def used_blocks(blocks: Blocks, told: Iterable[bytes], told_sometimes: Iterable[bytes] = ()) -> Use:
    """What starts of an image with spread blocks did with them."""

    def pages(records: Iterable[bytes], flags: bytes) -> list[set[int]]:
        return [{i for i, flag in enumerate(record) if flag in flags} for record in records]

    def touched(some: set[int]) -> set[int]:
        return {serial for serial, chunk in blocks.at.items() if _is_used(chunk, some)}

    told = list(told)
    every = pages(told, b"w")
    written = touched(set().union(*every))
    read = touched(set().union(*pages(told, b"r")))
    always = touched(set.intersection(*every)) if every else set()
    # Where the file is not dropped from the page cache (a tmpfs), everything looks read.
    if len(read) >= len(blocks.at) / 2:
        return Use(always, written - always, set(), set())
    sometimes = touched(set().union(*pages(told_sometimes, b"wr")))
    return Use(always, written - always, read - written, sometimes - read - written)


def _is_used(chunk: tuple[int, int], pages: set[int]) -> bool:
    """Of a large table a start uses a few entries: it stays where it is."""
    offset, size = chunk
    own = range(offset // PAGE_BYTES, (offset + size - 1) // PAGE_BYTES + 1)
    used = sum(page in pages for page in own)
    return used >= len(own) / 2 or (used > 0 and len(own) <= SMALL_PAGES)


def drop_from_page_cache(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def profile(image: Path) -> tuple[list[bytes], list[bytes]]:
    """Start the usual commands, and less usual ones; what each start told. Those that fail tell something, too."""
    with tempfile.TemporaryDirectory(prefix="ocirt-profile.") as name:
        directory = Path(name)
        _make_bundles(image, directory)
        drop_from_page_cache(image)
        script = directory / "script"
        script.write_text(_SCRIPT)
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "OCIRT": str(image),
            "OCIRT_PROFILE": f"{directory}/told",
        }
        command = ["sh", str(script)]
        if os.geteuid() == 0:
            command = ["unshare", "--mount", "--propagation", "private", *command]
        output = subprocess.DEVNULL
        subprocess.run(command, cwd=directory, env=environment, stdin=output, stdout=output, stderr=output, check=False)
        usual, less = (sorted(directory.glob(pattern)) for pattern in ("told.[0-9]*", "told.less.*"))
        return [path.read_bytes() for path in usual], [path.read_bytes() for path in less]


# With pure cgroup v2 where it can be had, as on most hosts. The second run with seccomp finds its program cached, as
# nearly all containers of engines do.
_SCRIPT = """
mount -t cgroup2 cgroup2 /sys/fs/cgroup; mount -t tmpfs tmpfs /run
o() { timeout 20 "$OCIRT" --root state "$@"; }
less() ( OCIRT_PROFILE=$OCIRT_PROFILE.less; o "$@" )
o --version; o plan -b short; o list
o run -b short one; less run -b seccomp one; o run -b seccomp one
o run --detach -b long two; o exec two /bin/true; o state two; o list; o kill two KILL
o delete two || o delete --force two
o create -b long three; o start three; o state three; o kill three KILL; o delete --force three
o delete --force none
"""


def _make_bundles(image: Path, directory: Path) -> None:
    make_bundle(image, directory / "short", seconds=0)
    make_bundle(image, directory / "seccomp", seconds=0, seccomp=make_profile(os.uname().machine))
    make_bundle(image, directory / "long", seconds=10)


def make_bundle(image: Path, bundle: Path, *, seconds: int, seccomp: object = None) -> None:
    """`image` makes its config; `seconds`: how long the container lives."""
    make_rootfs(bundle / "rootfs")
    subprocess.run([str(image), "spec"], cwd=bundle, env={}, check=True)
    config = json.loads((bundle / "config.json").read_text())
    config["process"].update(terminal=False, args=["/bin/sleep", str(seconds)])
    if seccomp:
        config["linux"]["seccomp"] = seccomp
    (bundle / "config.json").write_text(json.dumps(config))
