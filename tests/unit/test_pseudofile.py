"""Reading the kernel's small files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocirt.pseudofile import read_text


def test_a_file_of_proc() -> None:
    assert read_text("/proc/self/status") == Path("/proc/self/status").read_text()


@pytest.mark.parametrize("size", [0, 1, 1 << 16, (1 << 16) + 1, 300_000])
def test_it_is_whole(size: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * size)
    assert read_text(str(tmp_path / "file")) == "x" * size


def test_bytes_that_are_no_text_come_out_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a\\xff\\xfe")
    assert os.fsencode(read_text(str(tmp_path / "file"))) == b"a\\xff\\xfe"


def test_errors_name_the_path(tmp_path: Path) -> None:
    for path, error in ((str(tmp_path / "none"), FileNotFoundError), (str(tmp_path), IsADirectoryError)):
        with pytest.raises(error) as caught:
            read_text(path)
        assert caught.value.filename == path


def test_below_a_directory_and_not_through_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to("file")
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        assert read_text("file", directory) == "text"
        with pytest.raises(OSError, match="symbolic links"):
            read_text("link", directory, os.O_NOFOLLOW)
    finally:
        os.close(directory)
