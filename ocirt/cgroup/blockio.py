"""linux.resources.blockIO as settings of the io controller (config-linux.md#block-io).

Guarantees: pure. A weight goes to the BFQ scheduler where the kernel has it, whose scale is that of the config, else,
converted, to the cost model behind io.weight. Each limit of a device is a write of its own, so that an error says whose
it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ocirt.cgroup.settings import Setting
from ocirt.cgroup.verdicts import Verdicts, missing, not_set, out_of_range, unsupported
from ocirt.constants import MAX_MAJOR, MAX_MINOR
from ocirt.errors import SpecError

if TYPE_CHECKING:
    from ocirt.spec import BlockIO, ThrottleDevice, WeightDevice

# Of BFQ (BFQ_MAX_WEIGHT) as of version 1.
MAX_WEIGHT = 1000

_NO_LEAVES = "cgroup v2 has no weights of its own for the processes of an inner cgroup"


def convert_weight(weight: int) -> int:
    """From 10..1000, the scale of version 1, to 1..10000, that of io.weight: linearly, as runc and crun do."""
    return max(1, 1 + (weight - 10) * 9999 // 990)


def compile_block_io(block_io: BlockIO, at: str) -> Verdicts:
    if block_io.weight == 0:
        yield not_set(f"{at}/weight")
    elif block_io.weight is not None:
        yield _weight("", block_io.weight, f"{at}/weight")
    if block_io.leaf_weight == 0:
        yield not_set(f"{at}/leafWeight")
    elif block_io.leaf_weight is not None:
        yield unsupported(f"{at}/leafWeight", _NO_LEAVES)
    for index, device in enumerate(block_io.weight_device):
        yield from _weight_device(device, f"{at}/weightDevice/{index}")
    for name, key, devices in (
        ("throttleReadBpsDevice", "rbps", block_io.throttle_read_bps_device),
        ("throttleWriteBpsDevice", "wbps", block_io.throttle_write_bps_device),
        ("throttleReadIOPSDevice", "riops", block_io.throttle_read_iops_device),
        ("throttleWriteIOPSDevice", "wiops", block_io.throttle_write_iops_device),
    ):
        for index, throttle in enumerate(devices):
            yield from _throttle(throttle, key, f"{at}/{name}/{index}")


def _weight(device: str, weight: int, pointer: str) -> Setting | SpecError:
    """`device`: empty for all, else with a space behind."""
    if weight > MAX_WEIGHT:
        return out_of_range(pointer, f"must be from 1 to {MAX_WEIGHT}, or 0 for no weight of its own")
    converted = Setting(pointer, "io.weight", f"{device}{convert_weight(weight) if weight else 'default'}")
    return Setting(pointer, "io.bfq.weight", f"{device}{weight or 'default'}", otherwise=converted)


def _weight_device(device: WeightDevice, at: str) -> Verdicts:
    """An entry MUST have a weight or a leaf weight."""
    yield from _number_problems(device, at)
    if device.weight is None and device.leaf_weight is None:
        yield missing(at, "needs a weight or a leafWeight")
    if device.weight is not None:
        yield _weight(f"{device.major}:{device.minor} ", device.weight, f"{at}/weight")
    if device.leaf_weight:
        yield unsupported(f"{at}/leafWeight", _NO_LEAVES)
    elif device.leaf_weight is not None:
        yield not_set(f"{at}/leafWeight")


def _throttle(device: ThrottleDevice, key: str, at: str) -> Verdicts:
    """The kernel takes no 0, which version 1 had for "no limit", and no 1 (block/blk-throttle.c, tg_set_limit)."""
    yield from _number_problems(device, at)
    if device.rate == 1:
        yield out_of_range(f"{at}/rate", "must be 2 or more, or 0 for no limit: the kernel takes no 1")
    yield Setting(f"{at}/rate", "io.max", f"{device.major}:{device.minor} {key}={device.rate or 'max'}")


def _number_problems(device: WeightDevice | ThrottleDevice, at: str) -> Iterator[SpecError]:
    for name, number, maximum in (("major", device.major, MAX_MAJOR), ("minor", device.minor, MAX_MINOR)):
        if not 0 <= number <= maximum:
            yield out_of_range(f"{at}/{name}", f"must be from 0 to {maximum}")
