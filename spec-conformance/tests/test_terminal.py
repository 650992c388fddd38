"""The terminal of a program."""

from __future__ import annotations

import json
import re

from conformance.bed import Bed
from conformance.expect import equal, that
from requirements import Requirement

from tests.support.bundle import Config
from tests.support.console import FdSocket
from tests.support.facts import Facts


def on_terminal(bed: Bed, patch: Config) -> Facts:
    """What the probe sees on a new terminal."""
    container = bed.new(patch)
    container.process["terminal"] = True
    with FdSocket(container.bundle / "console.sock") as sock:
        created = container.create("--console-socket", sock.path, check=False)
        that(created.rc == 0, "create with a terminal", "it succeeds", created.error)
        console = sock.receive_console()
        container.start()
        output = console.read_all()
        container.wait()
    return Facts.parse(re.sub(r"\r\n", "\n", output))


def test_terminal(requirement: Requirement, bed: Bed) -> None:
    facts = on_terminal(bed, {})
    targets = {facts["fds"].get(str(fd)) for fd in (0, 1, 2)}
    equal("the number of files that are stdin, stdout and stderr", len(targets), 1)
    target = str(targets.pop())
    that(re.fullmatch(r"/dev/pts/[0-9]+|/dev/console|/[0-9]+", target), "stdin", "a terminal", target)
    that(all(facts["terminal"].values()), "stdin, stdout and stderr", "terminals", json.dumps(facts["terminal"]))
    for value in (False, None):
        without = bed.observe({"process": {"terminal": value}})
        equal(f"terminals with terminal {value}", list(without["terminal"].values()), [None, None, None])


def test_size(requirement: Requirement, bed: Bed) -> None:
    for rows, columns in ((24, 80), (43, 132)):
        facts = on_terminal(bed, {"process": {"consoleSize": {"height": rows, "width": columns}}})
        equal("rows and columns of the terminal", facts["terminal"]["stdout"], [rows, columns])


def test_size_without_terminal(requirement: Requirement, bed: Bed) -> None:
    for size in ({"height": 43, "width": 132}, {"height": 0, "width": 0}):
        attempt = bed.attempt(bed.config({"process": {"consoleSize": size}}))
        that(attempt.taken, f"a size {size} without a terminal", "taken", attempt.summary)
        equal("terminals", list(attempt.facts()["terminal"].values()), [None, None, None])
