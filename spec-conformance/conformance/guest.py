"""What runs in the tests' machine (tools/vm.py): the cases that the host cannot show.

python -m conformance.guest RUNTIME ID...    RUNTIME as --runtime has it, and the ids of requirements

It makes the devices that the limits need, and prints the results as one line of JSON behind PREFIX: no file that is
written in the machine outlives it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import requirements
from conformance import session
from conformance.runtimes import command_line, machine, resolve

PREFIX = "conformance-results: "
# Memory to swap to, a disk that is scheduled by weights, and an RDMA device over an Ethernet device that goes nowhere.
# Where the kernel has no such thing, the requirements that need it are not testable here either, and say so.
DEVICES = """\
modprobe zram && echo 64M >/sys/block/zram0/disksize && mkswap /dev/zram0 && swapon /dev/zram0
modprobe bfq && echo bfq >/sys/block/vda/queue/scheduler
ip link add name ether0 type dummy && ip link set ether0 up && modprobe rdma_rxe
rdma link add rxe0 type rxe netdev ether0
"""


def main(arguments: list[str]) -> int:
    subprocess.run(["sh", "-c", DEVICES], stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    text, *ids = arguments
    by_id = {requirement.id: requirement for requirement in requirements.load().requirements}
    results = session.run(text, [session.case(by_id[name]) for name in ids], jobs=os.cpu_count() or 1)
    found = {"machine": machine(), "command": command_line(resolve(text)), "results": results}
    print(PREFIX + json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
