"""What the engines have in common: a folder, commands that end, daemons that end, their log, and what they leave."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import isolation, leaks
from tests.support.runtime import Result, run_to_end
from tests.support.systemd import Systemd

# In the VM everything takes ten times as long.
TIMEOUT_SECONDS = 300.0 if os.environ.get("OCIRT_VM") else 60.0
# In the environment of everything that an engine's programs start, but for containers.
MARK = "OCIRT_TEST_ENGINE"
CAP_SYS_RESOURCE = 24
ENGINE_PATH = "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class OciRuntime:
    """The program that an engine is told to use."""

    name: str
    path: Path


def find_program(name: str) -> str | None:
    """The distribution's program, whatever else of this name the caller's search path has."""
    return shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")


def why_missing(*names: str) -> str | None:
    """Which of the programs are not installed, as a reason to skip, or None."""
    missing = [name for name in names if find_program(name) is None]
    return f"not installed: {', '.join(missing)} (tools/setup.sh engines)" if missing else None


def run_command(
    argv: list[str],
    *,
    env: Mapping[str, str],
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Result:
    """Runs a command to its end, with the patience that the machine needs; see run_to_end."""
    return run_to_end(argv, timeout_seconds=timeout_seconds, stdin=subprocess.DEVNULL, env=dict(env))


@dataclass(slots=True)
class Daemon:
    """A server process with its output in a file."""

    argv: list[str]
    log: Path
    env: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None

    def start(self, ready: Callable[[], bool]) -> None:
        """Starts it and waits until it answers. Raises AssertionError with the log's end."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=dict(self.env)
            )
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not ready():
            text = self.log.read_text(errors="replace")[-2000:]
            assert self.process.poll() is None, f"{self.argv[0]} ended: {text}"
            assert time.monotonic() < deadline, f"{self.argv[0]} does not answer: {text}"
            time.sleep(0.1)

    def stop(self) -> None:
        """Ends it, in the end by force."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


@dataclass(slots=True)
class Engine:
    """An engine in a folder of its own. `mark` is in the name of the cgroup above all of its containers, which is a
    slice of systemd's where that makes the cgroups; a `mark` with a "-" would be two slices."""

    folder: Path
    mark: str
    systemd: bool = False
    logs: list[Path] = field(default_factory=list)

    @property
    def cgroup_parent(self) -> str:
        return f"{self.mark}.slice" if self.systemd else f"/{self.mark}"

    @property
    def cgroup_manager(self) -> str:
        return "systemd" if self.systemd else "cgroupfs"

    @property
    def env(self) -> dict[str, str]:
        """The environment of the engine's programs: nothing of the user's own configuration."""
        return {"PATH": ENGINE_PATH, "HOME": str(self.folder), "LANG": "C.UTF-8", MARK: self.mark, "TERM": "xterm"}

    def log_text(self) -> str:
        """Everything that it has logged."""
        return "".join(path.read_text(errors="backslashreplace") for path in self.logs if path.exists())

    def clear(self) -> list[str]:
        """Ends and removes all that the engine's daemons left; says what there was to end, a line each."""
        # Podman's monitors start another Podman when their containers are gone.
        deadline = time.monotonic() + TIMEOUT_SECONDS / 6
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.1)
        left = []
        if self.systemd:
            left += [f"unit {unit}" for unit in units_of(self.cgroup_parent)]
            Systemd().ctl("stop", self.cgroup_parent)
        for cgroup in sorted(leaks.cgroups(self.mark)):
            with contextlib.suppress(OSError):
                left += [f"process {pid} in {cgroup}" for pid in processes_in(cgroup)]
                Path(cgroup, "cgroup.kill").write_text("1")
        left += [f"process {pid} {name}" for pid, name in self.processes().items()]
        leaks.end_processes(list(self.processes()))
        leaks.reap_children()
        for point in reversed(leaks.mounts()):
            if point.startswith(f"{self.folder}/"):
                isolation.umount(point)
        for cgroup in sorted(leaks.cgroups(self.mark), key=len, reverse=True):
            with contextlib.suppress(FileNotFoundError):
                _remove_cgroup_soon(cgroup)
        isolation.remove_tree(self.folder)
        return left

    def processes(self) -> dict[int, str]:
        """The programs that the engine has started and that go on: shims, monitors; pid and name."""
        word = f"{MARK}={self.mark}".encode()
        found = {}
        for pid, name in leaks.descendants().items():
            with contextlib.suppress(OSError):
                if word in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    found[pid] = name
        return found


def units_of(parent: str) -> list[str]:
    """The units in a slice of systemd's."""
    shown = Systemd().show(parent)
    return shown.get("RequiredBy", "").split()


def processes_in(cgroup: str) -> list[int]:
    """The processes in a cgroup and in those below it."""
    found = []
    for folder, _, _ in os.walk(cgroup):
        with contextlib.suppress(OSError):
            found += [int(pid) for pid in Path(folder, "cgroup.procs").read_text().split()]
    return found


def _remove_cgroup_soon(path: str) -> None:
    """Removes a cgroup whose last processes are just ending."""
    deadline = time.monotonic() + 5
    while True:
        leaks.reap_children()
        try:
            return leaks.remove_cgroup(path)
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


# An engine's lines, and a runtime's own.
_LEVEL = re.compile(
    r'^(?:time="[^"]*" level=(?:warning|error|fatal|panic)|(?:ocirt|runc): warning:) (?P<rest>.*)$', re.M
)
_VARIABLE = (
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "ID"),
    # The JSON pointer in ocirt's message of an error that a test has asked for.
    (re.compile(r"(?<=start container process: )(error during container init: )?(/\S*: )?(?=exec: )"), ""),
    (re.compile(r"\b[0-9a-f]{12}\b"), "ID"),
    (re.compile(r"\b\d{2,}\b|(?<=/fd/)\d"), "N"),
    (re.compile(r"[^\s\"'=:]*/(?:ocirt|runc)\b|\b(?:ocirt|runc)\b"), "RUNTIME"),
)


# Where containerd logs what a shim has logged that it has run to clean up.
_EMBEDDED = 'msg="cleanup warnings '


def complaints(log: str) -> list[str]:
    """The log's warnings and errors, without what differs from one container, process or runtime to the next."""
    found = []
    for match in _LEVEL.finditer(log):
        text = match["rest"]
        if text.startswith(_EMBEDDED):
            found += complaints(text.removeprefix(_EMBEDDED).replace("\\n", "\n").replace('\\"', '"'))
            continue
        for pattern, word in _VARIABLE:
            text = pattern.sub(word, text)
        found.append(text)
    return found


def is_alive(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def has_capability(number: int) -> bool:
    """Whether this process has a capability (capabilities(7))."""
    status = Path("/proc/self/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> number & 1)


KNOWN_COMPLAINTS = (
    # containerd, now and then, with runc too: go-runc sends its child SIGKILL when the thread that started it ends.
    "failed to remove RUNTIME container",
    # containerd, of the pipes from a shim and from a container, where a start fails, with runc too.
    "read /proc/self/fd/N: file already closed",
    # What a test starts for this: runc says it as the container, which has started by then.
    "/etc/no-program: exec format error",
    # The specification demands a warning of what cannot be granted; Buildah asks for such ambient capabilities.
    "cannot be granted (permitted or inheritable lacks",
)


@contextlib.contextmanager
def log_checked(engine: Engine, runtime: OciRuntime, of_runc: dict[str, set[str]]) -> Iterator[None]:
    """Fails where the engine complains of ocirt in a way in which it has not complained of runc."""
    before = len(engine.log_text())
    yield
    found = complaints(engine.log_text()[before:])
    known = of_runc.setdefault(engine.mark, set())
    if runtime.name == "runc":
        known.update(found)
        return
    new = [text for text in found if text not in known and not any(words in text for words in KNOWN_COMPLAINTS)]
    assert not new, "the engine's log has, only with ocirt:\n" + "\n".join(new)


@contextlib.contextmanager
def ended(engine: Engine, name: str, stop: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Whatever happens, stops an engine and removes what it left; that it left something is a failure."""
    try:
        yield
    finally:
        stop()
        left = engine.clear()
    assert not left, f"{name} left: {left}"
