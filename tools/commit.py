"""The commit of this tree, which `ocirt --version` shows: python -m tools.commit FILE.

It writes the commit into the file, unless it stands there: the file is new where the commit is, which make looks at.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def source_commit() -> str:
    """With -dirty where the work tree differs from it; "unknown" outside of a work tree of git."""
    if not (ROOT / ".git").exists():  # git would look for one above
        return "unknown"
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def main(file: Path) -> None:
    text = f"{source_commit()}\n"
    if not file.exists() or file.read_text(encoding="ascii") != text:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="ascii")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
