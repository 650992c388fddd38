"""Podman: what Docker has not, as root; and Buildah, which runs containers from Podman's storage."""

from __future__ import annotations

import socket

import pytest

from tests.engines.cli import IMAGE
from tests.engines.engine import why_missing
from tests.engines.podman import Buildah, Podman, check_health
from tests.engines.seen import Comparison, assert_explained
from tests.engines.test_cli import too_many_files
from tests.support.facts import Facts


def feature(name: str) -> pytest.MarkDecorator:
    return pytest.mark.feature("podman", name)


@feature("pods")
def test_a_pod_shares_namespaces(podman: Podman, seen: Comparison) -> None:
    # Podman 4.3 denies every device to the cgroup of a pod where the manager is not systemd.
    flags = ["--cgroup-parent", f"/{podman.engine.mark}", "--share-parent=false", "--network", "none"]
    flags += ["--infra-image", IMAGE, "--infra-command", "/probe hold", "--share", "net,ipc,uts"]
    podman("pod", "create", "--name", "pod", *flags)
    try:
        run = ["run", "--pod", "pod", *podman.run_flags()]
        podman(*run, "--detach", "--name", "one", IMAGE, "/probe", "hold")
        facts = seen.same_facts("facts", podman(*run, "--rm", IMAGE, "/probe").out)
        first = Facts.parse(podman.execute("one", "/probe").out)
        assert {kind: facts["namespaces"][kind] for kind in ("net", "ipc", "uts")} == {
            kind: first["namespaces"][kind] for kind in ("net", "ipc", "uts")
        }
        assert facts["namespaces"]["pid"] != first["namespaces"]["pid"]
        podman("pod", "pause", "pod")
        assert podman.status("one") == "paused"
        podman("pod", "unpause", "pod")
        podman("pod", "stop", "--time", "5", "pod")
        assert podman.status("one") == "exited"
        podman("pod", "start", "pod")
        assert podman.status("one") == "running"
    finally:
        podman("pod", "rm", "--force", "pod", check=False)


@feature("--userns, --uidmap")
def test_user_namespace(podman: Podman, seen: Comparison) -> None:
    flags = ("--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536")
    facts = seen.same_facts("facts", podman.run("/probe", "/etc/passwd", flags=flags).out)
    assert facts["uid_map"].split() == ["0", "100000", "65536"]


@feature("health checks")
def test_health_checks(podman: Podman) -> None:
    check_health(podman)


@feature("--cgroups=disabled")
def test_without_cgroups(podman: Podman, seen: Comparison) -> None:
    words = ["run", "--rm", "--network", "none", "--cgroups", "disabled", IMAGE]
    result = podman(*words, "/probe", check=podman.runtime.name != "runc")
    if podman.runtime.name == "runc":
        assert "not compatible with NoCgroups" in result.err
        pytest.skip("Podman does not let runc run without cgroups")
    seen.same_facts("facts", result.out)


@feature("--cgroups=no-conmon")
def test_without_a_cgroup_for_the_monitor(podman: Podman, seen: Comparison) -> None:
    seen.same_facts("facts", podman.run("/probe", flags=("--cgroups", "no-conmon")).out)


@feature("--systemd=always")
def test_for_systemd(podman: Podman, seen: Comparison) -> None:
    facts = Facts(seen.same_facts("facts", podman.run("/probe", flags=("--systemd", "always")).out))
    assert facts.mount("/run").kind == "tmpfs"


@feature("--sdnotify=container")
def test_notifications(podman: Podman) -> None:
    path = podman.engine.folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        server.settimeout(20)
        words = podman.run_arguments("--detach", "--sdnotify", "container", IMAGE, "/probe", "notify", "READY=1")
        podman(*words, env={"NOTIFY_SOCKET": str(path)})
        received = b""
        while b"READY=1" not in received:
            received += server.recv(4096)
    path.unlink()


@feature("--runtime with a path")
def test_a_runtime_given_by_its_path(podman: Podman) -> None:
    words = podman.run_arguments("--rm", IMAGE, "no-such-program")
    result = podman("--runtime", podman.runtime.path, *words, check=False)
    assert result.rc == 127
    assert 'exec: "no-such-program": executable file not found in $PATH' in result.err


@feature("--rootfs")
def test_a_root_that_is_no_image(podman: Podman, seen: Comparison) -> None:
    root = podman.store.image_tree
    words = podman.run_arguments("--rm", "--read-only", "--rootfs", root, "/probe")
    seen.same_facts("facts", podman(*words).out)


@pytest.fixture
def buildah(podman: Podman) -> Buildah:
    if reason := why_missing("buildah"):
        pytest.skip(reason)
    return Buildah(podman)


@pytest.mark.feature("buildah", "from, run")
def test_buildah_runs_a_command(buildah: Buildah, seen: Comparison) -> None:
    name = buildah("from", "--pull=never", *buildah.flags(), IMAGE).out.strip()
    try:
        seen.same_facts("facts", buildah.run(name, "/probe", "/etc/passwd", "/dev/null").out)
        assert buildah.run(name, "sh", "-c", "exit 3", check=False).rc == 3
        assert "executable file not found in $PATH" in buildah.run(name, "no-such-program", check=False).err
    finally:
        buildah("rm", name)


@pytest.mark.feature("buildah", "a start that fails: pointer, system call, errno, hint")
def test_buildah_shows_why_a_start_fails(buildah: Buildah) -> None:
    flags, words = too_many_files()
    name = buildah("from", "--pull=never", *buildah.flags(), *flags, IMAGE).out.strip()
    try:
        result = buildah.run(name, "true", check=False)
        assert result.rc != 0
        if buildah.podman.runtime.name == "ocirt":
            assert_explained(result.err, *words)
    finally:
        buildah("rm", name)


@pytest.mark.feature("buildah", "build")
def test_buildah_builds(buildah: Buildah) -> None:
    folder = buildah.podman.engine.folder / "context"
    folder.mkdir(exist_ok=True)
    (folder / "Containerfile").write_text(f"FROM {IMAGE}\nRUN id -u > /made\nUSER 1000\nRUN id -u > /tmp/made\n")
    runtime = ("--runtime", str(buildah.podman.runtime.path), "--isolation", "oci")
    buildah("build", "--pull-never", *runtime, *buildah.flags(), "--tag", "localhost/built", str(folder))
    try:
        words = ["run", *buildah.podman.run_flags(), "--network", "none", "--rm", "localhost/built"]
        assert buildah.podman(*words, "cat", "/made", "/tmp/made").out == "0\n1000\n"
    finally:
        buildah("rmi", "localhost/built")
