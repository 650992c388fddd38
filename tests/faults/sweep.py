"""Goes through the points at which a command can be disturbed, one container after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.faults.injection import CANNOT_FAIL, Call, Done, Server
from tests.faults.scenarios import Command, Subject

Disturb = Callable[[Server, Call, tuple[str, ...], int], Done]


def kill(server: Server, call: Call, argv: tuple[str, ...], other: int) -> Done:
    """Kill the process that makes the call."""
    return server.kill_at(call, *argv, other=other)


@dataclass(frozen=True, slots=True)
class Sweep:
    """One command with one kind of container."""

    command: Command
    subject: Subject

    def calls(self, *, of_runtime: bool) -> list[Call]:
        """ocirt's own system calls in that command: the runtime's, or those of the processes that it starts."""
        self.subject.provide()
        self.command.before(self.subject)
        done = self.subject.server.trace(*self.command.argv(self.subject), other=self._other)
        assert done.rc == 0, done
        wrong = self.subject.recover()
        assert not wrong, wrong
        return [
            call for call in done.calls if call.ours and call.of_runtime == of_runtime and call.name not in CANNOT_FAIL
        ]

    @property
    def _other(self) -> int:
        """The pid of a process to trace besides the command; 0: none."""
        return self.subject.pid if self.command.traces_init else 0

    def disturb(self, calls: list[Call], how: Disturb) -> Iterator[tuple[Call, Done]]:
        """The command again and again, each time with one call disturbed; what became of it."""
        kept = False
        for call in calls:
            if not kept:
                self.subject.provide()
                self.command.before(self.subject)
            kept = self.command.keeps_container
            yield call, how(self.subject.server, call, tuple(self.command.argv(self.subject)), self._other)
            if kept and self.subject.server.run("state", self.subject.id).rc:
                kept = False

    def aftermath(self) -> list[str]:
        """What is wrong once everything was cleaned up; the container that all points share goes on instead."""
        if not self.command.keeps_container:
            return self.subject.recover()
        wrong = []
        if (status := self.subject.status()) != "running":
            wrong.append(f"the container is {status}")
        if left := self.subject.server.processes(self.subject.pid):
            wrong.append(f"left behind: {left}")
        self.subject.drop_consoles()
        return wrong

    def wrong_after_failure(self, done: Done) -> list[str]:
        """What is wrong with how the command failed, or with what it did although something went wrong."""
        wrong = [done.unclean] if done.unclean else []
        try:
            status = self.subject.status()
        except AssertionError as error:
            return [*wrong, str(error)]
        if done.rc and status:
            wrong += [f"changed by the command that failed: {what}" for what in self.command.changed(self.subject)]
        if done.rc and self.command.undoes:
            wrong += [f"left behind by the error: {what}" for what in self.subject.leftovers()]
            if status:
                wrong.append(f"the container is there: {status}")
        return wrong
