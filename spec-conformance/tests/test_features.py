"""What a runtime tells of its features: the form, and that it is true."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from conformance.bed import Attempt, Bed
from conformance.expect import Mismatch, case_of, equal, not_testable, that
from requirements import Requirement

from tests.support.bundle import Config, bind_entry, mount_entry, use_user_namespace
from tests.support.facts import CAPABILITY_NAMES

SEMVER = re.compile(r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(?:-([0-9A-Za-z.-]+))?(\+[0-9A-Za-z.-]+)?")
ABSENT = object()

# The structure that features.md and features-linux.md define.
KNOWN: Config = {
    "ociVersionMin": "string",
    "ociVersionMax": "string",
    "hooks": "strings",
    "mountOptions": "strings",
    "linux": {
        "namespaces": "strings",
        "capabilities": "strings",
        "cgroup": dict.fromkeys(("v1", "v2", "systemd", "systemdUser", "rdma"), "bool"),
        "seccomp": {"enabled": "bool"}
        | dict.fromkeys(("actions", "operators", "archs", "knownFlags", "supportedFlags"), "strings"),
        "apparmor": {"enabled": "bool"},
        "selinux": {"enabled": "bool"},
        "memoryPolicy": {"modes": "strings", "flags": "strings"},
        "intelRdt": dict.fromkeys(("enabled", "schemata", "monitoring"), "bool"),
        "mountExtensions": {"idmap": {"enabled": "bool"}},
        "netDevices": {"enabled": "bool"},
    },
    "annotations": "map",
    "potentiallyUnsafeConfigAnnotations": "strings",
}


def features(bed: Bed) -> Config:
    told: Config = json.loads(bed.runtime.run("features").out)
    return told


def told(bed: Bed, pointer: str) -> Any:
    """The value at a pointer below /features; ABSENT where it or what is around it is left out or null."""
    value: Any = features(bed)
    for name in pointer.split("/")[2:]:
        value = value.get(name) if isinstance(value, dict) else None
    return ABSENT if value is None else value


def listed(bed: Bed, pointer: str) -> list[str]:
    """A list that the runtime tells. Without it there is nothing to show."""
    value = told(bed, pointer)
    if value is ABSENT or not value:
        not_testable(f"{bed.runtime.name} tells nothing at {pointer}")
    return list(value)


def is_of(kind: Any, value: Any) -> bool:
    if kind == "strings":
        return isinstance(value, list) and all(isinstance(entry, str) for entry in value)
    return isinstance(
        value, {"bool": bool, "string": str, "map": dict}.get(kind, dict) if isinstance(kind, str) else dict
    )


def unknown(value: Any, known: Any, where: str = "") -> Iterator[str]:
    """The pointers of the properties that the specification does not define."""
    if isinstance(value, dict) and isinstance(known, dict):
        for name, inner in value.items():
            if name not in known:
                yield f"{where}/{name}"
            yield from unknown(inner, known.get(name), f"{where}/{name}")


def nulls(value: Any, known: Any, where: str = "") -> Iterator[str]:
    """The pointers at which something of another type is, null counting as absent."""
    for name, kind in known.items() if isinstance(known, dict) else ():
        inner = value.get(name) if isinstance(value, dict) else None
        if inner is not None and not is_of(kind, inner):
            yield f"{where}/{name}"
        if isinstance(kind, dict) and isinstance(inner, dict):
            yield from nulls(inner, kind, f"{where}/{name}")


def test_schema(requirement: Requirement, bed: Bed) -> None:
    if requirement.id == "features.version.only-known-properties":
        equal("properties that the specification does not define", list(unknown(features(bed), KNOWN)), [])
    elif requirement.id == "features.structure.null":
        equal("properties of another type", list(nulls(features(bed), KNOWN)), [])
    else:
        value = told(bed, requirement.pointer)
        if value is ABSENT:
            not_testable(f"{bed.runtime.name} tells nothing at {requirement.pointer}")
        kind: Any = KNOWN
        for name in requirement.pointer.split("/")[2:]:
            kind = kind[name]
        that(is_of(kind, value), requirement.pointer, kind if isinstance(kind, str) else "an object", value)


# Versions.


def precedence(version: str) -> tuple[Any, ...]:
    """What semantic versions are compared by."""
    match = SEMVER.fullmatch(version)
    if match is None:
        raise Mismatch("a version that is told", "a semantic version", version)
    numbers = tuple(int(match[i]) for i in (1, 2, 3))
    if match[4] is None:
        return (*numbers, 1)
    parts = tuple((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in match[4].split("."))
    return (*numbers, 0, parts)


def test_versions(requirement: Requirement, bed: Bed) -> None:
    least, greatest = str(told(bed, "/features/ociVersionMin")), str(told(bed, "/features/ociVersionMax"))
    what = requirement.id.rpartition(".")[2]
    if what == "max-not-less":
        that(
            precedence(least) <= precedence(greatest),
            "the versions",
            "the least not after the greatest",
            (least, greatest),
        )
    elif what in ("min", "max"):
        precedence(least if what == "min" else greatest)
    else:
        version = least if what == "min-accepted" else greatest
        attempt = bed.attempt(bed.config({"ociVersion": version}))
        that(attempt.taken, f"a configuration of version {version}", "taken", attempt.summary)


# That it is true.


def test_hooks_work(requirement: Requirement, bed: Bed) -> None:
    for kind in listed(bed, "/features/hooks"):
        container = bed.new()
        container.mounts.append(bind_entry(container.bundle, "/bundle"))
        mark = container.bundle / f"ran-{kind}"
        path = f"/bundle/{mark.name}" if kind == "startContainer" else str(mark)
        hook = {"path": "/bin/sh", "args": ["sh", "-c", f"cat > /dev/null; echo > {path}"]}
        container.config["hooks"] = {kind: [hook]}
        attempt = bed.launch(container)
        that(attempt.taken and mark.exists(), f"a {kind} hook", "it runs", attempt.summary)


def test_idmap_told(requirement: Requirement, bed: Bed) -> None:
    value = told(bed, "/features/linux/mountExtensions/idmap/enabled")
    if value is ABSENT:
        not_testable(f"{bed.runtime.name} tells nothing of idmapped mounts")
    container = bed.new()
    use_user_namespace(container.config, 100000)
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    entry = {"destination": "/mnt", "type": "bind", "source": str(bed.template / "etc"), "options": ["bind", "idmap"]}
    container.mounts.append(entry | {"uidMappings": mapping, "gidMappings": mapping})
    container.process["args"] = ["/probe", "/mnt/passwd"]
    attempt = bed.launch(container)
    works = attempt.taken and attempt.facts().path("/mnt/passwd").get("uid") == 0
    equal("the support of idmapped mounts, by what it does", value, works)


def namespaces(bed: Bed) -> None:
    for kind in listed(bed, "/features/linux/namespaces"):
        config = bed.config()
        if kind == "user":
            use_user_namespace(config, 100000)
        elif kind not in [entry["type"] for entry in config["linux"]["namespaces"]]:
            config["linux"]["namespaces"].append({"type": kind})
        attempt = bed.attempt(config)
        that(attempt.taken, f"a namespace of type {kind}", "taken", attempt.summary)


def capabilities(bed: Bed) -> None:
    told_ = set(listed(bed, "/features/linux/capabilities"))
    lines = Path("/proc/self/status").read_text().splitlines()
    bits = next(int(line.split()[1], 16) for line in lines if line.startswith("CapPrm"))
    mine = {f"CAP_{name}" for number, name in enumerate(CAPABILITY_NAMES) if bits >> number & 1}
    names = sorted(told_ & mine)
    facts = bed.observe({"process": {"capabilities": dict.fromkeys(("bounding", "permitted", "effective"), names)}})
    equal("the capabilities that are granted", sorted(facts.capabilities("permitted")), names)

    # Of what cannot be granted, something else is said than of what does not exist.
    def said(name: str) -> str:
        lists = {kind: [name] for kind in ("bounding", "permitted", "effective")}
        attempt = bed.attempt(bed.config({"process": {"capabilities": lists}}))
        return (attempt.warnings + attempt.error).replace(name, "")

    unknown = said("CAP_NO_SUCH_NAME")
    for name in sorted(told_ - mine) if unknown else ():
        that(said(name) != unknown, f"the capability {name}", "known", said(name))


def seccomp(bed: Bed, pointer: str, make: Callable[[str], Config], *, works: bool = False) -> None:
    """That every name of a list is taken; unless it has to work, it may be refused otherwise than an unknown one is."""

    def outcome(name: str) -> Attempt:
        return bed.attempt(bed.config({"linux": {"seccomp": make(name)}}))

    unknown = outcome("NO_SUCH_NAME")
    for name in listed(bed, f"/features/linux/seccomp/{pointer}"):
        seen = outcome(name)
        recognized = seen.taken or seen.error.replace(name, "NO_SUCH_NAME") != unknown.error
        that(seen.taken if works else recognized, f"{name} in a profile", "taken" if works else "known", seen.summary)


def rule(action: str = "SCMP_ACT_ERRNO", **properties: Any) -> list[Config]:
    return [{"names": ["ptrace"], "action": action, **properties}]


def actions(bed: Bed) -> None:
    # NOTIFY needs an agent, and has tests of its own.
    for name in listed(bed, "/features/linux/seccomp/actions"):
        if name == "SCMP_ACT_NOTIFY":
            continue
        default = "SCMP_ACT_LOG" if name == "SCMP_ACT_ALLOW" else "SCMP_ACT_ALLOW"
        attempt = bed.attempt(bed.config({"linux": {"seccomp": {"defaultAction": default, "syscalls": rule(name)}}}))
        that(attempt.taken, f"the action {name}", "taken", attempt.summary)


def operators(bed: Bed) -> None:
    def make(name: str) -> Config:
        return {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": rule(args=[{"index": 0, "value": 70, "valueTwo": 70, "op": name}]),
        }

    seccomp(bed, "operators", make)


def architectures(bed: Bed) -> None:
    seccomp(
        bed,
        "archs",
        lambda name: {"defaultAction": "SCMP_ACT_ALLOW", "architectures": [name], "syscalls": rule()},
    )


def flags(bed: Bed, pointer: str) -> None:
    # A listener's flag goes with a listener alone.
    def make(name: str) -> Config:
        chosen = [] if name == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" else [name]
        return {"defaultAction": "SCMP_ACT_ALLOW", "flags": chosen, "syscalls": rule()}

    seccomp(bed, pointer, make, works=pointer == "supportedFlags")


def memory_policy(bed: Bed, pointer: str) -> None:
    for name in listed(bed, f"/features/linux/memoryPolicy/{pointer}"):
        policy: Config = {"mode": name}
        if pointer == "flags":
            policy = {"mode": "MPOL_BIND", "flags": [name]}
        if policy["mode"] not in ("MPOL_DEFAULT", "MPOL_LOCAL"):
            policy["nodes"] = "0"
        attempt = bed.attempt(bed.config({"linux": {"memoryPolicy": policy}}))
        that(attempt.taken, f"a memory policy with {name}", "taken", attempt.summary)


LINUX: dict[str, Callable[[Bed], None]] = {
    "features-linux.namespaces.recognized": namespaces,
    "features-linux.capabilities.recognized": capabilities,
    "features-linux.seccomp.actions-recognized": actions,
    "features-linux.seccomp.operators-recognized": operators,
    "features-linux.seccomp.archs-recognized": architectures,
    "features-linux.seccomp.known-flags-recognized": lambda bed: flags(bed, "knownFlags"),
    "features-linux.seccomp.supported-flags-work": lambda bed: flags(bed, "supportedFlags"),
    "features-linux.memory-policy.modes-recognized": lambda bed: memory_policy(bed, "modes"),
    "features-linux.memory-policy.flags-recognized": lambda bed: memory_policy(bed, "flags"),
}


def test_linux_names_known(requirement: Requirement, bed: Bed) -> None:
    case_of(LINUX, requirement.id)(bed)


# What goes with some option to make sense of it: others that it needs, and options of mappings or of what is there.
PARTNERS = {"idmap": None, "ridmap": None, "remount": None, "bind": None, "rbind": None}
FILE_SYSTEMS_OWN = "size mode uid gid nr_inodes nr_blocks huge mpol newinstance ptmxmode hidepid subset data".split()


def test_mount_options_known(requirement: Requirement, bed: Bed) -> None:
    names = listed(bed, "/features/mountOptions")
    if requirement.id.endswith("not-filesystem-specific"):
        equal("options of single file systems", sorted(set(names) & set(FILE_SYSTEMS_OWN)), [])
        return
    for name in names:
        if name in PARTNERS:
            continue
        # tmpfs refuses what it does not know, unlike a bind mount.
        mounts = bed.config()["mounts"]
        attempt = bed.attempt(bed.config({"mounts": [*mounts, mount_entry("/mnt", "tmpfs", "tmpfs", name)]}))
        that(attempt.taken, f"the mount option {name}", "understood", attempt.summary)


def test_annotations(requirement: Requirement, bed: Bed) -> None:
    value = told(bed, "/features/annotations")
    if value is ABSENT:
        not_testable(f"{bed.runtime.name} tells no annotations")
    wrong = [key for key, text in value.items() if not key or not isinstance(text, str)]
    equal("annotations without a key, or with a value that is no text", wrong, [])


def test_same_on_every_host(requirement: Requirement, bed: Bed) -> None:
    expected = features(bed)
    script = 'umount -l /sys/fs/cgroup 2>/dev/null; mount -t tmpfs none /sys 2>/dev/null; exec "$@"'
    for what, prefix in {
        "without cgroups": ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"],
        "in another user namespace": ["unshare", "--user", "--map-root-user"],
    }.items():
        command = (*prefix, *bed.runtime.command)
        runtime = type(bed.runtime)(bed.runtime.name, command, bed.runtime.root)
        result = runtime.run("features", check=False)
        equal(f"the exit code of features {what} ({result.error})", result.rc, 0)
        equal(f"the structure {what}", json.loads(result.out), expected)
