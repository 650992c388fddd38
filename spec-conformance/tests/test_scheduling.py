"""How a program is scheduled: policy, I/O priority, and the CPUs of what is executed later."""

from __future__ import annotations

import os
from typing import Any

from conformance.bed import Bed
from conformance.expect import case_of, equal, not_testable, that
from requirements import Requirement

from tests.support.bundle import Config
from tests.support.facts import Facts

POLICIES = {"SCHED_OTHER": 0, "SCHED_FIFO": 1, "SCHED_RR": 2, "SCHED_BATCH": 3, "SCHED_IDLE": 5, "SCHED_DEADLINE": 6}
DEADLINE = {"policy": "SCHED_DEADLINE", "runtime": 10_000_000, "deadline": 20_000_000, "period": 40_000_000}


def scheduler(bed: Bed, **properties: Any) -> dict[str, int]:
    seen: dict[str, int] = bed.observe({"process": {"scheduler": properties}})["scheduler"]
    return seen


def test_scheduler(requirement: Requirement, bed: Bed) -> None:
    name = requirement.pointer.rpartition("/")[2]
    if name == "policy":
        for policy in ("SCHED_OTHER", "SCHED_BATCH", "SCHED_IDLE"):
            equal("the policy", scheduler(bed, policy=policy)["policy"], POLICIES[policy])
    elif name == "nice":
        for nice in (0, 5, 19):
            equal("the nice value", scheduler(bed, policy="SCHED_OTHER", nice=nice)["nice"], nice)
    elif name == "flags":
        # SCHED_FLAG_RESET_ON_FORK is 1.
        seen = scheduler(bed, policy="SCHED_OTHER", flags=["SCHED_FLAG_RESET_ON_FORK"])
        equal("the flags", seen["flags"], 1)
        equal("the flags without any", scheduler(bed, policy="SCHED_OTHER", flags=[])["flags"], 0)
    elif name == "priority":
        for policy, priority in (("SCHED_FIFO", 1), ("SCHED_RR", 10)):
            equal("the priority", scheduler(bed, policy=policy, priority=priority)["priority"], priority)
    else:
        equal(f"the {name}", scheduler(bed, **DEADLINE)[name], DEADLINE[name])


def test_scheduler_defaults(requirement: Requirement, bed: Bed) -> None:
    name = requirement.pointer.rpartition("/")[2]
    if name in ("nice", "priority"):
        equal(f"the {name} where none is given", scheduler(bed, policy="SCHED_BATCH")[name], 0)
        return
    if name == "runtime":
        # Linux tells a slice's length there for what is no deadline (since 6.12).
        equal("the policy, without a budget", scheduler(bed, policy="SCHED_BATCH")["policy"], 3)
        return
    equal(f"the {name} where none is given", scheduler(bed, policy="SCHED_BATCH")[name], 0)


def test_io_priority(requirement: Requirement, bed: Bed) -> None:
    cases = [("IOPRIO_CLASS_BE", 2, level) for level in (0, 4, 7)]
    cases += [("IOPRIO_CLASS_IDLE", 3, 0), ("IOPRIO_CLASS_RT", 1, 3)]
    name = requirement.pointer.rpartition("/")[2]
    for kind, number, level in cases:
        attempt = bed.attempt(bed.config({"process": {"ioPriority": {"class": kind, "priority": level}}}))
        that(attempt.taken, f"{kind} with priority {level}", "taken", attempt.summary)
        seen = attempt.facts()["io_priority"]
        equal(f"the {name} of {kind} {level}", seen[name], number if name == "class" else level)


def test_io_priority_range(requirement: Requirement, bed: Bed) -> None:
    def config(level: int) -> Config:
        return bed.config({"process": {"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": level}}})

    for level in (-1, 8, 100):
        bed.refused(config(level), config(7))


# CPUs of executed processes.


def executed(bed: Bed, affinity: Config, *extra: str) -> Facts:
    """What a process that is executed in a running container sees."""
    container = bed.new({"process": {"execCPUAffinity": affinity}})
    container.hold()
    facts = container.exec_facts(*extra)
    container.kill("KILL")
    container.wait()
    return facts


def own_cpus() -> list[int]:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        not_testable("needs two CPUs")
    return cpus


def initial(bed: Bed) -> None:
    cpu = own_cpus()[0]
    equal("the CPUs with an initial one alone", executed(bed, {"initial": str(cpu)})["cpus"], [cpu])


def final(bed: Bed) -> None:
    first, second, *_ = own_cpus()
    equal("the CPUs with a final one", executed(bed, {"final": str(second)})["cpus"], [second])
    seen = executed(bed, {"initial": str(first), "final": str(second)})["cpus"]
    equal("the CPUs with an initial and a final one", seen, [second])


EXEC = {
    "config.process.exec-cpu-affinity.initial-applied": initial,
    "config.process.exec-cpu-affinity-final-absent": initial,
    "config.process.exec-cpu-affinity.final-applied": final,
}


def test_exec_affinity(requirement: Requirement, bed: Bed) -> None:
    case_of(EXEC, requirement.id)(bed)


def test_affinity_of_init(requirement: Requirement, bed: Bed) -> None:
    cpus = own_cpus()
    facts = bed.observe({"process": {"execCPUAffinity": {"initial": str(cpus[0]), "final": str(cpus[0])}}})
    equal("the CPUs of the container's own process", facts["cpus"], cpus)
