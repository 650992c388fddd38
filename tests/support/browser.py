"""A browser without a window: Chromium, by its protocol for developers over a pair of pipes."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
SECONDS = 60


def find() -> str | None:
    """The browser's path, or None where none is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@dataclass(slots=True)
class Page:
    """A page that is shown. `problems` is what its console and its scripts complained of."""

    reading: int
    writing: int
    session: str = ""
    problems: list[str] = field(default_factory=list)
    _events: list[dict[str, Any]] = field(default_factory=list)
    _buffer: bytes = b""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the protocol. Raises RuntimeError for one that fails, TimeoutError."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.writing, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])
            self._note(answer)

    def open(self, url: str) -> None:
        """Shows a page, and waits until it is loaded."""
        self._events.clear()
        self.call("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._note(self._next())

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript is there. Raises RuntimeError where it throws."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(str(result["exceptionDetails"]))
        return result["result"].get("value")

    def type(self, selector: str, text: str) -> None:
        """Types a text where a selector of CSS says, in the place of what is there."""
        self.value(f"document.querySelector({json.dumps(selector)}).select()")
        self.call("Input.insertText", text=text)

    def screenshot(self) -> bytes:
        """The part of the page that is seen, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + SECONDS
        while b"\0" not in self._buffer:
            if not select.select([self.reading], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            data = os.read(self.reading, 1 << 20)
            if not data:
                raise RuntimeError("the browser ended")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(line))

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.problems.append(str(parameters["exceptionDetails"]))
        elif event.get("method") == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.problems.append(str(parameters["args"]))
        elif event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.problems.append(parameters["entry"]["text"])
        self._events.append(event)


@contextmanager
def page(program: str, width: int = 1280, height: int = 900) -> Iterator[Page]:
    """An empty page in a browser of its own, which ends with it and leaves nothing behind."""
    requests, answers = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(prefix="browser-") as folder:
        command = [program, "--headless", "--remote-debugging-pipe", f"--user-data-dir={folder}", "--hide-scrollbars"]
        command += ["--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-zygote", "--no-sandbox"]
        command += [f"--window-size={width},{height}"]
        # It takes the pipes as its descriptors 3 and 4.
        shell = f'exec 3<&{requests[0]} 4>&{answers[1]}; exec "$@"'
        process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(requests[0], answers[1]),
            env={**os.environ, "HOME": folder},
        )
        os.close(requests[0])
        os.close(answers[1])
        try:
            found = Page(answers[0], requests[1])
            target = found.call("Target.createTarget", url="about:blank", width=width, height=height)["targetId"]
            found.session = found.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log"):
                found.call(f"{domain}.enable")
            yield found
            found.session = ""
            found.call("Browser.close")
            process.wait(SECONDS)
        finally:
            process.kill()
            process.wait()
            os.close(answers[0])
            os.close(requests[1])
