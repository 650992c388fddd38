"""What the tests in this folder have seen of each operation: that a plan went past it, and that it failed.

Guarantees: only what is certain counts. An operation with tolerated errnos may have failed although the plan went on,
and a plan that init refuses to decode shows nothing about the operation in which it does so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from ocirt import ops
from ocirt.plan import Plan
from ocirt.protocol import Message

Result = Literal["success", "failure"]
Exceptions = Mapping[tuple[type[ops.Op], Result], str]
"""Why there can be no test of that result of an operation."""


def every_op() -> list[type[ops.Op]]:
    """The classes of operations, in the order of ocirt/ops."""
    found = [value for value in vars(ops).values() if isinstance(value, type) and issubclass(value, ops.Op)]
    return [cls for cls in found if cls is not ops.Op]


@dataclass(slots=True)
class Record:
    """The results of operations, of all runs of ocirt-init that it is told about."""

    seen: set[tuple[type[ops.Op], Result]] = field(default_factory=set)

    def went_on(self, plan: Plan, index: int) -> None:
        """init is at the operation with that index, so that those before it are done. OUTSIDE_OPS says nothing."""
        executed = plan.all_ops()[:index] if index <= len(plan.all_ops()) else ()
        self.seen.update((type(op), "success") for op in executed if not op.tolerated)

    def ended(self, plan: Plan) -> None:
        """The plan was executed to its end."""
        self.went_on(plan, len(plan.all_ops()))

    def failed(self, plan: Plan, message: Message) -> None:
        """init reported a failure."""
        op = plan.at(message.op)
        if op is not None and not message.detail.startswith("invalid plan: "):
            self.seen.add((type(op), "failure"))

    def complaints(self, exceptions: Exceptions) -> list[str]:
        """A line for each result that no test has shown, and for each exception that has no reason any more."""
        lines = []
        for op in every_op():
            for result in get_args(Result):
                is_seen, is_exception = (op, result) in self.seen, (op, result) in exceptions
                if is_seen and is_exception:
                    lines.append(f"{op.__name__}: its {result} is tested: take it out of the exceptions")
                elif not is_seen and not is_exception:
                    lines.append(f"{op.__name__}: no test of its {result}")
        return lines
