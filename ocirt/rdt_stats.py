"""The numbers of a container's resctrl group (resctrl.rst), under the names of runc's events.

Guarantees: compile_rdt_stats is pure. What a machine has no control or counter of is left out.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping

from ocirt.rdt import compile_rdt, probe_resctrl
from ocirt.spec import IntelRdt

_ROOT, _GROUP, _INFO, _MONITORED = "root/schemata", "group/schemata", "info/", "mon_data/"

# runc's key, the resource's name in resctrl, what is told of its control.
_CONTROLS = (
    ("l3_cache", "L3", ("cbm_mask", "min_cbm_bits", "num_closids")),
    ("mem_bw", "MB", ("bandwidth_gran", "delay_linear", "min_bandwidth", "num_closids")),
)
_MASK = "cbm_mask"
_COUNTERS = {"mbm_stats": ("mbm_total_bytes", "mbm_local_bytes"), "cmt_stats": ("llc_occupancy",)}


def probe_rdt_stats(rdt: IntelRdt, container_id: str) -> dict[str, object]:
    """Those of the container's own monitoring group where it has one, else of all that is in its group.

    Raises HostError where resctrl is not mounted. A group that is gone has no numbers.
    """
    plan = compile_rdt(rdt, container_id)
    top = probe_resctrl(pointer=plan.pointer).path
    group = os.path.join(top, plan.group).rstrip("/")
    monitored = os.path.join(group, "mon_groups", plan.monitoring_group) if plan.monitoring_group else group
    files = {_ROOT: f"{top}/schemata", _GROUP: f"{group}/schemata"}
    for _, resource, controls in _CONTROLS:
        files |= {f"{_INFO}{resource}/{name}": f"{top}/info/{resource}/{name}" for name in controls}
    for domain in _names(f"{monitored}/mon_data"):
        for name in (name for names in _COUNTERS.values() for name in names):
            files[f"{_MONITORED}{domain}/{name}"] = f"{monitored}/mon_data/{domain}/{name}"
    return compile_rdt_stats(_read_all(files))


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _read_all(paths: Mapping[str, str]) -> dict[str, str]:
    files = {}
    for key, path in paths.items():
        with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
            files[key] = file.read().rstrip("\n")
    return files


def compile_rdt_stats(files: Mapping[str, str]) -> dict[str, object]:
    """`intel_rdt` of a stats event from the texts of the files as probe_rdt_stats names them."""
    stats: dict[str, object] = {}
    for key, resource, names in _CONTROLS:
        info = {name: files[path] for name in names if (path := f"{_INFO}{resource}/{name}") in files}
        if not info:
            continue
        stats[f"{key}_info"] = {name: text if name == _MASK else _number(text) for name, text in info.items()}
        for suffix, path in (("schema_root", _ROOT), ("schema", _GROUP)):
            if line := _schema(files.get(path, ""), resource):
                stats[f"{key}_{suffix}"] = line
    if _GROUP in files:
        stats["schemata"] = [line.strip() for line in files[_GROUP].splitlines()]
    for key, counters in _COUNTERS.items():
        if domains := list(_domains(files, counters)):
            stats[key] = domains
    return stats


def _schema(text: str, resource: str) -> str:
    lines = (line.strip() for line in text.splitlines())
    return next((line for line in lines if line.partition(":")[0].strip() == resource), "")


def _domains(files: Mapping[str, str], names: Iterable[str]) -> Iterable[dict[str, int]]:
    """One object for each domain that counts one of these."""
    domains: dict[str, dict[str, int]] = {}
    for path, text in files.items():
        directory, _, name = path.rpartition("/")
        if directory.startswith(_MONITORED) and name in names:
            domains.setdefault(directory, dict.fromkeys(names, 0))[name] = _number(text)
    return domains.values()


def _number(text: str) -> int:
    """0 for what the kernel cannot tell now ("Unavailable")."""
    return int(text) if text.strip().isdecimal() else 0
