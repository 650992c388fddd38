"""What an update of a container's resources changes, in which order, and how it is taken back.

Guarantees: everything named compile_* and merge_* is pure. Only those files are written that the update is about, or
whose value follows from what it is about together with what the container has already. `restore` leaves every file of
them as it was, also after a part was written.

Resources are here as JSON has them (config-linux.md#control-groups), since what the container has is kept as JSON.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ocirt.cgroup.directory import Cgroup
from ocirt.cgroup.resources import compile_resources
from ocirt.cgroup.settings import Setting
from ocirt.errors import HostError, StateError
from ocirt.notice import Notice
from ocirt.spec import Resources, parse_resources
from ocirt.spec.values import pointer_to

JSONObject = Mapping[str, Any]

# Properties of which such a value means that nothing is asked for; what the container has then stays.
_NOTHING_ASKED: Mapping[str, Mapping[str, object]] = {
    "memory": dict.fromkeys(("limit", "reservation", "swap", "kernel", "kernelTCP"), 0),
    "cpu": dict.fromkeys(("shares", "quota", "period", "realtimeRuntime", "realtimePeriod"), 0)
    | dict.fromkeys(("cpus", "mems"), ""),
    "blockIO": dict.fromkeys(("weight", "leafWeight"), 0),
    "pids": {},
    "network": {"classID": 0},
}

# Lists whose entries are each about one thing: what tells which.
_KEYS = {
    "weightDevice": ("major", "minor"),
    "throttleReadBpsDevice": ("major", "minor"),
    "throttleWriteBpsDevice": ("major", "minor"),
    "throttleReadIOPSDevice": ("major", "minor"),
    "throttleWriteIOPSDevice": ("major", "minor"),
    "hugepageLimits": ("pageSize",),
}

# Files whose value is made of several properties, or that lose it with another one: cpu.idle resets cpu.weight.
_MADE_OF = {
    "memory.swap.max": ("/memory/limit", "/memory/swap"),
    "cpu.max": ("/cpu/quota", "/cpu/period"),
    "cpu.weight": ("/cpu/shares", "/cpu/idle"),
}

# What compile_order and check_usage look at, and what cpu.idle resets, beside the files that are to be written.
CONSULTED_FILES = ("cpu.idle", "cpu.max", "cpu.weight", "memory.max", "memory.current", "memory.swap.current")

# Files with a line for each device, and what is written behind the device for no limit of its own.
_UNLIMITED = {
    "io.max": "rbps=max wbps=max riops=max wiops=max",
    "io.weight": "default",
    "io.bfq.weight": "default",
    "io.latency": "target=0",
    "rdma.max": "hca_handle=max hca_object=max",
}


@dataclass(frozen=True, slots=True)
class Update:
    """`resources`: all that the container has afterwards. `devices`: whether its device rules change.

    `notices` say what of the update is not quite as it was asked for.
    """

    resources: JSONObject
    model: Resources
    settings: tuple[Setting, ...]
    devices: bool
    notices: tuple[Notice, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """All that may be written, the alternatives too."""
        found = dict.fromkeys(setting.file for setting in self.settings)
        return tuple(found | dict.fromkeys(setting.otherwise.file for setting in self.settings if setting.otherwise))


def merge_resources(has: JSONObject, wanted: JSONObject) -> tuple[dict[str, Any], frozenset[str]]:
    """What the container is to have, and the JSON pointers into it of all that `wanted` asks for.

    As with runc, an absent property leaves what is there, and so does the zero with which a caller says "not set". Of
    lists, the entries with the same device or page size are replaced, but for the device rules, which only make sense
    as a whole. No memory limit (-1) means no limit of memory and swap, unless there is one beside it.
    """
    merged, asked = _copy(has), set[str]()
    for group, value in wanted.items():
        at = pointer_to("", group)
        if group in _NOTHING_ASKED:
            _merge_properties(merged, group, value or {}, asked)
        elif group in _KEYS:
            _merge_list(merged, group, value or (), at, asked)
        elif group in ("unified", "rdma"):
            for name, item in (value or {}).items():
                own = merged.setdefault(group, {})
                own[name] = {**own.get(name, {}), **item} if isinstance(item, dict) else item
                asked.add(pointer_to(at, name))
        elif group == "devices" and value:
            merged[group] = value
            asked.add(at)
    if (wanted.get("memory") or {}).get("limit") == -1 and "/memory/swap" not in asked:
        merged["memory"].pop("swap", None)
    return merged, frozenset(asked)


def _copy(value: Any) -> Any:
    """Objects and lists anew, without the members that are null."""
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items() if item is not None}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _merge_properties(merged: dict[str, Any], group: str, wanted: JSONObject, asked: set[str]) -> None:
    nothing = _NOTHING_ASKED[group]
    for name, value in wanted.items():
        at = pointer_to(f"/{group}", name)
        if value is None or (name in nothing and value == nothing[name]):
            continue
        own = merged.setdefault(group, {})
        if name in _KEYS:
            _merge_list(own, name, value, at, asked)
        else:
            own[name] = value
            asked.add(at)


def _merge_list(owner: dict[str, Any], name: str, wanted: Sequence[JSONObject], at: str, asked: set[str]) -> None:
    entries = owner.setdefault(name, [])
    for item in wanted:
        key = [item[part] for part in _KEYS[name]]
        # As in writing, the last of several counts.
        places = [index for index, entry in enumerate(entries) if [entry[part] for part in _KEYS[name]] == key]
        index = places[-1] if places else len(entries)
        entries[index : index + 1] = [{**(entries[index] if places else {}), **item}]
        asked.add(f"{at}/{index}")


def compile_update(has: JSONObject, wanted: JSONObject) -> Update:
    """What is to be written for `wanted`, which was parsed, in the container that has `has`.

    Pointers are those of `wanted`, where it has them. Raises SpecError.
    """
    merged, asked = merge_resources(has, wanted)
    model = parse_resources(merged)
    compiled = compile_resources(model, "")
    before = set(compile_resources(parse_resources(_copy(has)), "").settings)
    settings = tuple(each for each in compiled.settings if each not in before or _is_asked(each, asked))
    devices = "/devices" in asked and merged["devices"] != _copy(has).get("devices")
    notices = tuple(notice for notice in compiled.notices if _is_within(notice.pointer, asked))
    return Update(merged, model, settings, devices, notices)


def _is_asked(setting: Setting, asked: frozenset[str]) -> bool:
    return _is_within(setting.origin, asked) or not asked.isdisjoint(_MADE_OF.get(setting.file, ()))


def _is_within(pointer: str, pointers: frozenset[str]) -> bool:
    return any(pointer == each or pointer.startswith(f"{each}/") for each in pointers)


def compile_order(settings: Sequence[Setting], now: Mapping[str, str]) -> tuple[Setting, ...]:
    """The settings in an order in which the kernel takes each, and which no process suffers from.

    `now`: the texts of the files. A cgroup that is idle has no weight to be written; it is set when it is no longer
    idle, and until then only recorded.
    """
    ordered = list(settings)
    values = {setting.file: setting.value for setting in ordered}
    if now.get("cpu.idle", "").strip() == "1" == values.get("cpu.idle", "1"):
        ordered = [setting for setting in ordered if setting.file != "cpu.weight"]
    # A burst must never be larger than the quota.
    quota = _limit(now.get("cpu.max", "max").split()[0])
    _put(ordered, "cpu.max.burst", "cpu.max", first=_limit(values.get("cpu.max.burst", "0")) <= quota)
    # Memory that no longer fits is to find the new swap space, and not be killed for want of it.
    shrinks = _limit(values.get("memory.max", "max")) < _limit(now.get("memory.max", "max").strip())
    _put(ordered, "memory.swap.max", "memory.max", first=shrinks)
    return tuple(ordered)


def _limit(text: str) -> float:
    return int(text) if text.isdecimal() else float("inf")


def _put(settings: list[Setting], file: str, other: str, *, first: bool) -> None:
    """Where both are written, have the one before the other, or behind it."""
    places = [index for index, setting in enumerate(settings) if setting.file in (file, other)]
    pair = sorted((settings[index] for index in places), key=lambda setting: (setting.file == file) != first)
    for index, setting in zip(places, pair, strict=True):
        settings[index] = setting


def check_usage(update: Update, now: Mapping[str, str]) -> None:
    """memory.checkBeforeUpdate: no limit below what is used. Raises StateError with the pointer of the limit."""
    memory = update.model.memory
    if not memory or not memory.check_before_update:
        return
    for setting in update.settings:
        used = {"memory.max": "memory.current", "memory.swap.max": "memory.swap.current"}.get(setting.file)
        if used and _limit(setting.value) < (usage := int(now.get(used, "0"))):
            raise StateError(
                f"{setting.origin}: rejected by memory.checkBeforeUpdate: {setting.file} would be {setting.value}, "
                f"{used} is {usage}",
                code="cgroup.usage",
            )


def probe_values(cgroup: Cgroup, names: Sequence[str]) -> dict[str, str]:
    """The texts of those files that can be read. Raises HostError."""
    values = {}
    for name in names:
        try:
            values[name] = cgroup.read(name)
        except HostError as error:
            # Missing; or only to be written.
            if error.errno not in (errno.ENOENT, errno.EINVAL, errno.EACCES, errno.EOPNOTSUPP):
                raise
    return values


def compile_restoration(
    settings: Sequence[Setting], before: Mapping[str, str], now: Mapping[str, str]
) -> list[tuple[str, str]]:
    """(file, text) that undo the settings, in this order, where they had an effect. `before`, `now`: texts of files."""
    written = [each for setting in settings for each in (setting, setting.otherwise) if each]
    if any(setting.file == "cpu.idle" for setting in written):
        written.insert(0, Setting("", "cpu.weight", ""))  # which that has reset
    writes = []
    for setting in reversed(written):
        if setting.file in before:
            text = _former(setting, before[setting.file])
            changed = text != _former(setting, now.get(setting.file, ""))
            if text is not None and changed and (setting.file, text) not in writes:
                writes.append((setting.file, text))
    return writes


def _former(setting: Setting, before: str) -> str | None:
    lines = before.splitlines()
    words = setting.value.split()
    is_about_device = setting.file in _UNLIMITED and len(words) > 1 and words[0] != "default"
    if is_about_device:
        line = next((line for line in lines if line.split()[:1] == words[:1]), "")
        return line or f"{words[0]} {_UNLIMITED[setting.file]}"
    if len(lines) > 1:
        # A line for each key, of which the first word of what was written is one; or a default, and lines of devices.
        wanted = "default" if setting.file in _UNLIMITED else words[0] if words else ""
        return next((line for line in lines if line.split()[:1] == [wanted]), None)
    # The weight of an idle cgroup shows as 0; being idle again brings it back.
    return None if (setting.file, before.strip()) == ("cpu.weight", "0") else before.strip()


def restore(
    cgroup: Cgroup, settings: Sequence[Setting], before: Mapping[str, str], warn: Callable[[str], None]
) -> None:
    """Write back what the settings have changed. What cannot be is told, and the rest goes on."""
    for file, text in compile_restoration(settings, before, probe_values(cgroup, tuple(before))):
        try:
            # An empty list is a newline: a write of nothing does nothing.
            cgroup.write(file, f"{text}\n")
        except HostError as error:
            warn(f"not as it was before the update: {error}")
