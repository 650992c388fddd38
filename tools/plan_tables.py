"""Make the tables of operations, syncs and messages in docs/architecture.md from the comments of c_ext/plan.h.

`python tools/plan_tables.py` rewrites them in place; with --check it ends with 1 where they are out of date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = ROOT / "c_ext" / "plan.h"
DOCUMENT = ROOT / "docs" / "architecture.md"


def one_line(comment: str) -> str:
    return " ".join(comment.split()).replace("|", "\\|")


def operations(header: str) -> str:
    """A row an operation, in the order of the opcodes: its name, what it is for, its fields."""
    opcodes = re.findall(r"^ {4}X\(([A-Z_]+), ([a-z_]+)\)", header, re.M)
    rows = ["| operation | does | fields |", "|---|---|---|"]
    for opcode, name in opcodes:
        match = re.search(rf"(?:/\*((?:(?!\*/).)*?)\*/\n)?struct op_{name} \{{\n(.*?)\n\}};", header, re.S)
        if match is None:
            raise SystemExit(f"plan.h has no struct op_{name}")
        fields = re.findall(r"^ {4}(?:struct )?\w+ (\w+)(?:\[\w+\])?;", match.group(2), re.M)
        shown = ", ".join(f"`{f}`" for f in fields if f not in ("head", "reserved")) or "-"
        rows.append(f"| `{opcode}` | {one_line(match.group(1) or '')} | {shown} |")
    return "\n".join(rows)


def enumeration(header: str, name: str, title: str) -> str:
    """A row a member of an enum: its name and its comment."""
    body = re.search(rf"enum {name} \{{\n(.*?)\n\}};", header, re.S)
    if body is None:
        raise SystemExit(f"plan.h has no enum {name}")
    rows = [f"| {title} | meaning |", "|---|---|"]
    for member, comment in re.findall(r"^ {4}(\w+) = \d+,? */\*(.*?)\*/", body.group(1), re.M | re.S):
        rows.append(f"| `{member}` | {one_line(comment)} |")
    return "\n".join(rows)


def render(document: str, header: str) -> str:
    tables = {
        "operations": operations(header),
        "syncs": enumeration(header, "sync_kind", "sync"),
        "messages": enumeration(header, "message_kind", "message"),
    }
    for name, table in tables.items():
        pattern = rf"(<!-- {name} -->\n).*?(\n<!-- end -->)"
        document, count = re.subn(pattern, lambda m, t=table: m.group(1) + t + m.group(2), document, flags=re.S)  # type: ignore[misc]
        if count != 1:
            raise SystemExit(f"docs/architecture.md has no place for the {name}")
    return document


def main() -> int:
    before = DOCUMENT.read_text()
    after = render(before, HEADER.read_text())
    if "--check" in sys.argv[1:]:
        return int(before != after)
    DOCUMENT.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
