"""What the process is called, and what it writes of itself into the runtime's procfs."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ocirt import constants as k
from ocirt import ops
from ocirt._native import lib
from tests.c.init_runner import InitRunner, shell

OWN_NAMES = k.CLONE_NEWUTS | k.CLONE_NEWUSER
OWN_MOUNTS = k.CLONE_NEWNS | k.CLONE_NEWUSER
NAME_OF_65 = "n" * 65


def has_labels() -> bool:
    """Whether the kernel has a security module that labels processes."""
    try:
        return bool(Path("/proc/self/attr/current").read_bytes())
    except OSError:  # EINVAL: none is asked
        return False


without_labels = pytest.mark.skipif(has_labels(), reason="needs a kernel without a security module that has labels")


def test_hostname(init: InitRunner) -> None:
    ending = shell("cat /proc/sys/kernel/hostname")
    assert init.run(ops.SetHostname("/hostname", "box"), *ending, clone_flags=OWN_NAMES).text() == "box\n"


def test_hostname_is_too_long(init: InitRunner) -> None:
    outcome = init.run(ops.SetHostname("/hostname", NAME_OF_65), clone_flags=OWN_NAMES)
    assert (outcome.error, outcome.detail) == (errno.EINVAL, f"sethostname {NAME_OF_65}")
    expected = f"/hostname: set hostname {NAME_OF_65}: sethostname {NAME_OF_65}: invalid argument"
    assert outcome.message == expected


def test_domainname(init: InitRunner) -> None:
    ending = shell("cat /proc/sys/kernel/domainname")
    assert init.run(ops.SetDomainname("/domainname", "net"), *ending, clone_flags=OWN_NAMES).text() == "net\n"


def test_domainname_is_too_long(init: InitRunner) -> None:
    outcome = init.run(ops.SetDomainname("/domainname", NAME_OF_65), clone_flags=OWN_NAMES)
    assert (outcome.error, outcome.detail) == (errno.EINVAL, f"setdomainname {NAME_OF_65}")


def test_oom_score(init: InitRunner) -> None:
    score = ops.SetOomScoreAdj("/process/oomScoreAdj", 777)
    assert init.run(*shell("cat /proc/self/oom_score_adj"), host_ops=[ops.OpenProc(""), score]).text() == "777\n"


def test_oom_score_out_of_range(init: InitRunner) -> None:
    outcome = init.run(host_ops=[ops.OpenProc(""), ops.SetOomScoreAdj("/process/oomScoreAdj", 1001)])
    assert (outcome.error, outcome.detail) == (errno.EINVAL, "write /proc/thread-self/oom_score_adj")


@pytest.mark.root
def test_what_the_container_mounts_on_proc_is_not_written_to(init: InitRunner, tmp_path: Path) -> None:
    """CVE-2019-16884: a fake /proc swallows the write."""
    plan = (
        ops.OpenProc(""),
        ops.SetPropagation("", k.MS_PRIVATE, True),
        ops.OpenRoot("", "/"),
        ops.MountFs("", "tmpfs", "tmpfs", "/proc"),
        ops.SetOomScoreAdj("/process/oomScoreAdj", 333),
        ops.Sync("", lib.SYNC_READY),
    )
    with init.start(*plan, clone_flags=OWN_MOUNTS) as running:
        running.serve(until=lib.SYNC_READY)
        assert Path(f"/proc/{running.pid}/oom_score_adj").read_text() == "333\n"
        assert os.path.ismount(f"/proc/{running.pid}/root/proc")


def test_a_mount_over_the_file_itself_is_refused(init: InitRunner, tmp_path: Path) -> None:
    """CVE-2025-52881: the write is led elsewhere by what is mounted inside of procfs."""
    (tmp_path / "file").touch()
    outcome = init.run(
        ops.OpenProc(""),
        ops.SetPropagation("", k.MS_PRIVATE, True),
        ops.OpenRoot("", "/"),
        ops.OpenTree("", str(tmp_path / "file"), 0, 0),
        ops.Bind("", "/proc/thread-self/oom_score_adj", 0),
        ops.SetOomScoreAdj("/process/oomScoreAdj", 333),
        clone_flags=OWN_MOUNTS,
    )
    assert (outcome.error, outcome.detail) == (errno.EXDEV, "openat2 /proc/thread-self/oom_score_adj")
    assert (tmp_path / "file").read_text() == ""


def test_procfs_is_needed_for_it(init: InitRunner) -> None:
    outcome = init.run(ops.SetOomScoreAdj("/process/oomScoreAdj", 0))
    assert (outcome.error, outcome.detail) == (errno.EINVAL, "invalid plan: OPEN_PROC is missing")


@without_labels
@pytest.mark.parametrize(
    "op",
    [
        ops.SetApparmor("/process/apparmorProfile", "profile"),
        ops.SetSelinux("/process/selinuxLabel", "system_u:system_r:container_t:s0"),
    ],
    ids=lambda op: type(op).__name__,
)
def test_label_without_a_security_module(init: InitRunner, op: ops.Op) -> None:
    outcome = init.run(ops.OpenProc(""), op)
    assert (outcome.error, outcome.detail) == (errno.EINVAL, "write /proc/thread-self/attr/exec")


def test_apparmor_profile_is_too_long(init: InitRunner) -> None:
    outcome = init.run(ops.OpenProc(""), ops.SetApparmor("/process/apparmorProfile", "p" * 5000))
    assert outcome.error == errno.ENAMETOOLONG
    assert outcome.detail.startswith("AppArmor profile ppp")


def test_keyring(init: InitRunner, token: str) -> None:
    outcome = init.run(ops.NewKeyring("", f"_ses.{token}"), *shell("cat /proc/keys"))
    fields = next(line.split() for line in outcome.text().splitlines() if f"_ses.{token}" in line)
    assert fields[4] == "3f1b0000"


def test_keyring_is_found_by_its_name(init: InitRunner, token: str) -> None:
    """As `exec` does it: a second process that joins the keyring makes no other one of that name."""
    join = ops.NewKeyring("", f"_ses.{token}.exec.{init.path.parent.name}")
    with init.start(join, ops.Sync("", lib.SYNC_READY)) as running:
        running.serve(until=lib.SYNC_READY)
        keys = init.run(join, *shell("cat /proc/keys")).text()
    assert keys.count(f"_ses.{token}.exec.{init.path.parent.name}") == 1


def test_keyring_with_a_reserved_name(init: InitRunner) -> None:
    outcome = init.run(ops.NewKeyring("", ".reserved"))
    assert (outcome.error, outcome.detail) == (errno.EPERM, "keyctl KEYCTL_JOIN_SESSION_KEYRING .reserved")


@without_labels
def test_keyring_label_without_a_security_module(init: InitRunner) -> None:
    outcome = init.run(ops.OpenProc(""), ops.NewKeyring("", "_ses.x", "system_u:system_r:container_t:s0"))
    assert (outcome.error, outcome.detail) == (errno.EINVAL, "write /proc/thread-self/attr/keycreate")
