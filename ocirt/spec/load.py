"""Reads config.json and its like, as strict JSON.

Guarantees: whatever is at the path, the answer is a value or one OcirtError, in bounded time and memory. Only regular
files are read (a FIFO or a device would hang), at most MAX_BYTES of them. JSON is as in RFC 8259: UTF-8 without a byte
order mark, no duplicate keys, no NaN or Infinity, no lone surrogates, nothing after the value. The bytes are returned
too: they are what the state directory keeps, so that editing config.json after create has no effect
(runtime.md#lifecycle).
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from errno import EFBIG, EISDIR
from typing import Any, NoReturn

from ocirt.errors import HostError, SpecError
from ocirt.spec._generated import Process, Resources, Spec, parse_config, parse_process, parse_resources
from ocirt.spec.checks import check_process, check_resources, check_spec
from ocirt.spec.values import JSON, VALUE, pointer_to

CONFIG_NAME = "config.json"
MAX_BYTES = 8 * 1024 * 1024
_MAX_DIGITS = 20  # of a uint64
_TOO_LARGE = 100_000_000_000_000_000_000
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}


def load_config(
    bundle_or_path: str, *, check: bool = True, on_decoded: Callable[[object], None] | None = None
) -> tuple[Spec, bytes]:
    """The config.json of a bundle, or the file itself: (model, bytes as read).

    With `check`, the model has also passed every semantic check. `on_decoded` gets the JSON before anything of it has
    been checked. Raises HostError where the file cannot be read,
    SpecError at the first thing that is wrong in it.
    """
    is_bundle = os.path.isdir(bundle_or_path)
    path = os.path.join(bundle_or_path, CONFIG_NAME) if is_bundle else bundle_or_path
    raw = read_file(path)
    config = decode(raw, path)
    if on_decoded:
        on_decoded(config)
    spec = parse_config(config)
    if check:
        check_spec(spec)
    return spec, raw


def load_process(path: str) -> Process:
    """The file of `exec --process`. Pointers are those of this file."""
    process = parse_process(decode(read_file(path), path))
    check_process(process, "")
    return process


def load_resources(raw: bytes, name: str) -> Resources:
    """The bytes of `update --resources`; `name` is what messages call them. Pointers are those of these bytes."""
    resources = parse_resources(decode(raw, name))
    check_resources(resources, "")
    return resources


def read_file(path: str) -> bytes:
    """A regular file's bytes. O_NONBLOCK, since opening a FIFO would wait for a writer."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise HostError.of(error, "open") from None
    except ValueError:
        raise SpecError("", "the path of the file contains a NUL", VALUE) from None
    try:
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            raise HostError("read", path, EISDIR)
        if not stat.S_ISREG(status.st_mode):
            kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a special file")
            raise SpecError("", f"{path} is {kind}, not a regular file", JSON)
        return _read_all(fd, path)
    finally:
        os.close(fd)


def _read_all(fd: int, path: str) -> bytes:
    """Until the end of the file; its size may be unknown (procfs) or change."""
    chunks: list[bytes] = []
    left = MAX_BYTES + 1
    try:
        while left and (chunk := os.read(fd, min(left, 1 << 16))):
            chunks.append(chunk)
            left -= len(chunk)
    except OSError as error:
        raise HostError("read", path, error.errno or 0) from None
    if not left:
        raise HostError("read", path, EFBIG, hint=f"the limit is {MAX_BYTES} bytes")
    return b"".join(chunks)


def decode(raw: bytes, name: str) -> Any:
    """The JSON value of the bytes. Raises SpecError; `name` is what messages call the bytes."""
    value, problems = decode_with_problems(raw, name)
    if problems:
        raise problems[0]
    return value


def decode_with_problems(raw: bytes, name: str) -> tuple[Any, list[SpecError]]:
    """The same with everything that is wrong in a text that JSON's grammar allows. Raises SpecError for any other."""
    if raw.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise SpecError("", f"{name} starts with a byte order mark: JSON is UTF-8 without one", JSON)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise SpecError("", f"{name} is not UTF-8: byte {error.start} is {raw[error.start]:#04x}", JSON) from None
    try:
        value, has_duplicates = _decode_text(text, name)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        message = error.msg[:1].lower() + error.msg[1:]
        raise SpecError("", f"{name} is not JSON: {message} at {where}", JSON) from None
    except RecursionError:
        raise SpecError("", f"{name} is nested too deeply", JSON) from None
    if has_duplicates or _SURROGATE_ESCAPE.search(raw):
        return value, list(_string_faults(value))
    return value, []


class _ObjectWithDuplicate(dict[str, Any]):
    """A decoded object in which the key `duplicate` stood twice."""

    duplicate = ""


def _decode_text(text: str, name: str) -> tuple[Any, bool]:
    """The only use of the JSON decoder: (value, whether an object has a duplicate key)."""
    has_duplicates = False

    def to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal has_duplicates
        result = dict(pairs)
        if len(result) == len(pairs):
            return result
        has_duplicates = True
        marked = _ObjectWithDuplicate(result)
        marked.duplicate = _first_duplicate(key for key, _ in pairs)
        return marked

    def refuse_constant(constant: str) -> NoReturn:
        raise SpecError("", f"{name} is not JSON: {constant} is no value of it", JSON)

    decoder = json.JSONDecoder(object_pairs_hook=to_object, parse_int=_to_integer, parse_constant=refuse_constant)
    return decoder.decode(text), has_duplicates


def _first_duplicate(keys: Iterable[str]) -> str:
    seen: set[str] = set()
    return next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]


def _to_integer(digits: str) -> int:
    """int() takes quadratic time; what no type of the specification holds becomes an integer that none holds either."""
    if len(digits) <= _MAX_DIGITS:
        return int(digits)
    return -_TOO_LARGE if digits[0] == "-" else _TOO_LARGE


def _string_faults(value: object) -> Iterator[SpecError]:
    """One for each object with a duplicate key, and for each lone surrogate. No recursion: the depth is the file's."""
    todo: list[tuple[str, object]] = [("", value)]
    while todo:
        at, value = todo.pop()
        if isinstance(value, _ObjectWithDuplicate):
            yield SpecError(pointer_to(at, value.duplicate), "the key stands twice in its object", JSON)
        if isinstance(value, str) and _SURROGATE.search(value):
            yield SpecError(at, "must not contain a lone surrogate", JSON)
        elif isinstance(value, list):
            todo += [(pointer_to(at, index), item) for index, item in enumerate(value)]
        elif isinstance(value, dict):
            for key, item in value.items():
                todo.append((pointer_to(at, key), item))
                if _SURROGATE.search(key):
                    yield SpecError(pointer_to(at, key), "a key must not contain a lone surrogate", JSON)
