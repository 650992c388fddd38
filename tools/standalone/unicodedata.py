"""What attrs asks of unicodedata when it makes a class: the normal form of an identifier.

Only for what is imported when the image is made, whose identifiers are ASCII.
"""

from __future__ import annotations


def normalize(form: str, text: str) -> str:
    """Raises ValueError for what it does not know."""
    if not text.isascii():
        raise ValueError(f"no {form} of {text!a} in the standalone binary")
    return text
