"""The cgroup's owner, and whether a container needs one: decisions from a config alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocirt.cgroup.owner import compile_cgroup_owner, probe_delegated_files
from ocirt.cgroup.resources import compile_resources, may_do_without_cgroup
from ocirt.spec import (
    RDMA,
    DeviceRule,
    HugepageLimit,
    IDMapping,
    Linux,
    Memory,
    Mount,
    Namespace,
    Pids,
    Process,
    Resources,
    Root,
    Spec,
    User,
)

CGROUP_MOUNT = Mount(destination="/sys/fs/cgroup", type="cgroup", source="cgroup", options=("nosuid", "rw"))
NEW = (Namespace(type="pid"), Namespace(type="cgroup"))


def spec(mounts: tuple[Mount, ...] = (CGROUP_MOUNT,), namespaces: tuple[Namespace, ...] = NEW, uid: int = 7) -> Spec:
    return Spec(
        oci_version="1.3.0",
        root=Root(path="rootfs"),
        process=Process(args=("true",), cwd="/", user=User(uid=uid, gid=0)),
        mounts=mounts,
        linux=Linux(namespaces=namespaces),
    )


def test_the_process_owns_the_cgroup_with_a_new_namespace_and_a_writable_mount() -> None:
    assert compile_cgroup_owner(spec(), None) == 7


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(spec(namespaces=(Namespace(type="pid"),)), id="no cgroup namespace"),
        pytest.param(spec(namespaces=(Namespace(type="cgroup", path="/proc/1/ns/cgroup"),)), id="a joined one"),
        pytest.param(spec(mounts=()), id="no mount"),
        pytest.param(spec(mounts=(Mount(destination="/sys/fs/cgroup", source="cgroup", options=("ro",)),)), id="ro"),
        pytest.param(spec(mounts=(Mount(destination="/mnt", source="cgroup", type="cgroup"),)), id="another place"),
        pytest.param(spec(mounts=(Mount(destination="/sys/fs/cgroup", source="x", type="cgroup"),)), id="other source"),
        pytest.param(Spec(oci_version="1.3.0", root=Root(path="rootfs"), mounts=(CGROUP_MOUNT,)), id="no linux"),
    ],
)
def test_otherwise_the_owner_stays(other: Spec) -> None:
    assert compile_cgroup_owner(other, None) is None


@pytest.mark.parametrize("destination", ["/sys/fs/cgroup/", "sys/fs/cgroup", "/sys//fs/./cgroup"])
def test_the_mounts_destination_is_compared_as_a_path(destination: str) -> None:
    assert compile_cgroup_owner(spec(mounts=(Mount(destination=destination, source="cgroup"),)), None) == 7


def test_the_owner_is_the_uid_of_the_host_to_which_the_process_is_mapped() -> None:
    mappings = [IDMapping(container_id=0, host_id=1000, size=1), IDMapping(container_id=1, host_id=100000, size=65536)]
    assert compile_cgroup_owner(spec(uid=0), mappings) == 1000
    assert compile_cgroup_owner(spec(uid=1), mappings) == 100000
    assert compile_cgroup_owner(spec(uid=65536), mappings) == 165535
    assert compile_cgroup_owner(spec(uid=65537), mappings) is None


def test_the_delegated_files_are_the_kernels_or_those_of_the_specification(tmp_path: Path) -> None:
    assert probe_delegated_files(str(tmp_path / "missing")) == (
        "cgroup.procs",
        "cgroup.subtree_control",
        "cgroup.threads",
    )
    (tmp_path / "delegate").write_text("cgroup.procs\nmemory.oom.group\n")
    assert probe_delegated_files(str(tmp_path / "delegate")) == ("cgroup.procs", "memory.oom.group")


def may_do_without(linux: Linux | None, *, rootless: bool) -> bool:
    settings = compile_resources(linux.resources if linux else None).settings
    return may_do_without_cgroup(linux, settings, rootless=rootless)


def test_a_rootless_container_that_asks_for_nothing_may_do_without_a_cgroup() -> None:
    assert may_do_without(None, rootless=True)
    assert may_do_without(Linux(), rootless=True)
    assert not may_do_without(Linux(), rootless=False)
    assert not may_do_without(Linux(cgroups_path="/x"), rootless=True)


@pytest.mark.parametrize(
    ("resources", "may"),
    [
        (Resources(devices=(DeviceRule(allow=False, access="rwm"),)), True),
        (Resources(memory=Memory(), pids=Pids()), True),
        # Not set, and unlimited, which a process without a cgroup of its own is.
        (Resources(memory=Memory(limit=0)), True),
        (Resources(memory=Memory(limit=-1), pids=Pids(limit=-1)), True),
        (Resources(memory=Memory(limit=1)), False),
        (Resources(pids=Pids(limit=0)), True),
        (Resources(pids=Pids(limit=5)), False),
        (Resources(rdma={"mlx5_1": RDMA(hca_handles=1)}), False),
        (Resources(hugepage_limits=(HugepageLimit(page_size="2MB", limit=0),)), False),
        (Resources(unified={"a.b": "1"}), False),
    ],
)
def test_a_rootless_container_with_a_limit_needs_a_cgroup(resources: Resources, may: bool) -> None:
    assert may_do_without(Linux(resources=resources), rootless=True) is may
