"""The options of mounts: one table that says what each word means (config.md#linux-mount-options, mount(8)).

Guarantees: a word has exactly one meaning. Of words about the same thing the last one counts, as with mount(8); those
about the whole tree of mounts ("rro") count over those about its top ("rw"), as with runc. A word that is not in the
table is the file system's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, NamedTuple

from ocirt import constants as k
from ocirt.ops import Attributes


class Kind(Enum):
    """What a word is about; the comment says what its `value` is."""

    ATTRIBUTE = auto()  # MOUNT_ATTR_*
    ATIME = auto()  # the access time mode, of MOUNT_ATTR__ATIME
    SUPERBLOCK = auto()  # the word for fsconfig(2)
    PROPAGATION = auto()  # MS_*
    BIND = auto()
    FLAG = auto()  # the name of an attribute of MountOptions
    IDMAP = auto()
    NOTHING = auto()


class Meaning(NamedTuple):
    """`value`: a number or a name. `on`: sets, or else takes back. `recursive`: of the mounts below, too."""

    kind: Kind
    value: Any = None
    on: bool = True
    recursive: bool = False


_ATTRIBUTES = {
    "ro": Meaning(Kind.ATTRIBUTE, k.MOUNT_ATTR_RDONLY),
    "rw": Meaning(Kind.ATTRIBUTE, k.MOUNT_ATTR_RDONLY, on=False),
    "nosuid": Meaning(Kind.ATTRIBUTE, k.MOUNT_ATTR_NOSUID),
    "suid": Meaning(Kind.ATTRIBUTE, k.MOUNT_ATTR_NOSUID, on=False),
    "nodev": Meaning(Kind.ATTRIBUTE, k.MOUNT_ATTR_NODEV),
    "dev": Meaning(Kind.ATTRIBUTE, k.MOUNT_ATTR_NODEV, on=False),
    "noexec": Meaning(Kind.ATTRIBUTE, k.MOUNT_ATTR_NOEXEC),
    "exec": Meaning(Kind.ATTRIBUTE, k.MOUNT_ATTR_NOEXEC, on=False),
    "nodiratime": Meaning(Kind.ATTRIBUTE, k.MOUNT_ATTR_NODIRATIME),
    "diratime": Meaning(Kind.ATTRIBUTE, k.MOUNT_ATTR_NODIRATIME, on=False),
    "nosymfollow": Meaning(Kind.ATTRIBUTE, k.MOUNT_ATTR_NOSYMFOLLOW),
    "symfollow": Meaning(Kind.ATTRIBUTE, k.MOUNT_ATTR_NOSYMFOLLOW, on=False),
    "noatime": Meaning(Kind.ATIME, k.MOUNT_ATTR_NOATIME),
    "atime": Meaning(Kind.ATIME, k.MOUNT_ATTR_NOATIME, on=False),
    "relatime": Meaning(Kind.ATIME, k.MOUNT_ATTR_RELATIME),
    "norelatime": Meaning(Kind.ATIME, k.MOUNT_ATTR_RELATIME, on=False),
    "strictatime": Meaning(Kind.ATIME, k.MOUNT_ATTR_STRICTATIME),
    "nostrictatime": Meaning(Kind.ATIME, k.MOUNT_ATTR_STRICTATIME, on=False),
}
_PROPAGATION = {name: Meaning(Kind.PROPAGATION, flag) for flag, name in k.PROPAGATION_NAMES.items()}

OPTIONS: dict[str, Meaning] = {
    **_ATTRIBUTES,
    **{f"r{word}": meaning._replace(recursive=True) for word, meaning in _ATTRIBUTES.items()},
    **_PROPAGATION,
    **{f"r{word}": meaning._replace(recursive=True) for word, meaning in _PROPAGATION.items()},
    "bind": Meaning(Kind.BIND),
    "rbind": Meaning(Kind.BIND, recursive=True),
    "sync": Meaning(Kind.SUPERBLOCK, "sync"),
    "async": Meaning(Kind.SUPERBLOCK, "sync", on=False),
    "dirsync": Meaning(Kind.SUPERBLOCK, "dirsync"),
    "lazytime": Meaning(Kind.SUPERBLOCK, "lazytime"),
    "nolazytime": Meaning(Kind.SUPERBLOCK, "lazytime", on=False),
    "mand": Meaning(Kind.SUPERBLOCK, "mand"),
    "nomand": Meaning(Kind.SUPERBLOCK, "mand", on=False),
    # No flag of fsconfig(2) (measured on Linux 6.18); XFS, Btrfs and tmpfs always count, ext4 does so when asked.
    "iversion": Meaning(Kind.SUPERBLOCK, "i_version"),
    "noiversion": Meaning(Kind.SUPERBLOCK, "i_version", on=False),
    # What the kernel logs about a failure is in the error's text anyhow.
    "silent": Meaning(Kind.NOTHING),
    "loud": Meaning(Kind.NOTHING),
    "defaults": Meaning(Kind.NOTHING),
    "remount": Meaning(Kind.FLAG, "remount"),
    "tmpcopyup": Meaning(Kind.FLAG, "copy_up"),
    "copy-symlink": Meaning(Kind.FLAG, "copy_symlink"),
    "src-nofollow": Meaning(Kind.FLAG, "source_nofollow"),
    "dest-nofollow": Meaning(Kind.FLAG, "target_nofollow"),
    "idmap": Meaning(Kind.IDMAP),
    "ridmap": Meaning(Kind.IDMAP, recursive=True),
}

_WITH_RANGES = ("idmap=", "ridmap=")

# The words that take back a superblock flag when a mount is changed; there is none for dirsync.
_SUPERBLOCK_OFF = {"sync": "async", "lazytime": "nolazytime", "mand": "nomand"}
_EXT = ("ext2", "ext3", "ext4")


@dataclass(slots=True)
class Flags:
    """What words say of a mount's attributes. `atime` None: nothing."""

    set: int = 0
    clear: int = 0
    atime: int | None = None

    def take_attribute(self, bit: int, *, on: bool) -> None:
        if on:
            self.set |= bit
            self.clear &= ~bit
        else:
            self.set &= ~bit
            self.clear |= bit

    def take_atime(self, mode: int, *, on: bool) -> None:
        if on:
            self.atime = mode
        elif self.atime in (None, mode):
            # Without a mode of its own a mount has relatime (mount(8)); "norelatime" alone asks for nothing else.
            self.atime = k.MOUNT_ATTR_RELATIME if mode else None

    def masks(self) -> tuple[int, int]:
        """(set, clear) for mount_setattr(2), which wants the whole mode cleared where one is set."""
        if self.atime is None:
            return self.set, self.clear
        return self.set | self.atime, self.clear | k.MOUNT_ATTR__ATIME

    def without(self, other: Flags) -> Flags:
        """What is left where `other` says something of the same."""
        said = other.set | other.clear
        if not said and other.atime is None:
            return self
        return Flags(self.set & ~said, self.clear & ~said, self.atime if other.atime is None else None)


@dataclass(slots=True)
class MountOptions:
    """The words of one mount, understood. `data`: (index, word) of those that are the file system's own.

    `idmap` is the index of the option that asks for mapped ids, `idmap_ranges` what stands behind its "=".
    """

    bind: bool = False
    recursive_bind: bool = False
    remount: bool = False
    copy_up: bool = False
    copy_symlink: bool = False
    source_nofollow: bool = False
    target_nofollow: bool = False
    idmap: int | None = None
    idmap_recursive: bool = False
    idmap_ranges: str | None = None
    top: Flags = field(default_factory=Flags)
    tree: Flags = field(default_factory=Flags)
    superblock: dict[str, bool] = field(default_factory=dict)
    propagation: list[tuple[int, bool]] = field(default_factory=list)
    data: list[tuple[int, str]] = field(default_factory=list)

    @property
    def read_only(self) -> bool:
        """Whether the top of the mount is to be read-only."""
        return bool((self.tree.set | (self.top.set & ~self.tree.clear)) & k.MOUNT_ATTR_RDONLY)

    def attributes(self) -> Attributes:
        """The attributes with the first step of the propagation; `later_propagation` has what doesn't fit in."""
        # ocirt-init changes the tree first: nothing may be left for the top that the tree's words say otherwise.
        top_set, top_clear = self.top.without(self.tree).masks()
        tree_set, tree_clear = self.tree.masks()
        first = self._propagation_steps()[0]
        return Attributes(top_set, top_clear, tree_set, tree_clear, first[0], first[1])

    def later_propagation(self) -> list[Attributes]:
        return [Attributes(propagation=top, recursive_propagation=tree) for top, tree in self._propagation_steps()[1:]]

    def _propagation_steps(self) -> list[tuple[int, int]]:
        """Pairs (top, tree), the tree's being first. A word undoes those before it that it covers, but "slave" before
        "shared": together they make a mount that receives events from one group and is in another."""
        if not self.propagation:
            return [(0, 0)]
        kept: list[tuple[int, bool]] = []
        for flag, recursive in self.propagation:
            kept = [
                (before, was_recursive)
                for before, was_recursive in kept
                if (was_recursive and not recursive) or (before == k.MS_SLAVE and flag == k.MS_SHARED)
            ]
            kept.append((flag, recursive))
        steps: list[tuple[int, int]] = []
        for flag, recursive in kept:
            if not recursive and steps and not steps[-1][0]:
                steps[-1] = (flag, steps[-1][1])
            else:
                steps.append((0, flag) if recursive else (flag, 0))
        return steps

    def superblock_words(self, fstype: str | None, *, changing: bool) -> list[str]:
        """For fsconfig(2). `changing` a mount takes words for what is off, a new file system has it off."""
        words = []
        for name, on in self.superblock.items():
            if name == "i_version" and fstype not in _EXT:
                continue
            if on:
                words.append(name)
            elif changing and name in _SUPERBLOCK_OFF:
                words.append(_SUPERBLOCK_OFF[name])
        return words


def parse_options(words: tuple[str, ...]) -> MountOptions:
    """What a mount's `options` mean."""
    options = MountOptions()
    for index, word in enumerate(words):
        meaning = OPTIONS.get(word)
        if meaning is None:
            if not word.startswith(_WITH_RANGES):
                options.data += [(index, part) for part in split_data(word)]
                continue
            meaning = OPTIONS[word.partition("=")[0]]
        kind, value, on, recursive = meaning
        if kind is Kind.ATTRIBUTE:
            (options.tree if recursive else options.top).take_attribute(value, on=on)
        elif kind is Kind.ATIME:
            (options.tree if recursive else options.top).take_atime(value, on=on)
        elif kind is Kind.PROPAGATION:
            options.propagation.append((value, recursive))
        elif kind is Kind.SUPERBLOCK:
            options.superblock[value] = on
        elif kind is Kind.BIND:
            options.bind = True
            options.recursive_bind |= recursive
        elif kind is Kind.FLAG:
            setattr(options, value, True)
        elif kind is Kind.IDMAP:
            options.idmap, options.idmap_recursive = index, recursive
            options.idmap_ranges = word.partition("=")[2] if "=" in word else None
    return options


def split_data(word: str) -> list[str]:
    """The options in a string as for mount(2): at commas, but for those in double quotes (an SELinux context has
    them) and behind a backslash (overlay has those in paths). fsconfig(2) takes values without the quotes."""
    if '"' not in word and "\\" not in word:
        return [part for part in word.split(",") if part]
    parts, part, quoted, escaped = [], "", False, False
    for character in word:
        if character == '"' and not escaped:
            quoted = not quoted
        elif character == "," and not quoted and not escaped:
            parts.append(part)
            part = ""
        else:
            part += character
        escaped = character == "\\" and not escaped
    return [part for part in (*parts, part) if part]
