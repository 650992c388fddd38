"""CPython's library once more, made of its source: a section for each function, by counts of what a start executes.

The distribution's libpython3.11.a has one section of code for each source file, so that a start has nearly all of it
mapped in the end. Here the linker can put together what a start executes (order.py). What the library has from the
distribution's build (paths, version, platform) is taken from there.

The compiler arranges each function by how often its blocks are executed. A first library counts that: in a saved image
of it, so that only what a start executes counts, and not the start of an interpreter.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tools.standalone import sources

JOBS = os.cpu_count() or 1

# Those that take names, paths or generated files of the distribution's build.
_AS_BUILT = frozenset("getpath getbuildinfo getplatform dynload_shlib sysmodule frozen".split())
_FOLDERS = "Objects Python Parser Modules Modules/_io Modules/_sre Programs".split()
# No probes of DTrace, which need a tool at build time; no Bluetooth, whose headers are not there; and blocks of memory
# are told apart by what their page says instead of by a table of addresses: fewer instructions, and pages of 4 KiB.
_CHANGED = """#include "{original}"
#undef WITH_DTRACE
#undef HAVE_BLUETOOTH_BLUETOOTH_H
#define WITH_PYMALLOC_RADIX_TREE 0
"""
_FLAGS = ["-O2", "-std=c11", "-fwrapv", "-DNDEBUG", "-DPy_BUILD_CORE", "-fno-pie", "-g0", "-w"]
_FLAGS += ["-ffunction-sections", "-fdata-sections"]
# As the distribution hardens it.
_FLAGS += ["-fstack-protector-strong", "-D_FORTIFY_SOURCE=2"]
# Nothing is thrown across CPython's frames: no tables to unwind them by, 300 KB.
_FLAGS += ["-fno-asynchronous-unwind-tables"]
# Counts of values would be kept in memory that is asked for at run time, when there is none yet.
COUNTING_FLAGS = ("-fprofile-generate", "-fprofile-update=single", "-fno-profile-values", "-ftest-coverage")
# Code that is executed once or twice is not to be unrolled, which the use of counts otherwise means.
_COUNTED = ["-fprofile-use", "-fno-profile-values", "-fno-unroll-loops", "-fno-peel-loops", "-fno-tracer"]
_COUNTED += ["-fno-split-loops", "-fno-unswitch-loops", "-fno-tree-vectorize"]


@dataclass(frozen=True)
class Library:
    """An archive to link, and the objects in it."""

    archive: Path
    objects: Path


@dataclass(frozen=True)
class Maker:
    """What libraries are made of, below `build`. `library`: the distribution's; `headers`: of its pyconfig.h."""

    build: Path
    source: Path
    library: Path
    headers: Path
    compiler: Sequence[str]

    def counting(self) -> Library:
        """The one that counts. Raises CalledProcessError."""
        return self._make("cpython-counting", COUNTING_FLAGS, [])

    def make(self, counts: Path) -> Library:
        """The one to be linked in the end, by the counts in a directory if there are any. Raises CalledProcessError."""
        files = sorted(counts.glob("*.gcda"))
        return self._make("cpython", _COUNTED if files else [], files)

    def _make(self, name: str, flags: Sequence[str], counts: Sequence[Path]) -> Library:
        """Anew, where anything that goes into it has changed."""
        made = Library(self.build / f"lib{name}.a", self.build / name)
        commands = dict(self._commands(made.objects, flags))
        key = "\n".join([sources.run([*self.compiler, "--version"]), *map(" ".join, commands.values())])
        key += "".join(sha256(path.read_bytes()).hexdigest() for path in counts)
        stamp = made.objects / "key"
        if made.archive.exists() and stamp.exists() and stamp.read_text() == key:
            return made
        shutil.rmtree(made.objects, ignore_errors=True)
        made.objects.mkdir(parents=True)
        (made.objects / "pyconfig.h").write_text(_CHANGED.format(original=self.headers / "pyconfig.h"))
        for path in counts:  # where the compiler looks for an object's
            shutil.copy(path, made.objects)
        with ThreadPoolExecutor(JOBS) as pool:
            list(pool.map(lambda command: subprocess.run(command, check=True), commands.values()))
        made.archive.unlink(missing_ok=True)
        objects = [str(made.objects / name) for name in commands]
        subprocess.run(["ar", "rcsD", str(made.archive), *objects], check=True)
        stamp.write_text(key)
        return made

    def _commands(self, directory: Path, flags: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
        """For each member that is made of source: its name, and what compiles it."""
        includes = [directory, *(self.source / name for name in ("Include/internal", "Include", "Modules"))]
        common = [*self.compiler, *_FLAGS, *flags, f"-ffile-prefix-map={self.source}=python"]
        common += [f"-I{path}" for path in (*includes, self.headers)]
        members = frozenset(sources.run(["ar", "t", str(self.library)]).split())
        for folder in _FOLDERS:
            for file in sorted((self.source / folder).glob("*.c")):
                member = f"{file.stem}.o"
                if member in members and file.stem not in _AS_BUILT:
                    builtin = ["-DPy_BUILD_CORE_BUILTIN"] if folder.startswith("Modules") else []
                    yield member, [*common, *builtin, "-c", str(file), "-o", str(directory / member)]


def take_counts(library: Library, others: Path, counts: Path) -> None:
    """From beside the objects of a library that has counted: the counts, and the names of what was executed, of it and
    of other objects."""
    shutil.rmtree(counts, ignore_errors=True)
    counts.mkdir(parents=True)
    files = sorted(library.objects.glob("*.gcda"))
    for path in files:
        shutil.copy(path, counts)
    names = [f"{path.stem}.o {name}" for path in (*files, *others.glob("*.gcda")) for name in _executed(path)]
    (counts / EXECUTED).write_text("".join(f"{line}\n" for line in sorted(names)))


EXECUTED = "executed"
"""Of a directory of counts, the file that names each function that was executed: object, blank, name."""


def _executed(path: Path) -> list[str]:
    """The functions of an object that were executed, as gcov tells of its counts."""
    with tempfile.TemporaryDirectory(prefix="ocirt-gcov.") as name:
        sources.run(["gcov", "--json-format", "--object-directory", str(path.parent), str(path)], cwd=Path(name))
        (written,) = Path(name).glob("*.gcov.json.gz")
        told = json.loads(gzip.decompress(written.read_bytes()))
    functions = (function for file in told["files"] for function in file["functions"])
    return [function["name"] for function in functions if function["execution_count"]]
