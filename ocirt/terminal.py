"""Terminals: handing a pseudoterminal's master to a console socket, and relaying it to the caller's own terminal.

The master comes from ocirt-init, which opened it in the container's devpts and checked that it is one (CVE-2025-52565).
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import termios
import tty
from collections.abc import Callable

from ocirt.errors import HostError, OcirtError

COPY_BYTES = 32768


def connect_unix(path: str, what: str) -> socket.socket:
    """A connected SOCK_STREAM socket; the path may be longer than sun_path's 108 bytes. Raises HostError."""
    directory, name = os.path.split(os.path.abspath(path))
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        directory_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        try:
            connection.connect(f"/proc/self/fd/{directory_fd}/{name}" if len(os.fsencode(path)) > 107 else path)
        finally:
            os.close(directory_fd)
    except OSError as error:
        connection.close()
        raise HostError(
            "connect", path, error.errno or 0, hint=f"the {what} must be a listening Unix socket"
        ) from error
    return connection


def send_console(connection: socket.socket, master_fd: int) -> None:
    """Send the master as runc does: one message, the descriptor with a name as its data. Closes both."""
    try:
        socket.send_fds(connection, [b"/dev/ptmx"], [master_fd])
    except OSError as error:
        raise HostError.of(error, "sendmsg to the console socket") from error
    finally:
        os.close(master_fd)
        connection.close()


class Relay:
    """Copies between the caller's terminal (stdin and stdout) and a container's, and keeps their sizes the same."""

    def __init__(self, master_fd: int) -> None:
        self.master_fd = master_fd
        self._saved: list[object] | None = None
        self._input_open = True
        os.set_blocking(master_fd, False)
        if os.isatty(0):
            self._saved = termios.tcgetattr(0)
            tty.setraw(0, termios.TCSADRAIN)
            self.resize()

    def resize(self) -> None:
        """Give the container's terminal the size of ours; to be called at SIGWINCH."""
        try:
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
            fcntl.ioctl(self.master_fd, termios.TIOCSWINSZ, size)
        except OSError as error:
            if error.errno != errno.ENOTTY:
                raise

    def readers(self) -> dict[int, Callable[[], bool]]:
        """Descriptor -> what to call when it can be read; False means that it is finished."""
        return {self.master_fd: self._output} | ({0: self._input} if self._input_open else {})

    def _input(self) -> bool:
        data = os.read(0, COPY_BYTES)
        if not data:
            self._input_open = False
            data = b"\x04"  # what the caller's end of file is on a terminal
        write_all(self.master_fd, data)
        return self._input_open

    def _output(self) -> bool:
        try:
            data = os.read(self.master_fd, COPY_BYTES)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno != errno.EIO:  # EIO: the last descriptor of the other end has been closed
                raise
            data = b""
        if data:
            write_all(1, data)
        return bool(data)

    def drain(self) -> None:
        """What is left of the output after the container's program has ended."""
        while select.select([self.master_fd], [], [], 0)[0] and self._output():
            pass

    def close(self) -> None:
        if self._saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self._saved)  # type: ignore[arg-type]
        os.close(self.master_fd)


def write_all(fd: int, data: bytes) -> None:
    """Write everything, waiting where a non-blocking descriptor is full."""
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            select.select([], [fd], [])


def check_console_flags(terminal: bool, console_socket: str | None, detached: bool) -> None:
    """A socket and a terminal go together; runc's words. Raises OcirtError."""
    if terminal and detached and not console_socket:
        raise OcirtError(
            "/process/terminal: cannot allocate tty if ocirt will detach without setting console socket"
            " (give --console-socket, or set terminal to false)"
        )
    if console_socket and not (terminal and detached):
        why = "/process/terminal is false" if not terminal else "ocirt does not detach"
        raise OcirtError(f"cannot use console socket if ocirt will not detach or allocate tty ({why})")
