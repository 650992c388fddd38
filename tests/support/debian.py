"""A real root filesystem: Debian's minimal base system, made once with debootstrap from the mirror that apt uses here.

It is kept as an archive in build/, or is the archive or the folder that $OCIRT_TEST_DEBIAN names, and is unpacked for a
test session into a folder of its own.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.support.bundle import BUILD

VARIABLE = "OCIRT_TEST_DEBIAN"
SUITE = "bookworm"
ARCHIVE = BUILD / f"debian-{SUITE}-minbase.tar"
# Over a slow line it downloads some 40 MB.
DEBOOTSTRAP_TIMEOUT_SECONDS = 900


class UnavailableError(Exception):
    """There can be no Debian here; str() says why."""


def unpack(target: Path) -> None:
    """Makes the tree in a new folder. Raises UnavailableError."""
    source = Path(os.environ.get(VARIABLE) or _archive())
    if source.is_dir():
        command = ["cp", "-a", "--", f"{source}/.", str(target)]
    else:
        command = ["tar", "--extract", "--numeric-owner", "--file", str(source), "--directory", str(target)]
    target.mkdir()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def _archive() -> Path:
    """The archive, made where there is none yet; several sessions may ask at once."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "debian.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ARCHIVE.exists():
            _make(ARCHIVE)
    return ARCHIVE


def _make(archive: Path) -> None:
    if not shutil.which("debootstrap"):
        raise UnavailableError("needs debootstrap")
    folder = Path(tempfile.mkdtemp(prefix="debootstrap-", dir=archive.parent))
    unfinished = archive.with_suffix(".new")
    try:
        tree = folder / "tree"
        _debootstrap(tree)
        # Device nodes are the runtime's to make, and downloaded packages of no more use.
        without = ("--exclude=./dev/*", "--exclude=./var/cache/apt/archives/*.deb")
        command = ["tar", "--create", "--numeric-owner", "--file", str(unfinished), *without, "--directory", str(tree)]
        subprocess.run([*command, "."], check=True, stdin=subprocess.DEVNULL)
        unfinished.rename(archive)
    finally:
        unfinished.unlink(missing_ok=True)
        shutil.rmtree(folder)


def _debootstrap(tree: Path) -> None:
    # In a mount namespace of its own: a debootstrap that is killed leaves a procfs mounted.
    command = ["unshare", "--mount", "debootstrap", "--variant=minbase", SUITE, str(tree), _mirror()]
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEBOOTSTRAP_TIMEOUT_SECONDS,
            env={**os.environ, **_proxy()},
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"debootstrap took more than {DEBOOTSTRAP_TIMEOUT_SECONDS} seconds") from None
    if result.returncode != 0:
        lines = [line for line in (result.stdout + result.stderr).splitlines() if line.startswith(("E:", "W:"))]
        raise UnavailableError(f"debootstrap from {command[-1]}: {lines[-1] if lines else result.returncode}")


def _mirror() -> str:
    """Where apt gets the suite from, or else its main component of any other: all suites are on every mirror."""
    command = ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages"]
    result = subprocess.run(
        [*command, "Component: main"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    sources = [line.partition(" ")[::2] for line in result.stdout.splitlines()]
    found = [uri for codename, uri in sources if codename == SUITE]
    found += [uri for _, uri in sources if uri.startswith("http") and "security" not in uri]
    if not found:
        raise UnavailableError("apt is configured with no mirror of Debian")
    return found[0]


def _proxy() -> dict[str, str]:
    """The proxy that apt is configured with, for debootstrap's wget."""
    command = ["apt-config", "shell", "http_proxy", "Acquire::http::Proxy"]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return dict(word.split("=", 1) for word in shlex.split(result.stdout) if "=" in word)
