"""create: make a container from a bundle; its init waits for start."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ocirt.cli import Args, Context
from ocirt.creation import Options, create
from ocirt.errors import UsageError
from ocirt.terminal import check_console_flags


def run(args: Args, context: Context) -> int:
    options = creation_options(args, os.environ, os.getpid())
    creation, session = create(context, args.positional[0], options, check_create_console)
    creation.container.close()
    session.close()
    return 0


def check_create_console(terminal: bool, options: Options) -> None:
    check_console_flags(terminal, options.console_socket, detached=True)


def creation_options(args: Args, environ: Mapping[str, str], pid: int) -> Options:
    """What create and run have in common on their command lines. Paths are relative to the caller's directory."""

    def path(name: str) -> str | None:
        text = args.text(name)
        return os.path.abspath(text) if text else None

    preserve = args.number("preserve-fds") or 0
    if preserve > 1024:
        raise UsageError(f"--preserve-fds {preserve} is more than 1024")
    return Options(
        bundle=os.path.abspath(args.text("bundle") or "."),
        console_socket=path("console-socket"),
        pidfd_socket=path("pidfd-socket"),
        pid_file=path("pid-file"),
        no_pivot=args.switch("no-pivot"),
        no_new_keyring=args.switch("no-new-keyring"),
        preserve_fds=preserve,
        listen_fds=listen_fds(environ, pid),
        notify_socket=environ.get("NOTIFY_SOCKET") or None,
    )


def listen_fds(environ: Mapping[str, str], pid: int) -> int:
    """How many descriptors socket activation has for us (sd_listen_fds(3)); they come before those to preserve."""
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(pid) or not (count.isascii() and count.isdecimal()):
        return 0
    return min(int(count), 1024)
