"""The builder: the same bytes from the same sources wherever they lie; a linker's script is understood or refused."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.standalone.conftest import ROOT
from tools import commit
from tools.standalone import __main__ as builder
from tools.standalone import layout, link, order, placement, selftest


def build(tree: Path, source: Path, *options: str | Path, umask: int) -> bytes:
    """Make the binary from a copy of a tree, with the sources that were fetched for dist/ocirt."""
    shutil.copytree(source, tree, symlinks=True)
    build = tree / "build" / "standalone"
    build.mkdir(parents=True)
    for folder in ("src", "sdist", "apt"):
        (build / folder).symlink_to(ROOT / "build" / "standalone" / folder)
    output = tree / "binary"
    command = [sys.executable, "-m", "tools.standalone", output, "--commit", "x", *options]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tree), tree.name.upper(): "x" * len(tree.name)}
    subprocess.run(command, cwd=tree, env=environment, check=True, umask=umask)
    return output.read_bytes()


@pytest.mark.slow
def test_two_builds_give_the_same_bytes(binary: Path, tmp_path: Path) -> None:
    """In another directory, with another umask, time and environment, and the profile of the first."""
    tree = tmp_path / "tree"
    for folder in ("ocirt", "c_ext", "tools", "bench"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.o"))
    extension = next((ROOT / "ocirt").glob("_native*.so"))  # to find the modules by importing them
    shutil.copy(extension, tree / "ocirt")
    first = build(tmp_path / "a", tree, umask=0o22)
    placed = tmp_path / "a" / "build" / "standalone"
    assert first == build(tmp_path / "elsewhere", tree, "--profile", placed, umask=0o77)
    address = addresses(placed / "program-saved.symbols")
    assert address["_PyEval_EvalFrameDefault"] < address["used_end"] < address["PyAST_mod2obj"]
    assert address["used_end"] - address["_init"] < 1_200_000
    # libc's own start, which asks the processor, is not in it.
    assert "update_active.constprop.0" not in address


def addresses(program: Path) -> dict[str, int]:
    symbols = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.split()[-1]: int(line.split()[0], 16) for line in symbols if not line.startswith(" ")}


@pytest.mark.slow
def test_the_plain_binary(binary: Path, tmp_path: Path) -> None:
    """What is made where no image can be saved is complete, too; it says so."""
    tree = tmp_path / "tree"
    for folder in ("ocirt", "c_ext", "tools", "bench"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__", "*.o"))
    build(tmp_path / "plain", tree, "--plain", umask=0o22)
    selftest.check(tmp_path / "plain" / "binary", "plain")


def test_where_none_can_be_made(tmp_path: Path) -> None:
    """On a machine without Debian's tools, one line says so, and nothing is made."""
    command: list[str | Path] = [sys.executable, "-m", "tools.standalone", tmp_path / "binary"]
    command += ["--build", tmp_path / "build"]
    done = subprocess.run(
        command, cwd=ROOT, env={"PATH": str(tmp_path)}, check=False, stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("standalone: no binary can be made here: ")
    assert "'dpkg-query'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "binary").exists()


@pytest.mark.parametrize(("fits", "made"), [([True], 1), ([False, True], 2), ([False] * 9, builder.PROFILES)])
def test_a_profile_that_does_not_fit_is_made_anew(
    fits: list[bool], made: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where the kernel has said something else meanwhile, so that there is a block more or less."""
    one = builder.Builder.__new__(builder.Builder)
    images = iter((Path(f"image-{i}"), fit) for i, fit in enumerate(fits))
    monkeypatch.setattr(one, "_placed_image", lambda: next(images))
    monkeypatch.setattr(selftest, "check", lambda *_: None)
    assert one.saved() == Path(f"image-{made - 1}")
    assert capfd.readouterr().err.count("it is made anew") == made - 1


def test_the_largest_block_has_room_to_grow(tmp_path: Path) -> None:
    blocks = placement.Blocks({1: (8, 1 << 20), 2: ((1 << 20) + 16, 64)})
    placement.write_placement(tmp_path / "placement", blocks, dict.fromkeys(blocks.at, placement.KEPT))
    rooms = struct.unpack_from("<7Q", (tmp_path / "placement").read_bytes())
    assert rooms[placement.KEPT] > 5 << 20
    assert sum(rooms) == rooms[placement.KEPT]


def test_blocks_without_a_place_are_few_or_the_profile_does_not_fit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one = builder.Builder.__new__(builder.Builder)
    one.build = tmp_path
    blocks = placement.Blocks({serial: (serial * 64, 64) for serial in range(1, 1001)})
    monkeypatch.setattr(placement.Blocks, "read", classmethod(lambda *_: blocks))
    monkeypatch.setattr(one, "save", lambda *_: tmp_path / "image")
    program = link.Program(tmp_path, 0, tmp_path)
    for unknown, fits in ((0, True), (10, True), (11, False)):
        known = dict.fromkeys(range(1, 1001 - unknown), placement.KEPT)
        placement.write_placement(tmp_path / builder.PLACEMENT, blocks, known)
        assert one._place_strays(program, tmp_path / "image") is fits


def test_the_commits_file_is_new_where_the_commit_is(tmp_path: Path) -> None:
    """Which is what make goes by."""
    file = tmp_path / "build" / "commit"
    commit.main(file)
    assert file.read_text() == f"{commit.source_commit()}\n"
    os.utime(file, (1, 1))
    commit.main(file)
    assert file.stat().st_mtime == 1
    file.write_text("another\n")
    commit.main(file)
    assert file.read_text() == f"{commit.source_commit()}\n"


def test_the_linkers_script_is_understood() -> None:
    text = layout.linker_script(["gcc"])
    places = [text.index(each) for each in ("*libc.a:*(", "saved_start", "hot_end", "saved_end")]
    assert places == sorted(places)


def test_another_script_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_DATA", re.compile("(none)(such)"))
    with pytest.raises(layout.LayoutError, match="0 times"):
        layout.linker_script(["gcc"])


def test_blocks_are_used_by_the_share_of_their_pages() -> None:
    page = placement.PAGE_BYTES
    small = {1: (8, 64), 2: (page + 8, 64)}
    unused = {serial: (serial * 20 * page + 8, 64) for serial in range(5, 9)}
    blocks = placement.Blocks(small | {3: (2 * page + 8, 7 * page), 4: (9 * page + 8, page)} | unused)
    told = [b"-w--------r-", b"rww---------"]
    assert placement.used_blocks(blocks, told) == placement.Use(always={2}, written=set(), read={1, 4}, sometimes=set())
    told = [b"-w--------r-", b"r-w---------"]
    assert placement.used_blocks(blocks, told) == placement.Use(always=set(), written={2}, read={1, 4}, sometimes=set())


def test_what_only_less_usual_starts_use_is_apart() -> None:
    page = placement.PAGE_BYTES
    blocks = placement.Blocks({serial: (serial * page + 8, 64) for serial in range(12)})
    use = placement.used_blocks(blocks, [b"wr----------"], [b"wwrw--------"])
    assert use == placement.Use(always={0}, written=set(), read={1}, sometimes={2, 3})


def test_a_placement_that_is_all_read_says_nothing() -> None:
    """On a file system that stays in the page cache every page is mapped."""
    blocks = placement.Blocks({1: (8, 64), 2: (placement.PAGE_BYTES + 8, 64)})
    assert placement.used_blocks(blocks, [b"rr"]) == placement.Use(set(), set(), set(), set())


MAP = """
 .text.hot      0x0000000000401000      0x800 /usr/lib/libpython3.11.a(ceval.o)
 .text.unlikely
                0x0000000000400000     0x1000 /usr/lib/libpython3.11.a(ceval.o)
 .text          0x0000000000000000      0x800 /usr/lib/libpython3.11.a(gone.o)
 .text          0x0000000000401800       0x10 build/objects/main.o
 .rodata        0x0000000000500000      0x100 build/objects/main.o
 .rodata        0x0000000000500100       0x10 /usr/lib/libpython3.11.a(ceval.o)
 .rodata        0x0000000000500110       0x10 /usr/lib/libpython3.11.a(other.o)
 .rodata.str1.1 0x0000000000500120       0x10 build/objects/main.o
 .data          0x0000000000600000       0x10 build/objects/main.o
                0x0000000000600010                a_symbol
"""


def test_the_sections_that_are_used_come_first_code_then_constants_by_size() -> None:
    sections = order.read_map(MAP)
    assert len(sections) == 6
    hot, main = "*libpython3.11.a:ceval.o(.text.hot)", "*/main.o(.text)"
    constants = ["*libpython3.11.a:ceval.o(.rodata)", "*/main.o(.rodata)"]
    # Behind a section's end is none.
    assert order.used_sections(sections, {0x401000, 0x40180F, 0x401810, 0x500000, 0x500100}) == [hot, main, *constants]
    assert order.used_sections(sections, {0x400FFF}) == ["*libpython3.11.a:ceval.o(.text.unlikely)"]


def test_functions_that_were_executed_come_too_but_not_their_cold_parts() -> None:
    names = [".text.f", ".text.hot.f", ".text.f.constprop.0", ".text.unlikely.f", ".text.g", ".text", ".rodata.f"]
    sections = [order.Section(16 * i, 16, name, "*libcpython.a:a.o") for i, name in enumerate(names)]
    other = order.Section(4096, 16, ".text.f", "*libcpython.a:b.o")
    found = order.sections_of([*sections, other], ["a.o f", "a.o h"])
    assert {section.name for section in found} == {".text.f", ".text.hot.f", ".text.f.constprop.0"}
    assert other not in found
    assert order.used_sections([*sections, other], [4 * 16], ["b.o f"]) == [sections[4].pattern, other.pattern]


def test_what_lackey_tells_is_what_was_executed_and_read() -> None:
    lines = ["==1== Lackey\n", "I  00401000,3\n", " S 1fff000758,8\n", " L 00500000,4\n", " M 00600000,4\n"]
    assert list(order.used_addresses(lines)) == [0x401000, 0x500000, 0x600000]


def test_another_libc_keeps_its_own_start(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert link.libc_start_is_known()
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(link, "LIBC_START_SYMBOLS", link.LIBC_START_SYMBOLS - {"_dl_random"})
    assert not link.libc_start_is_known()
    assert "libc's is taken" in capfd.readouterr().err


def test_two_builds_in_one_folder_wait_for_each_other(tmp_path: Path) -> None:
    folder = tmp_path / "build"
    with builder.alone(folder):
        fd = os.open(folder, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
