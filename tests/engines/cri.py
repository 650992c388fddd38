"""The Kubernetes side of containerd: a client of its CRI plugin (k8s.io/cri-api, runtime/v1/api.proto).

The few messages that the tests need are put together by field numbers, which no version of that interface changes:
neither generated code nor crictl, which Debian does not have, is needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.engines.engine import Engine, OciRuntime
from tests.engines.image import NAME
from tests.support.isolation import why_no_controllers

NODE = 2  # NamespaceMode
RUNNING, EXITED = 1, 2  # ContainerState
TIMEOUT_SECONDS = 120

CONFIG = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
[grpc]
address = "{folder}/socket"
[plugins."io.containerd.internal.v1.opt"]
path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "%(image)s"
restrict_oom_score_adj = true
disable_cgroup = %(disable_cgroup)s
[plugins."io.containerd.grpc.v1.cri".cni]
conf_dir = "{folder}/networks"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
default_runtime_name = "runc"
"""

HANDLER = """\
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.%(name)s]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.%(name)s.options]
BinaryName = "%(path)s"
Root = "{folder}/runtime-%(name)s"
SystemdCgroup = %(systemd)s
"""

Message = dict[int, Any]


def cri_config(engine: Engine, runtimes: Iterable[OciRuntime]) -> str:
    """containerd's configuration with the plugin, and a handler for each runtime; a template for ContainerdServer."""
    # The plugin asks for CPU shares for its sandboxes.
    disable_cgroup = "true" if why_no_controllers("cpu") else "false"
    config = CONFIG % {"image": NAME, "disable_cgroup": disable_cgroup}
    systemd = "true" if engine.systemd else "false"
    for runtime in runtimes:
        config += HANDLER % {"name": runtime.name, "path": runtime.path, "systemd": systemd}
    return config


def encode(message: Message) -> bytes:
    """A message of protobuf's wire format: numbers, strings, bytes, messages, and lists of those."""
    data = b""
    for number, value in message.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, int):
                data += _varint(number << 3) + _varint(item)
                continue
            body = encode(item) if isinstance(item, dict) else item if isinstance(item, bytes) else item.encode()
            data += _varint(number << 3 | 2) + _varint(len(body)) + body
    return data


def _varint(value: int) -> bytes:
    data = b""
    while value >= 0x80:
        data += bytes([value & 0x7F | 0x80])
        value >>= 7
    return data + bytes([value])


def decode(data: bytes) -> Message:
    """The fields of a message, the last of each number; what is a message itself stays bytes."""
    message: Message = {}
    position = 0

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while position < len(data):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            message[number] = varint()
        elif kind == 2:
            length = varint()
            message[number] = data[position : position + length]
            position += length
        else:
            raise ValueError(f"wire type {kind}")
    return message


@dataclass(slots=True)
class CriClient:
    """Pods and containers of the runtime handler, in the host's network: no CNI plugin is needed."""

    socket: Path
    handler: str
    cgroup_parent: str
    _channel: Any = None
    _pods: list[str] = field(default_factory=list)

    def __enter__(self) -> CriClient:
        import grpc

        # The socket's path is no valid authority for gRPC in Go.
        options = [("grpc.default_authority", "localhost")]
        self._channel = grpc.insecure_channel(f"unix:{self.socket}", options=options)
        return self

    def __exit__(self, *unused: object) -> None:
        for pod in self._pods:
            self._call("StopPodSandbox", {1: pod})
            self._call("RemovePodSandbox", {1: pod})
        self._channel.close()

    def _call(self, method: str, message: Message) -> Message:
        """Raises grpc.RpcError, with what containerd says in `details()`."""
        call = self._channel.unary_unary(
            f"/runtime.v1.RuntimeService/{method}", request_serializer=encode, response_deserializer=decode
        )
        answer: Message = call(message, timeout=TIMEOUT_SECONDS, wait_for_ready=True)
        return answer

    def _pod_config(self, name: str) -> Message:
        security = {1: {1: NODE}}
        return {1: {1: name, 2: f"{name}-uid", 3: "default"}, 8: {1: self.cgroup_parent, 2: security}}

    def run_pod(self, name: str) -> str:
        """Starts a pod's sandbox with the runtime handler that a RuntimeClass would name; its id."""
        answer = self._call("RunPodSandbox", {1: self._pod_config(name), 2: self.handler})
        self._pods.append(answer[1].decode())
        return self._pods[-1]

    def create(self, pod: str, pod_name: str, name: str, *command: str, linux: Message | None = None) -> str:
        """Makes a container in a pod; its id."""
        config: Message = {1: {1: name}, 2: {1: NAME}, 3: list(command)}
        config[15] = {2: {3: {1: NODE}}, **(linux or {})}
        answer = self._call("CreateContainer", {1: pod, 2: config, 3: self._pod_config(pod_name)})
        identifier: str = answer[1].decode()
        return identifier

    def start(self, container: str) -> None:
        self._call("StartContainer", {1: container})

    def execute(self, container: str, *command: str) -> tuple[int, str]:
        """The exit code and the output of a command in a container (what a probe of the kubelet is)."""
        answer = self._call("ExecSync", {1: container, 2: list(command), 3: 60})
        return answer.get(3, 0), answer.get(1, b"").decode()

    def status(self, container: str) -> tuple[int, int]:
        """A container's state and exit code."""
        status = decode(self._call("ContainerStatus", {1: container})[1])
        return status.get(3, 0), status.get(7, 0)

    def update_memory(self, container: str, limit_bytes: int) -> None:
        self._call("UpdateContainerResources", {1: container, 2: {4: limit_bytes}})

    def stop(self, container: str, timeout_seconds: int) -> None:
        self._call("StopContainer", {1: container, 2: timeout_seconds})

    def remove(self, container: str) -> None:
        self._call("RemoveContainer", {1: container})
