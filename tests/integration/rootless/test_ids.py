"""The ids and groups of an ordinary user: one of his own, or ranges through newuidmap and newgidmap."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from tests.integration.rootless.conftest import NewUserContainer
from tests.support.runtime import Container
from tests.support.unprivileged import (
    FIRST_SUBORDINATE,
    SUBORDINATES,
    UID,
    User,
    host_status,
    map_own_id,
    map_ranges,
    why_no_ranges,
)

pytestmark = [pytest.mark.root]

needs_ranges = pytest.mark.skipif(why_no_ranges() is not None, reason=str(why_no_ranges()))
OTHER_GROUP = 54399


# ---- one id


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 wants root to be mapped")
def test_one_id_that_is_not_root(rootless: Container) -> None:
    """As engines do with keep-id: whatever the id is inside, it rules the namespace."""
    map_own_id(rootless.config, User(rootless.bundle), inside=1000)
    rootless.process["user"] = {"uid": 1000, "gid": 1000}
    facts = rootless.facts("/tmp")
    assert facts["uids"] == [1000] * 3
    assert facts.path("/tmp")["uid"] == 1000
    assert facts.env()["HOME"] == "/home/user"


def test_additional_groups_cannot_be_set(rootless: Container) -> None:
    rootless.process["user"]["additionalGids"] = [0]
    error = rootless.refused()
    assert "/process/user/additionalGids: cannot set any additional groups in a rootless container" in error


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 finds it out in its init alone, with another message")
def test_ids_that_are_not_mapped(rootless: Container) -> None:
    rootless.process["user"] = {"uid": 1, "gid": 0}
    assert "/process/user/uid: 1 is not mapped" in rootless.refused()


@pytest.mark.common
def test_foreign_id_cannot_be_mapped(rootless: Container) -> None:
    """One id, but root's: neither the kernel nor newuidmap has it."""
    rootless.linux["uidMappings"][0]["hostID"] = 0
    rootless.refused()


def test_message_for_a_foreign_id(rootless: Container, user: User, as_user: NewUserContainer) -> None:
    container = as_user(user.with_account())
    container.linux["uidMappings"][0]["hostID"] = 0
    error = container.refused()
    assert "/linux/uidMappings: newuidmap: " in error
    assert "/etc/subuid" in error


@pytest.mark.common
def test_groups_of_the_user_stay_while_they_cannot_be_dropped(user: User, as_user: NewUserContainer) -> None:
    """setgroups(2) is denied; dropping a group could be a way to what its members may not have (CVE-2014-8989)."""
    container = as_user(replace(user, groups=(OTHER_GROUP,)))
    container.hold()
    assert host_status(container.pid)["Groups"] == [str(OTHER_GROUP)]
    assert container.exec_facts()["groups"] == [65534]


# ---- ranges


@pytest.mark.common
def test_ranges(ranged: Container) -> None:
    facts = ranged.facts("/tmp")
    assert [line.split() for line in facts["uid_map"].splitlines()] == [
        ["0", str(UID), "1"],
        ["1", str(FIRST_SUBORDINATE), str(SUBORDINATES)],
    ]
    assert facts["setgroups"] == "allow\n"
    assert facts["uids"] == [0, 0, 0]
    assert facts.path("/tmp")["uid"] == 0


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 sets no groups for a user")
def test_another_user_in_ranges(ranged: Container) -> None:
    ranged.process["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [5, 1002]}
    ranged.hold()
    status = host_status(ranged.pid)
    assert status["Uid"] == [str(FIRST_SUBORDINATE + 999)] * 4
    assert status["Gid"] == [str(FIRST_SUBORDINATE + 1000)] * 4
    assert set(status["Groups"]) == {str(FIRST_SUBORDINATE + 4), str(FIRST_SUBORDINATE + 1001)}


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 sets no groups for a user")
def test_groups_of_the_user_are_dropped_in_ranges(user: User, as_user: NewUserContainer) -> None:
    if reason := why_no_ranges():
        pytest.skip(reason)
    container = as_user(replace(user.with_account(), groups=(OTHER_GROUP,)))
    map_ranges(container.config, user)
    assert container.facts()["groups"] in ([], [0])


@pytest.mark.common
def test_files_of_a_range(ranged: Container) -> None:
    """The container's users make files; on the host they belong to the range."""
    (ranged.rootfs / "tmp").chmod(0o1777)
    ranged.process["user"] = {"uid": 1000, "gid": 1000}
    ranged.shell("echo text > /tmp/file; stat -c %u:%g /tmp/file")
    assert ranged.run().out == "1000:1000\n"
    assert (ranged.rootfs / "tmp/file").stat().st_uid == FIRST_SUBORDINATE + 999


@needs_ranges
@pytest.mark.common
@pytest.mark.parametrize("kind", ["uid", "gid"])
def test_newuidmap_is_missing(user: User, as_user: NewUserContainer, kind: str, runtime_name: str) -> None:
    container = as_user(user.with_account().without_program(f"/usr/bin/new{kind}map"))
    map_ranges(container.config, user)
    error = container.refused()
    if runtime_name == "ocirt":
        assert f"/linux/{kind}Mappings: new{kind}map is not installed" in error
        assert "package uidmap" in error


@needs_ranges
@pytest.mark.common
def test_ranges_are_missing(user: User, as_user: NewUserContainer, runtime_name: str) -> None:
    container = as_user(user.with_account(ranges=False))
    map_ranges(container.config, user)
    error = container.refused()
    if runtime_name == "ocirt":
        assert "/linux/uidMappings: newuidmap: uid range [1-65537)" in error
        assert "/etc/subuid" in error


@needs_ranges
def test_message_where_the_user_has_no_account(user: User, as_user: NewUserContainer) -> None:
    """The helper's own words are in the error."""
    container = as_user(user)
    map_ranges(container.config, user)
    error = container.refused()
    assert "/linux/uidMappings: newuidmap: " in error
    assert "user name" in error


@needs_ranges
@pytest.mark.common
def test_range_beyond_ones_own(ranged: Container) -> None:
    ranged.linux["uidMappings"][1]["size"] += 1
    ranged.refused()


@needs_ranges
@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 wants to give its FIFO to the container's root")
def test_user_who_is_not_mapped_himself(user: User, as_user: NewUserContainer) -> None:
    """Only the subordinate ids: the root filesystem then has to be readable for them."""
    container = as_user(user.with_account())
    for kind in ("uidMappings", "gidMappings"):
        container.linux[kind] = [{"containerID": 0, "hostID": FIRST_SUBORDINATE, "size": SUBORDINATES}]
    for folder in ("", "proc", "dev", "sys", "etc", "tmp", "root"):
        os.chown(container.rootfs / folder, FIRST_SUBORDINATE, FIRST_SUBORDINATE)
    container.hold()
    assert host_status(container.pid)["Uid"] == [str(FIRST_SUBORDINATE)] * 4
    assert container.exec_facts("--user", "7")["uids"] == [7, 7, 7]


# ---- keeping groups


@pytest.mark.common("crun")
def test_groups_are_kept_where_an_annotation_says_so(user: User, as_user: NewUserContainer) -> None:
    if reason := why_no_ranges():
        pytest.skip(reason)
    container = as_user(replace(user.with_account(), groups=(OTHER_GROUP,)))
    map_ranges(container.config, user)
    container.config["annotations"] = {"run.oci.keep_original_groups": "1"}
    container.hold()
    assert host_status(container.pid)["Groups"] == [str(OTHER_GROUP)]


@needs_ranges
def test_groups_are_kept_in_exec(user: User, as_user: NewUserContainer) -> None:
    container = as_user(replace(user.with_account(), groups=(OTHER_GROUP,)))
    map_ranges(container.config, user)
    container.config["annotations"] = {"run.oci.keep_original_groups": "1"}
    container.hold()
    container.exec("--detach", "--pid-file", container.bundle / "exec.pid", "/bin/sleep", "1000")
    assert host_status(int((container.bundle / "exec.pid").read_text()))["Groups"] == [str(OTHER_GROUP)]
