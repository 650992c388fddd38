"""Values of systemd unit properties, as annotations have them: a part of GVariant's text format.

Guarantees: pure; what is taken has one meaning, and anything else is an error that says where. Taken are booleans,
numbers (int32 where no type is given, double with a point or an exponent), strings, arrays of these, and the types
before them in both of their forms: "uint64 5", "@t 5", "@as []". https://docs.gtk.org/glib/gvariant-text-format.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Type keyword -> D-Bus signature.
_KEYWORDS = {
    "boolean": "b",
    "byte": "y",
    "int16": "n",
    "uint16": "q",
    "int32": "i",
    "uint32": "u",
    "int64": "x",
    "uint64": "t",
    "double": "d",
    "string": "s",
}

# Signature -> the least and the greatest value.
_INTEGERS = {
    "y": (0, 2**8 - 1),
    "n": (-(2**15), 2**15 - 1),
    "q": (0, 2**16 - 1),
    "i": (-(2**31), 2**31 - 1),
    "u": (0, 2**32 - 1),
    "x": (-(2**63), 2**63 - 1),
    "t": (0, 2**64 - 1),
}

NUMBERS = frozenset((*_INTEGERS, "d"))

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
        | (?P<number>[+-]?(?:0[xX][0-9a-fA-F]+|[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)(?![0-9a-zA-Z_.]))
        | (?P<word>[a-z][a-z0-9]*)
        | @(?P<type>a?[a-z])(?![a-z])
        | (?P<mark>[][,])
    )""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_FLOAT = re.compile(r"[.eE]")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\n": ""}


@dataclass(frozen=True, slots=True)
class Variant:
    """A value with its D-Bus signature; an array is a list."""

    signature: str
    value: object


def parse_variant(text: str) -> Variant:
    """Raises ValueError with what is wrong."""
    parser = _Parser(text)
    variant = parser.value("")
    if parser.kind:
        raise ValueError(f"unexpected {parser.token!r} after the value")
    return variant


class _Parser:
    """One token ahead: its `kind` ("" at the end) and its text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self.kind = ""
        self.token = ""
        self._advance()

    def _advance(self) -> str:
        """Go on to the next token; the text of the one that is left behind."""
        token = self.token
        rest = self._text[self._at :]
        match = _TOKEN.match(rest)
        if match:
            self.kind, self.token = match.lastgroup or "", match[match.lastgroup or 0]
            self._at += match.end()
        elif rest.strip():
            raise ValueError(f"cannot understand {rest.strip()[:20]!r}")
        else:
            self.kind = self.token = ""
        return token

    def value(self, wanted: str) -> Variant:
        """The next value, of the signature that is wanted ("": whatever it is)."""
        kind, token = self.kind, self._advance()
        if kind == "word" and token in _KEYWORDS:
            return self._typed(_KEYWORDS[token], wanted)
        if kind == "type":
            if token.lstrip("a") not in _KEYWORDS.values():
                raise ValueError(f"unknown type @{token}")
            return self._typed(token, wanted)
        if kind == "word" and token in ("true", "false"):
            return _check(Variant("b", token == "true"), wanted)
        if kind == "string":
            return _check(Variant("s", _unescape(token[1:-1])), wanted)
        if kind == "number":
            return _number(token, wanted)
        if token == "[":
            return self._array(wanted)
        raise ValueError(f"a value is needed instead of {token!r}" if token else "a value is missing")

    def _typed(self, signature: str, wanted: str) -> Variant:
        if wanted not in ("", signature):
            raise ValueError(f"a value of type {signature} where {wanted} is needed")
        return self.value(signature)

    def _array(self, wanted: str) -> Variant:
        if wanted and not wanted.startswith("a"):
            raise ValueError(f"an array where {wanted} is needed")
        element = wanted[1:]
        values: list[object] = []
        while self.token != "]" or self.kind != "mark":
            if values:
                self._expect(",")
            item = self.value(element)
            if item.signature.startswith("a"):
                raise ValueError("arrays of arrays are not taken")
            element = item.signature
            values.append(item.value)
        self._expect("]")
        if not element:
            raise ValueError("an empty array needs its type (@as [])")
        return Variant(f"a{element}", values)

    def _expect(self, mark: str) -> None:
        if self.kind != "mark" or self.token != mark:
            raise ValueError(f"{mark!r} is needed instead of {self.token!r}" if self.kind else f"{mark!r} is missing")
        self._advance()


def _check(variant: Variant, wanted: str) -> Variant:
    if wanted not in ("", variant.signature):
        raise ValueError(f"{variant.value!r} where {wanted} is needed")
    return variant


def _number(token: str, wanted: str) -> Variant:
    is_hex = "x" in token.lower()
    if wanted == "d" or (not wanted and not is_hex and _FLOAT.search(token)):
        return Variant("d", float(int(token, 16)) if is_hex else float(token))
    signature = wanted or "i"
    if signature not in _INTEGERS:
        raise ValueError(f"{token} where {wanted} is needed")
    if not is_hex and _FLOAT.search(token):
        raise ValueError(f"{token} is no integer")
    digits = token.lstrip("+-")
    # As in C, a leading 0 means octal.
    base = 16 if is_hex else 8 if len(digits) > 1 and digits.startswith("0") else 10
    try:
        value = int(token, base)
    except ValueError:
        raise ValueError(f"{token} is no octal number") from None
    least, greatest = _INTEGERS[signature]
    if not least <= value <= greatest:
        raise ValueError(f"{token} is out of range for type {signature}")
    return Variant(signature, value)


def _unescape(text: str) -> str:
    def replaced(match: re.Match[str]) -> str:
        if match[3] is not None:
            return _ESCAPED.get(match[3], match[3])
        code = int(match[1] or match[2], 16)
        if code == 0 or code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise ValueError(f"{match[0]} is no character")
        return chr(code)

    return _ESCAPE.sub(replaced, text)
