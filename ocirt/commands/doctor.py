"""doctor: what of ocirt's features this host and this user can do. The exit code is 1 when no container can run."""

from __future__ import annotations

import os

from ocirt.cli import Args, Context
from ocirt.output import STDOUT_FD, write_json, write_out


def run(args: Args, context: Context) -> int:
    from ocirt.doctor.system import System
    from ocirt.doctor.table import examine
    from ocirt.doctor.trials import Trials

    system = System(
        uid=os.geteuid(),
        gid=os.getegid(),
        environ=dict(os.environ),
        state_root=context.root,
        cgroup_manager=context.cgroup_manager,
        rootless_given=context.rootless,
    )
    report = examine(system, Trials(system))
    if args.switch("json"):
        write_json(report.as_json())
    else:
        write_out(report.as_text(colours=_wants_colours()))
    return 1 if report.blocked_by else 0


def _wants_colours() -> bool:
    """https://no-color.org"""
    return os.isatty(STDOUT_FD) and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
