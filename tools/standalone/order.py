"""Which of the program's code and constants lie together, in front: those of the sections that the usual commands use.

A fault maps sixteen pages of a file. Where the code lies as it came, a `run` has nearly all of it mapped in the end.
The unit is what the linker moves: one section of one object file, which is a function or a constant in what is compiled
for the binary. Valgrind tells which addresses were executed or read. It has no clone3(2): what a command does after
that is not seen, but what CPython's own counts tell of it (cpython.py).
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.standalone.placement import make_bundle

_RUN, _CREATE = ("run", "--bundle", "bundle", "one"), ("create", "--bundle", "bundle", "one")
_COMMANDS = (("--version",), _RUN, _CREATE, ("state", "one"), ("delete", "--force", "one"))
# Valgrind hides the vDSO, which libc looks at when it starts, and what libc does behind clone3(2).
_UNSEEN = "dl-object dl-setup_hash dl-lookup lowlevellock signal waitid poll recvmsg sendmsg futex-internal".split()
_UNSEEN += "nptl_deallocate_tsd res-thread-freeres thread-freeres".split()
# ocirt-init, which only the kernel reads, when it is copied into a memfd.
_INIT = "*/native.o(.rodata)"
# Those of equal strings and numbers (SHF_MERGE) become one in the output, wherever they come from.
_MOVED = re.compile(r"\.text(\..+)?|\.rodata(?!\.(.+\.)?(str|cst)\d)(\..+)?")
_LINE = re.compile(r" (\.\S+)?\s+0x([0-9a-f]+)\s+0x([0-9a-f]+) (\S.*)")
_ALONE = re.compile(r" (\.\S+)")
_MEMBER = re.compile(r".*/([^/(]+\.a)\(([^)]+)\)")
# Of Lackey's lines (its manual): an instruction, what it loads, or what it changes in place.
_USED = ("I  ", " L ", " M ")


@dataclass(frozen=True)
class Section:
    """Of an object file, where it is in the program. `file`: a pattern of the linker's script."""

    address: int
    size: int
    name: str
    file: str

    @property
    def pattern(self) -> str:
        """It alone, in a linker's script."""
        return f"{self.file}({self.name})"


def read_map(text: str) -> list[Section]:
    """The sections that can be moved, of what ld's -Map writes, in their order. A long name has a line of its own."""
    found = []
    name = None
    for line in text.splitlines():
        if alone := _ALONE.fullmatch(line):
            name = alone[1]
            continue
        match = _LINE.fullmatch(line)
        section = match and (match[1] or name)
        name = None
        if match is None or section is None or _MOVED.fullmatch(section) is None:
            continue
        address, size = int(match[2], 16), int(match[3], 16)
        if address and size:
            found.append(Section(address, size, section, _file_pattern(match[4])))
    return sorted(found, key=lambda section: section.address)


def _file_pattern(file: str) -> str:
    if member := _MEMBER.fullmatch(file):
        return f"*{member[1]}:{member[2]}"
    return f"*/{Path(file).name}"


def used_addresses(trace: Iterable[str]) -> Iterator[int]:
    """What was executed or read, of the lines that Lackey writes; an address as often as it was."""
    return (int(line[3 : line.index(",")], 16) for line in trace if line.startswith(_USED))


def sections_of(sections: list[Section], functions: Iterable[str]) -> set[Section]:
    """The code of functions, each as cpython.EXECUTED names it, without what the compiler has found to be cold."""
    named = set(functions)

    def is_named(section: Section) -> bool:
        member = re.split("[:/]", section.file)[-1]
        if section.name == ".text" and section.file == f"*libc.a:{member}" and member.removesuffix(".o") in _UNSEEN:
            return True
        parts = section.name.removeprefix(".text.").removeprefix("hot.").split(".")
        return section.name.startswith(".text.") and f"{member} {parts[0]}" in named

    return {section for section in sections if is_named(section)}


def used_sections(sections: list[Section], addresses: Iterable[int], functions: Iterable[str] = ()) -> list[str]:
    """The patterns of those that have one of the addresses, or are of a function: code in its order, then constants,
    the largest last."""
    starts = [section.address for section in sections]
    used = sections_of(sections, functions)
    for address in addresses:
        index = bisect_right(starts, address) - 1
        if index >= 0 and address < starts[index] + sections[index].size:
            used.add(sections[index])
    code = [section for section in sections if section in used and section.name.startswith(".text")]
    # Of a large table a start reads a few entries.
    constants = sorted(used.difference(code), key=lambda section: (section.size, section.address))
    return [section.pattern for section in (*code, *constants)]


def make_order(image: Path, linker_map: Path, executed: Iterable[str]) -> list[str]:
    """Runs the usual commands of an image. `executed`: lines of cpython.EXECUTED. Raises OSError where Valgrind isn't
    installed."""
    addresses: set[int] = set()
    with tempfile.TemporaryDirectory(prefix="ocirt-order.") as name:
        make_bundle(image, Path(name) / "bundle", seconds=0)
        trace = Path(name) / "trace"
        valgrind = ["valgrind", "--tool=lackey", "--trace-mem=yes", f"--log-file={trace}"]
        for command in _COMMANDS:
            whole = [*valgrind, str(image), "--root", "state", *command]
            null = subprocess.DEVNULL
            subprocess.run(whole, cwd=name, stdin=null, stdout=null, stderr=null, check=False)
            with trace.open() as lines:
                addresses.update(used_addresses(lines))
    return list(dict.fromkeys([*used_sections(read_map(linker_map.read_text()), addresses, executed), _INIT]))
