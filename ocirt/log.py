"""What ocirt tells of its work: a log file for programs, the standard error for persons, nothing twice.

- An error is one line on the standard error, `ocirt: MESSAGE`. With --log it is a line of the log file too, because
  containerd and Podman read it from there, while conmon and CRI-O read the standard error.
- Warnings and debug messages go to the log file, and without one to the standard error; debug messages with the time.
- Podman parses the whole log as one JSON object when a command failed, so an error is the only line of its command in a
  JSON log: warnings that came before it stand in its field "warnings". They are held back until flush() or the error.
  (--debug asks for more lines, and gets them.)

Every line is written with one write(2) to a descriptor that appends, so that lines of several commands don't mix. A log
that can't be written to (a full disk) is no reason for a command to fail.
"""

from __future__ import annotations

import json
import os
import time

from ocirt.errors import HostError, one_line

STDERR_FD = 2


class Logger:
    """Starts out with text on the standard error; configure() opens the log file."""

    __slots__ = ("_fd", "_held", "_json", "debugging")

    def __init__(self) -> None:
        self._fd: int | None = None
        self._json = False
        self._held: list[str] = []
        self.debugging = False

    def configure(self, path: str, log_format: str, *, debug: bool) -> None:
        """`path` is the value of --log or "". Raises HostError when the file can't be opened."""
        self._json = log_format == "json"
        self.debugging = debug
        if path:
            self._fd = _open_log(path)

    def debug(self, message: str) -> None:
        if self.debugging:
            self._write("debug", message)

    def traceback(self, text: str) -> None:
        """Where an error comes from: lines on the standard error as they are, or one debug message of the log file."""
        if self._fd is not None or self._json:
            self.debug(text)
        else:
            _write(STDERR_FD, text)

    def warning(self, message: str) -> None:
        if self._fd is not None and self._json:
            self._held.append(one_line(message))
        else:
            self._write("warning", message)

    def error(self, message: str, *, code: str) -> None:
        """The one error that ends the command."""
        more: dict[str, str | list[str]] = {"code": code}
        if self._held:
            more["warnings"] = self._held
        self._write("error", message, more)
        self._held = []
        if self._fd is not None:
            _write(STDERR_FD, _for_persons("error", message))

    def flush(self) -> None:
        """Write the warnings that were held back: the command did what it was asked for, or will run on for long."""
        for message in self._held:
            self._write("warning", message)
        self._held = []

    def _write(self, level: str, message: str, more: dict[str, str | list[str]] | None = None) -> None:
        fd = STDERR_FD if self._fd is None else self._fd
        if self._json:
            record = {"level": level, "msg": one_line(message), "time": _now()} | (more or {})
            _write(fd, json.dumps(record, sort_keys=True, separators=(",", ":")) + "\n")
        elif self._fd is None and level != "debug":
            _write(fd, _for_persons(level, message))
        else:
            fields = {"time": f'"{_now()}"', "level": level, "msg": json.dumps(one_line(message), ensure_ascii=False)}
            fields |= {"code": str(more["code"])} if more else {}
            _write(fd, " ".join(f"{name}={value}" for name, value in fields.items()) + "\n")


def _open_log(path: str) -> int | None:
    """A descriptor that appends; None when the file is what the standard error is, so that nothing is printed twice.

    A symlink in the file's place is refused: the runtime is privileged, the directory may be somebody else's.
    /dev/stderr and /dev/stdout, which are symlinks everywhere, mean the descriptors.
    """
    if path in ("/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"):
        return None
    if path in ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
        return os.dup(1)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise HostError.of(error, "open the log file") from None
    if os.path.sameopenfile(fd, STDERR_FD):
        os.close(fd)
        return None
    return fd


def _for_persons(level: str, message: str) -> str:
    text = one_line(message)
    if level != "error":
        return f"ocirt: {level}: {text}\n"
    return f"{text}\n" if text.startswith("ocirt ") else f"ocirt: {text}\n"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _write(fd: int, text: str) -> None:
    try:
        os.write(fd, text.encode(errors="backslashreplace"))
    except OSError:
        return
