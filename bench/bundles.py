"""The bundles that all runtimes are given: the default of `spec`, and that with a profile, with mounts, with both.

They share one root filesystem, which is busybox's, and read-only as the default says.
"""

from __future__ import annotations

import copy
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.seccomp_profile import make_profile
from tools.mkrootfs import make_rootfs

Config = dict[str, Any]

# Understood by every runtime, whichever wrote the default.
OCI_VERSION = "1.0.2"
MOUNTS = 40
LONG_LIVED = ["/bin/sleep", "86400"]


@dataclass(frozen=True, slots=True)
class Bundles:
    """The folders, each with a config.json."""

    default: Path
    long_lived: Path
    seccomp: Path
    new_seccomp: Path
    mounts: Path
    both: Path

    def renew_profile(self, variant: int) -> None:
        """Gives `new_seccomp` a profile that no runtime has seen."""
        path = self.new_seccomp / "config.json"
        config: Config = json.loads(path.read_text())
        config["linux"]["seccomp"] = make_profile(os.uname().machine, variant)
        path.write_text(json.dumps(config))


def make_bundles(folder: Path, default: Config) -> Bundles:
    """Writes the bundles below `folder`, of the config.json that a runtime's `spec` has written."""
    make_rootfs(folder / "rootfs")
    plain = base_config(default, folder / "rootfs")
    mounts = with_mounts(plain, folder)
    profile = make_profile(os.uname().machine)
    return Bundles(
        default=_write(folder / "default", plain),
        long_lived=_write(folder / "long-lived", with_program(plain, LONG_LIVED)),
        seccomp=_write(folder / "seccomp", with_profile(plain, profile)),
        new_seccomp=_write(folder / "new-seccomp", with_profile(plain, profile)),
        mounts=_write(folder / "mounts", mounts),
        both=_write(folder / "both", with_profile(mounts, profile)),
    )


def _write(bundle: Path, config: Config) -> Path:
    bundle.mkdir()
    (bundle / "config.json").write_text(json.dumps(config, indent="\t"))
    return bundle


def base_config(default: Config, rootfs: Path) -> Config:
    """The default without a terminal, and with busybox's `true`."""
    config = with_program(default, ["/bin/true"])
    config["ociVersion"] = OCI_VERSION
    config["process"]["terminal"] = False
    config["root"]["path"] = str(rootfs)
    return config


def with_program(config: Config, arguments: list[str]) -> Config:
    config = copy.deepcopy(config)
    config["process"]["args"] = arguments
    return config


def with_profile(config: Config, profile: Config) -> Config:
    config = copy.deepcopy(config)
    config["linux"]["seccomp"] = profile
    return config


def with_mounts(config: Config, folder: Path) -> Config:
    """Makes the mounts forty, as a pod's volumes would: files, folders, read-only or not, and now and then a tmpfs.

    Their sources are made below `folder`, and their targets in the root filesystem.
    """
    config = copy.deepcopy(config)
    for number in range(MOUNTS - len(config["mounts"])):
        source, target = folder / "volumes" / str(number), f"/mnt/{number}"
        config["mounts"].append(_volume(number, source, target))
        in_rootfs = Path(config["root"]["path"]) / target.lstrip("/")
        for path in (source, in_rootfs):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch() if number % 8 == 0 else path.mkdir()
    return config


def _volume(number: int, source: Path, target: str) -> Config:
    if number % 8 == 7:
        options = ["nosuid", "nodev", "mode=755", "size=64k"]
        return {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options}
    options = ["rbind", "rprivate", "ro"] if number % 2 == 0 else ["rbind", "rprivate"]
    return {"destination": target, "type": "bind", "source": str(source), "options": options}
