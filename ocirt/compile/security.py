"""What confines the process: capabilities, no_new_privs, security labels, seccomp, sysctls.

Guarantees: without `capabilities` there are none; what cannot be granted is left out with a warning, never an error
(config.md#linux-process), and nothing is added to inheritable (CVE-2022-29162). A process label that the host cannot
apply is an error; an AppArmor profile, or a label for mounts, on a host without the module is a warning: the official
validation suite asks for both everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from errno import ENOSYS

from ocirt import constants as k
from ocirt.compile.context import Context, CreateContext
from ocirt.errors import SpecError
from ocirt.ops import (
    DropBounding,
    LoadSeccomp,
    NewKeyring,
    Op,
    SetApparmor,
    SetCapabilities,
    SetNoNewPrivileges,
    SetSelinux,
    SetSysctl,
)
from ocirt.seccomp import Filter
from ocirt.spec import Capabilities, Process, sysctl_path
from ocirt.spec.values import pointer_to

_NONE = Capabilities()


def compile_keyring(ctx: Context, container_id: str, process: Process | None) -> NewKeyring:
    """A session keyring of the container's own; only a kernel without keyrings may do without."""
    label = process.selinux_label if process and ctx.host.selinux else None
    return NewKeyring("", f"_ses.{container_id}", label, tolerated=(ENOSYS,))


def compile_apparmor(ctx: Context, process: Process, pointer: str) -> Iterator[Op]:
    if not process.apparmor_profile:
        return
    if ctx.host.apparmor:
        yield SetApparmor(f"{pointer}/apparmorProfile", process.apparmor_profile)
    else:
        message = f"{process.apparmor_profile} is not applied: AppArmor is not enabled on this host"
        ctx.warn(f"{pointer}/apparmorProfile", message)


def compile_selinux(ctx: Context, process: Process, pointer: str) -> Iterator[Op]:
    if not process.selinux_label:
        return
    if not ctx.host.selinux:
        message = "selinux label is specified in config, but selinux is disabled or not supported"
        raise SpecError(f"{pointer}/selinuxLabel", message, "host.unsupported")
    yield SetSelinux(f"{pointer}/selinuxLabel", process.selinux_label)


def check_mount_label(ctx: CreateContext) -> None:
    if ctx.linux.mount_label and not ctx.host.selinux:
        ctx.warn("/linux/mountLabel", "is not applied: SELinux is not enabled on this host")


def compile_no_new_privileges(process: Process, pointer: str) -> Iterator[Op]:
    if process.no_new_privileges:
        yield SetNoNewPrivileges(f"{pointer}/noNewPrivileges")


def compile_seccomp_load(program: Filter | None) -> Iterator[Op]:
    if program:
        yield LoadSeccomp("/linux/seccomp", program.bpf, program.flags, program.listener)


def compile_sysctls(ctx: CreateContext) -> Iterator[Op]:
    """Those of namespaces of the container's own (spec.checks has said so), of which none may be the host's."""
    for key, value in ctx.linux.sysctl.items():
        path, pointer = sysctl_path(key), pointer_to("/linux/sysctl", key)
        if path.startswith("net/") and "network" in ctx.host.shared:
            raise SpecError(pointer, f'sysctl "{key}" not allowed in host network namespace', "spec.conflict")
        yield SetSysctl(pointer, path, value)


class CapabilitySets:
    """The five sets as masks, cut down to what can be granted; every cut is a warning."""

    def __init__(self, ctx: Context, wanted: Capabilities | None, pointer: str) -> None:
        self._ctx, self._pointer = ctx, f"{pointer}/capabilities"
        wanted = wanted or _NONE
        grantable = _grantable(ctx)
        self.bounding = self._cut("bounding", wanted.bounding, grantable, "the runtime lacks")
        self.permitted = self._cut("permitted", wanted.permitted, grantable, "the runtime lacks")
        self.effective = self._cut("effective", wanted.effective, self.permitted, "permitted lacks")
        # capset(2): inheritable stays within what was inheritable before, which is nothing, and the bounding set.
        possible = self.bounding & grantable
        self.inheritable = self._cut("inheritable", wanted.inheritable, possible, "bounding lacks")
        possible = self.permitted & self.inheritable
        self.ambient = self._cut("ambient", wanted.ambient, possible, "permitted or inheritable lacks")

    def _cut(self, name: str, words: tuple[str, ...], possible: int, lacking: str) -> int:
        mask = 0
        refused = []
        for index, word in enumerate(words):
            bit = k.CAPABILITY_BITS.get(word, 0)
            if not bit:
                self._ctx.warn(f"{self._pointer}/{name}/{index}", f"{word} is no capability, ignored")
            elif not bit & possible:
                refused.append((index, word))
            mask |= bit & possible
        # One line for all: Buildah asks for a dozen ambient ones that nothing makes inheritable, and shows what we say.
        if len(refused) == 1:
            index, word = refused[0]
            self._ctx.warn(f"{self._pointer}/{name}/{index}", f"{word} cannot be granted ({lacking} it), ignored")
        elif refused:
            listed = ", ".join(word for _, word in refused)
            self._ctx.warn(f"{self._pointer}/{name}", f"{listed} cannot be granted ({lacking} them), ignored")
        return mask

    def drop(self) -> DropBounding:
        return DropBounding(f"{self._pointer}/bounding", self.bounding)

    def apply(self) -> SetCapabilities:
        return SetCapabilities(self._pointer, self.effective, self.permitted, self.inheritable, self.ambient)


def _grantable(ctx: Context) -> int:
    """What init has when it comes to drop it: everything in a user namespace that it has entered (user_namespaces(7));
    else execve(2) has given root what is in the bounding set, and others what they had."""
    if ctx.has_user_namespace:
        return k.ALL_CAPABILITIES
    return ctx.host.bounding & (k.ALL_CAPABILITIES if ctx.host.euid == 0 else ctx.host.effective)
