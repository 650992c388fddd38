"""The global options, resolved: what a command gets besides its own arguments."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ocirt.cli.flags import Args
from ocirt.errors import UsageError
from ocirt.log import Logger
from ocirt.state import Store

DEFAULT_ROOT = "/run/ocirt"


@dataclass(frozen=True)
class Context:
    """`root` is absolute, `root_given` says that the caller chose it. `rootless` is None for "auto"."""

    log: Logger
    root: str = DEFAULT_ROOT
    root_given: bool = False
    root_sticky: bool = False
    cgroup_manager: str = "cgroupfs"
    rootless: bool | None = None

    @property
    def debug(self) -> bool:
        return self.log.debugging

    @cached_property
    def store(self) -> Store:
        return Store(self.root, sticky=self.root_sticky)


def make_context(options: Args, log: Logger) -> Context:
    """Raises UsageError for values that contradict each other or can't be meant."""
    root, given, sticky = _root(options, os.environ, os.geteuid())
    return Context(log, root, given, sticky, _cgroup_manager(options), _rootless(options.text("rootless")))


def _root(options: Args, environ: Mapping[str, str], euid: int) -> tuple[str, bool, bool]:
    """The state directory, whether it was given, and whether it gets the sticky bit.

    Root keeps /run/ocirt whatever its environment says, but in a user namespace, where $USER tells whose root it is.
    """
    if options.given("root"):
        root = os.path.abspath(options.text("root"))
        if root.strip("/") == "":
            raise UsageError("Option --root argument should not be set to / (an empty one is the current directory)")
        return root, True, False
    runtime_dir = environ.get("XDG_RUNTIME_DIR", "")
    if runtime_dir.startswith("/") and (euid != 0 or (environ.get("USER") != "root" and _in_user_namespace())):
        return f"{runtime_dir.rstrip('/')}/ocirt", False, True
    return DEFAULT_ROOT, False, False


def _in_user_namespace() -> bool:
    """Whether the ids of this process are mapped in any other way than one to one."""
    try:
        with open("/proc/self/uid_map") as file:
            return file.read().split() != ["0", "0", "4294967295"]
    except OSError:
        return False


def _cgroup_manager(options: Args) -> str:
    manager = options.text("cgroup-manager")
    if not options.switch("systemd-cgroup"):
        return manager or "cgroupfs"
    if manager not in ("", "systemd"):
        raise UsageError(f"--systemd-cgroup and --cgroup-manager {manager} exclude each other")
    return "systemd"


def _rootless(text: str) -> bool | None:
    match text.lower():
        case "" | "auto":
            return None
        case "true" | "1" | "t":
            return True
        case "false" | "0" | "f":
            return False
    raise UsageError(f'invalid value "{text}" for flag --rootless: true, false or auto is needed')
