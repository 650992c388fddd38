"""The options of a mount: what each does, to a file system of its own and to a bind mount, seen in mountinfo."""

from __future__ import annotations

from collections.abc import Callable

from conformance.bed import Attempt, Bed
from conformance.expect import Mismatch, case_of, equal, not_testable, that
from conformance.trees import tree
from requirements import Requirement

from tests.support.bundle import Config, bind_entry, mount_entry
from tests.support.facts import Facts, MountInfo


def with_mount(bed: Bed, *mounts: Config) -> Config:
    return bed.config({"mounts": [*bed.config()["mounts"], *mounts]})


def tmpfs(bed: Bed, *options: str) -> Attempt:
    return bed.attempt(with_mount(bed, mount_entry("/mnt", "tmpfs", "tmpfs", *options)))


def mounted(attempt: Attempt, options: tuple[str, ...], point: str = "/mnt") -> MountInfo:
    """The mount with those options. Raises Mismatch where it was not made."""
    that(attempt.taken, f"a mount with the options {','.join(options)}", "taken", attempt.summary)
    return attempt.facts().mount(point)


def flags_of(info: MountInfo) -> set[str]:
    return set(info.options | info.super_options)


# Option: what precedes it, whether it is one of a single mount's (a bind mount can have it), what must be and not be in
# mountinfo. Without any of noatime, relatime, strictatime the kernel takes relatime.
CASES: dict[str, tuple[tuple[str, ...], bool, set[str], set[str]]] = {
    "async": (("sync",), False, set(), {"sync"}),
    "atime": (("noatime",), True, set(), {"noatime"}),
    "defaults": ((), False, set(), {"ro", "nosuid", "nodev", "noexec", "sync"}),
    "dev": (("nodev",), True, set(), {"nodev"}),
    "diratime": (("nodiratime",), True, set(), {"nodiratime"}),
    "dirsync": ((), False, {"dirsync"}, set()),
    "exec": (("noexec",), True, set(), {"noexec"}),
    "lazytime": ((), False, {"lazytime"}, set()),
    "noatime": ((), True, {"noatime"}, {"relatime"}),
    "nodev": ((), True, {"nodev"}, set()),
    "nodiratime": ((), True, {"nodiratime"}, set()),
    "noexec": ((), True, {"noexec"}, set()),
    "nolazytime": (("lazytime",), False, set(), {"lazytime"}),
    "norelatime": (("relatime",), False, set(), {"noatime"}),
    "nostrictatime": (("strictatime",), False, {"relatime"}, set()),
    "nosuid": ((), True, {"nosuid"}, set()),
    "nosymfollow": ((), True, {"nosymfollow"}, set()),
    "relatime": ((), False, {"relatime"}, {"noatime"}),
    "ro": ((), True, {"ro"}, {"rw"}),
    "rw": (("ro",), True, {"rw"}, {"ro"}),
    "strictatime": ((), False, set(), {"relatime", "noatime"}),
    "suid": (("nosuid",), True, set(), {"nosuid"}),
    "symfollow": (("nosymfollow",), True, set(), {"nosymfollow"}),
    "sync": ((), False, {"sync"}, set()),
}


def test_flag(requirement: Requirement, bed: Bed) -> None:
    option = requirement.value
    before, single, present, absent = case_of(CASES, option)
    options = (*before, option)
    kinds = {"a tmpfs": mount_entry("/mnt", "tmpfs", "tmpfs", *options)}
    if single:
        kinds["a bind mount"] = bind_entry("/etc", "/mnt", "bind", *options)
    for what, mount in kinds.items():
        info = mounted(bed.attempt(with_mount(bed, mount)), options)
        seen = set(info.options) if single or option in ("strictatime", "relatime") else flags_of(info)
        that(
            present <= seen and not absent & seen,
            f"{what} with {','.join(options)}",
            f"{' '.join(sorted(present)) or 'nothing more'}{f', no {chr(32).join(sorted(absent))}' if absent else ''}",
            " ".join(sorted(seen)),
        )
    if option == "ro":
        with_container(bed, ("rbind", "ro"), (), below_still_writable)


def below_still_writable(facts: Facts) -> None:
    that("ro" in facts.mount("/mnt").options, "a recursive bind mount with ro", "ro", facts.mount("/mnt").options)
    that("rw" in facts.mount("/mnt/sub").options, "the mount below it", "rw", facts.mount("/mnt/sub").options)


def with_container(
    bed: Bed,
    options: tuple[str, ...],
    flags: tuple[str, ...],
    check: Callable[[Facts], None],
    *,
    shared: bool = False,
    root: str | None = None,
) -> None:
    """A tree of mounts that have the flags, bound with the options. `root` is the propagation of the root."""
    container = bed.new({"linux": {"rootfsPropagation": root}})
    with tree(container.bundle / "tree", *flags, shared=shared) as source:
        container.mounts.append(bind_entry(source, "/mnt", *options))
        attempt = bed.launch(container)
        that(attempt.taken, f"a bind mount with the options {','.join(options)}", "taken", attempt.summary)
        check(attempt.facts())


# Option: the flags that the tree has before, what must then be and not be in the options of both mounts.
RECURSIVE: dict[str, tuple[tuple[str, ...], set[str], set[str]]] = {
    "ratime": (("noatime",), set(), {"noatime"}),
    "rdev": (("nodev",), set(), {"nodev"}),
    "rdiratime": (("nodiratime",), set(), {"nodiratime"}),
    "rexec": (("noexec",), set(), {"noexec"}),
    "rnoatime": ((), {"noatime"}, set()),
    "rnodiratime": ((), {"nodiratime"}, set()),
    "rnoexec": ((), {"noexec"}, set()),
    # Relatime is what the kernel takes where nothing else is set: what is shown is that the option does no harm.
    "rnorelatime": (("relatime",), set(), {"noatime"}),
    "rnostrictatime": (("strictatime",), {"relatime"}, set()),
    "rnosuid": ((), {"nosuid"}, set()),
    "rnosymfollow": ((), {"nosymfollow"}, set()),
    "rrelatime": (("strictatime",), {"relatime"}, set()),
    "rro": ((), {"ro"}, {"rw"}),
    "rrw": (("ro",), {"rw"}, {"ro"}),
    "rstrictatime": ((), set(), {"relatime", "noatime"}),
    "rsuid": (("nosuid",), set(), {"nosuid"}),
    "rsymfollow": (("nosymfollow",), set(), {"nosymfollow"}),
}


def test_recursive(requirement: Requirement, bed: Bed) -> None:
    option = requirement.value
    flags, present, absent = case_of(RECURSIVE, option)

    def check(facts: Facts) -> None:
        for point in ("/mnt", "/mnt/sub"):
            seen = set(facts.mount(point).options)
            that(
                present <= seen and not absent & seen,
                f"{point} of a recursive bind mount with {option}, {','.join(flags) or 'no flag'} at its source",
                f"{' '.join(sorted(present)) or 'nothing more'}, no {' '.join(sorted(absent))}",
                " ".join(sorted(seen)),
            )

    with_container(bed, ("rbind", option), flags, check)


def test_propagation(requirement: Requirement, bed: Bed) -> None:
    option = requirement.value
    wanted: dict[str, set[str]] = {"private": set(), "shared": {"shared"}, "slave": {"master"}}
    expected = wanted.get(option.removeprefix("r"), {"unbindable"})
    recursive = option in ("rprivate", "rshared", "rslave", "runbindable")

    def check(facts: Facts) -> None:
        for point in ("/mnt", "/mnt/sub") if recursive else ("/mnt",):
            seen = set(facts.mount(point).propagation)
            # What is shared may get events from the host as well.
            right = "shared" in seen if expected == {"shared"} else seen == expected
            that(right, f"the propagation of {point} with {option}", sorted(expected), sorted(seen))

    # What is private or slave by itself shows nothing of an option for it.
    root = "shared" if expected == {"master"} else None
    with_container(bed, ("rbind", option), (), check, shared=True, root=root)


def test_taken(requirement: Requirement, bed: Bed) -> None:
    # tmpfs refuses what it does not know: where the word reaches it as data, there is no mount.
    attempt = tmpfs(bed, requirement.value)
    if requirement.level == "MAY" and not attempt.taken:
        not_testable(f"refused, which this option may be: {attempt.error}")
    equal("the mount's kind", mounted(attempt, (requirement.value,)).kind, "tmpfs")


def test_data(requirement: Requirement, bed: Bed) -> None:
    info = mounted(tmpfs(bed, "size=64k", "mode=0701"), ("size=64k", "mode=0701"))
    that({"size=64k", "mode=701"} <= info.super_options, "a tmpfs with size=64k,mode=0701", "both",
         sorted(info.super_options))  # fmt: skip
    info = mounted(tmpfs(bed, "size=64k", "size=128k"), ("size=64k", "size=128k"))
    that("size=128k" in info.super_options, "a tmpfs with size=64k,size=128k", "the last", sorted(info.super_options))
    bed.refused(
        with_mount(bed, mount_entry("/mnt", "tmpfs", "tmpfs", "nosuchoption=1")),
        with_mount(bed, mount_entry("/mnt", "tmpfs", "tmpfs", "size=64k")),
    )


def test_beyond_the_table(requirement: Requirement, bed: Bed) -> None:
    taken = 0
    for option in ("nofail", "x-mark.something", "auto", "noauto", "_netdev", "user", "owner", "users"):
        attempt = tmpfs(bed, option)
        if not attempt.taken:
            continue
        taken += 1
        try:
            info = attempt.facts().mount("/mnt")
        except KeyError:
            raise Mismatch(f"a mount with {option}, which is taken", "a mount", "none") from None
        if option in ("user", "users"):
            that({"noexec", "nosuid", "nodev"} <= info.options, f"a mount with {option}", "noexec nosuid nodev as well",
                 " ".join(sorted(info.options)))  # fmt: skip
    if not taken:
        not_testable("the runtime takes none of mount(8)'s other options")


def test_tmpcopyup(requirement: Requirement, bed: Bed) -> None:
    config = with_mount(bed, mount_entry("/etc", "tmpfs", "tmpfs", "tmpcopyup"))
    config["process"]["args"] = ["/bin/cat", "/etc/group"]
    attempt = bed.attempt(config)
    if not attempt.taken:
        not_testable(f"the runtime does not take this option, which it may: {attempt.error}")
    expected = (bed.template / "etc" / "group").read_text()
    equal("what is in the new tmpfs", attempt.output, expected)
