"""The numbers of a resctrl group, and the change of its schemata, against a folder with resctrl's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocirt import rdt, rdt_stats
from ocirt.errors import HostError, SpecError
from ocirt.rdt import Resctrl, update_schemata
from ocirt.rdt_stats import probe_rdt_stats
from ocirt.spec import IntelRdt


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root group with one L3 domain, and the group of the container c1."""
    for name, text in {
        "schemata": "    L3:0=7ff\n    MB:0= 100\n",
        "info/last_cmd_status": "ok\n",
        "info/L3/cbm_mask": "7ff\n",
        "info/L3/min_cbm_bits": "1\n",
        "info/L3/num_closids": "16\n",
        "info/MB/bandwidth_gran": "10\n",
        "info/MB/delay_linear": "1\n",
        "info/MB/min_bandwidth": "10\n",
        "info/MB/num_closids": "8\n",
        "c1/schemata": "    L3:0=0ff\n    MB:0=  50\n",
        "c1/mon_data/mon_L3_00/llc_occupancy": "4096\n",
        "c1/mon_data/mon_L3_00/mbm_total_bytes": "20\n",
        "c1/mon_data/mon_L3_00/mbm_local_bytes": "10\n",
        "c1/mon_data/mon_L3_01/llc_occupancy": "Unavailable\n",
        "c1/mon_groups/c1/mon_data/mon_L3_00/llc_occupancy": "7\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for module in (rdt, rdt_stats):
        monkeypatch.setattr(module, "probe_resctrl", lambda **_: Resctrl(str(tmp_path)))
    return tmp_path


def test_all_that_there_is(top: Path) -> None:
    assert probe_rdt_stats(IntelRdt(), "c1") == {
        "l3_cache_info": {"cbm_mask": "7ff", "min_cbm_bits": 1, "num_closids": 16},
        "l3_cache_schema_root": "L3:0=7ff",
        "l3_cache_schema": "L3:0=0ff",
        "mem_bw_info": {"bandwidth_gran": 10, "delay_linear": 1, "min_bandwidth": 10, "num_closids": 8},
        "mem_bw_schema_root": "MB:0= 100",
        "mem_bw_schema": "MB:0=  50",
        "schemata": ["L3:0=0ff", "MB:0=  50"],
        "mbm_stats": [{"mbm_total_bytes": 20, "mbm_local_bytes": 10}],
        "cmt_stats": [{"llc_occupancy": 4096}, {"llc_occupancy": 0}],
    }


def test_own_monitoring_group(top: Path) -> None:
    value = probe_rdt_stats(IntelRdt(enable_monitoring=True), "c1")
    assert value["cmt_stats"] == [{"llc_occupancy": 7}]
    assert "mbm_stats" not in value


def test_class_of_service_by_name(top: Path) -> None:
    assert probe_rdt_stats(IntelRdt(clos_id="/"), "c2")["schemata"] == ["L3:0=7ff", "MB:0= 100"]


def test_a_group_that_is_gone_has_no_numbers(top: Path) -> None:
    value = probe_rdt_stats(IntelRdt(), "c2")
    assert "schemata" not in value
    assert "l3_cache_schema" not in value
    assert value["l3_cache_schema_root"] == "L3:0=7ff"


def test_update_and_its_undoing(top: Path) -> None:
    before = (top / "c1/schemata").read_text()
    undo = update_schemata(IntelRdt(l3_cache_schema="L3:0=f"), "c1", "L3:0=3", "MB:0=20")
    assert (top / "c1/schemata").read_text().startswith("L3:0=3\nMB:0=20\n")
    undo()
    assert (top / "c1/schemata").read_text() == before
    assert (top / "schemata").read_text() == "    L3:0=7ff\n    MB:0= 100\n", "the root group is another's"


def test_update_of_a_group_by_name(top: Path) -> None:
    update_schemata(IntelRdt(clos_id="c1"), "other", None, "MB:0=20")
    assert (top / "c1/schemata").read_text().startswith("MB:0=20\n")


def test_update_that_cannot_be(top: Path) -> None:
    with pytest.raises(SpecError, match="memBwSchema: must start with MB:"):
        update_schemata(IntelRdt(), "c1", None, "L3:0=1")
    with pytest.raises(HostError, match="c2/schemata: no such file"):
        update_schemata(IntelRdt(), "c2", "L3:0=1", None)
