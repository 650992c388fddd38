"""run: create, start, and, unless detached, stand in for the container until it exits, and delete it."""

from __future__ import annotations

import contextlib
import os

from ocirt.cli import Args, Context
from ocirt.commands.create import creation_options
from ocirt.creation import Creation, Options, create
from ocirt.destroy import destroy_if_there
from ocirt.driver import Session
from ocirt.foreground import caught_signals, wait_foreground
from ocirt.selfcontrol import become_subreaper
from ocirt.starting import Start
from ocirt.terminal import Relay, check_console_flags, relaying


class _Run:
    """The container's start, set off before init is told to go on: it then need not wait once more."""

    def __init__(self, context: Context, *, detached: bool) -> None:
        self._context, self._detached = context, detached
        self._foreground = contextlib.ExitStack()
        self._relay: Relay | None = None
        self._signals_fd = -1
        self._start: Start | None = None

    def begin(self, creation: Creation) -> None:
        if not self._detached:
            self._relay = self._foreground.enter_context(relaying(creation.master_fd))
            self._signals_fd = self._foreground.enter_context(caught_signals())
        self._start = Start(creation.container)

    def finish(self, session: Session) -> int:
        """Without a terminal to serve and signals to pass on: 0; else the container's exit code, when it has ended."""
        assert self._start
        self._start.finish(self._context.log)
        if self._detached:
            return 0
        self._context.log.flush()  # what there is to warn of, now and not when the container ends
        return wait_foreground(self._signals_fd, session.pid, session.pidfd, self._relay)

    def close(self) -> None:
        self._foreground.close()


def run(args: Args, context: Context) -> int:
    detached = args.switch("detach")
    if not detached and not args.switch("no-subreaper"):
        become_subreaper()

    def check(terminal: bool, options: Options) -> None:
        check_console_flags(terminal, options.console_socket, detached=detached)

    options = creation_options(args, os.environ, os.getpid())
    with contextlib.closing(_Run(context, detached=detached)) as foreground:
        creation, session = create(context, args.positional[0], options, check, foreground.begin)
        with session:
            try:
                code = foreground.finish(session)
            except BaseException:
                foreground.close()
                destroy_if_there(creation.container, context.log)
                raise
            foreground.close()
            if not detached and not args.switch("keep"):
                destroy_if_there(creation.container, context.log)
    return code
