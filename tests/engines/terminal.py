"""A terminal for an engine's command, which the test holds the other end of."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import Mapping

from tests.support.console import Console


class Terminal:
    """A command with a terminal of its own as stdio and as its controlling one. Use it as a context manager."""

    def __init__(self, argv: list[str], env: Mapping[str, str], rows: int = 30, columns: int = 90) -> None:
        master, slave = pty.openpty()
        self.console = Console(master)
        self.resize(rows, columns)
        # setsid --ctty makes stdin the controlling terminal; the shell's job control and SIGWINCH need it.
        command = ["setsid", "--ctty", "--wait", *argv]
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=dict(env))
        os.close(slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *unused: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.console.fd)

    def resize(self, rows: int, columns: int) -> None:
        """Gives the terminal a size; the kernel tells the foreground process group."""
        fcntl.ioctl(self.console.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait(self, timeout_seconds: float = 30) -> int:
        """The command's exit code."""
        try:
            return self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            raise AssertionError("the command does not end") from None


def check_resizing(
    terminal: Terminal, rows: int = 30, columns: int = 90, *, device: str = "/dev/pts/0", code: int = 5
) -> None:
    """A shell in a container, on a terminal of this size: sees that, then another size, and ends with the code."""
    terminal.console.read_until("# ")
    terminal.console.write("sleep 1; stty size; tty\n")
    assert f"{rows} {columns}" in terminal.console.read_until(device)
    rows, columns = rows + 11, columns + 31
    terminal.resize(rows, columns)
    terminal.console.write("sleep 1; stty size; echo done-$((1+1))\n")
    assert f"{rows} {columns}" in terminal.console.read_until("done-2")
    terminal.console.write(f"exit {code}\n")
    assert terminal.wait() == code
