"""CPython's library once more, made of its source: with a section for each function and each object.

The distribution's libpython3.11.a has one section of code for each source file, so that a start has nearly all of it
mapped in the end. Here the linker can put together what a start executes (order.py), and leave out what nobody refers
to. What the library has from the distribution's build (paths, version, platform) is taken from there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.standalone import sources

NAME = "libcpython.a"
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


def make_library(build: Path, source: Path, library: Path, headers: Path, compiler: Sequence[str]) -> Path:
    """The archive, made anew where anything that goes into it has changed. `library`: the distribution's; `headers`: of
    its pyconfig.h. Raises CalledProcessError."""
    directory, made = build / "cpython", build / NAME
    commands = dict(_commands(directory, source, library, headers, compiler))
    key = "\n".join([sources.run([*compiler, "--version"]), *(" ".join(command) for command in commands.values())])
    stamp = directory / "key"
    if made.exists() and stamp.exists() and stamp.read_text() == key:
        return made
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    (directory / "pyconfig.h").write_text(_CHANGED.format(original=headers / "pyconfig.h"))
    with ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(lambda command: subprocess.run(command, check=True), commands.values()))
    made.unlink(missing_ok=True)
    subprocess.run(["ar", "rcsD", str(made), *(str(directory / name) for name in commands)], check=True)
    stamp.write_text(key)
    return made


def _commands(
    directory: Path, source: Path, library: Path, headers: Path, compiler: Sequence[str]
) -> Iterator[tuple[str, list[str]]]:
    """For each member that is made of source: its name, and what compiles it."""
    includes = [directory, source / "Include/internal", source / "Include", source / "Modules", headers]
    common = [*compiler, *_FLAGS, f"-ffile-prefix-map={source}=python", *(f"-I{path}" for path in includes)]
    members = frozenset(sources.run(["ar", "t", str(library)]).split())
    for folder in _FOLDERS:
        for file in sorted((source / folder).glob("*.c")):
            member = f"{file.stem}.o"
            if member in members and file.stem not in _AS_BUILT:
                builtin = ["-DPy_BUILD_CORE_BUILTIN"] if folder.startswith("Modules") else []
                yield member, [*common, *builtin, "-c", str(file), "-o", str(directory / member)]
