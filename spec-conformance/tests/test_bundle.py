"""A bundle: the configuration lies in it, under its name."""

from __future__ import annotations

from pathlib import Path

from conformance.bed import Bed
from conformance.expect import that
from requirements import Requirement


def test_configuration_file(requirement: Requirement, bed: Bed) -> None:
    container = bed.new()
    container.write_config()
    path = container.bundle / "config.json"
    where = {
        "bundle.container-format.config-in-root": "config/config.json",
        "bundle.container-format.config-name": "configuration.json",
    }.get(requirement.id)
    aside = container.bundle / (where or "../aside.json")
    aside.parent.mkdir(exist_ok=True)
    path.rename(aside)
    flags: list[str | Path] = ["--bundle", container.bundle, "--pid-file", container.pid_file, container.id]
    with bed.unchanged():
        result = bed.runtime.run("create", *flags, check=False)
        that(
            result.rc not in (0, 124), "create with no config.json in the bundle", "an error", f"exit code {result.rc}"
        )
    aside.rename(path)
    control = container.create(check=False)
    that(control.rc == 0, "create with config.json in its place", "it succeeds", control.error)
