"""argv -> command -> exit code; the only place that prints an error.

Exit codes: 0; 1 for a failure; 255 where exec fails to start the program; 3 for an unknown command; 130 and 141 for an
interrupt and for a reader of the output that went away, as a shell has it. Otherwise what the command returns.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from ocirt import SPEC_VERSION, __version__
from ocirt.cli.context import Context, make_context
from ocirt.cli.flags import Args, Command
from ocirt.cli.parse import Invocation, UnknownCommandError, parse
from ocirt.cli.table import GLOBAL_FLAGS
from ocirt.errors import HostError, OcirtError, PlanError
from ocirt.log import Logger
from ocirt.output import OutputClosedError, write_out

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Args", "Context", "execute", "main"]


def main() -> None:
    """The program. It leaves with _exit: nothing of Python's own clean-up is worth its time."""
    os._exit(execute(sys.argv[1:]))


def execute(argv: Sequence[str]) -> int:
    """Do what a command line asks for, print an error if there is one, return the exit code."""
    log = Logger()
    options = Args(GLOBAL_FLAGS)
    command: Command | None = None
    try:
        open_stdio()
        try:
            invocation = parse(argv, options)
        finally:  # an error in the command line belongs into the log, too
            log.configure(options.text("log"), options.text("log-format"), debug=options.switch("debug"))
        text = _text(invocation)
        if text:
            write_out(text)
            return 0
        context = make_context(options, log)
        command = invocation.command
        name = invocation.args.command
        log.debug(f"ocirt {__version__} {name}, root {context.root}, cgroup manager {context.cgroup_manager}")
        code = _run(invocation, context)
        log.flush()
        return code
    except OutputClosedError:
        return 141
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        return _fail(error, command, log)


def open_stdio() -> None:
    """Put /dev/null where the caller closed a standard descriptor.

    Otherwise a file opened later would get its number, and be written to or given to the container as such.
    """
    for fd in range(3):
        try:
            fcntl.fcntl(fd, fcntl.F_GETFD)
        except OSError:
            # open(2) takes the lowest free number, which is this one; the container inherits it.
            try:
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            except OSError as error:
                raise HostError.of(error, "open") from None


def version_text() -> str:
    """What --version prints.

    The first line has ocirt's own name: go-runc (containerd, BuildKit) takes a version only from "runc version " and
    goes on without one for every other name, as for crun; Docker takes what stands before and after the word "version"
    of any line that has it, so no other line may; Podman and CRI-O show the text as it is. None of them compares it.
    """
    return f"ocirt version {__version__}\ncommit: {commit()}\nspec: {SPEC_VERSION}\n{_standalone()}"


def commit() -> str:
    """The commit that this was built from, which the build writes to a module of its own; a source tree has none."""
    try:
        return str(import_module("ocirt._commit").COMMIT)
    except ImportError:
        return "unknown"


def _standalone() -> str:
    """The line of the standalone binary, in which its form is built in (docs/standalone.md)."""
    try:
        return f"standalone: one file ({import_module('_ocirt_standalone').form})\n"
    except ImportError:
        return ""


def _text(invocation: Invocation) -> str:
    """The answer to --version and --help, "" when there is a command to run."""
    if invocation.version:
        return version_text()
    if not invocation.help and invocation.command is not None:
        return ""
    from ocirt.cli.help import command_help, main_help

    return main_help() if invocation.command is None else command_help(invocation.command)


def _run(invocation: Invocation, context: Context) -> int:
    assert invocation.command is not None
    run: Callable[[Args, Context], int] = import_module(f"ocirt.commands.{invocation.command.module}").run
    return run(invocation.args, context)


# runc's words before what its init reports.
_INIT_FAILED = "unable to start container process: error during container init: "


def _fail(error: Exception, command: Command | None, log: Logger) -> int:
    """Print the error and return the exit code. `command` is the one that failed, None before it came to it."""
    if log.debugging:
        import traceback

        log.traceback("".join(traceback.format_exception(error)))
    if isinstance(error, MemoryError):
        error = HostError("malloc", "", errno.ENOMEM)
    elif isinstance(error, OSError):
        error = HostError.of(error, "a system call", hint="--debug shows which")
    if not isinstance(error, OcirtError):
        text = f"internal error: {type(error).__name__}: {error}"
        log.error(text if log.debugging else f"{text} (--debug shows where)", code="internal")
        return 1 if command is None else command.failure_code
    prefix = f"{command.failure}: " if command is not None and command.failure else ""
    if prefix and isinstance(error, PlanError):
        prefix += _INIT_FAILED
    log.error(f"{prefix}{error}", code=error.code)
    if isinstance(error, UnknownCommandError):
        return 3
    return 1 if command is None else command.failure_code
