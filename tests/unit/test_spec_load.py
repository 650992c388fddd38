"""Whatever is in config.json's place, there is one line of error, at once."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from ocirt.errors import HostError, OcirtError, SpecError
from ocirt.spec import decode, load_config, load_process, load_resources, parse_config
from ocirt.spec.load import MAX_BYTES
from tests.unit.spec_samples import small_config, with_value

NAME = "config.json"
SMALL = json.dumps(small_config()).encode()

BAD_JSON = {
    "empty": (b"", "expecting value at line 1 column 1"),
    "space": (b" \n ", "expecting value"),
    "truncated": (SMALL[:-5], "at line 1 column"),
    "truncated string": (SMALL[:10], "unterminated string"),
    "one brace": (b"{", "expecting property name"),
    "trailing data": (SMALL + b"{}", "extra data"),
    "trailing comma": (b'{"a": 1,}', "at line 1 column"),
    "comment": (b"// a\n{}", "expecting value"),
    "BOM": (b"\xef\xbb\xbf" + SMALL, "byte order mark"),
    "UTF-16": (SMALL.decode().encode("utf-16"), "byte order mark"),
    "UTF-16 without BOM": (SMALL.decode().encode("utf-16-le"), "is not JSON"),
    "UTF-32": (SMALL.decode().encode("utf-32"), "byte order mark"),
    "latin 1": (b'{"a": "\xe9"}', "is not UTF-8: byte 7 is 0xe9"),
    "surrogate in UTF-8": (b'"\xed\xa0\x80"', "is not UTF-8"),
    "NaN": (b'{"a": NaN}', ": NaN is no value of it"),
    "Infinity": (b'{"a": Infinity}', ": Infinity is no value of it"),
    "-Infinity": (b"-Infinity", ": -Infinity is no value of it"),
    "deep arrays": (b"[" * 100_000, "nested too deeply"),
    "deep objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
    "control character": (b'"\x01"', "invalid control character"),
    "raw NUL": (b"\0", "expecting value"),
    "single quotes": (b"{'a': 1}", "expecting property name"),
    "leading zero": (b"[01]", "expecting ',' delimiter"),
    "hexadecimal": (b"0x10", "extra data"),
    "digits that are not ASCII": (b'{"a": \xd9\xa1}', "expecting value"),
}


@pytest.mark.parametrize("case", BAD_JSON)
def test_bad_json(case: str, tmp_path: Path) -> None:
    raw, message = BAD_JSON[case]
    (tmp_path / NAME).write_bytes(raw)
    with pytest.raises(SpecError) as caught:
        load_config(str(tmp_path))
    assert caught.value.code == "spec.json"
    assert message in str(caught.value)
    assert str(tmp_path / NAME) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ('{"a": 1, "a": 1}', "/a"),
        ('{"root": {"path": "/a", "readonly": true, "readonly": false}}', "/root/readonly"),
        ('{"a": [{}, {"x/y": 1, "x/y": 2}]}', "/a/1/x~1y"),
        ('{"a": 1, "\\u0061": 2}', "/a"),
        ('{"": 1, "": 2}', "/"),
    ],
)
def test_duplicate_keys(text: str, pointer: str) -> None:
    with pytest.raises(SpecError, match="stands twice") as caught:
        decode(text.encode(), NAME)
    assert (caught.value.pointer, caught.value.code) == (pointer, "spec.json")


@pytest.mark.parametrize(
    ("text", "pointer"), [('{"a": ["\\ud800"]}', "/a/0"), ('{"a": "x\\uDFFFy"}', "/a"), ('{"\\ud83d": 1}', "/\ud83d")]
)
def test_lone_surrogates(text: str, pointer: str) -> None:
    with pytest.raises(SpecError, match="lone surrogate") as caught:
        decode(text.encode(), NAME)
    assert caught.value.pointer == pointer
    str(caught.value).encode()


def test_pairs_of_surrogates_are_characters() -> None:
    assert decode(b'["\\ud83d\\ude00", "\\u00e9"]', NAME) == ["\U0001f600", "é"]


@pytest.mark.parametrize("digits", [21, 5_000, 1_000_000])
def test_huge_numbers_are_out_of_every_range(digits: int) -> None:
    began = time.monotonic()
    for sign in ("", "-"):
        text = json.dumps(with_value("/process/user/uid", 0)).replace('"uid": 0', f'"uid": {sign}{"9" * digits}')
        with pytest.raises(SpecError) as caught:
            parse_config(decode(text.encode(), NAME))
        assert (caught.value.pointer, caught.value.code) == ("/process/user/uid", "spec.range")
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("number", ["1.0", "1e3", "1E0", "-0.0", "1" + "0" * 400 + ".5", "1e999999"])
def test_other_numbers_are_no_integers(number: str) -> None:
    text = json.dumps(small_config()).replace('"uid": 0', f'"uid": {number}')
    with pytest.raises(SpecError) as caught:
        parse_config(decode(text.encode(), NAME))
    assert (caught.value.pointer, caught.value.code) == ("/process/user/uid", "spec.type")


def test_huge_numbers_of_unknown_properties_are_ignored() -> None:
    text = SMALL[:-1] + b', "unknown": ' + b"9" * 100_000 + b"}"
    assert parse_config(decode(text, NAME)) == parse_config(small_config())


@pytest.mark.parametrize("number", ["18446744073709551615", "-9223372036854775808", "0", "-0"])
def test_the_largest_integers_are_exact(number: str) -> None:
    assert decode(number.encode(), NAME) == int(number)


def test_many_keys_take_no_quadratic_time() -> None:
    text = "{" + ",".join(f'"{index}":1' for index in range(200_000)) + ',"0":1}'
    began = time.monotonic()
    with pytest.raises(SpecError, match="/0: the key stands twice"):
        decode(text.encode(), NAME)
    assert time.monotonic() - began < 5


def test_ten_megabytes(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(json.dumps(with_value("/annotations", {"a": "x" * 10_000_000})))
    with pytest.raises(HostError) as caught:
        load_config(str(tmp_path))
    assert str(caught.value) == f"read {tmp_path}/config.json: file too large (the limit is {MAX_BYTES} bytes)"


def test_up_to_the_limit_it_is_read(tmp_path: Path) -> None:
    space = b" " * (MAX_BYTES - len(SMALL))
    (tmp_path / NAME).write_bytes(SMALL + space)
    assert load_config(str(tmp_path))[1] == SMALL + space
    (tmp_path / NAME).write_bytes(SMALL + space + b" ")
    with pytest.raises(HostError, match="file too large"):
        load_config(str(tmp_path))


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(HostError) as caught:
        load_config(str(tmp_path))
    assert str(caught.value) == f"open {tmp_path}/config.json: no such file or directory"
    with pytest.raises(HostError, match="no such file or directory"):
        load_config(str(tmp_path / "nowhere"))
    with pytest.raises(SpecError, match="NUL"):
        load_process("a\0b")


def make_directory(path: Path) -> None:
    path.mkdir()


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def make_device_link(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_directory, "read {}: is a directory"),
        (os.mkfifo, "/: {} is a FIFO, not a regular file"),
        (make_device_link, "/: {} is a device, not a regular file"),
        (make_socket, "open {}: no such device or address"),
        (make_loop, "open {}: too many levels of symbolic links"),
    ],
    ids=["directory", "fifo", "device", "socket", "loop"],
)
def test_other_files_do_not_hang(make: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path(NAME))
    with pytest.raises(OcirtError) as caught:
        load_config(".")
    assert str(caught.value) == message.format("./config.json")


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    for make in (None, make_directory, os.mkfifo):
        place = tmp_path / str(make)
        place.mkdir()
        if make:
            make(place / NAME)
        with pytest.raises(OcirtError):
            load_config(str(place))
    assert os.listdir("/proc/self/fd") == before


def test_load_config_returns_the_bytes_as_read(tmp_path: Path) -> None:
    raw = b" \n" + SMALL + b"\n\n"
    (tmp_path / NAME).write_bytes(raw)
    for place in (tmp_path, tmp_path / NAME):
        spec, bytes_read = load_config(str(place))
        assert bytes_read == raw
        assert spec == parse_config(small_config())


def test_load_config_checks_unless_told_not_to(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(json.dumps(with_value("/process/cwd", "relative")))
    with pytest.raises(SpecError, match="/process/cwd"):
        load_config(str(tmp_path))
    spec, _ = load_config(str(tmp_path), check=False)
    assert spec.process is not None
    assert spec.process.cwd == "relative"


def test_process_files(tmp_path: Path) -> None:
    file = tmp_path / "process.json"
    file.write_text('{"args": ["a"], "cwd": "/"}')
    assert load_process(str(file)).args == ("a",)
    file.write_text('{"args": ["a"], "cwd": "x"}')
    with pytest.raises(SpecError, match=r"^/cwd: "):
        load_process(str(file))


def test_resource_bytes() -> None:
    assert load_resources(b'{"devices": [{"allow": true, "access": "r"}]}', "-").devices[0].access == "r"
    with pytest.raises(SpecError, match=r"^/devices/0/access: "):
        load_resources(b'{"devices": [{"allow": true, "access": "x"}]}', "-")
    with pytest.raises(SpecError, match=r"^/: - is not JSON"):
        load_resources(b"", "-")
