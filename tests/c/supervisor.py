"""The other end of a seccomp listener: answers the calls that a filter notifies of, in the kernel's place."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
import threading

# linux/seccomp.h: SECCOMP_IOCTL_NOTIF_RECV and _SEND
NOTIF_RECV, NOTIF_SEND = 0xC0502100, 0xC0182101


class Supervisor:
    """Answers until nobody has the filter any more; `take` is a handler for SYNC_SECCOMP_FD."""

    def __init__(self) -> None:
        self.fd = -1
        self._thread = threading.Thread(target=self._serve)

    def take(self, fd: int) -> None:
        self.fd = fd
        self._thread.start()

    def answer(self, request: bytes) -> tuple[int, int]:
        """For a struct seccomp_notif: the call's result, and the flags of the answer."""
        raise NotImplementedError

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        while poll.poll()[0][1] & select.POLLIN:
            request = bytearray(80)
            try:
                fcntl.ioctl(self.fd, NOTIF_RECV, request)
                result, flags = self.answer(bytes(request))
                (number,) = struct.unpack_from("=Q", request)
                fcntl.ioctl(self.fd, NOTIF_SEND, bytearray(struct.pack("=QqiI", number, result, 0, flags)))
            except OSError as error:
                if error.errno != errno.ENOENT:  # it was killed meanwhile
                    raise

    def close(self) -> None:
        if self.fd >= 0:
            self._thread.join()
            os.close(self.fd)
