"""BuildKit, the one that is a part of dockerd: the RUN lines of a build are containers of the runtime."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines.cli import IMAGE
from tests.engines.docker import Docker
from tests.engines.seen import Comparison, assert_explained
from tests.engines.test_cli import PATHS
from tests.support.facts import Facts

BUILT = "localhost/built"


def feature(name: str) -> pytest.MarkDecorator:
    return pytest.mark.feature("buildkit", name)


def context(docker: Docker, *lines: str) -> Path:
    """A folder with a Dockerfile of these lines."""
    folder = docker.engine.folder / "context"
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text("".join(f"{line}\n" for line in (f"FROM {IMAGE}", *lines)))
    return folder


@feature("build")
def test_a_build(docker: Docker, seen: Comparison) -> None:
    # BuildKit has the runtime run in the foreground: there runc has pipes for stdio, and ocirt hands its own on.
    run = f"RUN /probe {' '.join(PATHS)} < /dev/null > /seen"
    folder = context(
        docker, run, "USER 1000", "WORKDIR /tmp", "ENV A=b", "RUN /probe < /dev/null > /tmp/as-user; test $A = b"
    )
    docker.build(folder, "--tag", BUILT)
    try:
        facts = Facts(seen.same_facts("facts", docker.run_image(BUILT, "cat", "/seen").out))
        assert facts.status("Seccomp") == "2"
        facts = Facts(seen.same_facts("as a user", docker.run_image(BUILT, "cat", "/tmp/as-user").out))
        assert (facts["cwd"], facts["uids"]) == ("/tmp", [1000, 1000, 1000])
    finally:
        docker("rmi", BUILT)


@feature("exit code")
def test_a_command_that_fails(docker: Docker) -> None:
    result = docker.build(context(docker, "RUN echo here; exit 7"), check=False)
    assert result.rc == 1
    assert "exit code: 7" in result.err


@feature("a start that fails: pointer, system call, errno, hint")
def test_a_failing_start_has_a_hint(docker: Docker) -> None:
    result = docker.build(context(docker, 'RUN ["/etc/no-program"]'), check=False)
    assert result.rc == 1
    assert "exec format error" in result.err
    if docker.runtime.name == "ocirt":
        hint = "neither a binary for this machine nor a script with a #! line"
        assert_explained(result.err, "/process/args: ", "execve /etc/no-program", "exec format error", hint)
