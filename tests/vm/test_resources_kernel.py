"""The kernel takes whatever compile_resources makes of a config, and says the same when it is asked back."""

from __future__ import annotations

import errno
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocirt.cgroup.apply import apply_settings
from ocirt.cgroup.directory import Cgroup
from ocirt.cgroup.resources import compile_resources
from ocirt.cgroup.settings import Setting
from ocirt.errors import HostError
from ocirt.spec import parse_resources
from tests.support import resource_samples as samples
from tests.support.isolation import CGROUP

pytestmark = [
    pytest.mark.root,
    pytest.mark.cgroup,
    pytest.mark.controllers("cpu", "cpuset", "hugetlb", "io", "memory", "misc", "pids"),
]

PAGE = os.sysconf("SC_PAGE_SIZE")
# page_counter's: a limit from here on is none.
MAX_PAGES = (2**63 - 1) // PAGE
# A block device's that no driver has (Documentation/admin-guide/devices.txt: 240-254 are for local use).
NO_DEVICE = (249, 4242)

_numbers = itertools.count()


def block_devices() -> list[tuple[int, int]]:
    found = []
    for device in Path("/sys/block").glob("*/dev"):
        major, minor = device.read_text().split(":")
        found.append((int(major), int(minor)))
    return found


def page_sizes() -> list[str]:
    """As the hugetlb controller calls them."""
    names = []
    for path in Path("/sys/kernel/mm/hugepages").glob("hugepages-*kB"):
        kib = int(path.name.removeprefix("hugepages-").removesuffix("kB"))
        names.append(f"{kib >> 20}GB" if kib >= 1 << 20 else f"{kib >> 10}MB" if kib >= 1 << 10 else f"{kib}KB")
    return names


@pytest.fixture(scope="module")
def parent(token: str) -> Iterator[Path]:
    """A cgroup that gives all controllers to those below it."""
    path = CGROUP / f"{token}-kernel-{os.environ.get('PYTEST_XDIST_WORKER', '')}"
    controllers = (CGROUP / "cgroup.controllers").read_text().split()
    for name in controllers:
        (CGROUP / "cgroup.subtree_control").write_text(f"+{name}")
    path.mkdir()
    for name in controllers:
        (path / "cgroup.subtree_control").write_text(f"+{name}")
    yield path
    path.rmdir()


class Outcome(dict[str, str]):
    """What the files have that were written, and the error that ended it."""

    error: HostError | None = None


def apply_to_a_new_cgroup(parent: Path, written: tuple[Setting, ...]) -> Outcome:
    directory = parent / f"c{next(_numbers)}"
    directory.mkdir()
    try:
        cgroup = Cgroup.open(str(directory))
        assert cgroup
        outcome = Outcome()
        with cgroup:
            try:
                apply_settings(cgroup, written)
            except HostError as error:
                outcome.error = error
            for setting in written:
                if (directory / setting.file).exists():
                    outcome[setting.file] = cgroup.read(setting.file).strip()
        return outcome
    finally:
        directory.rmdir()


def as_read(setting: Setting) -> str | None:
    """What a file says after the write; None where that depends on more than this write."""
    size = PAGE
    if match := re.fullmatch(r"hugetlb\.(\d+)([KMG])B\..*max", setting.file):
        size = int(match[1]) << {"K": 10, "M": 20, "G": 30}[match[2]]
    elif setting.file not in ("memory.max", "memory.low", "memory.high", "memory.swap.max"):
        return setting.value if setting.file.startswith(("cpu.", "pids.")) else None
    if setting.value == "max":
        return "max"
    pages = min(int(setting.value) // PAGE, MAX_PAGES)
    rounded = pages - pages % (size // PAGE)
    return str(rounded * PAGE) if rounded < MAX_PAGES - MAX_PAGES % (size // PAGE) else "max"


HOST_RESOURCES = samples.resources(
    lists=st.sampled_from(["", "0", "0-N", "all", "0,0", "0-0:1/1"]),
    nodes=st.sampled_from(["", "0"]),
    devices=block_devices() or [NO_DEVICE],
    page_sizes=page_sizes(),
    unified=st.fixed_dictionaries(
        {},
        optional={
            "memory.high": st.sampled_from(["max", "0", "4096", "1073741824"]),
            "memory.oom.group": st.sampled_from(["0", "1"]),
            "cgroup.max.depth": st.sampled_from(["max", "0", "7"]),
            "cgroup.max.descendants": st.sampled_from(["max", "0", "7"]),
            "pids.max": st.sampled_from(["5\n", "3\n7"]),
        },
    ),
)
SLOW = settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))


@SLOW
@given(HOST_RESOURCES)
def test_what_passes_is_taken_and_kept(parent: Path, config: Any) -> None:
    written = compile_resources(parse_resources(samples.accepted(config))).settings
    # A weight needs a scheduler or a cost model that is enabled for the device: the machine's to say.
    written = tuple(setting for setting in written if not (setting.otherwise and ":" in setting.value))
    outcome = apply_to_a_new_cgroup(parent, written)
    assert outcome.error is None, str(outcome.error)
    last = {setting.file: setting for setting in written}
    for file, setting in last.items():
        if file == "cpu.weight" and outcome.get("cpu.idle") == "1":
            continue
        if file in outcome and (expected := as_read(setting)) is not None:
            assert outcome[file] == expected, setting


@SLOW
@given(
    samples.resources(
        lists=st.sampled_from(["0", "4000", "0-99999999999"]) | st.text("0123,- N:/", max_size=6),
        nodes=st.sampled_from(["0", "1000"]) | st.text("01,-N:/", max_size=4),
        devices=[NO_DEVICE, *block_devices()],
        page_sizes=[*page_sizes(), "3MB"],
        rdma=st.dictionaries(
            st.sampled_from(["mlx5_1", "a b"]), samples.object_of({}, hcaHandles=st.integers(0, 2**32 - 1)), max_size=1
        ),
    )
)
def test_what_the_kernel_refuses_is_a_thing_that_the_machine_has_not(parent: Path, config: Any) -> None:
    written = compile_resources(parse_resources(samples.accepted(config))).settings
    error = apply_to_a_new_cgroup(parent, written).error
    if error is None:
        return
    file = os.path.basename(error.path)
    assert error.pointer in {setting.origin for setting in written}
    if file.startswith("cpuset."):
        # "0 1" is a list, "99999999999" a number: which CPUs there are only the kernel knows.
        assert error.errno in (errno.EINVAL, errno.ERANGE, errno.EOVERFLOW)
    elif file.startswith("hugetlb.3MB."):
        assert error.errno == errno.ENOENT
    else:
        assert file in ("io.max", "io.weight", "io.bfq.weight", "rdma.max")
        assert error.errno in (errno.ENODEV, errno.EOPNOTSUPP)


def test_swappiness_is_refused_with_the_reason(parent: Path) -> None:
    outcome = apply_to_a_new_cgroup(parent, compile_resources(parse_resources({"memory": {"swappiness": 60}})).settings)
    if outcome.error is None:
        assert outcome == {"memory.swappiness": "60"}
    else:
        assert "Linux has no swappiness of a cgroup in cgroup v2" in str(outcome.error)
