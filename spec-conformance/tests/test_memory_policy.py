"""The NUMA policy of a program."""

from __future__ import annotations

from conformance.bed import Bed
from conformance.expect import equal
from requirements import Requirement

from tests.support.bundle import Config

# linux/mempolicy.h
MODES = {"MPOL_DEFAULT": 0, "MPOL_PREFERRED": 1, "MPOL_BIND": 2, "MPOL_INTERLEAVE": 3, "MPOL_LOCAL": 4}
STATIC, RELATIVE = 1 << 15, 1 << 14


def policy(mode: str, nodes: str | None = "0", *flags: str) -> Config:
    found: Config = {"mode": mode} if nodes is None else {"mode": mode, "nodes": nodes}
    return {"linux": {"memoryPolicy": found | ({"flags": list(flags)} if flags else {})}}


def test_policy(requirement: Requirement, bed: Bed) -> None:
    for mode, number in MODES.items():
        nodes = None if mode in ("MPOL_DEFAULT", "MPOL_LOCAL") else "0"
        seen = bed.observe(policy(mode, nodes))["memory_policy"]
        if requirement.id.endswith("mode-applied"):
            equal(f"the policy with {mode}", seen["mode"], number)
        elif requirement.id.endswith("nodes-applied"):
            equal(f"the nodes with {mode}", seen["nodes"], 0 if nodes is None else 1)
    if requirement.id.endswith("flags-applied"):
        for flag, bit in {"MPOL_F_STATIC_NODES": STATIC, "MPOL_F_RELATIVE_NODES": RELATIVE}.items():
            seen = bed.observe(policy("MPOL_BIND", "0", flag))["memory_policy"]
            equal(f"the policy with {flag}", seen["mode"], MODES["MPOL_BIND"] | bit)


def test_bad_policy(requirement: Requirement, bed: Bed) -> None:
    good = bed.config(policy("MPOL_BIND"))
    for mode, nodes in (("MPOL_BIND", None), ("MPOL_INTERLEAVE", None), ("MPOL_LOCAL", "0"), ("MPOL_DEFAULT", "0")):
        bed.refused(bed.config(policy(mode, nodes)), good)
