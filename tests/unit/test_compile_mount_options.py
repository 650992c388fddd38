"""The table of mount options: each word has one meaning, and of words about the same thing the last one counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt import constants as k
from ocirt.compile import MOUNT_OPTIONS
from ocirt.compile.mount_options import OPTIONS, Kind, MountOptions, parse_options, split_data
from ocirt.ops import Attributes

# config.md#linux-mount-options
SPECIFIED = (
    "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev nodiratime "
    "noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev "
    "rdiratime relatime remount rexec rnoatime rnodiratime rnoexec rnorelatime rnostrictatime rnosuid "
    "rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw "
    "shared silent slave strictatime suid symfollow sync tmpcopyup unbindable idmap ridmap"
).split()
CRUN_WORDS = ["copy-symlink", "src-nofollow", "dest-nofollow"]

OPPOSITES = {
    "ro": "rw",
    "nosuid": "suid",
    "nodev": "dev",
    "noexec": "exec",
    "nodiratime": "diratime",
    "nosymfollow": "symfollow",
}
BITS = {
    "ro": k.MOUNT_ATTR_RDONLY,
    "nosuid": k.MOUNT_ATTR_NOSUID,
    "nodev": k.MOUNT_ATTR_NODEV,
    "noexec": k.MOUNT_ATTR_NOEXEC,
    "nodiratime": k.MOUNT_ATTR_NODIRATIME,
    "nosymfollow": k.MOUNT_ATTR_NOSYMFOLLOW,
}
MODES = {"noatime": k.MOUNT_ATTR_NOATIME, "relatime": 0, "strictatime": k.MOUNT_ATTR_STRICTATIME}
MODE_WORDS = [*MODES, "atime", "norelatime", "nostrictatime"]
SUPERBLOCK = [("sync", "async"), ("lazytime", "nolazytime"), ("mand", "nomand")]

words = st.lists(st.sampled_from(sorted(OPTIONS)), max_size=12).map(tuple)
attribute_words = st.lists(st.sampled_from([*OPPOSITES, *OPPOSITES.values()]), max_size=10)


def test_every_option_of_the_specification_is_known() -> None:
    assert set(SPECIFIED) | set(CRUN_WORDS) <= set(OPTIONS)
    assert list(MOUNT_OPTIONS) == sorted(OPTIONS)


def test_no_two_words_mean_the_same() -> None:
    meanings = [meaning for meaning in OPTIONS.values() if meaning.kind is not Kind.NOTHING]
    assert len(set(meanings)) == len(meanings)


@given(st.sampled_from(sorted(OPTIONS)))
def test_a_known_word_is_never_data(word: str) -> None:
    assert not parse_options((word,)).data


@given(attribute_words)
def test_the_last_word_about_an_attribute_counts(chosen: list[str]) -> None:
    attributes = parse_options(tuple(chosen)).attributes()
    for on, off in OPPOSITES.items():
        about = [word for word in chosen if word in (on, off)]
        assert bool(attributes.set & BITS[on]) == (about[-1:] == [on])
        assert bool(attributes.clear & BITS[on]) == (about[-1:] == [off])
    assert attributes == Attributes(set=attributes.set, clear=attributes.clear)


@given(attribute_words)
def test_recursive_words_are_the_same_for_the_tree(chosen: list[str]) -> None:
    top = parse_options(tuple(chosen)).attributes()
    tree = parse_options(tuple(f"r{word}" for word in chosen)).attributes()
    assert tree == Attributes(recursive_set=top.set, recursive_clear=top.clear)


@given(st.lists(st.sampled_from(MODE_WORDS), max_size=8))
def test_access_time_modes(chosen: list[str]) -> None:
    """A word for a mode sets it, its opposite goes back to the default where that very mode was set."""
    mode: int | None = None
    for word in chosen:
        if word in MODES:
            mode = MODES[word]
        elif word == "norelatime":
            mode = None if mode == 0 else mode
        elif mode in (None, MODES["noatime" if word == "atime" else "strictatime"]):
            mode = 0
    attributes = parse_options(tuple(chosen)).attributes()
    assert attributes.set == (mode or 0)
    assert attributes.clear == (0 if mode is None else k.MOUNT_ATTR__ATIME)


@given(words)
def test_masks_are_what_the_kernel_takes(chosen: tuple[str, ...]) -> None:
    """mount_setattr(2): nothing both set and cleared, but the access time: cleared as a whole where it is set."""
    attributes = parse_options(chosen).attributes()
    for attr_set, attr_clear in (
        (attributes.set, attributes.clear),
        (attributes.recursive_set, attributes.recursive_clear),
    ):
        assert not attr_set & attr_clear & ~k.MOUNT_ATTR__ATIME
        assert attr_clear & k.MOUNT_ATTR__ATIME in (0, k.MOUNT_ATTR__ATIME)
        if attr_set & k.MOUNT_ATTR__ATIME:
            assert attr_clear & k.MOUNT_ATTR__ATIME == k.MOUNT_ATTR__ATIME
    # What the tree's words say is not said otherwise for the top, which ocirt-init changes after the tree.
    said = (attributes.recursive_set | attributes.recursive_clear) & ~k.MOUNT_ATTR__ATIME
    assert not said & (attributes.set | attributes.clear)


@pytest.mark.parametrize("chosen", [("ro", "rrw"), ("rrw", "ro"), ("rw", "rro"), ("rro", "rw")])
def test_words_about_the_tree_outweigh_those_about_the_top(chosen: tuple[str, str]) -> None:
    attributes = parse_options(chosen).attributes()
    assert not attributes.set | attributes.clear
    assert bool(attributes.recursive_set) == ("rro" in chosen)
    assert parse_options(chosen).read_only == ("rro" in chosen)


@pytest.mark.parametrize(("on", "off"), SUPERBLOCK)
def test_superblock_words(on: str, off: str) -> None:
    for chosen, new, changed in (
        ((on,), [on], [on]),
        ((on, off), [], [off]),
        ((off, on), [on], [on]),
        ((off,), [], [off]),
    ):
        options = parse_options(chosen)
        assert options.superblock_words("xfs", changing=False) == new
        assert options.superblock_words("xfs", changing=True) == changed
        assert options.attributes() == Attributes()


def test_inode_versions_are_asked_for_where_they_can_be() -> None:
    assert parse_options(("iversion",)).superblock_words("ext4", changing=False) == ["i_version"]
    assert parse_options(("iversion",)).superblock_words("xfs", changing=False) == []
    assert parse_options(("iversion", "noiversion")).superblock_words("ext4", changing=False) == []


@given(st.lists(st.sampled_from(["silent", "loud", "defaults"])))
def test_words_without_effect(chosen: list[str]) -> None:
    assert parse_options(tuple(chosen)) == MountOptions()


@given(words, st.lists(st.sampled_from(["size=1k", "mode=755", "newinstance", "lowerdir=/a:/b"]), max_size=4))
def test_unknown_words_are_data_in_their_order(known: tuple[str, ...], unknown: list[str]) -> None:
    options = parse_options((*known, *unknown))
    assert [word for _, word in options.data] == unknown
    assert [index for index, _ in options.data] == list(range(len(known), len(known) + len(unknown)))


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("size=64k", ["size=64k"]),
        ("size=64k,mode=755", ["size=64k", "mode=755"]),
        ('context="system_u:object_r:t:s0:c1,c2"', ["context=system_u:object_r:t:s0:c1,c2"]),
        ('context="a,b",mode=1', ["context=a,b", "mode=1"]),
        (r"lowerdir=/a\,b:/c,xino=off", [r"lowerdir=/a\,b:/c", "xino=off"]),
        (",,", []),
        ("", []),
    ],
)
def test_options_in_one_string_are_taken_apart(word: str, parts: list[str]) -> None:
    assert split_data(word) == parts


SHARED, SLAVE, PRIVATE, UNBINDABLE = k.MS_SHARED, k.MS_SLAVE, k.MS_PRIVATE, k.MS_UNBINDABLE


@pytest.mark.parametrize(
    ("chosen", "steps"),
    [
        ((), [(0, 0)]),
        (("shared",), [(SHARED, 0)]),
        (("rslave",), [(0, SLAVE)]),
        (("private", "rshared"), [(0, SHARED)]),
        (("rshared", "private"), [(PRIVATE, SHARED)]),
        (("rprivate", "runbindable"), [(0, UNBINDABLE)]),
        (("slave", "shared"), [(SLAVE, 0), (SHARED, 0)]),
        (("rslave", "rshared"), [(0, SLAVE), (0, SHARED)]),
        (("rslave", "shared"), [(SHARED, SLAVE)]),
        (("shared", "slave"), [(SLAVE, 0)]),
    ],
)
def test_propagation(chosen: tuple[str, ...], steps: list[tuple[int, int]]) -> None:
    options = parse_options(chosen)
    found = [options.attributes(), *options.later_propagation()]
    assert [(step.propagation, step.recursive_propagation) for step in found] == steps


@pytest.mark.parametrize(
    ("chosen", "index", "recursive", "ranges"),
    [
        (("ro", "idmap"), 1, False, None),
        (("ridmap",), 0, True, None),
        (("idmap=uids=0-1-2;gids=0-1-2",), 0, False, "uids=0-1-2;gids=0-1-2"),
        (("rbind",), None, False, None),
    ],
)
def test_mapped_ids(chosen: tuple[str, ...], index: int | None, recursive: bool, ranges: str | None) -> None:
    options = parse_options(chosen)
    assert (options.idmap, options.idmap_recursive, options.idmap_ranges) == (index, recursive, ranges)


def test_binds() -> None:
    assert not parse_options(("ro",)).bind
    assert parse_options(("bind",)).bind
    assert not parse_options(("bind",)).recursive_bind
    for chosen in (("rbind",), ("bind", "rbind"), ("rbind", "bind")):
        assert parse_options(chosen).recursive_bind
