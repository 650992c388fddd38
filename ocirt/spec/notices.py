"""What is not wrong with a config.json, but may not be what its author means: the warnings of `validate`.

Guarantees: pure, and a notice never ends a command. What depends on the host is in host_notices.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from ocirt import SPEC_VERSION
from ocirt.cgroup.resources import resource_notices
from ocirt.constants import CAPABILITIES
from ocirt.notice import CAPABILITY, DEPRECATED, IGNORED, LOSSY, PLATFORM, UNKNOWN, VERSION, Notice
from ocirt.spec._generated import IntelRdt, Process, Spec
from ocirt.spec.checks.general import SEMVER
from ocirt.spec.checks.problems import linux_of, namespace_of
from ocirt.spec.values import pointer_to

Schema: TypeAlias = dict[str, Any]

# Properties of the specification that are for other systems.
PLATFORM_PROPERTIES = {
    "": ("solaris", "windows", "vm", "zos", "freebsd"),
    "/process": ("commandLine",),
    "/process/user": ("username",),
}
CAPABILITY_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")
S_IFMT = 0o170000
FILE_TYPES = {"c": 0o020000, "u": 0o020000, "b": 0o060000, "p": 0o010000}

Notices: TypeAlias = Iterator[Notice]


def unknown_properties(value: object, schema: Schema) -> Notices:
    """Properties that the schema does not know, which are ignored (config.md#extensibility)."""
    definitions = schema["$defs"]
    todo: list[tuple[str, object, Schema]] = [("", value, schema)]
    while todo:
        at, value, schema = todo.pop()
        if "$ref" in schema:
            schema = {**definitions[schema["$ref"].removeprefix("#/$defs/")], **schema}
        if isinstance(value, list) and "items" in schema:
            todo += [(pointer_to(at, index), item, schema["items"]) for index, item in enumerate(value)]
        elif isinstance(value, dict) and "additionalProperties" in schema:
            todo += [(pointer_to(at, key), item, schema["additionalProperties"]) for key, item in value.items()]
        elif isinstance(value, dict) and "properties" in schema:
            known = schema["properties"]
            for key, item in value.items():
                if key in known:
                    todo.append((pointer_to(at, key), item, known[key]))
                else:
                    yield _unknown(at, key, known)


def _unknown(at: str, key: str, known: Schema) -> Notice:
    pointer = pointer_to(at, key)
    if key in PLATFORM_PROPERTIES.get(at, ()):
        return Notice(pointer, "is for another platform, and ignored", PLATFORM)
    # runc's decoder takes any case, the specification one.
    meant = next((name for name in known if name.lower() == key.lower()), "")
    return Notice(pointer, "is unknown, and ignored" + (f": {meant} is known" if meant else ""), UNKNOWN)


def version(spec: Spec) -> Notices:
    """A newer minor version may have properties that this runtime overlooks (config.md#specification-version)."""
    match = SEMVER.fullmatch(spec.oci_version)
    mine = SEMVER.fullmatch(SPEC_VERSION)
    if match and mine and (int(match[1]), int(match[2])) > (int(mine[1]), int(mine[2])):
        yield Notice("/ociVersion", f"is newer than {SPEC_VERSION}, which this runtime implements", VERSION)


def capabilities(process: Process) -> Notices:
    """What cannot be granted MUST be a warning (config.md#linux-process)."""
    sets = process.capabilities
    if not sets:
        return
    for name in CAPABILITY_SETS:
        for index, capability in enumerate(getattr(sets, name)):
            pointer = f"/process/capabilities/{name}/{index}"
            if capability not in CAPABILITIES:
                yield Notice(pointer, f'"{capability:.40}" is no capability of Linux', CAPABILITY)
            elif name == "effective" and capability not in sets.permitted:
                yield Notice(pointer, f"{capability} cannot be effective: it is not permitted", CAPABILITY)
            elif name == "ambient" and not (capability in sets.permitted and capability in sets.inheritable):
                message = f"{capability} cannot be ambient: it is not both permitted and inheritable"
                yield Notice(pointer, message, CAPABILITY)


def ignored_by_process(process: Process) -> Notices:
    if process.console_size and not process.terminal:
        yield Notice("/process/consoleSize", "is ignored without a terminal", IGNORED)
    if process.user.umask is not None and process.user.umask > 0o777:
        yield Notice("/process/user/umask", f"only the bits of 0777 count in {process.user.umask:#o}", LOSSY)
    scheduler = process.scheduler
    if scheduler and scheduler.nice and scheduler.policy not in ("SCHED_OTHER", "SCHED_BATCH"):
        yield Notice("/process/scheduler/nice", f"is ignored with {scheduler.policy}", IGNORED)


def process(spec: Spec) -> Notices:
    if spec.process:
        yield from capabilities(spec.process)
        yield from ignored_by_process(spec.process)


def mounts(spec: Spec) -> Notices:
    """config.md#mounts."""
    for index, mount in enumerate(spec.mounts):
        at = f"/mounts/{index}"
        if not mount.destination.startswith("/"):
            yield Notice(f"{at}/destination", "a relative destination is deprecated, and relative to /", DEPRECATED)
        if mount.uid_mappings and not {"idmap", "ridmap"} & set(mount.options):
            yield Notice(f"{at}/uidMappings", "should go with the option idmap or ridmap", DEPRECATED)


def hooks(spec: Spec) -> Notices:
    if spec.hooks and spec.hooks.prestart:
        yield Notice("/hooks/prestart", "is deprecated: createRuntime takes its place", DEPRECATED)


def devices(spec: Spec) -> Notices:
    """config-linux.md#devices: a number SHOULD NOT be used for several devices."""
    seen: set[tuple[str, int | None, int | None]] = set()
    for index, device in enumerate(linux_of(spec).devices):
        at = f"/linux/devices/{index}"
        number = (device.type.replace("u", "c"), device.major, device.minor)
        if device.type != "p" and number in seen:
            yield Notice(at, f"{device.type} {device.major}:{device.minor} is listed before", DEPRECATED)
        seen.add(number)
        kind = (device.file_mode or 0) & S_IFMT
        if kind and kind != FILE_TYPES[device.type]:
            yield Notice(f"{at}/fileMode", f"has another file type than {device.type}, which counts", IGNORED)


def seccomp(spec: Spec) -> Notices:
    profile = linux_of(spec).seccomp
    if profile and profile.listener_path and all(rule.action != "SCMP_ACT_NOTIFY" for rule in profile.syscalls):
        yield Notice("/linux/seccomp/listenerPath", "is ignored: no rule has SCMP_ACT_NOTIFY", IGNORED)


def intel_rdt(spec: Spec) -> Notices:
    """config-linux.md#configLinuxIntelRdt: what l3CacheSchema SHOULD be."""
    schema = (linux_of(spec).intel_rdt or IntelRdt()).l3_cache_schema
    if schema and not schema.startswith("L3:"):
        yield Notice("/linux/intelRdt/l3CacheSchema", "should start with L3:", DEPRECATED)
    if schema and "\n" in schema:
        yield Notice("/linux/intelRdt/l3CacheSchema", "should not contain a newline", DEPRECATED)


def resources(spec: Spec) -> Notices:
    yield from resource_notices(linux_of(spec).resources)


def mappings_of_joined_namespace(spec: Spec) -> Notices:
    user = namespace_of(spec, "user")
    if user and user.path and linux_of(spec).uid_mappings:
        yield Notice("/linux/uidMappings", "is ignored: the user namespace that is joined has its own", IGNORED)


NOTICES: tuple[Callable[[Spec], Notices], ...] = (
    version,
    process,
    mounts,
    hooks,
    devices,
    seccomp,
    intel_rdt,
    resources,
    mappings_of_joined_namespace,
)


def all_notices(spec: Spec) -> Notices:
    for notices in NOTICES:
        yield from notices(spec)
