"""The tables of docs/architecture.md are those that tools/plan_tables.py makes of c_ext/plan.h."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools import plan_tables


def test_the_tables_are_up_to_date() -> None:
    before = plan_tables.DOCUMENT.read_bytes()
    done = subprocess.run([sys.executable, plan_tables.__file__, "--check"], check=False)
    assert done.returncode == 0, "run python tools/plan_tables.py"
    assert plan_tables.DOCUMENT.read_bytes() == before


@pytest.mark.parametrize("opcode", ["MASK_PATH", "RAISE_LOOPBACK"])
def test_a_stale_table_is_seen_and_made_anew(opcode: str) -> None:
    document, header = plan_tables.DOCUMENT.read_text(), plan_tables.HEADER.read_text()
    stale, count = re.subn(rf"^\| `{opcode}` .*\n", "", document, flags=re.M)
    assert count == 1
    assert plan_tables.render(stale, header) == document


def test_check_fails_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = plan_tables.DOCUMENT.read_text()
    copy = tmp_path / "architecture.md"
    copy.write_text(document.replace("| `MASK_PATH` |", "| `MASKED` |"))
    monkeypatch.setattr(plan_tables, "DOCUMENT", copy)
    monkeypatch.setattr(sys, "argv", ["plan_tables.py", "--check"])
    assert plan_tables.main() == 1
    assert "`MASKED`" in copy.read_text()
    monkeypatch.setattr(sys, "argv", ["plan_tables.py"])
    assert plan_tables.main() == 0
    assert copy.read_text() == document


def test_an_operation_without_a_struct_is_an_error() -> None:
    document, header = plan_tables.DOCUMENT.read_text(), plan_tables.HEADER.read_text()
    with pytest.raises(SystemExit, match="no struct op_mask_path"):
        plan_tables.render(document, header.replace("struct op_mask_path {", "struct op_other {"))
