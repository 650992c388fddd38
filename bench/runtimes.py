"""The runtimes to be measured: which, what they say they are, and how large their file is."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.spawner import ENVIRONMENT, BenchError

TREE = Path(__file__).resolve().parent.parent
STANDALONE = TREE / "dist" / "ocirt"
DEFAULT_NAMES = ("runc", "crun", "ocirt")
# What a runtime is tried with where it can run nothing otherwise. crun 1.8 raises RLIMIT_MEMLOCK for its device filter.
FALLBACK_FLAGS = {"crun": ("--cgroup-manager=disabled",)}


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime's command line. `root` is its state directory, `note` what a reader of its figures must know."""

    name: str
    command: tuple[str, ...]
    root: Path = Path("/")
    note: str = ""

    def argv(self, *arguments: str | Path) -> list[str]:
        """The whole command line."""
        return [*self.command, "--root", str(self.root), *map(str, arguments)]

    @property
    def version_argv(self) -> list[str]:
        return [*self.command, "--version"]

    @property
    def fallback(self) -> Runtime | None:
        """This runtime with the flags that may let it run, and a note that says so."""
        flags = FALLBACK_FLAGS.get(Path(self.command[0]).name)
        if flags is None or set(flags) <= set(self.command):
            return None
        return replace(self, command=(*self.command, *flags), note=f"with {' '.join(flags)}, as it fails without")


def parse_runtime(text: str) -> Runtime:
    """NAME=COMMAND, of one word or more. Raises BenchError."""
    name, _, command = text.partition("=")
    if not name or not command:
        raise BenchError(f"{text}: is not NAME=COMMAND")
    return find_runtime(name, shlex.split(command))


def find_runtime(name: str, words: Sequence[str], note: str = "") -> Runtime:
    """Raises BenchError where the program does not exist."""
    path = shutil.which(words[0], path=f"{os.environ.get('PATH', '')}:{ENVIRONMENT['PATH']}")
    if path is None:
        raise BenchError(f"{name}: {words[0]}: no such program")
    return Runtime(name, (str(Path(path).absolute()), *words[1:]), note=note)


def default_runtimes(environ: Mapping[str, str]) -> tuple[list[Runtime], list[str]]:
    """Those that are there, and a line for each that isn't. $RUNC, $CRUN and $OCIRT name others."""
    found, missing = [], []
    for name in DEFAULT_NAMES:
        words, note = shlex.split(environ.get(name.upper(), "")), ""
        if not words:
            words, note = _default_command(name)
        try:
            found.append(find_runtime(name, words, note))
        except BenchError as error:
            missing.append(str(error))
    return found, missing


def _default_command(name: str) -> tuple[list[str], str]:
    if name != "ocirt":
        return [name], ""
    if STANDALONE.exists():
        return [str(STANDALONE)], ""
    return [sys.executable, "-I", "-m", "ocirt"], "the modules, as there is no dist/ocirt"


def probe_version(runtime: Runtime) -> str:
    """The version that it prints of itself. Raises BenchError."""
    argv = runtime.version_argv
    try:
        result = subprocess.run(
            argv, capture_output=True, text=True, env=ENVIRONMENT, stdin=subprocess.DEVNULL, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise BenchError(f"{runtime.name}: {error}") from None
    return parse_version(result.stdout)


def parse_version(output: str) -> str:
    """The word after "version" in the first line."""
    words = (output.splitlines() or [""])[0].split()
    return words[words.index("version") + 1] if "version" in words[:-1] else " ".join(words)


def size_bytes(runtime: Runtime) -> int | None:
    """The size of the runtime's file, without the libraries it may need; None for modules and scripts."""
    path = Path(runtime.command[0])
    with path.open("rb") as file:
        is_binary = file.read(4) == b"\x7fELF"
    return path.stat().st_size if is_binary and "-m" not in runtime.command else None
