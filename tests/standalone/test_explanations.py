"""A refused config is explained in the same words by the binary and by the modules, which use rpds in Rust."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.bundle import default_config

MISSING = object()
# Not isolated, which would ignore $PYTHONHASHSEED.
SEEDED = (sys.executable, "-P", "-s", "-m", "ocirt")

# pointer -> a value that no schema takes, or none at all
REFUSED: list[dict[str, Any]] = [
    {"/ociVersion": MISSING},
    {"/ociVersion": 1},
    {"/ociVersion": "x"},
    {"/root": MISSING, "/process": "x"},
    {"/root/path": "a\0b"},
    {"/process/args": []},
    {"/process/args": [1, None, "x\0"]},
    {"/process/cwd": "relative", "/process/user/uid": -1},
    {"/process/user/uid": 1 << 32, "/process/user/gid": 1.5},
    {"/process/capabilities": {"bounding": ["CAP_NOTHING"], "effective": "all"}},
    {"/process/rlimits": [{"type": "RLIMIT_NOFILE"}, {"type": "NONE", "soft": 1, "hard": True}]},
    {"/mounts": [{"destination": ""}, {}, 7]},
    {"/mounts": {"destination": "/x"}},
    {"/linux/namespaces": [{"type": "none"}, {"type": "pid", "path": 1}, {}]},
    {"/linux/resources": {"memory": {"limit": "1"}, "pids": {}, "devices": [{"allow": 1}], "hugepageLimits": [{}]}},
    {"/linux/seccomp": {"defaultAction": "SCMP_ACT_MAYBE", "syscalls": [{"names": []}, {"action": "SCMP_ACT_ALLOW"}]}},
    {"/linux/intelRdt": {"closID": ""}, "/annotations": {"": "x", "a": 1}},
    {"/hooks": {"prestart": [{"path": "x", "timeout": 0}], "none": []}},
    {"/hostname": ["x"], "/domainname": {}},
]


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    config = default_config()
    for pointer, value in changes.items():
        *parents, last = pointer.lstrip("/").split("/")
        at: Any = config
        for name in parents:
            at = at.setdefault(name, {})
        if value is MISSING:
            del at[last]
        else:
            at[last] = value
    return config


def explained(command: tuple[str, ...], bundle: Path) -> tuple[int, str, str]:
    """With the hash seed of the binary: jsonschema tells of additional properties in the order of a set."""
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    whole = [*command, "validate", "--bundle", str(bundle)]
    done = subprocess.run(whole, capture_output=True, text=True, check=False, env=environment)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("changes", REFUSED, ids=" ".join)
def test_the_table(binary: Path, bundle: Path, changes: dict[str, Any]) -> None:
    (bundle / "config.json").write_text(json.dumps(changed(changes)))
    code, out, err = explained((str(binary),), bundle)
    assert (code, out, err) == explained(SEEDED, bundle)
    assert code == 1
    assert "internal error" not in err


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 1 << 33) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["path", "type", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)
POINTERS = st.sampled_from(sorted({pointer for changes in REFUSED for pointer in changes}))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(POINTERS, ANY, min_size=1, max_size=3))
def test_any_value_anywhere(binary: Path, bundle: Path, changes: dict[str, Any]) -> None:
    ordered = dict(sorted(changes.items(), key=lambda item: -item[0].count("/")))
    (bundle / "config.json").write_text(json.dumps(changed(ordered)))
    assert explained((str(binary),), bundle) == explained(SEEDED, bundle)
