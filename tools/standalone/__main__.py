"""python -m tools.standalone [OUTPUT]: makes the standalone binary, dist/ocirt.

sources and this tree -> objects -> the plain binary: CPython, and an archive of modules behind it
the plain binary --save-image -> the saved image, which is tried out before it takes its place
docs/standalone.md explains every step.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.commit import source_commit
from tools.standalone import cpython, link, placement, selftest, sources
from tools.standalone.layout import LayoutError
from tools.standalone.order import make_order

ROOT = link.ROOT
# The profile: what is where in the image heap (placement.py), and in the program (order.py); counts for the compiler
# (cpython.py).
PLACEMENT, ORDER, COUNTS = "placement", "order", "counts"
# How often it is made where it turns out not to fit.
PROFILES = 3


def make_archive(build: Path, commit: str) -> Path:
    """In an interpreter whose hash seed is fixed, and that leaves the columns out of code objects."""
    output = build / "modules.zip"
    command = [sys.executable, "-X", "no_debug_ranges", "-s", "-m", "tools.standalone.archive", str(ROOT), str(output)]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONHASHSEED": "0"}
    subprocess.run([*command, commit], cwd=ROOT, env=environment, check=True)
    return output


class Builder:
    """Makes programs and images below a directory. `profile`: of another build, to be used for this one."""

    def __init__(self, build: Path, commit: str, profile: Path | None, *, counted: bool) -> None:
        self.build, self.profile = build, profile
        self._compiled: dict[link.Variant, list[Path]] = {}
        self.archive = make_archive(build, commit)
        self.python, version = sources.python_source(build)
        if version != sources.python_version():
            print(f"standalone: CPython is {version}; installed is {sources.python_version()}", file=sys.stderr)
        link.write_native(build)
        library, headers = link.python_library(), link.python_headers()
        maker = cpython.Maker(build, self.python, library, headers, link.compiler())
        self.counts = build / COUNTS
        if counted and profile:
            shutil.rmtree(self.counts, ignore_errors=True)
            if (profile / COUNTS).exists():
                shutil.copytree(profile / COUNTS, self.counts)
        elif counted:
            try:
                self._count(maker.counting())
            except (OSError, sources.SourceError, subprocess.CalledProcessError) as error:
                print(f"standalone: no counts: {error}", file=sys.stderr)
                shutil.rmtree(self.counts, ignore_errors=True)
        self.library = maker.make(self.counts)

    def _count(self, library: cpython.Library) -> None:
        """What the usual commands execute of CPython. Kept as long as the library that counts is the same: what they do
        in Python matters little."""
        executed = self.counts / cpython.EXECUTED
        if executed.exists() and executed.stat().st_mtime > library.archive.stat().st_mtime:
            return
        self.library = library
        image = self.save(self.program("program-counting", link.COUNTING), "image-counting")
        placement.profile(image)
        cpython.take_counts(library, self.build / link.COUNTING.objects, self.counts)

    def _objects(self, variant: link.Variant) -> list[Path]:
        """What the programs are linked of; the same for all of a variant."""
        if variant not in self._compiled:
            units = link.units(self.build, self.python, variant)
            self._compiled[variant] = link.compile_units(self.build, units, variant.objects)
        return self._compiled[variant]

    def program(
        self, name: str, variant: link.Variant = link.USUAL, *, can_be_saved: bool = True, order: Sequence[str] = ()
    ) -> link.Program:
        """A plain binary."""
        output, library = self.build / name, self.library.archive
        objects = self._objects(variant)
        made = link.link(self.build, objects, library, output, variant, can_be_saved=can_be_saved, order=order)
        with output.open("ab") as file:
            file.write(self.archive.read_bytes())
        return made

    def save(self, program: link.Program, name: str, placement_file: Path | None = None) -> Path:
        """The binary saves itself, with nothing of this process's surroundings to be seen."""
        output = self.build / name
        output.unlink(missing_ok=True)
        command = ["setarch", platform.machine(), "-R", "env", "-i", f"./{program.path.name}"]
        command += ["--save-image", str(output), *([placement_file.name] if placement_file else [])]
        subprocess.run(command, cwd=self.build, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
        return output

    def make_profile(self) -> None:
        """The files ORDER and PLACEMENT. Where no profile can be made: no order; by what is kept alone."""
        program = self.program("program-first")
        first = self.save(program, "image-first")
        (self.build / ORDER).write_text("".join(f"{pattern}\n" for pattern in self._order(first, program.sections)))
        self._place(placement.Blocks.read(first, program.heap_address))

    def _order(self, image: Path, sections: Path) -> list[str]:
        executed = self.counts / cpython.EXECUTED
        try:
            found = make_order(image, sections, executed.read_text().splitlines() if executed.exists() else ())
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"standalone: no order: {error}", file=sys.stderr)
            return []
        print(f"standalone: sections that a start uses: {len(found)}", file=sys.stderr)
        return found

    def _place(self, kept: placement.Blocks) -> None:
        place = self.build / PLACEMENT
        use = placement.Use(set(), set(), set(), set())
        try:
            profiled = self.program("program-profile", link.PROFILE)
            placement.write_placement(place, kept, dict.fromkeys(kept.at, placement.SPREAD))
            image = self.save(profiled, "image-profile", place)
            spread = placement.Blocks.read(image, profiled.heap_address)
            use = placement.used_blocks(spread, *placement.profile(image))
            counts = f"{len(use.always)} always and {len(use.written)} written, {len(use.read)} read"
            counts += f", {len(use.sometimes)} sometimes used"
            print(f"standalone: blocks at a start, of {len(spread.at)}: {counts}", file=sys.stderr)
            print(f"standalone: likeness {kept.likeness(spread):.4f}", file=sys.stderr)
            image.unlink()
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"standalone: no profile: {error}", file=sys.stderr)
        zones = dict.fromkeys(kept.at, placement.KEPT)
        zones |= dict.fromkeys(use.sometimes & kept.at.keys(), placement.SOMETIMES)
        zones |= dict.fromkeys(use.read & kept.at.keys(), placement.READ)
        zones |= dict.fromkeys(use.written & kept.at.keys(), placement.HOT)
        zones |= dict.fromkeys(use.always & kept.at.keys(), placement.ALWAYS)
        placement.write_placement(place, kept, zones)

    def saved(self) -> Path:
        image, fits = self._placed_image()
        for _ in range(PROFILES - 1):
            if fits:
                break
            print("standalone: the profile is of other blocks; it is made anew", file=sys.stderr)
            image, fits = self._placed_image()
        selftest.check(image, "saved")
        return image

    def _placed_image(self) -> tuple[Path, bool]:
        """The image by a profile, and whether that fits."""
        place = self.build / PLACEMENT
        if self.profile is None:
            self.make_profile()
        else:
            for name in (PLACEMENT, ORDER):
                shutil.copy(self.profile / name, self.build / name)
        program = self.program("program-saved", order=(self.build / ORDER).read_text().splitlines())
        image = self.save(program, "image", place)
        return image, self.profile is not None or self._place_strays(program, image)

    def _place_strays(self, program: link.Program, image: Path) -> bool:
        """Save the image again until none of its blocks is without a place; False where the placement does not fit."""
        place = self.build / PLACEMENT
        for _ in range(4):
            blocks = placement.Blocks.read(image, program.heap_address)
            strays = placement.add_strays(place, blocks)
            if strays > len(blocks.at) / 100:
                return False
            if not strays:
                break
            image = self.save(program, "image", place)
        return True


def make(options: argparse.Namespace) -> Path:
    """The saved image, or the plain binary where none can be made. Raises what says why there is neither."""
    builder = Builder(options.build.resolve(), options.commit, options.profile, counted=not options.plain)
    if not options.plain:
        try:
            return builder.saved()
        except (LayoutError, subprocess.CalledProcessError, selftest.SelfTestError) as error:
            print(f"standalone: no saved image: {error}; the plain binary is made instead", file=sys.stderr)
    made = builder.program("program-plain", can_be_saved=False).path
    selftest.check(made, "plain")
    return made


@contextlib.contextmanager
def alone(build: Path) -> Iterator[None]:
    """No other build in the folder for as long as the block takes: they would mix their files."""
    build.mkdir(parents=True, exist_ok=True)
    fd = os.open(build, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.standalone", description=__doc__.partition("\n")[0])
    parser.add_argument("output", nargs="?", type=Path, default=ROOT / "dist" / "ocirt")
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "standalone", help="where all else is put")
    parser.add_argument("--commit", default=source_commit(), help="what --version shows")
    parser.add_argument("--plain", action="store_true", help="make the form that is not saved")
    parser.add_argument("--profile", type=Path, help="of another build: its build/standalone, for the same bytes")
    options = parser.parse_args()
    with alone(options.build):
        try:
            made = make(options)
        except (sources.SourceError, OSError, subprocess.CalledProcessError, selftest.SelfTestError) as error:
            sys.exit(f"standalone: no binary can be made here: {error}; `pip install .` installs the modules")
        options.output.parent.mkdir(parents=True, exist_ok=True)
        partial = options.output.with_name(f".{options.output.name}.part")
        # In one call: the page cache may then have the program in huge pages, which spares a start forty page faults.
        partial.write_bytes(made.read_bytes())
        partial.chmod(0o755)
        partial.rename(options.output)
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
