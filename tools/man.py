"""Writes the man pages into a directory: tools/man.py DIR. What pages of ocirt were there before is removed."""

from __future__ import annotations

import sys
from pathlib import Path

from ocirt.cli.manual import SECTION, pages


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    texts = pages()
    for path in folder.glob(f"ocirt*.{SECTION}"):
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="ascii")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
