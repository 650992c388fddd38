"""An ordinary user's containers as scopes of that user's systemd."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.rootless.conftest import NewUserContainer
from tests.support.isolation import CGROUP
from tests.support.runtime import Container, wait_for
from tests.support.unprivileged import User, cgroup_of

pytestmark = [pytest.mark.root, pytest.mark.cgroup, pytest.mark.systemd]

# systemd starts a service manager for accounts alone; this one is everywhere, and nobody's.
UID = 65534


@pytest.fixture
def account(user: User) -> Iterator[User]:
    """A user with a systemd. The commands begin where the tests are, as in a login session: not among its cgroups."""
    units = (f"user-runtime-dir@{UID}.service", f"user@{UID}.service")
    subprocess.run(["systemctl", "start", *units], check=True, timeout=120, stdin=subprocess.DEVNULL)
    runtime_directory = Path(f"/run/user/{UID}")
    # Mounted where systemd is: the tests' own mounts are private.
    wait_for(Path(f"/proc/1/root{runtime_directory}/bus").exists, 60)
    made = replace(user, uid=UID, gid=UID, env={"XDG_RUNTIME_DIR": str(runtime_directory)})
    made.own(made.home)
    yield made
    subprocess.run(["systemctl", "stop", *reversed(units)], check=True, timeout=120, stdin=subprocess.DEVNULL)


@pytest.fixture
def scoped(account: User, as_user: NewUserContainer) -> Container:
    container = as_user(account)
    command = ("nsenter", "--target", "1", "--mount", "--", *container.runtime.command, "--systemd-cgroup")
    container.runtime = replace(container.runtime, command=command)
    return container


@pytest.mark.slow
def test_a_scope_of_the_users(scoped: Container) -> None:
    here = cgroup_of(os.getpid())
    scoped.linux["resources"] = {"pids": {"limit": 50}}
    scoped.hold()
    own = cgroup_of(scoped.pid)
    assert own.endswith(f"/user@{UID}.service/user.slice/ocirt-{scoped.id}.scope")
    assert not here.startswith(own.partition(f"/user@{UID}.service")[0])
    assert (CGROUP / own.strip("/") / "pids.max").read_text() == "50\n"
    state = json.loads((scoped.runtime.root / scoped.id / "state.json").read_text())
    assert state["cgroup"]["bus"] == f"unix:path=/run/user/{UID}/bus"
    assert scoped.exec("/bin/cat", "/proc/self/cgroup").out.splitlines()[-1] == "0::/"
    # Engines leave the environment out here.
    command = scoped.runtime.argv("delete", "--force", scoped.id)
    bare = [word for word in command if not word.startswith("XDG_RUNTIME_DIR=")]
    assert len(bare) == len(command) - 1
    subprocess.run(bare, check=True, timeout=60, stdin=subprocess.DEVNULL)
    assert not (CGROUP / own.strip("/")).exists()
