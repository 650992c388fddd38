"""ocirt.rdt against a directory that behaves as resctrl does."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt import rdt
from ocirt.errors import HostError, SpecError
from ocirt.rdt import Resctrl, apply_rdt, compile_rdt, probe_resctrl, remove_rdt
from ocirt.spec import IntelRdt

DEFAULT = "    L3:0=7ff;1=7ff\n    MB:0= 100;1= 100\n"


class Kernel:
    """resctrl's side of os: directories come with files and vanish with them, and writes have a meaning."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.writes: list[tuple[str, str]] = []
        self.paths: dict[int, str] = {}
        self.fail: dict[str, int] = {}
        self.locked_at_writes: list[bool] = []
        (top / "info" / "MB").mkdir(parents=True)
        (top / "info" / "MB" / "bandwidth_gran").write_text("10\n")
        self.say("ok")
        self.fill(top)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def say(self, status: str) -> None:
        (self.top / "info" / "last_cmd_status").write_text(f"{status}\n")

    def fill(self, directory: Path) -> None:
        (directory / "tasks").write_text("")
        if directory.parent.name != "mon_groups":
            (directory / "schemata").write_text(DEFAULT)
            (directory / "mon_groups").mkdir()

    def mkdir(self, path: str, mode: int) -> None:
        self._maybe_fail(f"mkdir {self.name(path)}", path)
        os.mkdir(path, mode)
        self.fill(Path(path))

    def rmdir(self, path: str) -> None:
        if not os.path.isdir(path):
            raise FileNotFoundError(errno.ENOENT, "missing", path)
        assert Path(path).is_relative_to(self.top)
        shutil.rmtree(path)

    def open(self, path: str, flags: int) -> int:
        fd = os.open(path, flags)
        self.paths[fd] = path
        return fd

    def write(self, fd: int, data: bytes) -> int:
        name, text = self.name(self.paths[fd]), data.decode()
        self._maybe_fail(f"write {name}", "")
        self.locked_at_writes.append(self.is_locked())
        path = self.top / name
        if path.name == "tasks":
            if path.parent.parent.name == "mon_groups":
                assert text in (path.parent.parent.parent / "tasks").read_text().split(), "not in the control group"
            path.write_text(path.read_text() + text + "\n")
        else:
            assert text.endswith("\n")
            path.write_text(merged(path.read_text(), text))
        self.writes.append((name, text))
        return len(data)

    def name(self, path: str) -> str:
        return str(Path(path).relative_to(self.top))

    def is_locked(self) -> bool:
        fd = os.open(self.top, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def _maybe_fail(self, what: str, path: str) -> None:
        if what in self.fail:
            self.say("a wrong mask")
            raise OSError(self.fail[what], "failed", path or None)


def merged(current: str, written: str) -> str:
    """A schemata file after a write."""
    lines = rdt._parse(current)
    for name, domains in rdt._parse(written).items():
        lines[name] |= domains
    return "".join(f"{name}:{';'.join(f'{d}={v}' for d, v in domains.items())}\n" for name, domains in lines.items())


class Container:
    """What create does with apply_rdt, and delete afterwards."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.recorded: list[str] = []
        self.existed: list[bool] = []

    def record(self, made: Sequence[str]) -> None:
        json.dumps(made)
        self.recorded = list(made)
        self.existed = [os.path.isdir(path) for path in made]

    def apply(self, **fields: Any) -> tuple[str, ...]:
        resctrl = Resctrl(str(self.kernel.top))
        return apply_rdt(IntelRdt(**fields), "c1", 4711, record=self.record, resctrl=resctrl)

    def delete(self) -> None:
        remove_rdt(self.recorded)

    def names(self) -> list[str]:
        return [self.kernel.name(path) for path in self.recorded]


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    top = tmp_path / "resctrl"
    top.mkdir()
    fake = Kernel(top)
    monkeypatch.setattr(rdt, "os", fake)
    return fake


@pytest.fixture
def container(kernel: Kernel) -> Container:
    return Container(kernel)


def tasks(kernel: Kernel, group: str) -> list[str]:
    return (kernel.top / group / "tasks").read_text().split()


# the groups


def test_without_clos_id_the_group_is_the_containers_and_goes_with_it(kernel: Kernel, container: Container) -> None:
    assert container.apply() == ()
    assert container.names() == ["c1"]
    assert container.existed == [False], "recorded before it is made"
    assert tasks(kernel, "c1") == ["4711"]
    container.delete()
    assert not (kernel.top / "c1").exists()
    container.delete()


def test_a_group_that_was_there_under_the_containers_name_stays(kernel: Kernel, container: Container) -> None:
    kernel.mkdir(str(kernel.top / "c1"), 0o755)
    container.apply(l3_cache_schema="L3:0=f")
    assert container.recorded == []
    container.delete()
    assert tasks(kernel, "c1") == ["4711"]


def test_a_named_group_is_made_and_stays(kernel: Kernel, container: Container) -> None:
    undo = container.apply(clos_id="gold", l3_cache_schema="L3:0=f;1=f0")
    assert container.recorded == []
    assert undo == (str(kernel.top / "gold"),)
    container.delete()
    assert tasks(kernel, "gold") == ["4711"]
    remove_rdt(undo)
    assert not (kernel.top / "gold").exists()


def test_a_named_group_without_schemata_must_be_there(kernel: Kernel, container: Container) -> None:
    with pytest.raises(HostError, match=r"^/linux/intelRdt/closID: open .*/gold: no such file or directory \(a class"):
        container.apply(clos_id="gold")
    kernel.mkdir(str(kernel.top / "gold"), 0o755)
    assert container.apply(clos_id="gold") == ()
    assert kernel.writes == [("gold/tasks", "4711")]


@pytest.mark.parametrize("fields", [{}, {"schemata": ("MB:0=50",)}])
def test_the_default_class_is_the_top(kernel: Kernel, container: Container, fields: dict[str, Any]) -> None:
    assert container.apply(clos_id="/", **fields) == ()
    assert tasks(kernel, "") == ["4711"]
    assert container.recorded == []
    assert [name for name, _ in kernel.writes] == [*["schemata"] * len(fields), "tasks"]


# schemata


def test_schemata_are_written_in_order_each_by_itself_and_before_the_process_enters(
    kernel: Kernel, container: Container
) -> None:
    container.apply(
        schemata=("L3:0=3", "MB:1=20"), mem_bw_schema="MB:0=70;1=70", l3_cache_schema="L3:0=7;1=7", clos_id="gold"
    )
    assert kernel.writes == [
        ("gold/schemata", "L3:0=7;1=7\n"),
        ("gold/schemata", "MB:0=70;1=70\n"),
        ("gold/schemata", "L3:0=3\n"),
        ("gold/schemata", "MB:1=20\n"),
        ("gold/tasks", "4711"),
    ]


def test_a_cache_schema_of_several_lines_is_one_write(kernel: Kernel, container: Container) -> None:
    container.apply(l3_cache_schema="L3:0=7\nMB:0=20")
    assert kernel.writes[0] == ("c1/schemata", "L3:0=7\nMB:0=20\n")


@pytest.mark.parametrize("schema", ["L3:0=7\n", "\nL3:0=7", "L3:0=7\n \n"])
def test_the_empty_lines_of_a_cache_schema_are_not_written(kernel: Kernel, container: Container, schema: str) -> None:
    """The kernel wants a colon in each line."""
    container.apply(l3_cache_schema=schema)
    assert kernel.writes[0] == ("c1/schemata", "L3:0=7\n")


def test_a_bandwidth_schema_is_written_after_that_of_the_cache_schema(kernel: Kernel, container: Container) -> None:
    """As version 1.3 of the specification has it; up to 1.2 lines with MB: were to be left out of the first."""
    container.apply(l3_cache_schema="L3:0=7\nMB:0=20;1=30", mem_bw_schema="MB:0=40")
    assert kernel.writes[:2] == [("c1/schemata", "L3:0=7\nMB:0=20;1=30\n"), ("c1/schemata", "MB:0=40\n")]


def test_without_schemata_no_schemata_file_is_written(kernel: Kernel, container: Container) -> None:
    container.apply()
    assert kernel.writes == [("c1/tasks", "4711")]


SAME = [
    {"l3_cache_schema": "L3:0=f;1=f0"},
    {"l3_cache_schema": "L3:1=0f0;0=00F"},
    {"l3_cache_schema": "L3:0=f"},
    {"l3_cache_schema": "L3: 0 = f ;"},
    {"mem_bw_schema": "MB:0=20;1=70"},
    {"mem_bw_schema": "MB:0=11"},
    {"l3_cache_schema": "L3:0=f\nMB:0=20"},
    {"l3_cache_schema": "L3:0=f", "mem_bw_schema": "MB:1=70"},
    {"l3_cache_schema": "L3:0=f", "schemata": ("L3:0=1",)},
    {"schemata": ("L3:0=1",)},
]
OTHER = [
    ({"l3_cache_schema": "L3:0=e"}, "l3CacheSchema"),
    ({"l3_cache_schema": "L3:0=f;1=f"}, "l3CacheSchema"),
    ({"l3_cache_schema": "L3:2=f"}, "l3CacheSchema"),
    ({"l3_cache_schema": "L3:0=f\nMB:0=30"}, "l3CacheSchema"),
    ({"l3_cache_schema": "L2:0=f"}, "l3CacheSchema"),
    ({"l3_cache_schema": "L3:0=x"}, "l3CacheSchema"),
    ({"mem_bw_schema": "MB:0=10"}, "memBwSchema"),
    ({"mem_bw_schema": "MB:0=21"}, "memBwSchema"),
    ({"l3_cache_schema": "L3:0=f", "mem_bw_schema": "MB:1=60"}, "memBwSchema"),
]


def gold(kernel: Kernel) -> None:
    kernel.mkdir(str(kernel.top / "gold"), 0o755)
    (kernel.top / "gold" / "schemata").write_text("    L3:0=00f;1=0f0\n    MB:0=  20;1=  70\n")


@pytest.mark.parametrize("fields", SAME, ids=str)
def test_a_named_group_that_is_as_the_config_says(kernel: Kernel, container: Container, fields: dict[str, Any]) -> None:
    gold(kernel)
    assert container.apply(clos_id="gold", **fields) == ()
    assert tasks(kernel, "gold") == ["4711"]


@pytest.mark.parametrize(("fields", "key"), OTHER, ids=str)
def test_a_named_group_that_is_otherwise(
    kernel: Kernel, container: Container, fields: dict[str, Any], key: str
) -> None:
    gold(kernel)
    with pytest.raises(SpecError, match=rf"^/linux/intelRdt/{key}: the class of service gold has other schemata"):
        container.apply(clos_id="gold", **fields)
    assert kernel.writes == []


def test_bandwidth_in_megabytes_is_not_rounded(kernel: Kernel) -> None:
    gold(kernel)
    with pytest.raises(SpecError, match="other schemata"):
        apply_rdt(
            IntelRdt(clos_id="gold", mem_bw_schema="MB:0=11"),
            "c1",
            1,
            record=lambda _: None,
            resctrl=Resctrl(str(kernel.top), in_mbps=True),
        )


domains = st.dictionaries(st.integers(0, 3).map(str), st.integers(1, 2**20 - 1), min_size=1)


@given(current=domains, wanted=domains)
def test_schemata_match_exactly_if_writing_them_changes_nothing(
    current: dict[str, int], wanted: dict[str, int]
) -> None:
    now = {"L3": {domain: f"{value:x}" for domain, value in current.items()}}
    asked = {"L3": {domain: f"{value:06X}" for domain, value in wanted.items()}}
    assert rdt._matches(asked, now, 10) == ({**current, **wanted} == current)


# monitoring


@pytest.mark.parametrize(
    ("clos_id", "group", "recorded"),
    [
        (None, "c1", ["c1", "c1/mon_groups/c1"]),
        ("gold", "gold", ["gold/mon_groups/c1"]),
        ("/", "", ["mon_groups/c1"]),
    ],
)
def test_a_monitoring_group_is_the_containers_own(
    kernel: Kernel, container: Container, clos_id: str | None, group: str, recorded: list[str]
) -> None:
    if clos_id == "gold":
        gold(kernel)
    container.apply(clos_id=clos_id, enable_monitoring=True)
    assert container.names() == recorded
    assert container.existed == [False] * len(recorded)
    assert tasks(kernel, group) == ["4711"]
    assert tasks(kernel, os.path.join(group, "mon_groups/c1")) == ["4711"]
    container.delete()
    assert not (kernel.top / group / "mon_groups/c1").exists()
    assert (kernel.top / group).exists() == (clos_id is not None)


def test_a_monitoring_group_that_is_there_is_not_ours(kernel: Kernel, container: Container) -> None:
    gold(kernel)
    kernel.mkdir(str(kernel.top / "gold/mon_groups/c1"), 0o755)
    with pytest.raises(HostError, match=r"^/linux/intelRdt/enableMonitoring: mkdir .*/c1: file exists"):
        container.apply(clos_id="gold", enable_monitoring=True)
    assert container.recorded == []
    assert (kernel.top / "gold/mon_groups/c1").exists()


# failures, after which nothing is left


def test_no_room_for_another_monitoring_group(kernel: Kernel, container: Container) -> None:
    kernel.fail["mkdir c1/mon_groups/c1"] = errno.ENOSPC
    expected = r"^/linux/intelRdt/enableMonitoring: mkdir .*: no space left on device \(a wrong mask\)"
    with pytest.raises(HostError, match=expected):
        container.apply(enable_monitoring=True)
    assert not (kernel.top / "c1").exists()


@pytest.mark.parametrize(
    ("what", "pointer"),
    [
        ("mkdir gold", "/linux/intelRdt"),
        ("write gold/schemata", "/linux/intelRdt/l3CacheSchema"),
        ("mkdir gold/mon_groups/c1", "/linux/intelRdt/enableMonitoring"),
        ("write gold/tasks", "/linux/intelRdt"),
        ("write gold/mon_groups/c1/tasks", "/linux/intelRdt"),
    ],
)
def test_whatever_fails_leaves_nothing_and_says_why(
    kernel: Kernel, container: Container, what: str, pointer: str
) -> None:
    kernel.fail[what] = errno.EINVAL
    with pytest.raises(HostError, match=rf"^{pointer}: \w+ .*: invalid argument \(a wrong mask\)$"):
        container.apply(clos_id="gold", l3_cache_schema="L3:0=f", enable_monitoring=True)
    assert not (kernel.top / "gold").exists()
    container.delete()


def test_a_group_that_was_there_stays_when_joining_fails(kernel: Kernel, container: Container) -> None:
    gold(kernel)
    kernel.fail["write gold/mon_groups/c1/tasks"] = errno.ESRCH
    with pytest.raises(HostError, match=r"no such process"):
        container.apply(clos_id="gold", enable_monitoring=True)
    assert (kernel.top / "gold").exists()
    assert not (kernel.top / "gold/mon_groups/c1").exists()


def test_all_is_done_under_resctrls_lock(kernel: Kernel, container: Container) -> None:
    container.apply(l3_cache_schema="L3:0=f", enable_monitoring=True)
    assert kernel.locked_at_writes == [True, True, True]
    assert not kernel.is_locked()


# what is no valid config


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        *(({"clos_id": name}, "/closID") for name in (".", "..", "a/b", "/a", "a\n", "info", "mon_groups", "mon_data")),
        ({"mem_bw_schema": "L3:0=f"}, "/memBwSchema"),
        ({"mem_bw_schema": "MB:0=10\nL3:0=f"}, "/memBwSchema"),
        ({"mem_bw_schema": "MB:0=10\n"}, "/memBwSchema"),
        ({"schemata": ("MB:0=10", "L3:0=f\n")}, "/schemata/1"),
    ],
    ids=str,
)
def test_refused(fields: dict[str, Any], pointer: str) -> None:
    with pytest.raises(SpecError) as caught:
        compile_rdt(IntelRdt(**fields), "c1", "/x")
    assert caught.value.pointer == f"/x{pointer}"


def test_a_container_cannot_be_called_like_what_resctrl_has_anyway() -> None:
    with pytest.raises(SpecError, match=r'^/linux/intelRdt: "info" cannot be the name of a class of service'):
        compile_rdt(IntelRdt(), "info")
    assert compile_rdt(IntelRdt(clos_id="/"), "info").group == ""


# the mount


def mountinfo(path: Path, *lines: str) -> str:
    usual = "22 1 0:5 / /proc rw,nosuid shared:13 - proc proc rw\n"
    path.write_text(usual + "".join(f"{line}\n" for line in lines))
    return str(path)


def device(path: Path) -> str:
    number = path.stat().st_dev
    return f"{os.major(number)}:{os.minor(number)}"


def test_resctrl_is_found_where_it_is_mounted(tmp_path: Path) -> None:
    place = tmp_path / "a place\\with blanks"
    place.mkdir()
    escaped = str(place).replace("\\", "\\134").replace(" ", "\\040")
    line = f"90 22 {device(place)} / {escaped} rw,relatime shared:5 master:2 - resctrl resctrl rw,cdp,mba_MBps"
    assert probe_resctrl(mountinfo(tmp_path / "mountinfo", line)) == Resctrl(str(place), in_mbps=True)
    assert not probe_resctrl(mountinfo(tmp_path / "mountinfo", line.replace(",mba_MBps", ""))).in_mbps


def test_a_covered_mount_and_a_part_of_one_do_not_count(tmp_path: Path) -> None:
    good = f"92 22 {device(tmp_path)} / {tmp_path} rw - resctrl resctrl rw"
    covered = f"90 22 0:4095 / {tmp_path} rw - resctrl resctrl rw"
    part = f"91 22 {device(tmp_path)} /gold {tmp_path} rw - resctrl resctrl rw"
    gone = f"93 22 0:4095 / {tmp_path}/gone rw - resctrl resctrl rw"
    file = tmp_path / "mountinfo"
    with pytest.raises(HostError, match=r"^/linux/intelRdt: find a mounted resctrl: no such file or directory"):
        probe_resctrl(mountinfo(file, covered, part, gone))
    assert probe_resctrl(mountinfo(file, covered, part, gone, good)).path == str(tmp_path)


def test_without_resctrl_the_error_has_the_pointer(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"^/linux/intelRdt: find a mounted resctrl: no such file or directory$"):
        probe_resctrl(mountinfo(tmp_path / "mountinfo"))


def test_removing_what_cannot_be_removed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "group" / "child").mkdir(parents=True)
    with pytest.raises(HostError, match=r"rmdir .*/group: directory not empty"):
        remove_rdt([str(tmp_path / "group")])
