"""Tables and user names."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.output import table, user_name

cells = st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=30)


def test_title_alone_is_runc_s() -> None:
    columns = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert table([columns]) == "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"


def test_long_cell_widens_its_column() -> None:
    assert table([["ID", "PID", "X"], ["a-long-name-1", "7", "y"]]) == (
        "ID              PID         X\na-long-name-1   7           y\n"
    )


@given(st.lists(st.tuples(cells, cells, cells), min_size=1))
def test_columns_are_aligned(rows: list[tuple[str, str, str]]) -> None:
    lines = table(rows).splitlines()
    width = max(12, *(len(row[0]) + 3 for row in rows))
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert line[:width].rstrip() == row[0]
        assert line.endswith(row[2])


def test_user_names() -> None:
    assert user_name(0) == pwd.getpwuid(0).pw_name
    assert user_name(4294967294) == "#4294967294"


def test_closed_output_ends_quietly() -> None:
    code = "from ocirt.cli import main; import sys; sys.argv = ['ocirt', '--help']; main()"
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    try:
        done = subprocess.run([sys.executable, "-c", code], stdout=write_fd, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(write_fd)
    assert (done.returncode, done.stderr) == (141, b"")


def test_full_disk_is_an_error() -> None:
    code = "from ocirt.cli import main; import sys; sys.argv = ['ocirt', '--help']; main()"
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (1, b"ocirt: write /dev/stdout: no space left on device\n")


@pytest.mark.parametrize("row", [["a", "b"], ["ä", "b"]])
def test_width_counts_characters(row: list[str]) -> None:
    assert table([row]).index("b") == 12
