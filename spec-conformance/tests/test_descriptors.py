"""What a container's program finds open."""

from __future__ import annotations

import os

from conformance.bed import Bed
from conformance.expect import equal
from requirements import Requirement


def test_only_stdio(requirement: Requirement, bed: Bed) -> None:
    opened = [os.open("/etc", os.O_RDONLY) for _ in range(3)]
    try:
        for fd in opened:
            os.set_inheritable(fd, True)
        facts = bed.launch(bed.new(), pass_fds=opened).facts()
    finally:
        for fd in opened:
            os.close(fd)
    equal("the descriptors of the program", sorted(map(int, facts["fds"])), [0, 1, 2])
