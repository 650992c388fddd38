"""What an update changes, in which order, and how it is taken back: decided from JSON and the texts of files alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.cgroup.directory import Cgroup
from ocirt.cgroup.settings import Setting
from ocirt.cgroup.update import (
    check_usage,
    compile_order,
    compile_restoration,
    compile_update,
    merge_resources,
    restore,
)
from ocirt.errors import SpecError, StateError

Object = dict[str, Any]

LIMITED = "rbps=max wbps=7 riops=max wiops=max"
UNLIMITED = "rbps=max wbps=max riops=max wiops=max"
CHANGED = "rbps=1 wbps=7 riops=max wiops=max"


def writes(has: Object, wanted: Object, **now: str) -> list[tuple[str, str]]:
    """The (file, value) that an update writes. Names of files have __ for a dot."""
    settings = compile_update(has, wanted).settings
    ordered = compile_order(settings, {name.replace("__", "."): text for name, text in now.items()})
    return [(setting.file, setting.value) for setting in ordered]


def throttle(rate: int, major: int = 8, minor: int = 0) -> Object:
    return {"major": major, "minor": minor, "rate": rate}


class TestMerge:
    def test_absent_properties_stay(self) -> None:
        has = {"memory": {"limit": 100, "swap": 200}, "pids": {"limit": 5}}
        merged, asked = merge_resources(has, {"memory": {"limit": 150}})
        assert merged == {"memory": {"limit": 150, "swap": 200}, "pids": {"limit": 5}}
        assert asked == {"/memory/limit"}
        assert has["memory"]["limit"] == 100, "what there was is not changed"

    @pytest.mark.parametrize(
        ("group", "name", "nothing"),
        [
            ("memory", "limit", 0),
            ("memory", "reservation", 0),
            ("memory", "swap", 0),
            ("cpu", "shares", 0),
            ("cpu", "quota", 0),
            ("cpu", "period", 0),
            ("cpu", "cpus", ""),
            ("cpu", "mems", ""),
            ("blockIO", "weight", 0),
        ],
    )
    def test_what_means_not_set_stays(self, group: str, name: str, nothing: object) -> None:
        has = {group: {name: 500}}
        assert merge_resources(has, {group: {name: nothing}}) == (has, frozenset())

    @pytest.mark.parametrize(
        ("group", "name"), [("pids", "limit"), ("cpu", "idle"), ("cpu", "burst"), ("memory", "swappiness")]
    )
    def test_other_zeros_count(self, group: str, name: str) -> None:
        merged, asked = merge_resources({group: {name: 1}}, {group: {name: 0}})
        assert merged == {group: {name: 0}}
        assert asked == {f"/{group}/{name}"}

    def test_null_is_absent(self) -> None:
        has = {"memory": None, "cpu": {"quota": None}, "devices": None}
        merged, asked = merge_resources(has, {"memory": {"limit": None}, "cpu": None, "blockIO": None, "unified": None})
        assert (merged, asked) == ({"cpu": {}}, frozenset())

    def test_devices_of_lists_are_replaced_or_added(self) -> None:
        has = {"blockIO": {"throttleReadBpsDevice": [throttle(1), throttle(2, minor=16)]}}
        wanted = {"blockIO": {"throttleReadBpsDevice": [throttle(7, minor=16), throttle(9, minor=32)]}}
        merged, asked = merge_resources(has, wanted)
        devices = merged["blockIO"]["throttleReadBpsDevice"]
        assert devices == [throttle(1), throttle(7, minor=16), throttle(9, minor=32)]
        assert asked == {"/blockIO/throttleReadBpsDevice/1", "/blockIO/throttleReadBpsDevice/2"}

    def test_weight_of_a_device_keeps_its_other_properties(self) -> None:
        has = {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 10, "leafWeight": 20}]}}
        merged, _ = merge_resources(has, {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 30}]}})
        assert merged["blockIO"]["weightDevice"] == [{"major": 8, "minor": 0, "weight": 30, "leafWeight": 20}]

    def test_page_sizes_rdma_and_unified(self) -> None:
        has = {
            "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
            "rdma": {"mlx": {"hcaHandles": 1}},
            "unified": {"memory.high": "1", "a.b": "2"},
        }
        wanted = {
            "hugepageLimits": [{"pageSize": "1GB", "limit": 0}, {"pageSize": "2MB", "limit": 0}],
            "rdma": {"mlx": {"hcaObjects": 5}},
            "unified": {"memory.high": "3"},
        }
        merged, asked = merge_resources(has, wanted)
        assert merged == {
            "hugepageLimits": [{"pageSize": "2MB", "limit": 0}, {"pageSize": "1GB", "limit": 0}],
            "rdma": {"mlx": {"hcaHandles": 1, "hcaObjects": 5}},
            "unified": {"memory.high": "3", "a.b": "2"},
        }
        assert asked == {"/hugepageLimits/0", "/hugepageLimits/1", "/rdma/mlx", "/unified/memory.high"}

    def test_device_rules_are_one_whole(self) -> None:
        has = {"devices": [{"allow": False, "access": "rwm"}]}
        rules = [{"allow": True, "access": "r", "type": "c", "major": 1, "minor": 11}]
        assert merge_resources(has, {"devices": rules}) == ({"devices": rules}, frozenset({"/devices"}))
        assert merge_resources(has, {"devices": []}) == (has, frozenset())

    @pytest.mark.parametrize("swap", [{}, {"swap": 0}, {"swap": None}])
    def test_no_memory_limit_takes_that_of_swap_along(self, swap: Object) -> None:
        merged, _ = merge_resources({"memory": {"limit": 1, "swap": 2}}, {"memory": {"limit": -1, **swap}})
        assert merged == {"memory": {"limit": -1}}

    def test_no_memory_limit_beside_one_of_swap(self) -> None:
        merged, _ = merge_resources({"memory": {"limit": 1, "swap": 2}}, {"memory": {"limit": -1, "swap": -1}})
        assert merged == {"memory": {"limit": -1, "swap": -1}}


class TestCompile:
    def test_nothing_asked_writes_nothing(self) -> None:
        assert writes({"memory": {"limit": 4096}, "cpu": {"shares": 512}}, {}) == []
        assert writes({"memory": {"limit": 4096}}, {"memory": {"limit": 0}, "cpu": {"cpus": ""}}) == []

    def test_the_same_value_is_written_again(self) -> None:
        """Somebody else may have changed the file."""
        assert writes({"pids": {"limit": 5}, "cpu": {"shares": 2}}, {"pids": {"limit": 5}}) == [("pids.max", "5")]

    def test_other_limits_are_left_alone(self) -> None:
        has = {"memory": {"limit": 4096, "reservation": 1024}, "cpu": {"cpus": "0"}}
        assert writes(has, {"memory": {"limit": 8192}}) == [("memory.max", "8192")]

    def test_period_and_quota_need_each_other(self) -> None:
        assert writes({"cpu": {"quota": 5000, "period": 20000}}, {"cpu": {"quota": 7000}}) == [
            ("cpu.max", "7000 20000")
        ]
        assert writes({"cpu": {"quota": 5000, "period": 20000}}, {"cpu": {"period": 9000}}) == [
            ("cpu.max", "5000 9000")
        ]
        assert writes({"cpu": {"quota": 5000}}, {"cpu": {"quota": 5000}}) == [("cpu.max", "5000 100000")]
        assert writes({"cpu": {"quota": 5000}}, {"cpu": {"quota": -1}}) == [("cpu.max", "max 100000")]

    def test_swap_is_counted_with_the_memory(self) -> None:
        has = {"memory": {"limit": 4096, "swap": 8192}}
        assert sorted(writes(has, {"memory": {"limit": 6144}})) == [("memory.max", "6144"), ("memory.swap.max", "2048")]
        assert writes(has, {"memory": {"swap": 5120}}) == [("memory.swap.max", "1024")]

    def test_memory_above_the_limit_of_both(self) -> None:
        with pytest.raises(SpecError, match=r"^/memory/swap: ") as caught:
            compile_update({"memory": {"limit": 4096, "swap": 8192}}, {"memory": {"limit": 9999}})
        assert caught.value.code == "spec.conflict"

    def test_swap_alone_needs_a_limit_of_memory(self) -> None:
        with pytest.raises(SpecError, match=r"^/memory/swap: "):
            compile_update({}, {"memory": {"swap": 9999}})

    def test_no_limit(self) -> None:
        has = {"memory": {"limit": 4096, "swap": 8192}}
        assert sorted(writes(has, {"memory": {"limit": -1}})) == [("memory.max", "max"), ("memory.swap.max", "max")]

    def test_idle_and_weight(self) -> None:
        """cpu.idle resets the weight, which can be written only while it is 0."""
        has = {"cpu": {"shares": 1024}}
        weight = ("cpu.weight", "100")
        assert writes(has, {"cpu": {"idle": 1}}, cpu__idle="0\n") == [weight, ("cpu.idle", "1")]
        idle = {"cpu": {"shares": 1024, "idle": 1}}
        assert writes(idle, {"cpu": {"idle": 0}}, cpu__idle="1\n") == [("cpu.idle", "0"), weight]
        assert writes(idle, {"cpu": {"idle": 1}}, cpu__idle="1\n") == [("cpu.idle", "1")]
        assert writes(idle, {"cpu": {"shares": 2}}, cpu__idle="1\n") == []

    def test_one_device_of_several(self) -> None:
        has = {"blockIO": {"throttleWriteIOPSDevice": [throttle(2), throttle(3, minor=16)]}}
        wanted = {"blockIO": {"throttleWriteIOPSDevice": [throttle(0, minor=16)]}}
        assert writes(has, wanted) == [("io.max", "8:16 wiops=max")]

    def test_unified(self) -> None:
        has = {"memory": {"limit": 4096}, "unified": {"memory.max": "8192"}}
        assert writes(has, {"unified": {"memory.high": "10"}}) == [("memory.high", "10")]

    def test_device_rules_that_change_nothing(self) -> None:
        rules = [{"allow": True, "access": "r"}]
        assert not compile_update({"devices": rules}, {"devices": [*rules]}).devices
        assert not compile_update({"devices": rules}, {"pids": {"limit": 1}}).devices
        assert compile_update({"devices": rules}, {"devices": [{"allow": True, "access": "w"}]}).devices
        assert compile_update({}, {"devices": rules}).devices

    def test_notices_of_what_is_asked_alone(self) -> None:
        has = {"cpu": {"shares": 1}}
        assert compile_update(has, {"pids": {"limit": 1}}).notices == ()
        assert [notice.pointer for notice in compile_update({}, {"cpu": {"shares": 1}}).notices] == ["/cpu/shares"]

    def test_result_is_what_the_next_update_starts_from(self) -> None:
        first = compile_update({"memory": {"limit": 4096}}, {"memory": {"swap": 8192}, "cpu": {"quota": 5000}})
        assert writes(dict(first.resources), {"cpu": {"period": 7000}}) == [("cpu.max", "5000 7000")]
        assert first.model.memory is not None
        assert first.model.memory.swap == 8192


class TestOrder:
    @pytest.mark.parametrize(
        ("quota", "burst", "now", "order"),
        [
            (5000, 4000, "9000 100000\n", ["cpu.max.burst", "cpu.max"]),
            (9000, 8000, "5000 100000\n", ["cpu.max", "cpu.max.burst"]),
            (9000, 8000, "max 100000\n", ["cpu.max.burst", "cpu.max"]),
        ],
    )
    def test_burst_is_never_above_the_quota(self, quota: int, burst: int, now: str, order: list[str]) -> None:
        written = writes({}, {"cpu": {"quota": quota, "burst": burst}}, cpu__max=now)
        assert [file for file, _ in written] == order

    @given(st.tuples(*[st.integers(1000, 1_000_000)] * 2), st.tuples(*[st.integers(1000, 1_000_000)] * 2))
    def test_burst_is_never_above_the_quota_whatever_they_are(self, old: tuple[int, int], new: tuple[int, int]) -> None:
        burst, quota = sorted(old)
        new_burst, new_quota = sorted(new)
        for file, value in writes({}, {"cpu": {"quota": new_quota, "burst": new_burst}}, cpu__max=f"{quota} 100000"):
            if file == "cpu.max":
                quota = int(value.split()[0])
            else:
                burst = int(value)
            assert burst <= quota
        assert (burst, quota) == (new_burst, new_quota)

    def test_memory_that_shrinks_finds_its_swap(self) -> None:
        wanted = {"memory": {"limit": 4096, "swap": 8192}}
        first = [writes({}, wanted, memory__max=now)[0][0] for now in ("8192\n", "max\n", "1024\n", "4096\n")]
        assert first == ["memory.swap.max", "memory.swap.max", "memory.max", "memory.max"]

    def test_other_settings_keep_their_places(self) -> None:
        settings = [Setting("", file, "1") for file in ("a", "cpu.max.burst", "b", "cpu.max", "c")]
        ordered = compile_order(settings, {"cpu.max": "0 1"})
        assert [setting.file for setting in ordered] == ["a", "cpu.max", "b", "cpu.max.burst", "c"]


class TestUsage:
    HAS: Object = {"memory": {"limit": 8192, "checkBeforeUpdate": True}}  # noqa: RUF012

    def test_limit_below_usage(self) -> None:
        update = compile_update(self.HAS, {"memory": {"limit": 4096}})
        with pytest.raises(
            StateError, match=r"^/memory/limit: .*checkBeforeUpdate.* memory\.current is 5000"
        ) as caught:
            check_usage(update, {"memory.current": "5000\n"})
        assert caught.value.code == "cgroup.usage"
        check_usage(update, {"memory.current": "4096\n"})
        check_usage(update, {})

    def test_limit_of_swap_below_its_usage(self) -> None:
        update = compile_update(self.HAS, {"memory": {"swap": 9000}})
        with pytest.raises(StateError, match=r"^/memory/swap: "):
            check_usage(update, {"memory.current": "1", "memory.swap.current": "900"})

    def test_without_the_wish(self) -> None:
        check_usage(compile_update({}, {"memory": {"limit": 1}}), {"memory.current": "5000"})
        wanted = {"memory": {"limit": 1, "checkBeforeUpdate": False}}
        check_usage(compile_update(self.HAS, wanted), {"memory.current": "5000"})

    def test_other_resources_don_t_matter(self) -> None:
        check_usage(compile_update(self.HAS, {"pids": {"limit": 1}}), {"memory.current": "9000"})


class TestRestoration:
    @pytest.mark.parametrize(
        ("file", "value", "before", "after", "text"),
        [
            ("pids.max", "5", "max\n", "5\n", "max"),
            ("cpu.max", "5000 100000", "max 100000\n", "5000 100000\n", "max 100000"),
            ("cpuset.cpus", "0", "\n", "0\n", ""),
            ("io.max", "8:0 rbps=1", f"8:0 {LIMITED}\n", f"8:0 {CHANGED}\n", f"8:0 {LIMITED}"),
            ("io.max", "8:0 rbps=1", f"8:16 {LIMITED}\n", f"8:0 {CHANGED}\n8:16 {LIMITED}\n", f"8:0 {UNLIMITED}"),
            ("io.max", "8:0 rbps=1", "", f"8:0 {CHANGED}\n", f"8:0 {UNLIMITED}"),
            ("io.weight", "200", "default 100\n8:0 300\n", "default 200\n8:0 300\n", "default 100"),
            ("io.weight", "8:0 200", "default 100\n8:0 300\n", "default 100\n8:0 200\n", "8:0 300"),
            ("io.weight", "8:0 200", "default 100\n", "default 100\n8:0 200\n", "8:0 default"),
            ("io.bfq.weight", "200", "default 100\n", "default 200\n", "default 100"),
            ("rdma.max", "mlx hca_handle=1", "mlx hca_handle=2 hca_object=7\n", "", "mlx hca_handle=2 hca_object=7"),
            ("misc.max", "sev 1", "sev 7\nsev_es max\n", "sev 1\nsev_es max\n", "sev 7"),
            ("io.latency", "8:0 target=5", "", "8:0 target=5\n", "8:0 target=0"),
        ],
    )
    def test_texts(self, file: str, value: str, before: str, after: str, text: str) -> None:
        settings = [Setting("", file, value)]
        assert compile_restoration(settings, {file: before}, {file: before}) == []
        assert compile_restoration(settings, {file: before}, {file: after}) == [(file, text)]

    def test_the_last_is_undone_first(self) -> None:
        settings = [Setting("", "cpu.idle", "0"), Setting("", "cpu.weight", "50")]
        idle, busy = {"cpu.idle": "1\n", "cpu.weight": "0\n"}, {"cpu.idle": "0\n", "cpu.weight": "50\n"}
        assert compile_restoration(settings, idle, busy) == [("cpu.idle", "1")], "an idle cgroup has no weight to write"
        settings.reverse()
        assert compile_restoration(settings, busy, idle) == [("cpu.idle", "0"), ("cpu.weight", "50")]

    def test_weight_that_was_lost_by_being_idle(self) -> None:
        before, now = {"cpu.idle": "0\n", "cpu.weight": "50\n"}, {"cpu.idle": "1\n", "cpu.weight": "0\n"}
        restoration = compile_restoration([Setting("", "cpu.idle", "1")], before, now)
        assert restoration == [("cpu.idle", "0"), ("cpu.weight", "50")]

    def test_what_could_not_be_written_is_not_undone(self) -> None:
        settings = [Setting("", "io.max", "8:0 rbps=1"), Setting("", "io.max", "9:9 rbps=1")]
        restoration = compile_restoration(settings, {"io.max": ""}, {"io.max": f"8:0 {CHANGED}\n"})
        assert restoration == [("io.max", f"8:0 {UNLIMITED}")]

    def test_alternatives(self) -> None:
        setting = Setting("", "io.bfq.weight", "5", otherwise=Setting("", "io.weight", "50"))
        before, now = {"io.weight": "default 100\n"}, {"io.weight": "default 50\n"}
        assert compile_restoration([setting], before, now) == [("io.weight", "default 100")]

    def test_only_what_was_changed_is_written(self, tmp_path: Path) -> None:
        (tmp_path / "pids.max").write_text("5\n")
        (tmp_path / "cpu.max").write_text("max 1\n")
        before = {"pids.max": "max\n", "cpu.max": "max 1\n", "gone": "1\n"}
        (tmp_path / "cpu.max").chmod(0o400)
        written = (tmp_path / "cpu.max").stat().st_mtime_ns
        warnings: list[str] = []
        with Cgroup(os.open(tmp_path, os.O_RDONLY), str(tmp_path)) as cgroup:
            settings = [Setting("", file, "x") for file in before]
            restore(cgroup, settings, before, warnings.append)
        assert (tmp_path / "pids.max").read_text() == "max\n"
        assert (tmp_path / "cpu.max").stat().st_mtime_ns == written
        assert len(warnings) == 1
        assert "gone: no such file" in warnings[0]
