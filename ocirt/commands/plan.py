"""plan: print what create would do for a bundle, from the same object."""

from __future__ import annotations

import json
import os

from ocirt.cli import Args, Context
from ocirt.creation import Options, prepare
from ocirt.output import write_out


def run(args: Args, context: Context) -> int:
    bundle = os.path.abspath(args.positional[0] if args.positional else args.text("bundle") or ".")
    prepared = prepare(context, os.path.basename(bundle) or "container", Options(bundle=bundle))
    for warning in prepared.warnings:
        context.log.warning(warning)
    plan = prepared.compiled.plan
    write_out(json.dumps(plan.to_json(), indent=2) + "\n" if args.text("format") == "json" else plan.render())
    return 0
