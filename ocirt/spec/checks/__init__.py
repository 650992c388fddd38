"""What is wrong with a config.json whose structure holds, as far as the file alone can tell.

Guarantees: every check is pure, and yields all the problems that it sees, each with its pointer and code. A Spec that
check_spec lets pass has met each MUST of the specification that needs no host; what it lets pass, runc takes too,
except where the code says why not.
"""

from __future__ import annotations

from collections.abc import Callable

from ocirt.spec._generated import Process, Resources, Spec
from ocirt.spec.checks import general, linux, namespaces, process, seccomp
from ocirt.spec.checks.namespaces import sysctl_path
from ocirt.spec.checks.problems import Problems, linux_of

__all__ = ["CHECKS", "all_problems", "check_process", "check_resources", "check_spec", "sysctl_path"]

PROCESS_CHECKS: tuple[Callable[[Process, str], Problems], ...] = (
    process.command,
    process.environment,
    process.console_size,
    process.rlimits,
    process.scheduler,
    process.cpu_affinity,
)
RESOURCE_CHECKS: tuple[Callable[[Resources, str], Problems], ...] = (
    linux.device_rules,
    linux.resources,
)


def _process(spec: Spec) -> Problems:
    if spec.process:
        for check in PROCESS_CHECKS:
            yield from check(spec.process, "/process")


def _resources(spec: Spec) -> Problems:
    if resources := linux_of(spec).resources:
        for check in RESOURCE_CHECKS:
            yield from check(resources, "/linux/resources")


CHECKS: tuple[Callable[[Spec], Problems], ...] = (
    general.version,
    general.root,
    _process,
    general.uts_names,
    general.mounts,
    general.hooks,
    namespaces.namespaces,
    namespaces.user_namespace,
    namespaces.time_offsets,
    namespaces.net_devices,
    namespaces.sysctls,
    linux.devices,
    linux.cgroups_path,
    _resources,
    linux.intel_rdt,
    linux.memory_policy,
    linux.personality,
    general.restricted_paths,
    seccomp.seccomp,
)


def all_problems(spec: Spec) -> Problems:
    for check in CHECKS:
        yield from check(spec)


def check_spec(spec: Spec) -> None:
    """Raises the first problem's SpecError."""
    for problem in all_problems(spec):
        raise problem


def check_process(value: Process, at: str) -> None:
    """For the process file of exec; `at` is the pointer of the process."""
    for check in PROCESS_CHECKS:
        for problem in check(value, at):
            raise problem


def check_resources(value: Resources, at: str) -> None:
    """For the resources of update; `at` is their pointer."""
    for check in RESOURCE_CHECKS:
        for problem in check(value, at):
            raise problem
