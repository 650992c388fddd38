"""What is written into the files of a cgroup: the type between what decides on it and what does it.

Guarantees: pure. A Setting carries the JSON pointer of the property that asks for it, so that whatever the kernel says
to it can be told in terms of config.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocirt.notice import Notice


@dataclass(frozen=True, slots=True)
class Setting:
    """One write(2) into a file of a cgroup's directory.

    `origin`: a JSON pointer. `value`: without a newline. `optional`: where the file is missing, what is asked for holds
    already (a limit of "max"), or another setting does it (hugetlb.*.rsvd.max). `otherwise`: written instead where
    `file` is missing.
    """

    origin: str
    file: str
    value: str
    optional: bool = False
    otherwise: Setting | None = None

    @property
    def controller(self) -> str:
        """Whose file it is (cgroups(7)): "memory", "cpu", "io"; "" for those that every cgroup has."""
        prefix = self.file.partition(".")[0]
        return "" if prefix == "cgroup" or self.file.endswith(".pressure") else prefix


@dataclass(frozen=True, slots=True)
class CompiledResources:
    """`settings`: in the order in which they are to be written into a new cgroup. `notices`: what means "not set", and
    what is not quite as the config says it."""

    settings: tuple[Setting, ...] = ()
    notices: tuple[Notice, ...] = ()


NO_CONTROLLERS: Mapping[str, str] = MappingProxyType({})


def asked_controllers(settings: Sequence[Setting]) -> dict[str, str]:
    """The controllers that cannot be done without, each with the pointer of the first property that needs it."""
    asked: dict[str, str] = {}
    for setting in settings:
        if setting.controller and not setting.optional:
            asked.setdefault(setting.controller, setting.origin)
    return asked


def settings_by_time(settings: Sequence[Setting]) -> tuple[tuple[Setting, ...], tuple[Setting, ...]]:
    """What is set before ocirt-init is started in the cgroup, and what when it is through, before the program runs.

    pids.max, since ocirt-init is two processes on its way, and a limit of 1, or 0, is one that a container can live
    with: init itself is in by then. runc too sets limits when its init is there.
    """
    late = tuple(setting for setting in settings if setting.file == "pids.max")
    return tuple(setting for setting in settings if setting.file != "pids.max"), late
