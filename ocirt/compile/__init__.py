"""The compiler: (Spec, Host, request) -> Plan, and the descriptors and answers that go with it.

Guarantees: pure, so that the same input gives the same plan, and `ocirt plan` shows what `create` runs. Every operation
has the JSON pointer of the property that asked for it ("" where the specification itself does). The order of operations
is that of docs/architecture.md, "The order inside init"; the tests hold it for every plan.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ocirt import constants as k
from ocirt._native import lib
from ocirt.compile.context import Context, CreateContext, ExecContext
from ocirt.compile.hooks import compile_create_hooks, compile_start_hooks
from ocirt.compile.idmaps import compile_idmapped_trees
from ocirt.compile.mount_options import OPTIONS
from ocirt.compile.namespaces import Namespaces, compile_exec_namespaces, compile_namespaces, compile_network
from ocirt.compile.process import ProcessCompiler, activation_env, check_user
from ocirt.compile.request import (
    CgroupDirectory,
    Compiled,
    ContainerPidfd,
    CreateRequest,
    ExecRequest,
    IdmappedTree,
    JoinedUser,
    NamespacePath,
    Need,
    ResultFifo,
    StartFifo,
)
from ocirt.compile.rootfs import compile_pivot, compile_readonly_root, compile_restricted_paths, compile_root
from ocirt.compile.security import check_mount_label, compile_apparmor, compile_keyring, compile_sysctls
from ocirt.host import Host
from ocirt.ops import (
    ChangeDirectory,
    CloseDescriptors,
    JoinCgroup,
    Op,
    OpenProc,
    OpenRoot,
    Pivot,
    SetCpuAffinity,
    SetDomainname,
    SetHostname,
    Sync,
    WaitStart,
)
from ocirt.plan import Plan
from ocirt.spec import Process, Spec

__all__ = [
    "MOUNT_OPTIONS",
    "CgroupDirectory",
    "Compiled",
    "ContainerPidfd",
    "CreateRequest",
    "ExecRequest",
    "IdmappedTree",
    "JoinedUser",
    "NamespacePath",
    "Need",
    "ResultFifo",
    "StartFifo",
    "compile_create",
    "compile_exec",
]

# What exec takes from the container's process where its own says nothing.
_INHERITED = (
    *("capabilities", "apparmor_profile", "selinux_label", "rlimits", "oom_score_adj"),
    *("scheduler", "io_priority", "exec_cpu_affinity"),
)

MOUNT_OPTIONS = tuple(sorted(OPTIONS))
"""Every option of mounts that is understood, for `features`."""


def compile_create(spec: Spec, host: Host, request: CreateRequest) -> Compiled:
    """The plan of create. Raises SpecError for what this host, or this request, cannot do."""
    ctx = CreateContext(spec, host, request)
    start, result = ctx.slots.need(StartFifo()), ctx.slots.need(ResultFifo())
    namespaces = compile_namespaces(ctx)
    idmapped = compile_idmapped_trees(ctx)
    filled_slots = ctx.slots.count
    process = _created_process(ctx, namespaces)
    check_mount_label(ctx)

    ctx.host_ops.append(OpenProc(""))
    ctx.host_ops += process.host_section() if process else ()
    ops: list[Op] = [] if request.no_new_keyring else [compile_keyring(ctx, request.container_id, spec.process)]
    ops += compile_network(ctx)
    root, mounts = compile_root(ctx, idmapped)
    ops += root
    ops += compile_create_hooks(ctx)
    ops += compile_pivot(ctx)
    if process:
        if spec.root.readonly:
            # Made while that can be; entered when everything that may cover it is there.
            ops.append(ChangeDirectory("/process/cwd", process.process.cwd, lib.CHDIR_CREATE))
        ops += process.console()
    if request.cgroup is not None:
        ops.append(Sync("", lib.SYNC_DEVICES))
    ops += mounts.later
    ops += compile_readonly_root(ctx)
    ops += [SetHostname("/hostname", spec.hostname)] if spec.hostname else []
    ops += [SetDomainname("/domainname", spec.domainname)] if spec.domainname else []
    ops += compile_apparmor(ctx, process.process, "/process") if process else ()
    ops += compile_sysctls(ctx)
    ops += compile_restricted_paths(ctx)
    if process:
        ops += process.confinement(request.seccomp)
        ops += process.user()
        ops += process.ending(request.seccomp, start, result)
    else:
        ops.append(CloseDescriptors("", start, result))
    ops += [Sync("", lib.SYNC_READY), WaitStart("", start, result)]
    if process:
        ops += compile_start_hooks(ctx)
        ops.append(process.execute())
    return _compiled(ctx, namespaces, ops, filled_slots, request.listen_fds + request.preserve_fds)


def compile_exec(process: Process, spec: Spec, host: Host, request: ExecRequest) -> Compiled:
    """The plan of exec: `process` in the container that `spec` describes. Raises SpecError."""
    ctx = ExecContext(spec, host, request)
    namespaces = compile_exec_namespaces(ctx)
    process = complete_process(process, spec.process)
    affinity = process.exec_cpu_affinity
    cgroup = ctx.slots.need(CgroupDirectory()) if affinity and affinity.initial else lib.NO_SLOT
    filled_slots = ctx.slots.count
    pointer = request.pointer
    check_user(process, pointer, request.user.mappings if request.user else None)
    compiler = ProcessCompiler(ctx, process, pointer, process.env, keep_groups=namespaces.keep_groups, creates=False)

    ctx.host_ops.append(OpenProc(""))
    for name, cpus in (("initial", affinity and affinity.initial), ("final", affinity and affinity.final)):
        if cpus:
            mask = k.to_bitmask(k.parse_ranges(cpus))
            ctx.host_ops.append(SetCpuAffinity(f"{pointer}/execCPUAffinity/{name}", mask))
            if name == "initial":
                ctx.host_ops.append(JoinCgroup(f"{pointer}/execCPUAffinity/{name}", cgroup))
    ctx.host_ops += compiler.host_section()
    ops: list[Op] = [] if request.no_new_keyring else [compile_keyring(ctx, request.container_id, process)]
    if not ctx.has_mount_namespace:
        # The container's init has the host's mounts, and a root of its own among them.
        ctx.host_ops.append(OpenRoot("/root/path", request.rootfs))
        ops.append(Pivot("/root/path", lib.PIVOT_CHROOT))
    ops += compiler.console()
    ops += compile_apparmor(ctx, process, pointer)
    ops += compiler.confinement(request.seccomp)
    ops += compiler.user()
    ops += compiler.ending(request.seccomp, lib.NO_SLOT, lib.NO_SLOT)
    ops.append(compiler.execute())
    return _compiled(ctx, namespaces, ops, filled_slots, request.preserve_fds)


def complete_process(process: Process, configured: Process | None) -> Process:
    """A process of exec with what it leaves open from the container's own, as with runc."""
    if configured is None or process is configured:
        return process
    left: dict[str, Any] = {
        name: getattr(configured, name) for name in _INHERITED if getattr(process, name) in (None, ())
    }
    user = process.user
    if user.umask is None and configured.user.umask is not None:
        left["user"] = replace(user, umask=configured.user.umask)
    return replace(process, **left) if left else process


def _created_process(ctx: CreateContext, namespaces: Namespaces) -> ProcessCompiler | None:
    process, request = ctx.spec.process, ctx.request
    if process is None:
        return None
    check_user(process, "/process", ctx.user_mappings())
    env = (*process.env, *activation_env(request.listen_fds, bool(request.notify_directory)))
    return ProcessCompiler(ctx, process, "/process", env, keep_groups=namespaces.keep_groups, creates=True)


def _compiled(ctx: Context, namespaces: Namespaces, ops: list[Op], filled_slots: int, preserve_fds: int) -> Compiled:
    plan = Plan(
        host_ops=tuple(ctx.host_ops),
        ops=tuple(ops),
        entry_ops=tuple(ctx.entry_ops),
        clone_flags=namespaces.clone_flags,
        joins=namespaces.joins,
        pidfd_flags=namespaces.pidfd_flags,
        pidfd_slot=namespaces.pidfd_slot,
        flags=namespaces.flags,
        user_root_uid=namespaces.user_root[0],
        user_root_gid=namespaces.user_root[1],
        preserve_fds=preserve_fds,
        slot_count=ctx.slots.count,
        filled_slots=filled_slots,
    )
    return Compiled(
        plan=plan,
        needs=tuple(ctx.slots.needs),
        mapping=namespaces.mapping,
        time_offsets=namespaces.time_offsets,
        warnings=tuple(ctx.warnings),
    )
