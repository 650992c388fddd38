"""Lists of CPUs and memory nodes as the kernel parses them ("bitmap_parselist" of Linux's lib/bitmap-str.c).

Guarantees: pure, and never stricter than the kernel, which alone knows which CPUs and nodes there are.
"""

from __future__ import annotations

import re

_SEPARATOR = re.compile(r"[,\s]+", re.ASCII)
_REGION = re.compile(
    r"""(?: [aA][lL][lL] | (?P<start>\d+|N) - (?P<end>\d+|N) ) (?: : (?P<used>\d+) / (?P<group>\d+) )?
      | \d+ | N""",
    re.VERBOSE | re.ASCII,
)


def cpu_list_problem(text: str) -> str | None:
    """What the kernel would have against a list such as "0-3,7", whatever the machine; None: nothing."""
    for part in _SEPARATOR.split(text.strip()):
        region = _REGION.fullmatch(part)
        if part and region is None:
            return f'"{part:.40}" is neither a number nor a range of numbers'
        if region and not _is_ascending(region["start"], region["end"]):
            return f'"{part:.40}" ends before it starts'
        if region and region["group"] and not 0 < int(region["group"]) >= int(region["used"]):
            return f'"{part:.40}" takes more of a group than it has'
    return None


def _is_ascending(start: str | None, end: str | None) -> bool:
    # N stands for the last one that the machine has.
    if start is None or end is None or end == "N":
        return True
    return start != "N" and int(start) <= int(end)
