"""The options of `docker run` and `podman run` that are a matter of the runtime, and what a container sees of each."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.facts import Facts


@dataclass(frozen=True, slots=True)
class Flag:
    """`words` with {shared} for a folder; `check` asserts what the probe has to have seen, and is true."""

    words: tuple[str, ...]
    check: Callable[[Facts], bool]
    network: str = "none"


def is_own(facts: Facts, kind: str) -> bool:
    """Whether the container has a namespace of its own."""
    return bool(facts["namespaces"][kind] != os.stat(f"/proc/self/ns/{kind}").st_ino)


FLAGS = {
    "--cap-drop": Flag(
        ("--cap-drop", "ALL", "--cap-add", "NET_BIND_SERVICE"),
        lambda facts: facts.capabilities("bounding") == {"CAP_NET_BIND_SERVICE"},
    ),
    "--read-only": Flag(("--read-only",), lambda facts: "ro" in facts.mount("/").options),
    "--tmpfs": Flag(("--tmpfs", "/scratch:size=64k,mode=1770"), lambda facts: facts.path("/scratch")["mode"] == 0o1770),
    "-v": Flag(("-v", "{shared}:/shared:ro"), lambda facts: "ro" in facts.mount("/shared").options),
    "--user": Flag(
        ("--user", "1000:1001", "--group-add", "7"),
        lambda facts: (facts["uids"], facts["gids"]) == ([1000] * 3, [1001] * 3) and 7 in facts["groups"],
    ),
    "--init": Flag(("--init",), lambda facts: facts["pid"] != 1),
    "--privileged": Flag(("--privileged",), lambda facts: facts.status("Seccomp") == "0"),
    "--security-opt no-new-privileges": Flag(
        ("--security-opt", "no-new-privileges"), lambda facts: facts["no_new_privs"] == 1
    ),
    "--security-opt seccomp=unconfined": Flag(
        ("--security-opt", "seccomp=unconfined"), lambda facts: facts.status("Seccomp") == "0"
    ),
    # Podman forgets those of its configuration then, and asks for more than this root may give.
    "--ulimit": Flag(
        ("--ulimit", "nofile=100:200", "--ulimit", "nproc=4096:4096"),
        lambda facts: facts["rlimits"]["NOFILE"] == [100, 200],
    ),
    "--sysctl": Flag(("--sysctl", "net.ipv4.ip_unprivileged_port_start=79"), lambda facts: is_own(facts, "net")),
    "--device": Flag(("--device", "/dev/zero:/dev/other:r"), lambda facts: facts.path("/dev/other")["rdev"] == [1, 5]),
    "--hostname": Flag(("--hostname", "somewhere"), lambda facts: facts["hostname"] == "somewhere"),
    "--network none": Flag((), lambda facts: is_own(facts, "net")),
    "--network host": Flag((), lambda facts: not is_own(facts, "net"), network="host"),
    "--pid host": Flag(("--pid", "host"), lambda facts: not is_own(facts, "pid")),
    "--ipc host": Flag(("--ipc", "host"), lambda facts: not is_own(facts, "ipc")),
    "--uts host": Flag(("--uts", "host"), lambda facts: facts["hostname"] == socket.gethostname()),
    "--cgroupns host": Flag(("--cgroupns", "host"), lambda facts: not is_own(facts, "cgroup")),
    "--workdir, --env": Flag(
        ("--workdir", "/var/tmp", "--env", "A=b"), lambda facts: (facts["cwd"], facts.env()["A"]) == ("/var/tmp", "b")
    ),
    "--oom-score-adj": Flag(("--oom-score-adj", "500"), lambda facts: facts["oom_score_adj"] == "500\n"),
    "--shm-size": Flag(("--shm-size", "128k"), lambda facts: "size=128k" in facts.mount("/dev/shm").super_options),
}
