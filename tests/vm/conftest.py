"""What is shown on a real kernel with pure cgroup v2 and every controller; elsewhere these tests are skipped.

`tools/vm.py` boots one. The containers are those of the integration tests.
"""

from __future__ import annotations

from tests.integration.conftest import container, new, no_leaks, pytest_generate_tests, runtime, template

__all__ = ["container", "new", "no_leaks", "pytest_generate_tests", "runtime", "template"]
