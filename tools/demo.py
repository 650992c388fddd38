#!/usr/bin/env python3
"""Runs a real bundle with the runtime given as arguments, and shows what its container sees, and what the host does.

`demo.py DIR RUNTIME [ARG...]` makes the bundle below DIR (removed afterwards). As a user other than root it runs
the rootless configuration.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools.mkrootfs import make_rootfs

HOSTNAME = "ocirt-demo"
INSIDE = """\
echo "hostname:  $(hostname)"
echo "id:        $(id)"
echo "kernel:    $(uname -sr)"
echo "cgroup:    $(cat /proc/self/cgroup)"
echo "processes:"; ps
echo "mounts:"; mount
"""


def write_config(runtime: list[str], bundle: Path) -> None:
    """The runtime's own default configuration, with the demo's program in it."""
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    subprocess.run([*runtime, "spec", *rootless, "--bundle", str(bundle)], check=True)
    path = bundle / "config.json"
    config: dict[str, Any] = json.loads(path.read_text())
    config["hostname"] = HOSTNAME
    config["process"]["terminal"] = False
    config["process"]["args"] = ["/bin/sh", "/demo.sh"]
    path.write_text(json.dumps(config, indent=2))


def show(runtime: list[str], *command: str) -> None:
    """Prints the command line as a person would type it, and its output below."""
    print(f"\n$ {Path(runtime[0]).name if len(runtime) == 1 else 'ocirt'} {' '.join(command)}", flush=True)
    subprocess.run([*runtime, *command], check=True, stdin=subprocess.DEVNULL)


def show_lifecycle(runtime: list[str], bundle: Path, name: str) -> None:
    """A second container, taken through its life one command at a time."""
    path = bundle / "config.json"
    config = json.loads(path.read_text())
    config["process"]["args"] = ["/bin/sleep", "60"]
    path.write_text(json.dumps(config, indent=2))
    # The container's stdio is not this program's: nothing waits for one that a failure leaves running.
    create = [*runtime, "create", "--bundle", str(bundle), name]
    subprocess.run(create, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        show(runtime, "start", name)
        show(runtime, "exec", name, "/bin/ps")
        show(runtime, "state", name)
    finally:
        show(runtime, "delete", "--force", name)


def main(arguments: list[str]) -> int:
    if len(arguments) < 2:
        print("usage: demo.py DIR RUNTIME [ARG...]", file=sys.stderr)
        return 2
    bundle, runtime = Path(arguments[0]).absolute(), arguments[1:]
    shutil.rmtree(bundle, ignore_errors=True)
    name = f"ocirt-demo-{os.getpid()}"
    try:
        make_rootfs(bundle / "rootfs")
        (bundle / "rootfs/demo.sh").write_text(INSIDE)
        write_config(runtime, bundle)
        show(runtime, "run", "--bundle", str(bundle), name)
        show_lifecycle(runtime, bundle, name)
    except subprocess.CalledProcessError as error:
        print(f"demo: {' '.join(map(str, error.cmd))}: exit code {error.returncode}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(bundle, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
