"""Mappings of the ids of a mount."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from conformance.bed import Attempt, Bed
from conformance.expect import case_of, equal, not_testable, that
from requirements import Requirement

from tests.support import isolation
from tests.support.bundle import Config, use_user_namespace
from tests.support.runtime import Container

FIRST = 100000
# On the disk: 0 and 1000. In a container of FIRST..: by the container's own mappings 0 and 1000, by OWN 7 and nobody.
OWN = [{"containerID": 0, "hostID": FIRST + 7, "size": 1}]
NOBODY = 65534


@contextmanager
def source_of(container: Container) -> Iterator[Path]:
    """A folder with another file system mounted below, each with a file of root's and of user 1000's."""
    source = container.bundle / "source"
    (source / "sub").mkdir(parents=True)
    isolation.mount("tmpfs", str(source / "sub"), "tmpfs")
    try:
        for folder in (source, source / "sub"):
            for name, number in (("root", 0), ("user", 1000)):
                (folder / name).write_text(name)
                os.chown(folder / name, number, number)
        yield source
    finally:
        isolation.umount(str(source / "sub"))


def launch(bed: Bed, options: tuple[str, ...], own: Config | None = None, *, user: bool = True) -> Attempt:
    """A container with the source at /mnt; the probe looks at its files."""
    container = bed.new()
    if user:
        use_user_namespace(container.config, FIRST)
    with source_of(container) as source:
        entry: Config = {"destination": "/mnt", "type": "bind", "source": str(source), "options": list(options)}
        container.mounts.append(entry | (own or {}))
        container.process["args"] = ["/probe", "/mnt/root", "/mnt/user", "/mnt/sub/root", "/mnt/sub/user"]
        return bed.launch(container)


def owners(attempt: Attempt, what: str, *folders: str) -> dict[str, list[int | None]]:
    that(attempt.taken, what, "taken", attempt.summary)
    facts = attempt.facts()
    return {folder: [facts.path(f"{folder}/{name}").get("uid") for name in ("root", "user")] for folder in folders}


def control(bed: Bed) -> None:
    """That without a mapping the files show as nobody's, and that the kernel maps mounts of this file system."""
    seen = owners(launch(bed, ("rbind",)), "a bind mount without a mapping", "/mnt")
    equal("the owners without a mapping", seen, {"/mnt": [NOBODY, NOBODY]})


def container_mapping(bed: Bed, option: str) -> None:
    """The container's mappings, written at the mount or taken for granted."""
    config: Config = {}
    whole = [{"containerID": 0, "hostID": FIRST, "size": 65536}]
    config["uidMappings"] = config["gidMappings"] = whole
    attempt = launch(bed, ("rbind", option), config)
    below = [0, 1000] if option == "ridmap" else [NOBODY, NOBODY]
    expected = {"/mnt": [0, 1000], "/mnt/sub": below}
    equal(f"the owners with {option}", owners(attempt, f"a mount with {option}", "/mnt", "/mnt/sub"), expected)


def own_mapping(bed: Bed, option: str) -> None:
    attempt = launch(bed, ("rbind", option), {"uidMappings": OWN, "gidMappings": OWN})
    seen = owners(attempt, f"a mount with {option} and mappings of its own", "/mnt")
    equal("the owners by the mount's own mappings", seen, {"/mnt": [7, NOBODY]})


def not_data(bed: Bed, option: str) -> None:
    whole = [{"containerID": 0, "hostID": FIRST, "size": 65536}]
    config = bed.config()
    use_user_namespace(config, FIRST)
    entry: Config = {"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": [option]}
    config["mounts"] = [*config["mounts"], entry | {"uidMappings": whole, "gidMappings": whole}]
    attempt = bed.attempt(config)
    unknown = "nvalid" in attempt.error and "data" in attempt.error
    that(attempt.taken or not unknown, f"a tmpfs with {option}", "mounted, or refused by the runtime", attempt.summary)


def gids(bed: Bed) -> None:
    own = [{"containerID": 0, "hostID": FIRST + 9, "size": 1}]
    attempt = launch(bed, ("rbind", "idmap"), {"uidMappings": OWN, "gidMappings": own})
    that(attempt.taken, "a mount with mappings", "taken", attempt.summary)
    equal("the group", attempt.facts().path("/mnt/root")["gid"], 9)


MAPPED: dict[str, Callable[[Bed], None]] = {
    "config.mount-options.idmap-applied": lambda bed: container_mapping(bed, "idmap"),
    "config.mount-options.idmap-not-data": lambda bed: not_data(bed, "idmap"),
    "config.mount-options.idmap-own-mappings": lambda bed: own_mapping(bed, "idmap"),
    "config.mount-options.ridmap-applied": lambda bed: container_mapping(bed, "ridmap"),
    "config.mount-options.ridmap-not-data": lambda bed: not_data(bed, "ridmap"),
    "config.mount-options.ridmap-own-mappings": lambda bed: own_mapping(bed, "ridmap"),
    "config.posix-mounts.uid-mappings-applied": lambda bed: own_mapping(bed, "idmap"),
    "config.posix-mounts.gid-mappings-applied": gids,
    "config.mount-options.idmap": lambda bed: container_mapping(bed, "idmap"),
    "config.mount-options.ridmap": lambda bed: container_mapping(bed, "ridmap"),
}


def test_mapped(requirement: Requirement, bed: Bed) -> None:
    control(bed)
    case_of(MAPPED, requirement.id)(bed)


def test_one_mapping(requirement: Requirement, bed: Bed) -> None:
    name, other = "uidMappings", "gidMappings"
    if "gid-mappings-with" in requirement.id:
        name, other = other, name
    both = launch(bed, ("rbind", "idmap"), {name: OWN, other: OWN})
    if not both.taken:
        not_testable(f"a mount with both mappings is refused too: {both.error}")
    one = launch(bed, ("rbind", "idmap"), {name: OWN})
    that(one.failed == "create", f"create with {name} and no {other}", "an error", one.summary)
    that(not one.left, "after the create that failed", "nothing changed", "; ".join(one.left))


def test_without_mappings(requirement: Requirement, bed: Bed) -> None:
    option = "ridmap" if "ridmap" in requirement.id else "idmap"
    user = requirement.id.endswith("or-error")
    attempt = launch(bed, ("rbind", option), user=user)
    if not user:
        that(attempt.failed == "create", f"create with {option}, and nothing to map by", "an error", attempt.summary)
        return
    if attempt.taken:
        seen = owners(attempt, f"a mount with {option} alone", "/mnt")
        equal("the owners by the container's mappings", seen, {"/mnt": [0, 1000]})
