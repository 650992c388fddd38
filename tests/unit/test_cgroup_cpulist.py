"""Lists of CPUs and memory nodes, as the kernel reads them."""

from __future__ import annotations

import pytest

from ocirt.cgroup.cpulist import cpu_list_problem


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "0-3,7",
        "0-3, 7",
        " 0 ",
        "0,,1",
        "0,",
        "1-1",
        "0-31:1/2",
        "0-31:0/4",
        "all",
        "ALL",
        "all:1/2",
        "N",
        "0-N",
        "N-N",
    ],
)
def test_what_the_kernel_takes(text: str) -> None:
    assert cpu_list_problem(text) is None


@pytest.mark.parametrize(
    "text",
    ["-", "0-", "-1", "3-1", "N-0", "0:1/2", "0-3:1", "0-3:2/1", "0-3:0/0", "x", "0x1", "1.5", "al", "0-3-5", "٣"],
)
def test_what_no_kernel_takes(text: str) -> None:
    assert cpu_list_problem(text)
