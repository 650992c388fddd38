"""The configuration that create read: later changes of the bundle have no effect (runtime.md#lifecycle)."""

from __future__ import annotations

from ocirt.spec import Spec, decode, parse_config
from ocirt.state import CONFIG, Container


def saved_spec(container: Container) -> Spec:
    """Raises SpecError, HostError: a create that was killed may have left none."""
    return parse_config(decode(container.read(CONFIG), container.path(CONFIG)))
