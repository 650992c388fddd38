"""What the runtimes that break a requirement are made of: a mutation changes what a real runtime is given (the
configuration, its command line) or what it says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Config = dict[str, Any]
# What is wrong with mutant.py.
VARIABLE = "CONFORMANCE_MUTATION"


@dataclass(frozen=True, slots=True)
class Mutation:
    """`change` is done to the configuration of a container that is created, `answer` to the text that the command
    `answers` prints; `command` gives the command line in the place of another; `after` is done when a command is over,
    with its command line and whether it succeeded. Create fails where `refuses` holds. With `forgives` no command
    fails, and create takes another configuration than one that is refused."""

    requirements: tuple[str, ...] = ()
    change: Callable[[Config], object] | None = None
    answer: Callable[[str], str] | None = None
    answers: str = "state"
    command: Callable[[list[str]], list[str]] | None = None
    after: Callable[[list[str], bool], object] | None = None
    refuses: Callable[[Config], bool] | None = None
    forgives: bool = False


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


def of_json(change: Callable[[Config], object]) -> Callable[[str], str]:
    """A change of what is printed, where that is JSON."""

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


def another_signal(command: list[str]) -> list[str]:
    return [*command[:-1], "KILL"] if "kill" in command else command


def put(config: Config, parent: str, name: str, value: Any) -> None:
    at(config, parent)[name] = value


def start_too(command: list[str], succeeded: bool) -> None:
    if succeeded and "create" in command:
        before = command[: command.index("create")]
        subprocess.run([*before, "start", command[-1]], stdin=subprocess.DEVNULL, check=False)


def with_descriptor(command: list[str]) -> list[str]:
    """Create hands down one more than stdin, stdout and stderr."""
    if "create" not in command:
        return command
    at_ = command.index("create") + 1
    return ["sh", "-c", 'exec 3</dev/null; exec "$@"', "sh", *command[:at_], "--preserve-fds", "1", *command[at_:]]


def bundles(command: list[str]) -> list[Path]:
    """The bundles of a test session, which are beside its state directory."""
    return [path.parent for path in Path(command[command.index("--root") + 1]).parent.glob("*/config.json")]


def litter(command: list[str], succeeded: bool) -> None:
    if not succeeded:
        (Path(command[command.index("--root") + 1]) / f"litter-{time.monotonic_ns()}").mkdir(parents=True)


def take_owners(command: list[str], _: bool) -> None:
    # What is bound into the container: files of the root are links to those of other containers.
    if "create" in command:
        for bundle in bundles(command):
            for path in (bundle / "source").rglob("*"):
                os.chown(path, 100000, 100000, follow_symlinks=False)


def delete_too_much(command: list[str], _: bool) -> None:
    if "delete" in command:
        for bundle in bundles(command):
            shutil.rmtree(bundle / "rootfs" / "etc", ignore_errors=True)


def own_cgroup(command: list[str], succeeded: bool) -> None:
    """The container's whole cgroup belongs to the user whom the tests take."""
    if not succeeded or "create" not in command:
        return
    state = [*command[: command.index("create")], "state", command[-1]]
    found = json.loads(subprocess.run(state, capture_output=True, text=True, check=True).stdout)
    lines = Path(f"/proc/{found['pid']}/cgroup").read_text().splitlines()
    folder = Path("/sys/fs/cgroup" + next(line[3:] for line in lines if line.startswith("0::")))
    for path in (folder, *folder.iterdir()):
        os.chown(path, 101000, -1)


def pin(command: list[str], succeeded: bool) -> None:
    """The container's first process has one processor alone."""
    if succeeded and "create" in command:
        state = [*command[: command.index("create")], "state", command[-1]]
        found = json.loads(subprocess.run(state, capture_output=True, text=True, check=True).stdout)
        os.sched_setaffinity(found["pid"], {0})


def annotations_of_now(state: Config) -> None:
    """From the bundle, and not as they were at create."""
    try:
        config = json.loads((Path(state["bundle"]) / "config.json").read_text())
    except (OSError, ValueError):
        return
    state["annotations"] = config.get("annotations", {})


def moved_hooks(kind: str) -> Callable[[Config], object]:
    """Hooks of a kind run at another time, and on the other side."""
    other = "createRuntime" if kind == "startContainer" else "startContainer"

    def apply(config: Config) -> None:
        hooks = at(config, "/hooks")
        hooks[other] = [*hooks.get(other, []), *hooks.pop(kind, [])]

    return apply


def refuses_text(text: str) -> Callable[[Config], bool]:
    return lambda config: text in json.dumps(config)


def without_mappings(config: Config) -> None:
    for mount in config.get("mounts", []):
        mount.pop("uidMappings", None)
        mount.pop("gidMappings", None)


def new_namespace(config: Config) -> None:
    namespaces = at(config, "/linux").setdefault("namespaces", [])
    if all(entry["type"] != "ipc" for entry in namespaces):
        namespaces.append({"type": "ipc"})


def error_number(config: Config) -> None:
    for rule in at(config, "/linux/seccomp").get("syscalls", []):
        if rule["action"] == "SCMP_ACT_ERRNO":
            rule.setdefault("errnoRet", 38)
    if at(config, "/linux/seccomp").get("defaultAction") == "SCMP_ACT_ERRNO":
        at(config, "/linux/seccomp").setdefault("defaultErrnoRet", 38)
