"""The machine's files and the user who asks, as the checks see them: what is read and not tried."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ocirt import constants as k
from ocirt.host import Host
from ocirt.idmap import maps_all
from ocirt.pseudofile import read_text


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """`files`: what every absolute path is below, "" for the machine's own.

    `state_root`, `cgroup_manager` and `rootless_given` are what the command line says.
    """

    uid: int
    gid: int
    environ: Mapping[str, str] = field(default_factory=dict)
    state_root: str = "/run/ocirt"
    cgroup_manager: str = "cgroupfs"
    rootless_given: bool | None = None
    files: str = ""

    def path(self, path: str) -> str:
        """Where an absolute path of the machine is to be found."""
        return self.files + path

    def read(self, path: str) -> str | None:
        """A file's text; None where it cannot be read."""
        try:
            return read_text(self.path(path))
        except OSError:
            return None

    def word(self, path: str) -> str:
        """The text of a file that is one word or number, "" where it cannot be read."""
        return (self.read(path) or "").strip()

    def exists(self, path: str) -> bool:
        return os.path.exists(self.path(path))

    def lines(self, path: str) -> list[str]:
        return (self.read(path) or "").splitlines()

    def status(self, name: str) -> str:
        """A field of /proc/self/status (proc(5)), "" where it isn't there."""
        found = re.search(rf"^{name}:[ \t]*(.*)$", self.read("/proc/self/status") or "", re.MULTILINE)
        return found[1] if found else ""

    def mask(self, name: str) -> int:
        """A set of capabilities, "CapEff" or "CapBnd"."""
        return int(self.status(name) or "0", 16)

    @property
    def in_user_namespace(self) -> bool:
        """Whether ids are mapped in any way other than one to one."""
        return not maps_all(self.read("/proc/self/uid_map") or "")

    @property
    def is_admin(self) -> bool:
        """Whether namespaces can be made without a user namespace around them."""
        return bool(self.mask("CapEff") & k.CAPABILITY_BITS["CAP_SYS_ADMIN"])

    @property
    def needs_user_namespace(self) -> bool:
        """Whether `ocirt spec --rootless` is the config to begin with. Root of a user namespace has not all ids."""
        return not self.is_admin or self.in_user_namespace

    @property
    def rootless(self) -> bool:
        """As commands see it."""
        return Host(
            euid=self.uid,
            effective=self.mask("CapEff"),
            in_user_namespace=self.in_user_namespace,
            rootless_given=self.rootless_given,
        ).rootless

    @property
    def user(self) -> str:
        """The user's name, or "#UID"."""
        for line in self.lines("/etc/passwd"):
            fields = line.split(":")
            if len(fields) > 2 and fields[2] == str(self.uid):
                return fields[0]
        return f"#{self.uid}"
