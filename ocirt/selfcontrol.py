"""What the runtime sets on itself through prctl(2): the one place that knows python-prctl.

python-prctl is GPL-3.0-or-later; the README says what that means for whoever distributes it together with ocirt.
"""

from __future__ import annotations


def become_subreaper() -> None:
    """Adopt the orphans of this process's descendants (PR_SET_CHILD_SUBREAPER): a foreground run reaps them."""
    import prctl

    prctl.set_child_subreaper(True)
