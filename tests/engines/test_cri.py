"""containerd's CRI plugin with a runtime handler for each runtime, as the kubelet uses it for a RuntimeClass."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines.cri import EXITED, RUNNING, CriClient
from tests.engines.engine import OciRuntime
from tests.engines.seen import Comparison, assert_explained, comparable
from tests.engines.test_cli import PATHS
from tests.support.runtime import wait_for

grpc = pytest.importorskip("grpc", reason="needs grpcio (pip install 'ocirt[engines]')")


def feature(name: str) -> pytest.MarkDecorator:
    return pytest.mark.feature("containerd", name)


@feature("CRI: pod, container, exec, stop (RuntimeClass)")
def test_a_pod_and_its_containers(cri: CriClient, seen: Comparison) -> None:
    pod = cri.run_pod("pod")
    container = cri.create(pod, "pod", "one", "/probe", "hold")
    cri.start(container)
    assert cri.status(container) == (RUNNING, 0)
    code, output = cri.execute(container, "/probe", *PATHS)
    assert code == 0
    facts = comparable(output)
    seen.same("facts", facts)
    assert cri.execute(container, "sh", "-c", "exit 4")[0] == 4
    cri.stop(container, 10)
    assert cri.status(container) == (EXITED, 42)
    cri.remove(container)


@feature("CRI: a start that fails")
def test_a_failing_start_is_explained(cri: CriClient, runtime: OciRuntime) -> None:
    pod = cri.run_pod("pod")
    container = cri.create(pod, "pod", "one", "no-such-program")
    with pytest.raises(grpc.RpcError) as caught:
        cri.start(container)
    assert 'exec: "no-such-program": executable file not found in $PATH' in caught.value.details()
    if runtime.name == "ocirt":
        assert "/process/args/0: " in caught.value.details()


@feature("CRI: a start that fails: pointer, system call, errno, hint")
def test_a_failing_start_has_a_hint(cri: CriClient, runtime: OciRuntime) -> None:
    pod = cri.run_pod("pod")
    container = cri.create(pod, "pod", "one", "/etc/no-program")
    if runtime.name == "runc":
        # It has started by then, and says so in its own output.
        cri.start(container)
        return
    with pytest.raises(grpc.RpcError) as caught:
        cri.start(container)
    hint = "neither a binary for this machine nor a script with a #! line"
    assert_explained(caught.value.details(), "/process/args: ", "execve /etc/no-program", "exec format error", hint)


@feature("CRI: exit code")
def test_the_exit_code(cri: CriClient) -> None:
    pod = cri.run_pod("pod")
    container = cri.create(pod, "pod", "one", "sh", "-c", "exit 7")
    cri.start(container)
    wait_for(lambda: cri.status(container) == (EXITED, 7))


@feature("CRI: update")
@pytest.mark.controllers("memory", "cpu")
def test_update(cri: CriClient) -> None:
    pod = cri.run_pod("pod")
    container = cri.create(pod, "pod", "one", "/probe", "hold", linux={1: {4: 64 << 20}})
    cri.start(container)
    limit = Path(f"/sys/fs/cgroup{cri.cgroup_parent}/{container}/memory.max")
    assert limit.read_text() == f"{64 << 20}\n"
    cri.update_memory(container, 128 << 20)
    assert limit.read_text() == f"{128 << 20}\n"
