"""Runtimes that break one requirement each: what the tests must notice.

Mutations with a name are in MUTATIONS, with the requirements of which at least one must be seen to fail; derived()
makes those that follow from what a requirement is about.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from conformance.mutation import (
    Config,
    Mutation,
    annotations_of_now,
    another_signal,
    at,
    changed,
    delete_too_much,
    each,
    error_number,
    litter,
    moved_hooks,
    never,
    new_namespace,
    of_json,
    own_cgroup,
    pin,
    put,
    refuses_text,
    start_too,
    take_owners,
    with_descriptor,
    without,
    without_mappings,
    without_namespace,
    without_option,
)
from conformance.pointers import alternatives, holders, lacks, name_of

if TYPE_CHECKING:
    # mutant.py starts for every command: what it does not need would be most of its time.
    from requirements import Requirement

P, L = "/process", "/linux"
HOOKS = {
    "prestart": "prestart",
    "createRuntime": "create-runtime",
    "createContainer": "create-container",
    "startContainer": "start-container",
    "poststart": "poststart",
    "poststop": "poststop",
}

MUTATIONS: dict[str, Mutation] = {
    "cwd": Mutation(("config.process.cwd-applied",), lambda c: put(c, P, "cwd", "/")),
    "env": Mutation(("config.process.env-applied",), changed(P, "env", lambda v: v[:-1])),
    "args": Mutation(("config.process.args-applied",), changed(P, "args", lambda v: v[:1] + v[2:])),
    "hostname": Mutation(("config.hostname-applied",), without("", "hostname")),
    "domainname": Mutation(("config.domainname-applied",), without("", "domainname")),
    "soft-limit": Mutation(
        ("config.process.rlimits-soft-matches",), each(f"{P}/rlimits", lambda e: e.update(soft=max(0, e["soft"] - 1)))
    ),
    "hard-limit": Mutation(
        ("config.process.rlimits-hard-matches",), each(f"{P}/rlimits", lambda e: e.update(hard=e["soft"]))
    ),
    "no-new-privileges": Mutation(("config.process.no-new-privileges-applied",), without(P, "noNewPrivileges")),
    "umask": Mutation(("config.user.umask-applied",), without(f"{P}/user", "umask")),
    "uid": Mutation(("config.user.uid-applied",), lambda c: put(c, f"{P}/user", "uid", 0)),
    "gid": Mutation(("config.user.gid-applied",), lambda c: put(c, f"{P}/user", "gid", 0)),
    "groups": Mutation(("config.user.additional-gids-applied",), without(f"{P}/user", "additionalGids")),
    "oom-score": Mutation(("config.process.oom-score-adj-set",), without(P, "oomScoreAdj")),
    "sysctl": Mutation(("config-linux.sysctl-applied",), without(L, "sysctl")),
    "personality": Mutation(("config-linux.personality.domain-applied",), without(L, "personality")),
    "nice": Mutation(("config.process.scheduler.nice-applied",), without(f"{P}/scheduler", "nice")),
    "scheduler": Mutation(("config.process.scheduler.policy-applied",), without(P, "scheduler")),
    "io-priority": Mutation(("config.process.io-priority.class-applied",), without(P, "ioPriority")),
    "mounts": Mutation(("config.mounts-applied",), changed("", "mounts", lambda v: v[:-1])),
    "mount-order": Mutation(("config.mounts.order",), changed("", "mounts", lambda v: [*v[:-2], *reversed(v[-2:])])),
    "mount-source": Mutation(
        ("config.mounts-applied",), each("/mounts", lambda e: e.update(source="x") if e["type"] == "tmpfs" else None)
    ),
    "read-only-root": Mutation(("config.root.readonly-true",), without("/root", "readonly")),
    "writable-root": Mutation(("config.root.readonly-default",), lambda c: put(c, "/root", "readonly", True)),
    "root-propagation": Mutation(("config-linux.rootfs-propagation.shared",), without(L, "rootfsPropagation")),
    "masked-paths": Mutation(("config-linux.masked-paths-applied",), without(L, "maskedPaths")),
    "read-only-paths": Mutation(("config-linux.readonly-paths-applied",), without(L, "readonlyPaths")),
    "devices": Mutation(("config-linux.devices.available",), without(L, "devices")),
    "device-mode": Mutation(
        ("config-linux.devices.file-mode-applied",), each(f"{L}/devices", lambda e: e.update(fileMode=0o600))
    ),
    "device-owner": Mutation(("config-linux.devices.uid-applied",), each(f"{L}/devices", lambda e: e.update(uid=0))),
    "seccomp": Mutation(("config-linux.seccomp.syscalls-applied",), without(L, "seccomp")),
    "seccomp-errno": Mutation(
        ("config-linux.seccomp.syscalls.errno-ret-applied",),
        each(f"{L}/seccomp/syscalls", lambda e: e.pop("errnoRet", None)),
    ),
    "seccomp-args": Mutation(
        ("config-linux.seccomp.syscalls.args-applied",), each(f"{L}/seccomp/syscalls", lambda e: e.pop("args", None))
    ),
    "seccomp-half-value": Mutation(
        ("config-linux.seccomp.args.value-applied",),
        each(
            f"{L}/seccomp/syscalls",
            lambda e: [a.update(value=a["value"] & 0xFFFFFFFF) for a in e.get("args", [])],
        ),
    ),
    "joined-namespaces": Mutation(
        ("config-linux.namespaces.joined",), each(f"{L}/namespaces", lambda e: e.pop("path", None))
    ),
    "user-mappings": Mutation(
        ("config-linux.user-mappings.size-applied",),
        each(f"{L}/uidMappings", lambda e: e.update(size=max(1, e["size"] - 1))),
    ),
    "time-offsets": Mutation(("config-linux.time-offsets.secs-applied",), without(L, "timeOffsets")),
    "device-list": Mutation(("config-linux.resources.devices.allow-applied",), without(f"{L}/resources", "devices")),
    "cgroup-path": Mutation(("config-linux.cgroups-path-applied",), without(L, "cgroupsPath")),
    "unified": Mutation(("config-linux.resources.unified-applied",), without(f"{L}/resources", "unified")),
    "annotations": Mutation(("runtime.state.annotations",), without("", "annotations")),
    "terminal-size": Mutation(("config.process.console-size-applied",), without(P, "consoleSize")),
    "hook-environment": Mutation(
        ("config.hooks.prestart.env-applied",), each("/hooks/prestart", lambda e: e.pop("env", None))
    ),
    "hook-arguments": Mutation(
        ("config.hooks.prestart.args-applied",),
        each("/hooks/prestart", lambda e: e.update(args=["sh", *e["args"][1:]])),
    ),
    "hook-timeout": Mutation(
        ("config.hooks.prestart.timeout-applied",), each("/hooks/prestart", lambda e: e.pop("timeout", None))
    ),
    "hook-order": Mutation(("config.hooks.order",), changed("/hooks", "createRuntime", lambda v: list(reversed(v)))),
    "hook-kind": Mutation(
        ("config.hooks.create-container-in-container",),
        lambda c: at(c, "/hooks").update(
            createRuntime=[*at(c, "/hooks").get("createRuntime", []), *at(c, "/hooks").pop("createContainer", [])]
        ),
    ),
    "state-pid": Mutation(("runtime.state.pid",), answer=of_json(lambda s: s.update(pid=s.get("pid", 0) + 1))),
    "state-status": Mutation(("runtime.state.status-created",), answer=lambda t: t.replace('"created"', '"running"')),
    "state-stopped": Mutation(("runtime.state.status-stopped",), answer=lambda t: t.replace('"stopped"', '"running"')),
    "state-id": Mutation(("runtime.state.id",), answer=of_json(lambda s: s.update(id="other"))),
    "state-bundle": Mutation(
        ("runtime.state.bundle",), answer=of_json(lambda s: s.update(bundle=s["bundle"].lstrip("/")))
    ),
    "state-version": Mutation(("runtime.state.oci-version",), answer=of_json(lambda s: s.update(ociVersion="1.0"))),
    "state-schema": Mutation(("runtime.state.schema",), answer=of_json(lambda s: s.pop("bundle", None))),
    "start": Mutation(("runtime.start.runs-process", "runtime.lifecycle.program-run"), command=never("start")),
    "delete": Mutation(("runtime.delete.removes-resources",), command=never("delete")),
    "kill": Mutation(("runtime.kill.sends-signal",), command=never("kill")),
    "signal": Mutation(("runtime.kill.sends-signal",), command=another_signal),
    "query": Mutation(("runtime.query-state.no-such-container",), command=never("state")),
    "create-starts": Mutation(
        ("runtime.create.args-wait-for-start", "runtime.lifecycle.program-not-run-by-create"), after=start_too
    ),
    "descriptor": Mutation(("runtime-linux.file-descriptors.only-stdio",), command=with_descriptor),
    "litter": Mutation(("runtime.errors.nothing-changed", "runtime.create.cannot-apply-creates-nothing"), after=litter),
    "litter-of-kill": Mutation(("runtime.kill.wrong-status-no-effect",), after=litter),
    "root-owners": Mutation(("config-linux.user-mappings.owners-untouched",), after=take_owners),
    "delete-too-much": Mutation(("runtime.delete.keeps-others",), after=delete_too_much),
    "cgroup-owner": Mutation(
        ("config-linux.cgroup-ownership.only-with-namespace", "config-linux.cgroup-ownership.not-without-mount"),
        after=own_cgroup,
    ),
    "cgroup-files-owner": Mutation(("config-linux.cgroup-ownership.no-other-files",), after=own_cgroup),
    "affinity": Mutation(("config.process.exec-cpu-affinity-not-for-init",), after=pin),
    "state-of-now": Mutation(("runtime.lifecycle.later-changes-ignored",), answer=of_json(annotations_of_now)),
    "oom-score-of-its-own": Mutation(
        ("config.process.oom-score-adj-left-alone",), lambda c: at(c, P).setdefault("oomScoreAdj", 500)
    ),
    "ungrantable": Mutation(
        ("config.process.capabilities-no-failure",),
        refuses=lambda c: "CAP_NO_SUCH_THING" in at(c, f"{P}/capabilities").get("bounding", []),
    ),
    "features-of-tmpfs": Mutation(
        ("features.mount-options.not-filesystem-specific",),
        answer=of_json(lambda f: f["mountOptions"].append("size")),
        answers="features",
    ),
    "features-versions": Mutation(
        ("features.version.max-not-less",),
        answer=of_json(lambda f: f.update(ociVersionMax="0.1.0")),
        answers="features",
    ),
    "features-odd": Mutation(
        ("features.version.only-known-properties",),
        answer=of_json(lambda f: f["linux"].update(odd=True)),
        answers="features",
    ),
    "unmapped": Mutation(("config.mount-options.idmap-or-error",), without_option("idmap")),
    "unmapped-recursive": Mutation(("config.mount-options.ridmap-or-error",), without_option("ridmap")),
}
MUTATIONS |= {
    f"capabilities-{kind}": Mutation(
        (f"config.process.capabilities.{kind}-applied",),
        changed(f"{P}/capabilities", kind, lambda v: v[:-1]),
    )
    for kind in ("bounding", "inheritable", "permitted", "ambient")
}
MUTATIONS |= {
    f"namespace-{kind}": Mutation((f"config-linux.namespaces.{kind}",), without_namespace(kind))
    for kind in ("pid", "network", "ipc", "uts", "cgroup")
}
MUTATIONS |= {
    f"option-{option}": Mutation((f"config.mount-options.{option}",), without_option(option))
    for option in (
        "nosuid nodev noexec ro noatime nodiratime nosymfollow sync dirsync strictatime rro rnosuid rnoexec shared "
        "unbindable"
    ).split()
}
MUTATIONS["option-rbind"] = Mutation(("config.mount-options.rbind",), without_option("rbind", instead="bind"))
MUTATIONS["option-size"] = Mutation(("config.mount-options.unknown-is-data",), without_option("size=64k"))
MUTATIONS |= {
    f"hook-{kind}": Mutation((f"runtime.lifecycle.{name}-invoked",), without("/hooks", kind))
    for kind, name in HOOKS.items()
}


MUTATIONS |= {
    f"{name}-moved-{what}": Mutation((f"config.hooks.{name}-{what}",), moved_hooks(kind))
    for kind, name in HOOKS.items()
    for what in ("time", *(("in-container",) if "Container" in kind else ("in-runtime", "path-in-runtime")))
}
MUTATIONS |= {
    f"without {pointer} ({identity})": Mutation((identity,), without(*pointer.rsplit("/", 1)))
    for pointer, identities in {
        "/annotations": [f"config.annotations.{what}" for what in ("structure", "image-keys", "values-may-be-empty")],
        "/linux/cgroupsPath": ["config-linux.cgroups-path.absolute", "config-linux.cgroups-path.created"],
        "/linux/devices": ["config-linux.devices.anywhere", "runtime.lifecycle.environment-created"],
        "/linux/netDevices": [
            f"config-linux.net-devices.{what}" for what in ("moved", "up", "attributes-kept", "name-template")
        ],
        "/linux/resources/unified": ["config-linux.unified.unknown-files"],
        "/linux/rootfsPropagation": ["config-linux.rootfs-propagation.unbindable"],
        "/hooks/poststart": ["features.hooks.supported", "config.hooks.any-of-them"],
    }.items()
    for identity in identities
}
MUTATIONS |= {
    f"refusal of {text} ({identity})": Mutation((identity,), refuses=refuses_text(text))
    for text, identities in {
        "CAP_NO_SUCH_THING": ["config.process.capabilities-warning", "runtime.warnings.goes-on"],
        "x-unknown": ["config.extensibility.unknown-ignored"],
        "org.example.unknown": ["config.annotations.unknown-ignored"],
        "consoleSize": ["config.process.console-size-ignored"],
        '"ociVersion": "1.0.0"': ["config.version.earlier-minor", "features.version.min-accepted"],
        '"ociVersion": "1.3.0"': ["features.version.max-accepted"],
    }.items()
    for identity in identities
}
MUTATIONS |= {
    f"new-{kind}-{what}": Mutation((f"config-linux.namespaces.{what}",), without_namespace(kind))
    for kind, what in (("ipc", "created"), ("uts", "supported"))
}
MUTATIONS |= {
    "more-namespaces": Mutation(("config-linux.namespaces.inherited",), new_namespace),
    "seccomp-default-errno": Mutation(("config-linux.seccomp.default-errno-default",), error_number),
    "seccomp-rule-errno": Mutation(("config-linux.seccomp.errno-default",), error_number),
    "umask-of-its-own": Mutation(
        ("config.user.umask-default",), lambda c: at(c, P).setdefault("user", {}).setdefault("umask", 0o77)
    ),
    "nice-of-its-own": Mutation(
        ("config.process.scheduler-nice-default",), lambda c: at(c, f"{P}/scheduler").setdefault("nice", 5)
    ),
    "device-order": Mutation(
        ("config-linux.resources.devices.order",), changed(f"{L}/resources", "devices", lambda v: list(reversed(v)))
    ),
    "mount-mappings-idmap": Mutation(("config.mount-options.idmap-own-mappings",), without_mappings),
    "mount-mappings-ridmap": Mutation(("config.mount-options.ridmap-own-mappings",), without_mappings),
    "without-process": Mutation(("config.process.optional",), refuses=lambda c: "process" not in c),
    "delete-nothing": Mutation(("runtime.lifecycle.destroyed",), command=never("delete")),
    "delete-keeps-id": Mutation(("runtime.delete.id-again",), command=never("delete")),
    "state-of-running": Mutation(
        ("runtime.state.status-running", "runtime.state.status-values"),
        answer=lambda t: t.replace('"running"', '"stopped"'),
    ),
    "state-empty": Mutation(("runtime.query-state.returns-state",), answer=lambda _: "{}"),
    "create-nothing": Mutation(("runtime.create.creates", "runtime.operations.supported"), command=never("create")),
    "features-null": Mutation(
        ("features.structure.null",), answer=of_json(lambda f: f.update(hooks=7)), answers="features"
    ),
    "features-annotations": Mutation(
        ("features.annotations.convention",),
        answer=of_json(lambda f: f.update(annotations={"": 1})),
        answers="features",
    ),
    "features-idmap": Mutation(
        ("features-linux.mount-extensions.idmap-partial",),
        answer=of_json(lambda f: f["linux"]["mountExtensions"]["idmap"].update(enabled=False)),
        answers="features",
    ),
}

# What follows from a requirement.

# What must not happen, unlike what must be refused: forgiving breaks none of them. Some have a mutation above.
_NO_REFUSALS = frozenset(
    {
        *(f"config-linux.cgroup-ownership.{what}" for what in ("missing-files", "no-other-files")),
        *(f"config-linux.cgroup-ownership.{what}" for what in ("not-without-mount", "only-with-namespace")),
        "config-linux.cgroups-path.invalid-values-error",
        "config-linux.cgroups.unfit",
        "config-linux.devices.others-inaccessible",
        *(f"config-linux.net-devices.{what}" for what in ("left-alone", "not-moved-back")),
        "config-linux.seccomp.listener-not-reused",
        "config-linux.user-mappings.owners-untouched",
        *(
            f"config.mount-options.{option}-{what}"
            for option in ("idmap", "ridmap")
            for what in ("not-data", "or-error")
        ),
        "config.process.capabilities-no-failure",
        *(f"config.process.exec-cpu-affinity-{what}" for what in ("final-absent", "not-for-init")),
        "config.process.oom-score-adj-left-alone",
        "features.mount-options.not-filesystem-specific",
        *(f"features.version.{what}" for what in ("max-not-less", "only-known-properties")),
        "runtime-linux.file-descriptors.only-stdio",
        *(f"runtime.create.{what}" for what in ("args-wait-for-start", "cannot-apply-creates-nothing")),
        "runtime.delete.keeps-others",
        "runtime.errors.nothing-changed",
        "runtime.kill.wrong-status-no-effect",
        *(f"runtime.lifecycle.{what}" for what in ("later-changes-ignored", "program-not-run-by-create")),
    }
)
# For root and for others, execve(2) makes the effective set anew.
_LOST_IN_EXEC = frozenset({"config.process.capabilities.effective-applied"})
# Options for what the kernel, or a mount with mappings, does anyway.
_NO_EFFECT = frozenset({"defaults", "idmap", "norelatime", "relatime", "rnorelatime"})


def _drop(pointer: str) -> Mutation:
    """The runtime passes over a property."""

    def change(config: Config) -> None:
        for one in alternatives(pointer):
            for holder in holders(config, one):
                holder.pop(name_of(one), None)

    return Mutation(change=change)


def _insist(pointer: str) -> Mutation:
    """The runtime takes a property for required."""
    return Mutation(refuses=lambda config: any(lacks(config, one) for one in alternatives(pointer)))


def _forgive(_: str) -> Mutation:
    return Mutation(forgives=True)


def _skip_option(option: str) -> Mutation:
    return Mutation(change=without_option(option))


def _refuse_option(option: str) -> Mutation:
    return Mutation(refuses=lambda config: any(option in m.get("options", []) for m in config.get("mounts", [])))


def _mistype(pointer: str) -> Mutation:
    """A property of what a command prints has a value of another type."""
    command, _, path = pointer.lstrip("/").partition("/")

    def change(answer: Config) -> None:
        for one in alternatives(f"/{path}"):
            for holder in holders(answer, one):
                holder[name_of(one)] = 7 if isinstance(holder.get(name_of(one)), dict) else {"odd": 7}

    return Mutation(answer=of_json(change), answers=command)


def _invent(_: str) -> Mutation:
    """Every list of names in the features has one that nothing knows."""

    def change(value: Any) -> None:
        for inner in value.values() if isinstance(value, dict) else ():
            if isinstance(inner, list):
                inner.append("INVENTED")
            change(inner)

    return Mutation(answer=of_json(change), answers="features")


_DERIVED: dict[str, Callable[[str], Mutation]] = {
    "drop": _drop,
    "insist": _insist,
    "forgive": _forgive,
    "skip-option": _skip_option,
    "refuse-option": _refuse_option,
    "mistype": _mistype,
    "invent": _invent,
}


def derived(requirement: Requirement) -> str | None:
    """The name of the mutation that breaks a requirement, for named(), where what it is about tells."""
    pointer, option = requirement.pointer, requirement.value
    if requirement.id in _NO_REFUSALS | _LOST_IN_EXEC:
        return None
    if pointer == "/mounts/-/options" and option:
        if requirement.checked_by.endswith("test_taken") and requirement.level == "MAY":
            return None  # It may be refused.
        refuse = requirement.checked_by.endswith("test_taken") or option in _NO_EFFECT
        return f"{'refuse' if refuse else 'skip'}-option {option}"
    if requirement.id.endswith("-applied") and pointer:
        return f"drop {pointer}"
    if requirement.id.endswith("-optional") and pointer:
        return f"insist {pointer}"
    if pointer.startswith("/features/") or (pointer.startswith("/state/") and requirement.id.startswith("runtime.")):
        return f"mistype {pointer}"
    if requirement.id.startswith("features") and requirement.id.endswith("recognized"):
        return "invent"
    return "forgive" if requirement.test == "negative" else None


def named(name: str) -> Mutation:
    """The mutation of a name, of MUTATIONS or from derived(). Raises KeyError."""
    if name in MUTATIONS:
        return MUTATIONS[name]
    kind, _, what = name.partition(" ")
    return _DERIVED[kind](what)
