"""Where the cgroup is: the parsers of /proc, and what becomes of cgroupsPath."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.cgroup.paths import (
    CgroupHost,
    is_within,
    parent_paths,
    parse_cgroup,
    parse_mounts,
    path_below,
    plan_cgroup,
)
from ocirt.errors import SpecError

ROOT = CgroupHost("/sys/fs/cgroup", "/", "/user.slice/user-0.slice/session-1.scope", "/")
SERVICE = "/user.slice/user-1000.slice/user@1000.service"
USER = CgroupHost("/sys/fs/cgroup", "/", f"{SERVICE}/app.slice/run-7.scope", SERVICE)
SCOPE = CgroupHost("/sys/fs/cgroup", "/", f"{SERVICE}/app.slice/run-7.scope", f"{SERVICE}/app.slice/run-7.scope")
NOBODY = CgroupHost("/sys/fs/cgroup", "/", "/user.slice/user-1000.slice/session-1.scope", None)
NAMESPACE = CgroupHost("/sys/fs/cgroup", "/", "/", "/")


@pytest.mark.parametrize(
    ("host", "cgroups_path", "path"),
    [
        # Absent: beside the runtime's own, inside of it where no more is the user's.
        (ROOT, None, "/user.slice/user-0.slice/c1"),
        (ROOT, "", "/user.slice/user-0.slice/c1"),
        (USER, None, f"{SERVICE}/app.slice/c1"),
        (SCOPE, None, f"{SERVICE}/app.slice/run-7.scope/c1"),
        (NOBODY, None, "/user.slice/user-1000.slice/c1"),
        (NAMESPACE, None, "/c1"),
        # Absolute: below the mount point, for anybody.
        (ROOT, "/docker/abc", "/docker/abc"),
        (USER, "/docker/abc", "/docker/abc"),
        (ROOT, "//docker/./abc/", "/docker/abc"),
        (ROOT, "/a.slice:b:c", "/a.slice:b:c"),
        # Relative: below what is the user's.
        (ROOT, "docker/abc", "/docker/abc"),
        (USER, "docker/abc", f"{SERVICE}/docker/abc"),
        (NOBODY, "docker/abc", "/docker/abc"),
        (ROOT, "a:b", "/a:b"),
        (ROOT, "pods/a:b:c", "/pods/a:b:c"),
    ],
)
def test_every_form_of_cgroups_path(host: CgroupHost, cgroups_path: str | None, path: str) -> None:
    assert plan_cgroup(cgroups_path, "c1", host) == path


@pytest.mark.parametrize("own", ["/", "/a", "/a/b/c"])
@pytest.mark.parametrize("cgroups_path", ["/x/y", "x/y"])
def test_the_place_does_not_depend_on_the_callers_cgroup(own: str, cgroups_path: str) -> None:
    assert plan_cgroup(cgroups_path, "c1", CgroupHost("/sys/fs/cgroup", "/", own, "/")) == "/x/y"


@pytest.mark.parametrize(
    ("cgroups_path", "word"),
    [
        ("..", '".."'),
        ("/../x", '".."'),
        ("/x/../y", '".."'),
        ("x/..", '".."'),
        ("/", "root cgroup"),
        ("//.", "root cgroup"),
        (".", "root cgroup"),
        ("system.slice:docker:abc", "slice:prefix:name"),
        (":docker:abc", "slice:prefix:name"),
        ("/x\ny", "newline"),
    ],
)
def test_a_bad_cgroups_path_is_refused_with_its_pointer(cgroups_path: str, word: str) -> None:
    with pytest.raises(SpecError, match=word) as refused:
        plan_cgroup(cgroups_path, "c1", ROOT)
    assert refused.value.pointer == "/linux/cgroupsPath"


@given(st.text(st.sampled_from("ab./:\n"), max_size=12))
def test_a_planned_path_is_normal_and_below_the_mount(cgroups_path: str) -> None:
    try:
        path = plan_cgroup(cgroups_path, "c1", ROOT)
    except SpecError:
        return
    assert path.startswith("/")
    assert path != "/"
    assert all(component not in ("", ".", "..") for component in path[1:].split("/"))


def test_parse_cgroup_takes_the_line_of_v2() -> None:
    hybrid = "9:name=systemd:/init.scope\n4:memory:/a\n0::/user.slice/x:y\n"
    assert parse_cgroup(hybrid) == "/user.slice/x:y"
    assert parse_cgroup("4:memory:/a\n") is None
    assert parse_cgroup("") is None


MOUNTINFO = r"""23 1 0:21 / /sys rw,nosuid - sysfs sysfs rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
40 31 0:38 /a/b /mnt/my\040cgroup rw,relatime shared:11 master:3 - cgroup2 none rw
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:10 - cgroup2 cgroup2 rw,nsdelegate
42 1 0:39 / /mnt/- rw - ext4 /dev/cgroup2 rw
"""


def test_parse_mounts_finds_cgroup2_by_its_type_and_the_whole_hierarchy_first() -> None:
    assert parse_mounts(MOUNTINFO) == [("/sys/fs/cgroup/unified", "/"), ("/mnt/my cgroup", "/a/b")]
    assert parse_mounts(MOUNTINFO.splitlines()[0] + "\n") == []


def test_of_mounts_at_one_point_the_last_counts() -> None:
    line = "41 31 0:38 {root} /sys/fs/cgroup rw - {kind} x rw\n"
    whole, part = line.format(root="/", kind="cgroup2"), line.format(root="/a", kind="cgroup2")
    assert parse_mounts(whole + part) == [("/sys/fs/cgroup", "/a")]
    assert parse_mounts(whole + line.format(root="/", kind="tmpfs")) == []


@pytest.mark.parametrize(
    ("cgroup", "root", "path"),
    [
        ("/a/b", "/", "/a/b"),
        ("/a/b", "/a", "/b"),
        ("/a", "/a", "/"),
        ("/", "/", "/"),
        ("/ab", "/a", None),
        ("/../x", "/a", None),
    ],
)
def test_path_below_a_mounts_root(cgroup: str, root: str, path: str | None) -> None:
    assert path_below(cgroup, root) == path


def test_parents_and_ancestors() -> None:
    assert parent_paths("/a/b/c") == ["/a", "/a/b"]
    assert parent_paths("/a") == []
    assert is_within("/a/b", "/a")
    assert is_within("/a", "/")
    assert is_within("/a", "/a")
    assert not is_within("/ab", "/a")


def test_the_directory_of_a_cgroup() -> None:
    assert ROOT.directory("/a") == "/sys/fs/cgroup/a"
    assert ROOT.directory("/") == "/sys/fs/cgroup"
