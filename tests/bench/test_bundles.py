"""The bundles, and that ocirt finds nothing wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.bundles import MOUNTS, Bundles, make_bundles
from ocirt.spec import parse_config
from tests.support.bundle import default_config


@pytest.fixture
def bundles(tmp_path: Path) -> Bundles:
    return make_bundles(tmp_path, default_config())


def read(bundle: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((bundle / "config.json").read_text())
    return config


def test_all_are_valid_and_use_one_root_filesystem(bundles: Bundles) -> None:
    folders = [getattr(bundles, name) for name in Bundles.__slots__]
    assert len(set(folders)) == 6
    for folder in folders:
        spec = parse_config(read(folder))
        assert Path(spec.root.path) == bundles.default.parent / "rootfs"


def test_the_mounts_are_forty_and_their_ends_exist(bundles: Bundles) -> None:
    config = read(bundles.mounts)
    assert len(config["mounts"]) == MOUNTS
    rootfs = Path(config["root"]["path"])
    volumes = [mount for mount in config["mounts"] if mount["destination"].startswith("/mnt/")]
    for mount in volumes:
        source, target = Path(mount["source"]), rootfs / mount["destination"].lstrip("/")
        assert mount["type"] == "tmpfs" or source.is_dir() == target.is_dir()
        assert target.exists()
    assert {mount["type"] for mount in volumes} == {"bind", "tmpfs"}


def test_they_differ_in_what_they_are_for(bundles: Bundles) -> None:
    plain, seccomp, mounts, both = (
        read(one) for one in (bundles.default, bundles.seccomp, bundles.mounts, bundles.both)
    )
    assert "seccomp" not in plain["linux"]
    assert seccomp["mounts"] == plain["mounts"]
    assert both["mounts"] == mounts["mounts"]
    assert both["linux"] == seccomp["linux"]


def test_a_renewed_profile_is_another(bundles: Bundles) -> None:
    before = read(bundles.new_seccomp)
    bundles.renew_profile(7)
    after = read(bundles.new_seccomp)
    assert after["linux"].pop("seccomp") != before["linux"].pop("seccomp")
    assert after == before
