"""exec: run another program in a container, with its configuration's process as the model or a file in its place."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace

from ocirt.cli import Args, Context
from ocirt.creation import check_preserved
from ocirt.errors import UsageError
from ocirt.execution import ExecOptions, check_executable, execute
from ocirt.foreground import caught_signals, wait_foreground
from ocirt.savedspec import saved_spec
from ocirt.spec import Capabilities, Process, User, check_process, load_process
from ocirt.terminal import check_console_flags, relaying

MAX_ID = 2**32 - 2  # 2**32 - 1 stands for "no id" (setresuid(2))


def run(args: Args, context: Context) -> int:
    container = context.store.load(args.positional[0])
    check_executable(container)
    spec = saved_spec(container)
    if args.text("process"):
        process, pointer = load_process(args.text("process")), ""
    else:
        process, pointer = _process(args, spec.process), "/process"
        check_process(process, pointer)
    detached = args.switch("detach")
    check_console_flags(process.terminal, args.text("console-socket") or None, detached=detached)
    options = _options(args, pointer, context.seccomp_cache)
    check_preserved(options.preserve_fds)
    if detached:
        session, _ = execute(container, process, spec, options, context.log)
        session.close()
        return 0
    with caught_signals() as signals_fd:
        session, master_fd = execute(container, process, spec, options, context.log)
        container.close()
        with contextlib.closing(session), relaying(master_fd) as relay:
            return wait_foreground(signals_fd, session.pid, session.pidfd, relay)


def _options(args: Args, pointer: str, seccomp_cache: str) -> ExecOptions:
    def path(name: str) -> str | None:
        text = args.text(name)
        return os.path.abspath(text) if text else None

    cgroups = args.texts("cgroup")
    if len(cgroups) > 1:
        raise UsageError("--cgroup: cgroup v2 has one hierarchy, so one path")
    return ExecOptions(
        console_socket=path("console-socket"),
        pidfd_socket=path("pidfd-socket"),
        pid_file=path("pid-file"),
        no_new_keyring=False,
        preserve_fds=args.number("preserve-fds") or 0,
        sub_cgroup=cgroups[0].rpartition(":")[2] if cgroups else None,
        ignore_paused=args.switch("ignore-paused"),
        pointer=pointer,
        seccomp_cache=seccomp_cache,
    )


def parse_id(text: str, flag: str) -> int:
    """A uid or gid. A name is never looked up, and nothing wraps around to root (CVE-2026-30892, CVE-2016-3697)."""
    if not (text.isascii() and text.isdecimal()) or len(text) > 10 or int(text) > MAX_ID:
        raise UsageError(f'{flag}: "{text}" is not an id from 0 to {MAX_ID}')
    return int(text)


def _process(args: Args, model: Process | None) -> Process:
    """The configuration's process with what the flags change. Raises UsageError."""
    words = args.positional[1:]
    if not words:
        raise UsageError("exec needs a program to execute, or --process")
    process = model or Process(cwd="/", args=words)
    process = replace(
        process,
        args=words,
        terminal=args.switch("tty"),
        console_size=None,
        env=(*process.env, *args.texts("env")),
        user=_user(args, process.user),
        capabilities=_capabilities(args.texts("cap"), process.capabilities),
        cwd=args.text("cwd") or process.cwd,
    )
    if args.text("apparmor"):
        process = replace(process, apparmor_profile=args.text("apparmor"))
    if args.text("process-label"):
        process = replace(process, selinux_label=args.text("process-label"))
    if args.given("no-new-privs"):
        process = replace(process, no_new_privileges=args.switch("no-new-privs"))
    return process


def _user(args: Args, user: User) -> User:
    groups = tuple(parse_id(text, "--additional-gids") for text in args.texts("additional-gids"))
    user = replace(user, additional_gids=(*user.additional_gids, *groups))
    if not args.given("user"):
        return user
    uid, colon, gid = args.text("user").partition(":")
    return replace(user, uid=parse_id(uid, "--user"), gid=parse_id(gid, "--user") if colon else user.gid)


def _capabilities(added: tuple[str, ...], model: Capabilities | None) -> Capabilities | None:
    """--cap adds to bounding, effective and permitted, to ambient where that has any, never to inheritable
    (CVE-2022-29162)."""
    if not added:
        return model
    names = tuple(name.upper() if name.upper().startswith("CAP_") else f"CAP_{name.upper()}" for name in added)
    model = model or Capabilities()
    return replace(
        model,
        bounding=(*model.bounding, *names),
        effective=(*model.effective, *names),
        permitted=(*model.permitted, *names),
        ambient=(*model.ambient, *names) if model.ambient else (),
    )
