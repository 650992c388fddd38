#!/usr/bin/env python3
"""Makes a small, real root filesystem from Debian's busybox-static: the program, its applets' links, /etc and folders.

The result needs no network and no root, and is the same at every run. Used by the demo and the integration tests.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
FOLDERS = "bin dev etc home/user mnt proc root run sbin sys tmp usr/bin usr/sbin var/tmp".split()
ETC = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n",
    "group": "root:x:0:\nuser:x:1000:\n",
    "hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost\n",
    "os-release": 'NAME="busybox"\nID=busybox\n',
}


def make_rootfs(target: Path, busybox: Path = BUSYBOX) -> None:
    """Fills `target`, which must not exist or be empty. Raises OSError, also where busybox isn't installed."""
    for folder in FOLDERS:
        (target / folder).mkdir(parents=True, exist_ok=True)
    for folder in ("tmp", "var/tmp"):
        (target / folder).chmod(0o1777)
    shutil.copy(busybox, target / "bin/busybox")
    applets = subprocess.run([busybox, "--list-full"], check=True, capture_output=True, text=True).stdout.split()
    for applet in applets:
        link = target / applet
        if not link.exists() and not link.is_symlink():
            link.symlink_to("/bin/busybox")
    for name, text in ETC.items():
        (target / "etc" / name).write_text(text)


def main() -> int:
    parser = argparse.ArgumentParser(description="make a root filesystem from busybox-static")
    parser.add_argument("target", type=Path)
    make_rootfs(parser.parse_args().target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
