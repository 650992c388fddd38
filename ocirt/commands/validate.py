"""validate: everything that is wrong with a bundle, and apart from it what may be meant otherwise.

Guarantees: nothing is made, and nothing is written but the report. The exit code is 1 exactly when there is an error.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from ocirt.cli import Args, Context
from ocirt.creation import Options, prepare
from ocirt.errors import OcirtError, SpecError, one_line
from ocirt.host import UnsupportedHostError, probe_host
from ocirt.notice import Notice
from ocirt.output import write_json, write_out
from ocirt.spec import Linux, Spec, all_problems, parse_config
from ocirt.spec.checks.general import HOOK_NAMES
from ocirt.spec.host_notices import HOST, host_notices
from ocirt.spec.load import CONFIG_NAME, decode_with_problems, read_file
from ocirt.spec.notices import all_notices, unknown_properties
from ocirt.spec.structure import load_schema, structure_problems

PLAN = "warning.plan"
UNSUPPORTED_HOST = UnsupportedHostError.code


@dataclass
class Report:
    """Errors and warnings, each in the order of the checks."""

    errors: list[SpecError] = field(default_factory=list)
    warnings: list[Notice] = field(default_factory=list)

    def add_warning(self, told: OcirtError | str, code: str) -> None:
        """A line that may begin with a pointer; what has been told of the same property is not told again."""
        pointer, colon, message = str(told).partition(": ")
        if not (colon and pointer.startswith("/")):
            pointer, message = "", str(told)
        if not pointer or pointer not in {warning.pointer for warning in self.warnings}:
            self.warnings.append(Notice(pointer, message, code))

    def as_text(self) -> str:
        lines = [f"error: {error} [{error.code}]" for error in self.errors]
        lines += [f"warning: {one_line(str(warning))} [{warning.code}]" for warning in self.warnings]
        if not self.errors:
            lines.append("the bundle is valid")
        return "".join(f"{line}\n" for line in lines)

    def as_json(self) -> dict[str, object]:
        return {
            "valid": not self.errors,
            "errors": [{"pointer": e.pointer, "message": e.message, "code": e.code} for e in self.errors],
            "warnings": [warning._asdict() for warning in self.warnings],
        }


def run(args: Args, context: Context) -> int:
    """`validate [-b BUNDLE | BUNDLE]`. Raises HostError where config.json cannot be read."""
    bundle = args.positional[0] if args.positional else args.text("bundle") or "."
    report = examine(context, os.path.abspath(bundle))
    if args.text("format") == "json":
        write_json(report.as_json())
    else:
        write_out(report.as_text())
    return 1 if report.errors else 0


def examine(context: Context, bundle: str) -> Report:
    """Checks beyond the structure need one that holds, and a plan needs a config that no check refuses."""
    path = os.path.join(bundle, CONFIG_NAME)
    report = Report()
    try:
        value, report.errors = decode_with_problems(read_file(path), path)
    except SpecError as error:
        report.errors = [error]
        return report
    report.errors += structure_problems(value)
    report.warnings += unknown_properties(value, load_schema("config"))
    if not report.errors:
        spec = parse_config(value)
        report.errors += all_problems(spec)
        report.errors += _root_problems(spec, bundle)
        report.warnings += all_notices(spec)
        report.warnings += _missing_paths(spec, bundle)
        _examine_on_this_host(report, context, spec, bundle)
    return report


def _missing_paths(spec: Spec, bundle: str) -> list[Notice]:
    """Files of the host that the config names, and create would not find."""
    linux = spec.linux or Linux()
    named = {f"/linux/namespaces/{index}/path": namespace.path for index, namespace in enumerate(linux.namespaces)}
    for index, mount in enumerate(spec.mounts):
        if {"bind", "rbind"} & set(mount.options):
            named[f"/mounts/{index}/source"] = os.path.join(bundle, mount.source or "")
    for attribute, name in HOOK_NAMES.items():
        if name != "startContainer":  # whose path is the container's (config.md#startcontainer-hooks)
            for index, hook in enumerate(getattr(spec.hooks, attribute, ())):
                named[f"/hooks/{name}/{index}/path"] = hook.path
    missing = {pointer: path for pointer, path in named.items() if path and not os.path.lexists(path)}
    return [Notice(pointer, f"{path} does not exist on this host", HOST) for pointer, path in missing.items()]


def _examine_on_this_host(report: Report, context: Context, spec: Spec, bundle: str) -> None:
    """What this host cannot do; that it cannot even be asked is one of these things."""
    try:
        host = probe_host(spec, bundle=bundle)
        report.warnings += host_notices(spec, host)
        if not report.errors:
            _examine_plan(report, context, bundle, rootless=host.rootless)
    except OcirtError as error:
        report.add_warning(error, HOST)


def _examine_plan(report: Report, context: Context, bundle: str, *, rootless: bool) -> None:
    """What the compiler refuses is an error, unless another host, or root, could do it: that is raised."""
    try:
        prepared = prepare(context, os.path.basename(bundle) or "container", Options(bundle=bundle))
    except SpecError as error:
        if rootless or error.code == UNSUPPORTED_HOST:
            raise
        report.errors.append(error)
    else:
        for warning in prepared.warnings:
            report.add_warning(warning, PLAN)


def _root_problems(spec: Spec, bundle: str) -> list[SpecError]:
    """config.md#root: a directory MUST exist at the path. Symlinks are followed, as create does."""
    path = os.path.join(bundle, spec.root.path)
    if os.path.isdir(path):
        return []
    message = "is not a directory" if os.path.exists(path) else "no such directory"
    return [SpecError("/root/path", f"{path}: {message}", "spec.root")]
