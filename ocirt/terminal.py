"""Terminals: handing a pseudoterminal's master to a console socket, and relaying it to the caller's own terminal.

The master comes from ocirt-init, which opened it in the container's devpts and checked that it is one (CVE-2025-52565).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import termios
import tty
from collections.abc import Iterator

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


def _change_output_flags(fd: int, *, add: int = 0, clear: int = 0) -> None:
    """Change c_oflag (termios(3)) of a terminal."""
    attributes = termios.tcgetattr(fd)
    attributes[tty.OFLAG] = attributes[tty.OFLAG] & ~clear | add
    termios.tcsetattr(fd, termios.TCSANOW, attributes)


class Relay:
    """Copies between the caller's terminal (stdin and stdout) and a container's, and keeps their sizes the same.

    A line ends with the container's own newline, which the caller's terminal alone translates: what goes into a pipe or
    a file has no carriage returns, as with runc.

    Never waits: what cannot be written yet is kept, and no more is read then. Where nobody takes the output any more,
    the container's terminal is hung up, as the caller's was.
    """

    def __init__(self, master_fd: int) -> None:
        self.master_fd = master_fd
        self._saved: list[object] | None = None
        self._input_open = True
        self._to_container = b""
        self._to_caller = b""
        os.set_blocking(master_fd, False)
        _change_output_flags(master_fd, clear=termios.ONLCR)
        if os.isatty(0):
            self._saved = termios.tcgetattr(0)
            tty.setraw(0, termios.TCSADRAIN)
            _change_output_flags(0, add=termios.OPOST)
            self.resize()

    def resize(self) -> None:
        """Give the container's terminal the size of ours, where there are both; to be called at SIGWINCH."""
        with contextlib.suppress(OSError):
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
            fcntl.ioctl(self.master_fd, termios.TIOCSWINSZ, size)

    @property
    def pending(self) -> bool:
        """Whether there is output that the caller has still to take."""
        return bool(self._to_caller)

    def end_input(self) -> None:
        """The container's program has ended: only its output is still to be copied."""
        self._input_open, self._to_container = False, b""

    def interest(self) -> dict[int, int]:
        """What to poll: descriptor -> events."""
        wanted: dict[int, int] = {}
        if self._input_open and not self._to_container:
            wanted[0] = select.POLLIN
        if self._to_caller:
            wanted[1] = select.POLLOUT
        if self.master_fd >= 0:
            events = (0 if self._to_caller else select.POLLIN) | (select.POLLOUT if self._to_container else 0)
            if events:
                wanted[self.master_fd] = events
        return wanted

    def handle(self, fd: int) -> None:
        """Copy, after poll has named one of the descriptors of interest."""
        if fd == 0:
            self._read_input()
        elif fd == 1:
            self._write_output()
        elif fd == self.master_fd:
            self._write_input()
            self._read_output()

    def _read_input(self) -> None:
        try:
            data = os.read(0, COPY_BYTES)
        except BlockingIOError:
            return
        except OSError:  # EIO: the terminal is gone, or is not ours to read
            self._input_open = False
            return
        if not data:
            self._input_open = False
            data = b"\x04"  # what the caller's end of file is on a terminal
        self._to_container = data

    def _write_input(self) -> None:
        try:
            self._to_container = self._to_container[os.write(self.master_fd, self._to_container) :]
        except BlockingIOError:
            return
        except OSError:
            self.end_input()

    def _read_output(self) -> None:
        if self._to_caller:
            return
        try:
            self._to_caller = os.read(self.master_fd, COPY_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:  # EIO: the last descriptor of the other end has been closed
                raise
        if not self._to_caller:
            self._hang_up()

    def _write_output(self) -> None:
        try:
            # No more than poll(2) has promised room for: this descriptor is the caller's, and blocks.
            self._to_caller = self._to_caller[os.write(1, self._to_caller[: select.PIPE_BUF]) :]
        except BlockingIOError:
            return
        except OSError:  # EPIPE, EIO: nobody reads
            self._hang_up()

    def _hang_up(self) -> None:
        """Close the container's terminal, which sends SIGHUP to its session."""
        self.end_input()
        self._to_caller = b""
        fd, self.master_fd = self.master_fd, -1
        if fd >= 0:
            os.close(fd)

    def close(self) -> None:
        self._hang_up()
        if self._saved is not None:
            with contextlib.suppress(termios.error):  # it may be gone
                termios.tcsetattr(0, termios.TCSANOW, self._saved)  # type: ignore[arg-type]


@contextlib.contextmanager
def relaying(master_fd: int) -> Iterator[Relay | None]:
    """A relay for as long as the block is executed; None where there is no terminal (-1)."""
    relay = Relay(master_fd) if master_fd >= 0 else None
    try:
        yield relay
    finally:
        if relay:
            relay.close()


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
