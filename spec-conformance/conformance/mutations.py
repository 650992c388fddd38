"""Runtimes that break one requirement each: what the tests must notice.

A mutation changes what a real runtime is given (the configuration, its command line) or what it says. It names the
requirements of which at least one must be seen to fail.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Config = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Mutation:
    """`change` is done to the configuration of a container that is created, `answer` to the text that `state` prints;
    `command` gives the command line in the place of another."""

    requirements: tuple[str, ...]
    change: Callable[[Config], object] | None = None
    answer: Callable[[str], str] | None = None
    command: Callable[[list[str]], list[str]] | None = None


def at(config: Any, pointer: str) -> Any:
    """What is there, or an empty object."""
    for name in filter(None, pointer.split("/")):
        config = config.get(name) if isinstance(config, dict) else None
    return {} if config is None else config


def without(parent: str, name: str) -> Callable[[Config], object]:
    return lambda config: at(config, parent).pop(name, None)


def changed(parent: str, name: str, change: Callable[[Any], Any]) -> Callable[[Config], object]:
    """With another value, where there is one."""

    def apply(config: Config) -> None:
        found = at(config, parent)
        if found.get(name) is not None:
            found[name] = change(found[name])

    return apply


def each(pointer: str, change: Callable[[Config], object]) -> Callable[[Config], object]:
    """A change of every element of an array."""

    def apply(config: Config) -> None:
        for element in at(config, pointer) or []:
            change(element)

    return apply


def without_option(option: str, *, instead: str | None = None) -> Callable[[Config], object]:
    def change(mount: Config) -> None:
        words = [instead if word == option else word for word in mount.get("options", [])]
        mount["options"] = [word for word in words if word is not None]

    return each("/mounts", change)


def without_namespace(kind: str) -> Callable[[Config], object]:
    def apply(config: Config) -> None:
        linux = at(config, "/linux")
        linux["namespaces"] = [entry for entry in linux.get("namespaces", []) if entry["type"] != kind]
        if kind == "uts":
            config.pop("hostname", None)
            config.pop("domainname", None)

    return apply


def of_state(change: Callable[[Config], object]) -> Callable[[str], str]:
    def apply(text: str) -> str:
        try:
            state = json.loads(text)
        except json.JSONDecodeError:
            return text
        change(state)
        return json.dumps(state)

    return apply


def never(operation: str) -> Callable[[list[str]], list[str]]:
    """The operation does nothing, and succeeds."""
    return lambda command: ["true"] if operation in command else command


def _another_signal(command: list[str]) -> list[str]:
    return [*command[:-1], "KILL"] if "kill" in command else command


def _set(config: Config, parent: str, name: str, value: Any) -> None:
    at(config, parent)[name] = value


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
    "cwd": Mutation(("config.process.cwd-applied",), lambda c: _set(c, P, "cwd", "/")),
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
    "uid": Mutation(("config.user.uid-applied",), lambda c: _set(c, f"{P}/user", "uid", 0)),
    "gid": Mutation(("config.user.gid-applied",), lambda c: _set(c, f"{P}/user", "gid", 0)),
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
    "writable-root": Mutation(("config.root.readonly-default",), lambda c: _set(c, "/root", "readonly", True)),
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
    "state-pid": Mutation(("runtime.state.pid",), answer=of_state(lambda s: s.update(pid=s.get("pid", 0) + 1))),
    "state-status": Mutation(("runtime.state.status-created",), answer=lambda t: t.replace('"created"', '"running"')),
    "state-stopped": Mutation(("runtime.state.status-stopped",), answer=lambda t: t.replace('"stopped"', '"running"')),
    "state-id": Mutation(("runtime.state.id",), answer=of_state(lambda s: s.update(id="other"))),
    "state-bundle": Mutation(
        ("runtime.state.bundle",), answer=of_state(lambda s: s.update(bundle=s["bundle"].lstrip("/")))
    ),
    "state-version": Mutation(("runtime.state.oci-version",), answer=of_state(lambda s: s.update(ociVersion="1.0"))),
    "state-schema": Mutation(("runtime.state.schema",), answer=of_state(lambda s: s.pop("bundle", None))),
    "start": Mutation(("runtime.start.runs-process", "runtime.lifecycle.program-run"), command=never("start")),
    "delete": Mutation(("runtime.delete.removes-resources",), command=never("delete")),
    "kill": Mutation(("runtime.kill.sends-signal",), command=never("kill")),
    "signal": Mutation(("runtime.kill.sends-signal",), command=_another_signal),
    "query": Mutation(("runtime.query-state.no-such-container",), command=never("state")),
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
