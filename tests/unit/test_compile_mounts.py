"""Mounts and devices: what becomes of the entries of mounts and linux.devices."""

from __future__ import annotations

import stat
from dataclasses import replace
from typing import Any

import pytest

from ocirt import constants as k
from ocirt._native import lib
from ocirt.compile import IdmappedTree, compile_create
from ocirt.compile.request import JoinedUser
from ocirt.errors import SpecError
from ocirt.ops import (
    AttachRoot,
    Attributes,
    Bind,
    CopySymlink,
    MakeDevice,
    MakeSymlink,
    MountFs,
    OpenTree,
    Pivot,
    Remount,
    SetMountAttributes,
    SetPropagation,
)
from ocirt.spec import IDMapping, parse_config
from ocirt.usermap import UserMapping
from tests.unit.compile_samples import (
    MAPPINGS,
    ROOT,
    ROOTLESS,
    Config,
    all_ops,
    created,
    only,
    ops_of,
    request,
    use_user_namespace,
    with_mounts,
)
from tests.unit.spec_samples import small_config, with_value, without

RDONLY = k.MOUNT_ATTR_RDONLY


def mount(destination: str, kind: str | None = None, source: str | None = None, *options: str) -> Config:
    entry: Config = {"destination": destination, "options": list(options)}
    return entry | ({"type": kind} if kind else {}) | ({"source": source} if source else {})


def bind(*options: str, source: str = "/data", destination: str = "/data") -> Config:
    return mount(destination, None, source, "bind", *options)


def with_namespaces(*entries: Any) -> Config:
    config = small_config()
    namespaces = [entry if isinstance(entry, dict) else {"type": entry} for entry in entries]
    return with_value("/linux/namespaces", namespaces, config)


# ---- new file systems


def test_new_file_system() -> None:
    made = only(
        created(with_mounts(small_config(), mount("a/b", "xfs", "/dev/x", "nosuid", "sync", "logbufs=8"))), MountFs
    )
    assert (made.origin, made.fstype, made.source, made.target) == ("/mounts/0", "xfs", "/dev/x", "/a/b")
    assert made.options == ("sync", "logbufs=8")
    assert made.attributes == Attributes(set=k.MOUNT_ATTR_NOSUID)
    assert made.flags == 0


@pytest.mark.parametrize(("destination", "target"), [("a", "/a"), ("//a//b/", "/a/b"), ("/a/./b", "/a/b")])
def test_target_paths(destination: str, target: str) -> None:
    assert only(created(with_mounts(small_config(), mount(destination, "tmpfs"))), MountFs).target == target


def test_source_is_the_type_where_it_is_absent() -> None:
    assert only(created(with_mounts(small_config(), mount("/t", "tmpfs"))), MountFs).source == "tmpfs"


@pytest.mark.parametrize("fstype", ["tmpfs", "devpts", "mqueue", "proc", "sysfs", "cgroup2"])
def test_views_of_the_kernel_are_read_only_by_attribute_alone(fstype: str) -> None:
    made = only(created(with_mounts(small_config(), mount("/x", fstype, None, "ro"))), MountFs)
    assert made.attributes.set == RDONLY
    assert "ro" not in made.options


@pytest.mark.parametrize("words", [("ro",), ("rro",)])
def test_real_file_systems_are_read_only_as_a_whole(words: tuple[str, ...]) -> None:
    made = only(created(with_mounts(small_config(), mount("/x", "ext4", "/dev/x", *words))), MountFs)
    assert made.options == ("ro",)
    assert (made.attributes.set | made.attributes.recursive_set) == RDONLY


@pytest.mark.parametrize("fstype", ["proc", "sysfs"])
def test_procfs_and_sysfs_need_a_real_directory(fstype: str) -> None:
    assert only(created(with_mounts(small_config(), mount("/x", fstype))), MountFs).flags == lib.MOUNT_REAL_DIRECTORY


def test_tmpfs_takes_over_and_copies_up() -> None:
    made = only(created(with_mounts(small_config(), mount("/x", "tmpfs", None, "tmpcopyup", "dest-nofollow"))), MountFs)
    assert made.flags == lib.MOUNT_TAKE_OVER | lib.MOUNT_COPY_UP | lib.MOUNT_TARGET_NOFOLLOW


def test_only_tmpfs_copies_up() -> None:
    with pytest.raises(SpecError) as caught:
        created(with_mounts(small_config(), mount("/x", "ramfs", None, "tmpcopyup")))
    assert caught.value.pointer == "/mounts/0/options"


@pytest.mark.parametrize("target", ["/", ".", "//"])
def test_the_root_is_not_mounted_over(target: str) -> None:
    with pytest.raises(SpecError) as caught:
        created(with_mounts(small_config(), mount(target, "tmpfs")))
    assert caught.value.pointer == "/mounts/0/destination"


@pytest.mark.parametrize("target", ["/proc/sys", "proc/self/attr", "/proc//1"])
def test_nothing_is_mounted_inside_of_proc(target: str) -> None:
    with pytest.raises(SpecError, match="it is inside /proc") as caught:
        created(with_mounts(small_config(), mount(target, "tmpfs")))
    assert caught.value.pointer == "/mounts/0/destination"


def test_files_that_lxcfs_has_may_be_mounted_in_proc() -> None:
    compiled = created(with_mounts(small_config(), bind(source="/lxcfs/proc/meminfo", destination="/proc/meminfo")))
    assert only(compiled, Bind).target == "/proc/meminfo"


def test_mount_label() -> None:
    config = with_value("/linux/mountLabel", "system_u:object_r:t:s0:c1,c2", small_config())
    config = with_mounts(config, mount("/p", "proc"), mount("/t", "tmpfs"), mount("/m", "mqueue"), bind())
    labelled = created(config, replace(ROOT, selinux=True))
    assert [op.options for op in ops_of(labelled, MountFs)] == [(), ("context=system_u:object_r:t:s0:c1,c2",), ()]
    plain = created(config)
    assert all(not op.options for op in ops_of(plain, MountFs))
    assert plain.warnings == ("/linux/mountLabel: is not applied: SELinux is not enabled on this host",)


def test_ids_in_options_must_be_mapped() -> None:
    config = use_user_namespace(
        with_mounts(small_config(), mount("/dev/pts", "devpts", None, "newinstance", "gid=65536"))
    )
    with pytest.raises(SpecError, match="/linux/gidMappings") as caught:
        created(config)
    assert caught.value.pointer == "/mounts/0/options/1"
    created(with_mounts(config, mount("/dev/pts", "devpts", None, "gid=65535", "uid=x")))


# ---- read-only, but not at once


def deferred(*mounts: Config, **changes: Any) -> tuple[list[Attributes], list[SetMountAttributes]]:
    compiled = created(with_mounts(small_config(), *mounts), **changes)
    return [op.attributes for op in ops_of(compiled, MountFs)], ops_of(compiled, SetMountAttributes)


def test_dev_becomes_read_only_after_its_devices() -> None:
    config = with_value(
        "/process/terminal", True, with_mounts(small_config(), mount("/dev", "tmpfs", None, "nosuid", "ro"))
    )
    compiled = created(config)
    made, later = only(compiled, MountFs), only(compiled, SetMountAttributes)
    assert made.attributes.set == k.MOUNT_ATTR_NOSUID
    assert (later.slot, later.attributes) == (made.slot, Attributes(set=RDONLY))
    kinds = [type(op).__name__ for op in all_ops(compiled)]
    assert kinds.index("SetMountAttributes") > kinds.index("OpenConsole") > kinds.index("MakeSymlink")


def test_a_tmpfs_becomes_read_only_after_what_is_mounted_in_it() -> None:
    attributes, later = deferred(mount("/run", "tmpfs", None, "ro"), bind(destination="/run/x"))
    assert attributes == [Attributes()]
    assert [op.attributes.set for op in later] == [RDONLY]


@pytest.mark.parametrize(
    "mounts",
    [
        (mount("/run", "tmpfs", None, "ro"), bind(destination="/running")),
        (bind(destination="/run/x"), mount("/run", "tmpfs", None, "ro")),
        (mount("/sys", "sysfs", None, "ro"), mount("/sys/fs/cgroup", "cgroup")),
    ],
)
def test_others_are_read_only_from_the_beginning(mounts: tuple[Config, Config]) -> None:
    attributes, later = deferred(*mounts)
    assert RDONLY in [attribute.set for attribute in attributes]
    assert not later


# ---- binds


def test_bind() -> None:
    compiled = created(with_mounts(small_config(), bind("ro", "nosuid", source="vol", destination="d")))
    opened, made = ops_of(compiled, OpenTree)[-1], only(compiled, Bind)
    assert (opened.path, opened.flags) == ("/b/vol", 0)
    assert (made.target, made.tree) == ("/d", opened.slot)
    assert made.attributes == Attributes(set=RDONLY | k.MOUNT_ATTR_NOSUID)


def test_recursive_bind_without_following() -> None:
    compiled = created(with_mounts(small_config(), bind("rbind", "rro", "src-nofollow", "dest-nofollow")))
    assert ops_of(compiled, OpenTree)[-1].flags == lib.TREE_RECURSIVE | lib.TREE_NOFOLLOW
    made = only(compiled, Bind)
    assert made.flags == lib.MOUNT_TARGET_NOFOLLOW
    assert made.attributes == Attributes(recursive_set=RDONLY)


def test_options_of_a_file_system_are_ignored_with_a_warning() -> None:
    compiled = created(with_mounts(small_config(), bind("mode=755", "size=1k")))
    assert compiled.warnings == (
        "/mounts/0/options: mode=755, size=1k: a bind mount has no options of a file system, ignored",
    )


def test_one_slot_serves_all_binds() -> None:
    mounts = [bind(destination=f"/d{number}") for number in range(400)]
    compiled = created(with_mounts(small_config(), *mounts))
    assert compiled.plan.slot_count == 3  # two FIFOs
    compiled.plan.encode()


def test_sources_of_a_user_namespace_are_opened_outside() -> None:
    config = use_user_namespace(with_mounts(small_config(), bind(), bind(destination="/d2")))
    compiled = created(config)
    opened = [op for op in compiled.plan.host_ops if isinstance(op, OpenTree)]
    assert [op.origin for op in opened] == ["/root/path", "/mounts/0", "/mounts/1"] + [""] * 6
    assert all(op.flags & lib.TREE_SLAVE for op in opened)
    assert len({op.slot for op in opened}) == len(opened)
    assert not [op for op in compiled.plan.ops if isinstance(op, OpenTree)]
    assert only(compiled, AttachRoot).flags == lib.ROOT_STACK_ON_SLASH


def test_sources_of_a_mount_namespace_that_is_joined_are_opened_outside() -> None:
    config = with_mounts(with_namespaces({"type": "mount", "path": "/proc/1/ns/mnt"}), bind())
    compiled = created(config)
    assert [op.origin for op in compiled.plan.host_ops if isinstance(op, OpenTree)] == ["/root/path", "/mounts/0"]


def test_sources_are_opened_inside_without_privileges() -> None:
    compiled = created(use_user_namespace(with_mounts(small_config(), bind())), ROOTLESS)
    assert not [op for op in compiled.plan.host_ops if isinstance(op, OpenTree)]


def test_too_many_sources_are_an_error_with_a_pointer() -> None:
    mounts = [bind(destination=f"/d{number}") for number in range(lib.PLAN_MAX_SLOTS)]
    with pytest.raises(SpecError, match="descriptors") as caught:
        created(use_user_namespace(with_mounts(small_config(), *mounts)))
    assert caught.value.pointer.startswith("/mounts/")


def test_copied_symbolic_link() -> None:
    config = with_mounts(small_config(), bind("copy-symlink", source="link"))
    linked = created(config, replace(ROOT, symlinks=frozenset({"/b/link"})))
    assert only(linked, CopySymlink) == CopySymlink("/mounts/0", "/b/link", "/data")
    assert not ops_of(created(config), CopySymlink)
    assert only(created(config), Bind).target == "/data"
    with pytest.raises(SpecError, match="excludes"):
        created(with_mounts(small_config(), bind("copy-symlink", "src-nofollow")))


def test_propagation_in_several_steps() -> None:
    compiled = created(with_mounts(small_config(), bind("rbind", "rslave", "rshared")))
    made, later = only(compiled, Bind), only(compiled, SetMountAttributes)
    assert made.attributes.recursive_propagation == k.MS_SLAVE
    assert (later.slot, later.attributes) == (made.slot, Attributes(recursive_propagation=k.MS_SHARED))


def test_notify_directory() -> None:
    compiled = created(small_config(), notify_directory="/run/ocirt/c1/notify")
    assert only(compiled, Bind).target == "/run/notify"
    assert RDONLY & only(compiled, Bind).attributes.set


# ---- remounts


@pytest.mark.parametrize(
    ("entry", "options", "attributes"),
    [
        (mount("/t", "tmpfs", None, "remount", "size=1k", "ro"), ("size=1k",), Attributes(set=RDONLY)),
        (mount("/t", "ext4", None, "remount", "rw", "async"), ("rw", "async"), Attributes(clear=RDONLY)),
        (bind("remount", "ro", "sync", destination="/t"), None, Attributes(set=RDONLY)),
        (mount("/t", "tmpfs", None, "remount", "nosuid"), None, Attributes(set=k.MOUNT_ATTR_NOSUID)),
    ],
)
def test_remount(entry: Config, options: tuple[str, ...] | None, attributes: Attributes) -> None:
    made = only(created(with_mounts(small_config(), entry)), Remount)
    assert (made.target, made.options, made.attributes) == ("/t", options, attributes)


# ---- views of namespaces, and cgroups


@pytest.mark.parametrize(
    ("fstype", "kind", "source"),
    [("sysfs", "network", "/sys"), ("mqueue", "ipc", "/dev/mqueue"), ("proc", "pid", "/proc")],
)
def test_views_of_namespaces_that_are_not_the_containers(fstype: str, kind: str, source: str) -> None:
    kinds = [name for name in ("network", "ipc", "pid", "mount") if name != kind]
    config = use_user_namespace(with_mounts(with_namespaces(*kinds), mount("/x", fstype, None, "nosuid")))
    compiled = created(config)
    assert source in [op.path for op in ops_of(compiled, OpenTree)]
    made = next(op for op in ops_of(compiled, Bind) if op.origin == "/mounts/0")
    assert made.attributes.recursive_set == (RDONLY if fstype == "sysfs" else 0)
    assert compiled.warnings[0].startswith("/mounts/0: ")
    assert not ops_of(compiled, MountFs)


def test_view_of_a_network_namespace_of_another_user() -> None:
    network = {"type": "network", "path": "/run/netns/a"}
    config = use_user_namespace(with_mounts(with_namespaces(network, "mount"), mount("/sys", "sysfs")))
    assert ops_of(created(config), MountFs)
    assert not ops_of(created(config, replace(ROOT, foreign=frozenset({"network"}))), MountFs)


def test_procfs_of_another_users_pid_namespace_is_an_error() -> None:
    config = with_namespaces({"type": "pid", "path": "/proc/1/ns/pid"}, "mount")
    config = use_user_namespace(with_mounts(config, mount("/proc", "proc")))
    with pytest.raises(SpecError, match="pid namespace"):
        created(config, replace(ROOT, foreign=frozenset({"pid"})))


def test_root_of_a_user_namespace_with_the_hosts_network() -> None:
    nested = replace(ROOT, in_user_namespace=True, owned=frozenset({"mount", "user"}))
    config = with_mounts(with_namespaces("mount", "pid"), mount("/sys", "sysfs"), mount("/proc", "proc"))
    compiled = created(config, nested)
    assert [op.fstype for op in ops_of(compiled, MountFs)] == ["proc"]


@pytest.mark.parametrize("fstype", ["cgroup", "cgroup2"])
def test_cgroup_of_a_cgroup_namespace(fstype: str) -> None:
    config = with_mounts(with_namespaces("mount", "cgroup"), mount("/sys/fs/cgroup", fstype, "cgroup", "ro"))
    made = only(created(config, replace(ROOT, cgroup=None)), MountFs)
    assert (made.fstype, made.attributes.set) == ("cgroup2", RDONLY)


def test_cgroup_without_a_namespace_is_the_hosts() -> None:
    """As with runc and crun: what /proc/self/cgroup names is found there."""
    config = with_mounts(with_namespaces("mount"), mount("/sys/fs/cgroup", "cgroup", "cgroup", "rw"))
    compiled = created(config)
    assert ops_of(compiled, OpenTree)[-1].path == "/sys/fs/cgroup"
    assert not only(compiled, Bind).attributes.set & RDONLY


def test_the_hosts_cgroups_are_read_only_without_privileges() -> None:
    """CVE-2023-25809."""
    config = with_mounts(with_namespaces("mount"), mount("/sys/fs/cgroup", "cgroup", "cgroup", "rw"))
    compiled = created(config, replace(ROOT, in_user_namespace=True))
    (made,) = [op for op in ops_of(compiled, Bind) if op.origin == "/mounts/0"]
    assert made.attributes == Attributes(set=RDONLY)


def test_cgroup_without_cgroups_is_an_error() -> None:
    config = with_mounts(with_namespaces("mount"), mount("/sys/fs/cgroup", "cgroup"))
    with pytest.raises(SpecError) as caught:
        created(config, replace(ROOT, cgroup=None))
    assert caught.value.pointer == "/mounts/0"


# ---- mapped ids


def needed(config: Config, **changes: Any) -> IdmappedTree:
    compiled = created(config, **changes)
    (slot,) = [slot for slot, need in enumerate(compiled.needs) if isinstance(need, IdmappedTree)]
    assert [op.tree for op in ops_of(compiled, Bind) if op.origin == "/mounts/0"] == [slot]
    need = compiled.needs[slot]
    assert isinstance(need, IdmappedTree)
    return need


def test_ids_mapped_as_the_mount_says() -> None:
    entry = bind("rbind", "ridmap", source="vol") | {"uidMappings": MAPPINGS, "gidMappings": MAPPINGS}
    need = needed(with_mounts(small_config(), entry))
    assert (need.path, need.recursive, need.map_recursive) == ("/b/vol", True, True)
    assert need.mapping == UserMapping("0 100000 65536\n", "0 100000 65536\n")


def test_ids_mapped_as_in_the_container() -> None:
    need = needed(use_user_namespace(with_mounts(small_config(), bind("idmap"))))
    assert need.mapping == UserMapping("0 100000 65536\n", "0 100000 65536\n")
    assert not need.map_recursive


def test_ids_mapped_as_in_a_namespace_that_is_joined() -> None:
    config = with_mounts(with_namespaces({"type": "user", "path": "/proc/9/ns/user"}, "mount"), bind("idmap"))
    need = needed(config)
    assert (need.mapping, need.user_namespace) == (None, "/proc/9/ns/user")


@pytest.mark.parametrize(
    ("ranges", "uids"),
    [
        ("uids=0-1-10#10-11-10;gids=0-1-1", "0 1 10\n10 11 10\n"),
        ("gids=0-1-1;uids=@1-3-10", "1 100003 10\n"),
    ],
)
def test_ranges_in_the_option(ranges: str, uids: str) -> None:
    config = use_user_namespace(with_mounts(small_config(), bind(f"idmap={ranges}")))
    assert needed(config).mapping == UserMapping(uids, "0 1 1\n")


@pytest.mark.parametrize(
    "ranges",
    [
        "uids=0-1-1",
        "uids=0-1-1;uids=0-1-1",
        "uids=0-1;gids=0-1-1",
        "uids=a-1-1;gids=0-1-1",
        "uids=0-1-0;gids=0-1-1",
        "uids=0-4294967295-1;gids=0-1-1",
        "uids=@0-70000-1;gids=0-1-1",
        "uids=0-1-1;gids=0-1-1;x",
        "uids=0-\N{ARABIC-INDIC DIGIT ONE}-1;gids=0-1-1",
    ],
)
def test_wrong_ranges_in_the_option(ranges: str) -> None:
    with pytest.raises(SpecError) as caught:
        created(use_user_namespace(with_mounts(small_config(), bind(f"idmap={ranges}"))))
    assert caught.value.pointer == "/mounts/0/options/1"


def test_mapping_ids_needs_a_bind_and_privileges() -> None:
    mapped: Config = {"uidMappings": MAPPINGS, "gidMappings": MAPPINGS}
    with pytest.raises(SpecError, match="only a bind mount"):
        created(with_mounts(small_config(), mount("/t", "tmpfs") | mapped))
    with pytest.raises(SpecError, match="rootless"):
        created(use_user_namespace(with_mounts(small_config(), bind() | mapped)), ROOTLESS)
    # What spec.checks says too, for a spec that they haven't seen.
    with pytest.raises(SpecError, match="user namespace") as caught:
        compile_create(parse_config(with_mounts(small_config(), bind("idmap"))), ROOT, request())
    assert caught.value.pointer == "/mounts/0/options/1"


def test_a_mapped_tree_does_not_send_events_to_the_host() -> None:
    config = use_user_namespace(with_mounts(small_config(), bind("idmap"), bind("idmap", "rprivate")))
    first, second = [op for op in ops_of(created(config), Bind) if op.origin]
    assert first.attributes.recursive_propagation == k.MS_SLAVE
    assert second.attributes.recursive_propagation == k.MS_PRIVATE


# ---- devices


def test_default_devices_and_links() -> None:
    compiled = created(small_config())
    made = {op.path: (op.major, op.minor) for op in ops_of(compiled, MakeDevice)}
    assert made == {
        "/dev/null": (1, 3),
        "/dev/zero": (1, 5),
        "/dev/full": (1, 7),
        "/dev/random": (1, 8),
        "/dev/urandom": (1, 9),
        "/dev/tty": (5, 0),
    }
    assert all(op.mode == stat.S_IFCHR | 0o666 for op in ops_of(compiled, MakeDevice))
    links = {op.path: op.target for op in ops_of(compiled, MakeSymlink)}
    assert links["/dev/ptmx"] == "pts/ptmx"
    assert links["/dev/fd"] == "/proc/self/fd"
    assert {"/dev/stdin", "/dev/stdout", "/dev/stderr"} < set(links)


def test_configured_devices() -> None:
    devices = [
        {"path": "/dev/fuse", "type": "u", "major": 10, "minor": 229, "fileMode": 0o20600, "uid": 1, "gid": 2},
        {"path": "/x/b", "type": "b", "major": 8, "minor": 0},
        {"path": "/dev/pipe", "type": "p", "major": 7, "minor": 7},
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600},
        {"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2},
    ]
    made = {op.path: op for op in ops_of(created(with_value("/linux/devices", devices, small_config())), MakeDevice)}
    assert made["/dev/fuse"] == MakeDevice("/linux/devices/0", "/dev/fuse", stat.S_IFCHR | 0o600, 10, 229, 1, 2)
    assert made["/x/b"].mode == stat.S_IFBLK | 0o666
    assert (made["/dev/pipe"].mode, made["/dev/pipe"].major) == (stat.S_IFIFO | 0o666, 0)
    assert (made["/dev/null"].mode, made["/dev/null"].origin) == (stat.S_IFCHR | 0o600, "/linux/devices/3")
    assert "/dev/ptmx" not in made


def test_devices_of_a_user_namespace_are_the_hosts() -> None:
    devices = [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}, {"path": "/dev/pipe", "type": "p"}]
    compiled = created(use_user_namespace(with_value("/linux/devices", devices, small_config())))
    assert [op.path for op in ops_of(compiled, MakeDevice)] == ["/dev/pipe"]
    bound = {op.target: op.flags for op in ops_of(compiled, Bind)}
    assert set(bound) == {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/fuse"}
    assert set(bound.values()) == {lib.MOUNT_CREATE_FILE | lib.MOUNT_TARGET_NOFOLLOW}


def test_a_bound_device_must_be_the_one_asked_for() -> None:
    config = use_user_namespace(
        with_value("/linux/devices", [{"path": "/dev/x", "type": "c", "major": 1, "minor": 2}], small_config())
    )
    with pytest.raises(SpecError, match="1:11") as caught:
        created(config, replace(ROOT, devices={"/dev/x": ("c", 1, 11)}))
    assert caught.value.pointer == "/linux/devices/0"


@pytest.mark.parametrize(
    "host",
    [replace(ROOT, in_user_namespace=True), replace(ROOT, effective=ROOT.effective & ~k.CAPABILITY_BITS["CAP_MKNOD"])],
)
def test_devices_are_bound_where_none_can_be_made(host: Any) -> None:
    assert not ops_of(created(small_config(), host), MakeDevice)


@pytest.mark.parametrize("options", [("bind",), ("rbind", "ro")])
def test_the_hosts_dev_is_left_alone(options: tuple[str, ...]) -> None:
    compiled = created(with_mounts(small_config(), mount("/dev/", None, "/dev", *options)))
    assert not ops_of(compiled, MakeDevice)
    assert not ops_of(compiled, MakeSymlink)


# ---- the root


@pytest.mark.parametrize(
    ("word", "before", "after"),
    [
        (None, [(k.MS_SLAVE, True)], []),
        ("slave", [(k.MS_SLAVE, True)], []),
        ("rprivate", [(k.MS_PRIVATE, True)], []),
        ("private", [(k.MS_PRIVATE, True)], []),
        ("unbindable", [(k.MS_PRIVATE, True)], [(k.MS_UNBINDABLE, False)]),
        ("shared", [], [(k.MS_SHARED, False)]),
        ("rshared", [], [(k.MS_SHARED, True)]),
    ],
)
def test_root_propagation(word: str | None, before: list[Any], after: list[Any]) -> None:
    config = with_value("/linux/rootfsPropagation", word, small_config()) if word else small_config()
    ops = created(config).plan.ops
    pivot = next(index for index, op in enumerate(ops) if isinstance(op, Pivot))
    steps = [
        [(op.propagation, op.recursive) for op in part if isinstance(op, SetPropagation)]
        for part in (ops[:pivot], ops[pivot:])
    ]
    assert steps == [before, after]


def test_no_pivot() -> None:
    assert only(created(small_config(), no_pivot=True), Pivot).kind == lib.PIVOT_MOVE
    with pytest.raises(SpecError, match="not safe without pivot_root"):
        created(with_value("/linux/rootfsPropagation", "private", small_config()), no_pivot=True)


def test_without_a_mount_namespace_nothing_is_mounted() -> None:
    compiled = created(with_mounts(with_namespaces("pid"), mount("/proc", "proc"), bind("ro")))
    assert not ops_of(compiled, MountFs) + ops_of(compiled, Bind) + ops_of(compiled, OpenTree)
    assert only(compiled, Pivot).kind == lib.PIVOT_CHROOT
    assert [warning.split(":")[0] for warning in compiled.warnings] == ["/mounts/0", "/mounts/1"]


@pytest.mark.parametrize(("pointer", "value"), [("/root/readonly", True), ("/linux/rootfsPropagation", "shared")])
def test_what_needs_a_mount_namespace(pointer: str, value: object) -> None:
    with pytest.raises(SpecError, match="needs a mount namespace") as caught:
        created(with_value(pointer, value, with_namespaces("pid")))
    assert caught.value.pointer == pointer


def test_mounts_without_a_linux_part() -> None:
    config = without("/linux", with_mounts(small_config(), mount("/proc", "proc")))
    assert only(created(config), Pivot).kind == lib.PIVOT_CHROOT


def test_joined_user_namespace_maps_options() -> None:
    joined = JoinedUser(
        uid_mappings=(IDMapping(container_id=0, host_id=5, size=1),),
        gid_mappings=(IDMapping(container_id=0, host_id=5, size=1),),
    )
    config = with_namespaces({"type": "user", "path": "/proc/9/ns/user"}, "mount")
    config = with_mounts(config, mount("/dev/pts", "devpts", None, "gid=5"))
    with pytest.raises(SpecError, match="no such id"):
        created(config, joined_user=joined)
    created(config)
