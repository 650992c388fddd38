"""What a seccomp agent is sent."""

from __future__ import annotations

import array
import json
import os
import socket
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance.bed import Bed
from conformance.expect import case_of, equal, not_testable, that
from conformance.machine import has_command
from requirements import Requirement

from tests.support.bundle import Config
from tests.support.runtime import Container

# The one descriptor that the specification names.
FD_NAME = "seccompFd"


def profile(path: str, metadata: str | None = None, action: str = "SCMP_ACT_NOTIFY") -> Config:
    rules = [{"names": ["mkdirat", "mkdir"], "action": action}]
    more = {} if metadata is None else {"listenerMetadata": metadata}
    return {"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "syscalls": rules, **more}}}


@dataclass(slots=True)
class Connection:
    """One connection: each message's bytes with the descriptors that came with it, and whether it was ended."""

    messages: list[tuple[bytes, list[int]]] = field(default_factory=list)
    ended: bool = False

    @property
    def data(self) -> bytes:
        return b"".join(data for data, _ in self.messages)

    @property
    def fds(self) -> list[int]:
        return [fd for _, fds in self.messages for fd in fds]

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.data)
        return found


class Agent:
    """Listens on a socket of the bundle's. Use it as a context manager."""

    def __init__(self, container: Container) -> None:
        self.path = container.bundle / "agent.sock"
        self.connections: list[Connection] = []
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(self.path))
        self._server.listen()
        self._server.settimeout(20)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Agent:
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(25)
        for connection in self.connections:
            for fd in connection.fds:
                os.close(fd)

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._server.accept()
            except OSError:
                return
            connection = Connection()
            self.connections.append(connection)
            with peer:
                peer.settimeout(10)
                try:
                    while True:
                        data, ancillary, _, _ = peer.recvmsg(1024, socket.CMSG_SPACE(64))
                        fds = array.array("i")
                        for level, kind, content in ancillary:
                            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
                        if not data and not fds:
                            connection.ended = True
                            break
                        connection.messages.append((data, list(fds)))
                except OSError:
                    continue


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent for a container, and the container, which is running."""

    container: Container
    connection: Connection
    agent: Agent


def with_agent(bed: Bed, check: Callable[[Sent], None], metadata: str | None = "a text") -> None:
    """Runs a container whose filter has a listener, and checks what its agent is sent."""
    container = bed.new({"annotations": {"org.example.key": "value"}})
    container.process["args"] = ["/probe", "hold"]
    with Agent(container) as agent:
        patch = profile(str(agent.path), metadata)
        container.linux["seccomp"] = patch["linux"]["seccomp"]
        created = container.create(check=False)
        that(created.rc == 0, "a profile with a listener", "taken", created.error)
        container.start()
        that(agent.connections, "the agent", "is connected to", "nobody connects")
        connection = agent.connections[0]
        deadline = threading.Event()
        for _ in range(100):
            if connection.ended:
                break
            deadline.wait(0.05)
        check(Sent(container, connection, agent))
        container.kill("KILL")
        container.wait()


def one_state(sent: Sent) -> None:
    decoder = json.JSONDecoder()
    text = sent.connection.data.decode()
    _, end = decoder.raw_decode(text)
    equal("what follows the state", text[end:].strip(), "")
    equal("the number of connections for one filter", len(sent.agent.connections), 1)


def closed(sent: Sent) -> None:
    that(sent.connection.ended, "the connection after the state", "ended", "open")


def seccomp_fd(sent: Sent) -> None:
    names = sent.connection.state()["fds"]
    that(FD_NAME in names, "the names of the descriptors", FD_NAME, names)
    fd = sent.connection.fds[names.index(FD_NAME)]
    target = os.readlink(f"/proc/self/fd/{fd}")
    equal("the descriptor of that name", target, "anon_inode:seccomp notify")


def descriptors_first(sent: Sent) -> None:
    equal("the number of the messages with descriptors", [bool(fds) for _, fds in sent.connection.messages][:1], [True])
    later = [fds for _, fds in sent.connection.messages[1:] if fds]
    equal("descriptors after the first message", later, [])


def field_is(name: str, expected: Callable[[Sent], object]) -> Callable[[Sent], None]:
    def check(sent: Sent) -> None:
        equal(f"what is sent: {name}", sent.connection.state().get(name), expected(sent))

    return check


def version(sent: Sent) -> None:
    value = sent.connection.state().get("ociVersion", "")
    that(str(value).count(".") >= 2, "the version that is sent", "a semantic version", value)


def fds(sent: Sent) -> None:
    names = sent.connection.state()["fds"]
    equal("the number of names and of descriptors", len(names), len(sent.connection.fds))


def state(sent: Sent) -> None:
    seen = sent.connection.state()["state"]
    equal("the state's id", seen.get("id"), sent.container.id)
    equal("the state's bundle", os.path.realpath(seen.get("bundle")), str(sent.container.bundle))
    that(
        seen.get("status") in ("creating", "created", "running"),
        "the state's status",
        "one of them",
        seen.get("status"),
    )
    equal("the annotation", (seen.get("annotations") or {}).get("org.example.key"), "value")


def not_reused(sent: Sent) -> None:
    if not has_command(sent.container.runtime, "exec"):
        not_testable("the runtime has no exec")
    result = sent.container.exec("/bin/true", check=False)
    equal(f"the exit code of exec ({result.error})", result.rc, 0)
    equal("the number of connections after an exec", len(sent.agent.connections), 2)


def reached(sent: Sent) -> None:
    that(sent.connection.fds, "the agent", "gets a descriptor", "it gets none")
    that(stat.S_ISSOCK(Path(sent.agent.path).stat().st_mode), "the path", "the agent's socket", "")


MESSAGE: dict[str, Callable[[Sent], None]] = {
    "config-linux.seccomp.listener-stream": reached,
    "config-linux.seccomp.listener-one-state": one_state,
    "config-linux.seccomp.listener-not-reused": not_reused,
    "config-linux.seccomp.listener-closed": closed,
    "config-linux.seccomp.seccomp-fd": seccomp_fd,
    "config-linux.seccomp-state.json": one_state,
    "config-linux.seccomp-state.descriptors": reached,
    "config-linux.seccomp-state.descriptors-first": descriptors_first,
    "config-linux.seccomp.listener-path-applied": reached,
    "config-linux.seccomp.listener-metadata-applied": field_is("metadata", lambda sent: "a text"),
    "config-linux.seccomp-state.oci-version": version,
    "config-linux.seccomp-state.fds": fds,
    "config-linux.seccomp-state.pid": field_is("pid", lambda sent: sent.container.pid),
    "config-linux.seccomp-state.metadata": field_is("metadata", lambda sent: "a text"),
    "config-linux.seccomp-state.state": state,
}


def test_message(requirement: Requirement, bed: Bed) -> None:
    check = case_of(MESSAGE, requirement.id)
    if requirement.id == "config-linux.seccomp-state.descriptors-first":
        # Longer than what one call takes.
        with_agent(bed, check, "x" * 300_000)
        return
    with_agent(bed, check)
    if requirement.id == "config-linux.seccomp-state.metadata":
        nothing = (None, "")
        with_agent(
            bed,
            lambda sent: that(
                sent.connection.state().get("metadata") in nothing,
                "the metadata without any",
                "none",
                sent.connection.data,
            ),
            None,
        )


def test_no_agent(requirement: Requirement, bed: Bed) -> None:
    with_agent(bed, lambda sent: None)  # The control.
    for what in ("nothing at the path", "a socket without a listener"):
        container = bed.new()
        path = container.bundle / "agent.sock"
        if what != "nothing at the path":
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(path))
        container.linux["seccomp"] = profile(str(path))["linux"]["seccomp"]
        attempt = bed.launch(container)
        that(attempt.failed in ("create", "start"), f"a listener's path with {what}", "an error", attempt.summary)
        that(not attempt.left, "after the create that failed", "nothing changed", "; ".join(attempt.left))


def test_unused(requirement: Requirement, bed: Bed) -> None:
    attempt = bed.attempt(bed.config(profile("/no/such/socket", action="SCMP_ACT_ERRNO")))
    that(attempt.taken, "a listener's path that no rule needs", "taken", attempt.summary)
    equal("the exit code", attempt.exit_code, 0)
