"""The process: from its terminal to execve(2) (config.md#process).

Guarantees: the order of docs/architecture.md, for create and exec alike. Limits are set while init may still raise
them, and after everything that opens files; the user comes after the bounding set, the capabilities after the user.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from ocirt import constants as k
from ocirt._native import lib
from ocirt.compile.context import Context
from ocirt.compile.namespaces import keeps_groups_by_annotation, mapped
from ocirt.compile.request import UserMappings
from ocirt.compile.security import (
    CapabilitySets,
    compile_no_new_privileges,
    compile_seccomp_load,
    compile_selinux,
)
from ocirt.errors import SpecError
from ocirt.notify import CONTAINER_DIRECTORY, SOCKET_NAME
from ocirt.ops import (
    ChangeDirectory,
    ChownStdio,
    CloseDescriptors,
    Execute,
    FindHome,
    Op,
    OpenConsole,
    ResolveExecutable,
    SetIoPriority,
    SetMemoryPolicy,
    SetOomScoreAdj,
    SetPersonality,
    SetRlimit,
    SetScheduler,
    SetUmask,
    SetUser,
)
from ocirt.seccomp import Filter
from ocirt.spec import Process, Rlimit


class ProcessCompiler:
    """One process's operations, a method a stage. `keep_groups`: setgroups(2) cannot, or is not to be called."""

    def __init__(
        self, ctx: Context, process: Process, pointer: str, env: tuple[str, ...], *, keep_groups: bool, creates: bool
    ) -> None:
        self.ctx, self.process, self.pointer, self.creates = ctx, process, pointer, creates
        self.keep_groups = keep_groups
        self.env, self.finds_home = compile_env(env)
        self.capabilities = CapabilitySets(ctx, process.capabilities, pointer)
        if process.user.additional_gids and keep_groups and not keeps_groups_by_annotation(ctx):
            at = f"{pointer}/user/additionalGids"
            raise SpecError(at, "cannot set any additional groups in a rootless container", "spec.unsupported")

    def host_section(self) -> Iterator[Op]:
        """What only the runtime's privileges, or its procfs, allow."""
        if self.process.oom_score_adj is not None:
            yield SetOomScoreAdj(f"{self.pointer}/oomScoreAdj", self.process.oom_score_adj)
        for index, limit in enumerate(self.process.rlimits):
            # A user namespace has no CAP_SYS_RESOURCE over limits: raised here, they are lowered inside.
            _, hard = self.ctx.host.rlimits.get(limit.type, (0, k.RLIM_INFINITY))
            if self.ctx.has_user_namespace and limit.hard > hard and self.ctx.host.has("CAP_SYS_RESOURCE"):
                yield self._rlimit(index, Rlimit(type=limit.type, soft=limit.hard, hard=limit.hard))

    def console(self) -> Iterator[Op]:
        if not self.process.terminal:
            return
        size = self.process.console_size
        yield OpenConsole(
            f"{self.pointer}/terminal",
            rows=size.height if size else 0,
            columns=size.width if size else 0,
            flags=lib.CONSOLE_BIND if self.creates and self.ctx.has_mount_namespace else 0,
            uid=self.process.user.uid,
        )

    def confinement(self, program: Filter | None) -> Iterator[Op]:
        """From no_new_privs to the bounding set, with what needs the privileges that go there."""
        process, pointer = self.process, self.pointer
        yield from compile_no_new_privileges(process, pointer)
        yield from self._scheduling()
        yield from self._linux()
        if process.user.umask is not None:
            yield SetUmask(f"{pointer}/user/umask", process.user.umask & 0o777)
        if self.finds_home:
            yield FindHome(f"{pointer}/env", process.user.uid)
        if not process.terminal:
            yield ChownStdio(f"{pointer}/user/uid", process.user.uid)
        for index, limit in enumerate(process.rlimits):
            yield self._rlimit(index, limit)
        # As root first: the user may lack the right to get there (and root's may have been squashed: EACCES).
        flags = lib.CHDIR_CREATE if self.creates else 0
        yield ChangeDirectory(f"{pointer}/cwd", process.cwd, flags, tolerated=(errno.EACCES,))
        yield from compile_selinux(self.ctx, process, pointer)
        if not process.no_new_privileges:
            yield from compile_seccomp_load(program)
        yield self.capabilities.drop()

    def user(self) -> Iterator[Op]:
        user, pointer = self.process.user, self.pointer
        flags = lib.USER_KEEP_GROUPS if self.keep_groups else 0
        groups = () if self.keep_groups else user.additional_gids
        yield SetUser(f"{pointer}/user", user.uid, user.gid, groups, flags)
        yield ChangeDirectory(f"{pointer}/cwd", self.process.cwd, lib.CHDIR_AGAIN)
        yield self.capabilities.apply()
        path = next((entry[5:] for entry in self.env if entry.startswith("PATH=")), None)
        yield ResolveExecutable(f"{pointer}/args/0", self.process.args[0], path)

    def ending(self, program: Filter | None, start: int, result: int) -> Iterator[Op]:
        yield CloseDescriptors("", start, result)
        if self.process.no_new_privileges:
            yield from compile_seccomp_load(program)

    def execute(self) -> Execute:
        return Execute(f"{self.pointer}/args", self.process.args, self.env)

    def _rlimit(self, index: int, limit: Rlimit) -> SetRlimit:
        return SetRlimit(f"{self.pointer}/rlimits/{index}", k.RLIMITS[limit.type], limit.soft, limit.hard)

    def _scheduling(self) -> Iterator[Op]:
        scheduler, priority = self.process.scheduler, self.process.io_priority
        if scheduler:
            yield SetScheduler(
                f"{self.pointer}/scheduler",
                policy=k.SCHEDULER_POLICIES[scheduler.policy],
                nice=scheduler.nice,
                priority=scheduler.priority,
                flags=sum({k.SCHEDULER_FLAGS[name] for name in scheduler.flags}),
                runtime_nsec=scheduler.runtime,
                deadline_nsec=scheduler.deadline,
                period_nsec=scheduler.period,
            )
        if priority:
            value = k.IO_PRIORITY_CLASSES[priority.class_] << k.IOPRIO_CLASS_SHIFT | priority.priority
            yield SetIoPriority(f"{self.pointer}/ioPriority", value)

    def _linux(self) -> Iterator[Op]:
        """Properties of the container that are the process's to the kernel."""
        linux = self.ctx.linux
        if linux.personality:
            yield SetPersonality("/linux/personality", k.PERSONALITIES[linux.personality.domain])
        if linux.memory_policy:
            mode = k.MEMORY_POLICY_MODES[linux.memory_policy.mode]
            mode |= sum({k.MEMORY_POLICY_FLAGS[name] for name in linux.memory_policy.flags})
            nodes = k.parse_ranges(linux.memory_policy.nodes or "")
            yield SetMemoryPolicy("/linux/memoryPolicy", mode, k.to_bitmask(nodes))


def compile_env(env: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
    """The environment with the last value of each name, and whether HOME is to be found: absent, or empty."""
    values: dict[str, str] = {}
    for entry in env:
        name = entry.partition("=")[0]
        values.pop(name, None)
        values[name] = entry
    finds_home = values.get("HOME", "HOME=") == "HOME="
    if finds_home:
        values.pop("HOME", None)
    return tuple(values.values()), finds_home


def activation_env(listen_fds: int, notifies: bool) -> tuple[str, ...]:
    """What the caller's LISTEN_FDS and NOTIFY_SOCKET are in the container (sd_listen_fds(3), sd_notify(3))."""
    env = (f"LISTEN_FDS={listen_fds}", "LISTEN_PID=1") if listen_fds else ()
    return (*env, f"NOTIFY_SOCKET={CONTAINER_DIRECTORY}/{SOCKET_NAME}") if notifies else env


def check_user(process: Process, pointer: str, known: UserMappings | None) -> None:
    """The ids must exist in the container's user namespace. Raises SpecError."""
    if not known:
        return
    user = process.user
    asked = [("uid", user.uid, known[0]), ("gid", user.gid, known[1])]
    asked += [(f"additionalGids/{index}", gid, known[1]) for index, gid in enumerate(user.additional_gids)]
    for name, number, mappings in asked:
        if not mapped(number, mappings):
            raise SpecError(f"{pointer}/user/{name}", f"{number} is not mapped in the container's user namespace")
