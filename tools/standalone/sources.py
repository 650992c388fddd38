"""What the binary is made of besides this tree: the sources of the very versions that are installed.

CPython's library comes with the distribution, without the extension modules that are shared objects there; those are
compiled from the distribution's source package. cffi and python-prctl are compiled from their source distributions.
apt and pip fetch them, and check them against the signed index and its hashes.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

PYTHON_PACKAGE = f"libpython{sys.version_info.major}.{sys.version_info.minor}-dev"
PYTHON_SOURCE = f"python{sys.version_info.major}.{sys.version_info.minor}"
# Of the source package's Modules/.
PYTHON_MODULES = ("_json.c", "termios.c", "resource.c", "_contextvarsmodule.c")


class SourceError(Exception):
    """A source can't be had."""


def run(command: list[str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SourceError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def python_version() -> str:
    """The installed package's version, as apt has it."""
    return run(["dpkg-query", "-W", "-f", "${Version}", PYTHON_PACKAGE])


def python_source(build: Path) -> tuple[Path, str]:
    """The unpacked source package, and its version.

    That of the installed version; where the archive has lost it (a security update's source may come late), the newest
    of the same upstream version, which the build then tells. Raises SourceError.
    """
    installed = python_version()
    upstream = installed.rpartition("-")[0]
    unpacked = {path.name.removeprefix("python-"): path for path in (build / "src").glob(f"python-{upstream}-*")}
    for version in (installed, *sorted(unpacked, reverse=True)):
        if version in unpacked and unpacked[version].suffix != ".part":
            return unpacked[version], version
    options = _apt_options(build / "apt")
    run(["apt-get", *options, "update", "-q"])
    known = run(["apt-cache", *options, "showsrc", "--only-source", PYTHON_SOURCE]).splitlines()
    others = {line.partition(": ")[2] for line in known if line.startswith(f"Version: {upstream}-")} - {installed}
    problem: SourceError | None = None
    for version in (installed, *sorted(others, reverse=True)):
        try:
            return _fetch_source(build / "src" / f"python-{version}", version, options), version
        except SourceError as error:
            problem = problem or error
    raise problem or SourceError(f"no source package of {PYTHON_SOURCE} {installed}")


def _fetch_source(target: Path, version: str, options: list[str]) -> Path:
    """Raises SourceError."""
    place = target.parent
    place.mkdir(parents=True, exist_ok=True)
    fetch = ["source", "-q", "--download-only", "--only-source", f"{PYTHON_SOURCE}={version}"]
    run(["apt-get", *options, *fetch], cwd=place)
    partial = target.with_name(f"{target.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    run(["dpkg-source", "-x", f"{PYTHON_SOURCE}_{version.rpartition(':')[2]}.dsc", partial.name], cwd=place)
    partial.rename(target)
    return target


def _apt_options(state: Path) -> list[str]:
    """apt with a list of source packages, of the places that its packages come from, and a state of its own."""
    (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    form = "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)"
    lines = []
    for line in sorted(set(run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"]).splitlines())):
        origin, uri, release, component = line.split("|")
        if origin == "Debian":
            lines.append(f"deb-src {uri} {release} {component}\n")
    (state / "sources.list").write_text("".join(lines))
    settings = {
        "Dir::Etc::sourcelist": state / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": state / "lists",
        "Dir::Cache": state / "cache",
        "APT::Sandbox::User": "root",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def sdist(project: str, build: Path) -> Path:
    """The unpacked source distribution of the installed version."""
    version = importlib.metadata.version(project)
    target = build / "sdist" / f"{project}-{version}"
    if not target.exists():
        archives = build / "sdist"
        archives.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-binary", ":all:", "--no-deps"]
        run([*pip, "--no-build-isolation", "-d", str(archives), f"{project}=={version}"])
        run(["tar", "-xzf", f"{target.name}.tar.gz"], cwd=archives)
    return target
