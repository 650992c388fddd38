"""Masked and read-only paths."""

from __future__ import annotations

from conformance.bed import Bed
from conformance.expect import equal, that
from requirements import Requirement

EROFS = 30


def test_masked(requirement: Requirement, bed: Bed) -> None:
    container = bed.new()
    secret = container.rootfs / "secret"
    secret.mkdir()
    (secret / "file").write_text("hidden")
    (container.rootfs / "one").write_text("hidden")
    container.linux["maskedPaths"] = ["/secret", "/one", "/no/such/path", "/proc/kcore"]
    container.shell("ls /secret; cat /one; exec /probe /one /proc/kcore /secret/file")
    attempt = bed.launch(container)
    that(attempt.taken, "masked paths, one of which is not there", "taken", attempt.summary)
    that("hidden" not in attempt.output, "what is read at the masked paths", "nothing", attempt.output[:200])
    listing = attempt.output.partition("{")[0]
    equal("what the masked directory lists", listing.split(), [])


def test_readonly(requirement: Requirement, bed: Bed) -> None:
    container = bed.new()
    for name in ("closed", "open"):
        (container.rootfs / name / "deep").mkdir(parents=True)
        (container.rootfs / name / "file").write_text("x")
    (container.rootfs / "one").write_text("x")
    container.linux["readonlyPaths"] = ["/closed", "/one", "/no/such/path", "/proc/sys"]
    files = "/closed/file /closed/deep/new /open/file /open/deep/new /one /proc/sys/kernel/domainname"
    container.shell(f"for f in {files}; do (echo y > $f) 2>/dev/null && echo $f; done; exit 0")
    attempt = bed.launch(container)
    that(attempt.taken, "read-only paths, one of which is not there", "taken", attempt.summary)
    equal("the files that can be written", attempt.output.split(), ["/open/file", "/open/deep/new"])
