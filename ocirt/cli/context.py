"""The global options, resolved: what a command gets besides its own arguments."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ocirt.cli.flags import Args
from ocirt.errors import UsageError
from ocirt.idmap import maps_all
from ocirt.log import Logger
from ocirt.pseudofile import read_text
from ocirt.store import Store

DEFAULT_ROOT = "/run/ocirt"
CACHE_SUFFIX = ".seccomp"


@dataclass(frozen=True)
class Context:
    """`root` is absolute, `root_given` says that the caller chose it. `rootless` is None for "auto".

    `seccomp_cache` is beside the default root, wherever the containers' state is: no entry of a root but containers.
    """

    log: Logger
    root: str = DEFAULT_ROOT
    root_given: bool = False
    root_sticky: bool = False
    cgroup_manager: str = "cgroupfs"
    rootless: bool | None = None
    seccomp_cache: str = DEFAULT_ROOT + CACHE_SUFFIX

    @property
    def debug(self) -> bool:
        return self.log.debugging

    @cached_property
    def store(self) -> Store:
        return Store(self.root, sticky=self.root_sticky)


def make_context(options: Args, log: Logger) -> Context:
    """Raises UsageError for values that contradict each other or can't be meant."""
    default, sticky = _default_root(os.environ, os.geteuid())
    given = options.given("root")
    root = os.path.abspath(options.text("root")) if given else default
    if root.strip("/") == "":
        raise UsageError("Option --root argument should not be set to / (an empty one is the current directory)")
    return Context(
        log,
        root=root,
        root_given=given,
        root_sticky=sticky and not given,
        cgroup_manager=_cgroup_manager(options),
        rootless=_rootless(options.text("rootless")),
        seccomp_cache=default + CACHE_SUFFIX,
    )


def _default_root(environ: Mapping[str, str], euid: int) -> tuple[str, bool]:
    """The state directory unless another is given, and whether it gets the sticky bit.

    Root keeps /run/ocirt whatever its environment says, but in a user namespace, where $USER tells whose root it is.
    """
    runtime_dir = environ.get("XDG_RUNTIME_DIR", "")
    if runtime_dir.startswith("/") and (euid != 0 or (environ.get("USER") != "root" and _in_user_namespace())):
        return f"{runtime_dir.rstrip('/')}/ocirt", True
    return DEFAULT_ROOT, False


def _in_user_namespace() -> bool:
    """Whether the ids of this process are mapped in any other way than one to one."""
    try:
        return not maps_all(read_text("/proc/self/uid_map"))
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
