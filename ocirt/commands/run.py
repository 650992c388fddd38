"""run: create, start, and, unless detached, stand in for the container until it exits, and delete it."""

from __future__ import annotations

import os

from ocirt.cli import Args, Context
from ocirt.commands.create import creation_options
from ocirt.creation import Creation, Options, create
from ocirt.destroy import destroy_if_there
from ocirt.driver import Session
from ocirt.foreground import caught_signals, wait_foreground
from ocirt.selfcontrol import become_subreaper
from ocirt.starting import start
from ocirt.terminal import check_console_flags, relaying


def run(args: Args, context: Context) -> int:
    detached = args.switch("detach")
    if not detached and not args.switch("no-subreaper"):
        become_subreaper()

    def check(terminal: bool, options: Options) -> None:
        check_console_flags(terminal, options.console_socket, detached=detached)

    options = creation_options(args, os.environ, os.getpid())
    creation, session = create(context, args.positional[0], options, check)
    with session:
        try:
            if detached:
                start(creation.container, context.log)
                return 0
            code = _run_foreground(creation, session, context)
        except BaseException:
            destroy_if_there(creation.container, context.log)
            raise
        if not args.switch("keep"):
            destroy_if_there(creation.container, context.log)
    return code


def _run_foreground(creation: Creation, session: Session, context: Context) -> int:
    with relaying(creation.master_fd) as relay, caught_signals() as signals_fd:
        start(creation.container, context.log)
        context.log.flush()  # what there is to warn of, now and not when the container ends
        return wait_foreground(signals_fd, session.pid, session.pidfd, relay)
