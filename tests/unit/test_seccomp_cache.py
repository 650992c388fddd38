"""ocirt.seccomp_cache: what is a hit, what is a miss, and that nothing of it is an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocirt import seccomp_cache
from ocirt.seccomp_cache import DirectoryCache


@pytest.fixture
def cache(tmp_path: Path) -> DirectoryCache:
    return DirectoryCache(str(tmp_path / "seccomp"))


def only_file(cache: DirectoryCache) -> Path:
    (path,) = Path(cache.path).iterdir()
    return path


def test_what_was_put_is_got_and_only_for_the_same_source(cache: DirectoryCache) -> None:
    assert cache.get(b"profile") is None
    cache.put(b"profile", b"program")
    cache.put(b"other", b"")
    assert cache.get(b"profile") == b"program"
    assert cache.get(b"other") == b""
    assert cache.get(b"profilE") is None


def test_two_sources_of_one_name_are_told_apart(cache: DirectoryCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp_cache, "_name", lambda _: "collision")
    cache.put(b"first", b"1")
    assert cache.get(b"other") is None
    cache.put(b"other", b"2")
    assert cache.get(b"other") == b"2"
    assert cache.get(b"first") is None


def test_the_files_are_the_users_alone(cache: DirectoryCache) -> None:
    cache.put(b"profile", b"program")
    assert Path(cache.path).stat().st_mode & 0o777 == 0o700
    assert only_file(cache).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("keep", range(0, 30, 4))
def test_a_file_cut_short_is_a_miss(cache: DirectoryCache, keep: int) -> None:
    cache.put(b"profile", b"program")
    path = only_file(cache)
    path.write_bytes(path.read_bytes()[:keep])
    assert cache.get(b"profile") is None


def test_a_changed_byte_is_a_miss(cache: DirectoryCache) -> None:
    cache.put(b"profile", b"program")
    path = only_file(cache)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert cache.get(b"profile") is None, place


@pytest.mark.parametrize("mode", [0o720, 0o702])
def test_what_others_can_write_is_not_read(cache: DirectoryCache, mode: int) -> None:
    cache.put(b"profile", b"program")
    Path(cache.path).chmod(mode)
    assert cache.get(b"profile") is None
    Path(cache.path).chmod(0o700)
    only_file(cache).chmod(mode)
    assert cache.get(b"profile") is None
    only_file(cache).chmod(0o600)
    assert cache.get(b"profile") == b"program"


def test_links_are_not_followed(cache: DirectoryCache, tmp_path: Path) -> None:
    cache.put(b"profile", b"program")
    real = Path(cache.path).rename(tmp_path / "elsewhere")
    Path(cache.path).symlink_to(real)
    assert cache.get(b"profile") is None
    cache.put(b"second", b"program")
    assert len(list(real.iterdir())) == 1


def test_the_number_of_files_is_bounded_and_the_oldest_goes_first(cache: DirectoryCache) -> None:
    for i in range(seccomp_cache.MAX_PROGRAMS + 5):
        cache.put(b"profile %d" % i, b"program")
        newest = Path(cache.path) / seccomp_cache._name(b"profile %d" % i)
        os.utime(newest, (i, i))
    assert len(list(Path(cache.path).iterdir())) == seccomp_cache.MAX_PROGRAMS
    assert cache.get(b"profile 4") is None
    assert cache.get(b"profile 5") == b"program"


def test_a_directory_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    missing = DirectoryCache(str(tmp_path / "missing" / "seccomp"))
    missing.put(b"profile", b"program")
    assert missing.get(b"profile") is None


def test_no_descriptor_is_left_open(cache: DirectoryCache, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    cache.put(b"profile", b"program")
    cache.get(b"profile")
    cache.get(b"other")
    Path(cache.path).chmod(0o777)
    cache.get(b"profile")
    cache.put(b"profile", b"program")
    DirectoryCache(str(tmp_path / "none")).get(b"profile")
    assert len(os.listdir("/proc/self/fd")) == before
