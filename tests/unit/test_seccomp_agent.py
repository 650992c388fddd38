"""ocirt.seccomp_agent: the message to the agent, and an agent that isn't there."""

from __future__ import annotations

import array
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt.errors import HostError
from ocirt.seccomp_agent import container_process_state, give_listener, send_listener
from ocirt.spec import Seccomp

STATE = {
    "ociVersion": "1.3.0",
    "id": "c1",
    "status": "creating",
    "pid": 4422,
    "bundle": "/bundles/ä",
    "annotations": {"a": "b"},
}


class Agent:
    """A listening socket that takes one connection and keeps its messages with what came in each first byte's way."""

    def __init__(self, path: str, directory: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.path = path
        # a path longer than sun_path is bound by a relative name
        here = os.open(".", os.O_RDONLY)
        os.chdir(directory)
        self.socket.bind(os.path.relpath(path, directory))
        os.fchdir(here)
        os.close(here)
        self.socket.listen(1)
        self.data = b""
        self.chunks: list[tuple[int, int]] = []
        self.fds: list[int] = []
        self.thread = threading.Thread(target=self.serve)

    def serve(self) -> None:
        connection, _ = self.socket.accept()
        with connection:
            while True:
                space = socket.CMSG_SPACE(16 * 4)
                data, ancillary, _, _ = connection.recvmsg(4096, space)
                if not data:
                    return
                fds = array.array("i")
                for _, _, payload in ancillary:
                    fds.frombytes(payload)
                self.data += data
                self.fds += fds
                self.chunks.append((len(data), len(fds)))


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    served = Agent(str(tmp_path / "agent"), str(tmp_path))
    served.thread.start()
    yield served
    finish(served)


def finish(agent: Agent) -> None:
    agent.thread.join(10)
    agent.socket.close()
    for fd in agent.fds:
        os.close(fd)


def test_the_state_says_what_the_specification_asks_for() -> None:
    message = json.loads(container_process_state(STATE, "MKNOD=/dev/null", 99))
    assert message == {
        "ociVersion": "1.3.0",
        "fds": ["seccompFd"],
        "pid": 99,
        "metadata": "MKNOD=/dev/null",
        "state": STATE,
    }
    assert "metadata" not in json.loads(container_process_state(STATE, None, 99))


def test_one_connection_gets_the_whole_message_with_the_descriptor_in_front(agent: Agent) -> None:
    reader, writer = os.pipe()
    try:
        send_listener(agent.path, b"x" * 300_000, writer)
        agent.thread.join(10)
        assert agent.data == b"x" * 300_000
        assert [count for _, count in agent.chunks] == [1] + [0] * (len(agent.chunks) - 1)
        os.write(agent.fds[0], b"through")
        assert os.read(reader, 10) == b"through"
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize(("pid", "expected"), [(None, 4422), (99, 99)])
def test_the_profiles_agent_gets_the_listener_which_is_closed(agent: Agent, pid: int | None, expected: int) -> None:
    profile = Seccomp(default_action="SCMP_ACT_ALLOW", listener_path=agent.path, listener_metadata="for the agent")
    reader, writer = os.pipe()
    give_listener(profile, STATE, writer, pid=pid)
    agent.thread.join(10)
    message = json.loads(agent.data)
    assert (message["pid"], message["state"]["pid"], message["metadata"]) == (expected, 4422, "for the agent")
    os.close(agent.fds.pop())
    assert os.read(reader, 1) == b"", "no other writer is left"
    os.close(reader)


def test_a_path_longer_than_a_socket_address(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 100)
    directory.mkdir()
    agent = Agent(str(directory / "agent"), str(directory))
    agent.thread.start()
    try:
        send_listener(agent.path, b"state", 0)
        agent.thread.join(10)
        assert agent.data == b"state"
    finally:
        finish(agent)


def test_no_agent_is_an_error_with_the_pointer(tmp_path: Path) -> None:
    path = tmp_path / "nobody"
    with pytest.raises(HostError, match=r"^/linux/seccomp/listenerPath: connect .*/nobody: no such file or directory"):
        send_listener(str(path), b"state", 0)
    with pytest.raises(HostError, match=r"connect .*: no such file or directory"):
        send_listener(str(tmp_path / ("d" * 120)), b"state", 0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as closed:
        closed.bind(str(path))
    with pytest.raises(HostError, match=r"connection refused"):
        send_listener(str(path), b"state", 0)


def test_a_bad_descriptor_is_an_error(agent: Agent) -> None:
    with pytest.raises(HostError, match=r"sendmsg .*: bad file descriptor"):
        send_listener(agent.path, b"state", 10_000)


def test_an_agent_that_does_not_read_is_an_error_in_time(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        deaf.listen(1)
        with pytest.raises(HostError, match=r"timed out \(the seccomp agent does not answer\)"):
            send_listener(str(tmp_path / "deaf"), b"x" * 10_000_000, 0, timeout_seconds=0.2)
