"""What a container's cgroup is to systemd: names, slices, and the properties for what stands in the files."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.cgroup.settings import Setting
from ocirt.cgroup.unit import (
    INFINITY,
    UnitProperty,
    compile_annotations,
    compile_properties,
    expand_slice,
    fit_settings,
    object_path,
    plan_unit,
)
from ocirt.errors import SpecError


class TestName:
    @pytest.mark.parametrize(
        ("cgroups_path", "user", "name", "slice_name", "path"),
        [
            (None, False, "ocirt-c1.scope", "system.slice", "/system.slice/ocirt-c1.scope"),
            ("", True, "ocirt-c1.scope", "user.slice", "/user.slice/ocirt-c1.scope"),
            ("::x", False, "-x.scope", "system.slice", "/system.slice/-x.scope"),
            ("a.slice:docker:x", True, "docker-x.scope", "a.slice", "/a.slice/docker-x.scope"),
            ("a-b-c.slice:p:x", False, "p-x.scope", "a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice/p-x.scope"),
            ("-:p:x", False, "p-x.scope", "-.slice", "/p-x.scope"),
            ("-.slice:p:x", False, "p-x.scope", "-.slice", "/p-x.scope"),
            ("memory.slice:p:x", False, "p-x.scope", "memory.slice", "/_memory.slice/p-x.scope"),
            (":_p:x", False, "_p-x.scope", "system.slice", "/system.slice/__p-x.scope"),
        ],
    )
    def test_it(self, cgroups_path: str | None, user: bool, name: str, slice_name: str, path: str) -> None:
        unit = plan_unit(cgroups_path, "c1", user=user)
        assert (unit.name, unit.slice, unit.path) == (name, slice_name, path)

    def test_an_ids_plus_is_escaped_as_systemd_does_it(self) -> None:
        assert plan_unit(None, "a+b", user=False).name == "ocirt-a\\x2bb.scope"

    @pytest.mark.parametrize(
        "cgroups_path",
        [
            "/a/b",
            "a",
            "a:b",
            "a:b:c:d",
            "a.slice/b.slice:p:n",
            "a:p:n",
            ".slice:p:n",
            "a--b.slice:p:n",
            "-a.slice:p:n",
            "a-.slice:p:n",
            "a.slice:p q:n",
            "a.slice:p:n+m",
            "a.slice:p:n.slice",
            f"a.slice:p:{'n' * 250}",
            "a\n.slice:p:n",
        ],
    )
    def test_what_is_no_name_is_refused(self, cgroups_path: str) -> None:
        with pytest.raises(SpecError) as caught:
            plan_unit(cgroups_path, "c1", user=False)
        assert caught.value.pointer == "/linux/cgroupsPath"

    def test_a_path_is_refused_in_the_words_of_runc(self) -> None:
        with pytest.raises(
            SpecError, match='to be of format "slice:prefix:name" for systemd cgroups, got "/a" instead'
        ):
            plan_unit("/a", "c1", user=False)

    @given(st.lists(st.from_regex(r"[a-z0-9_]{1,4}", fullmatch=True), min_size=1, max_size=6))
    def test_each_slice_is_in_the_one_that_its_name_begins_with(self, parts: list[str]) -> None:
        path = expand_slice("-".join(parts) + ".slice")
        assert len(path) == len(parts) + 1
        for outer, inner in itertools.pairwise(path[1:]):
            assert inner.removeprefix("_").startswith(outer.removeprefix("_").removesuffix(".slice") + "-")

    def test_object_paths_are_escaped(self) -> None:
        # As "busctl tree org.freedesktop.systemd1" shows them.
        assert object_path("ocirt-c1.scope") == "/org/freedesktop/systemd1/unit/ocirt_2dc1_2escope"
        assert object_path("5f6d") == "/org/freedesktop/systemd1/unit/_35f6d"


class TestAnnotations:
    def compile(self, name: str, text: str) -> UnitProperty:
        (found,) = compile_annotations({f"org.systemd.property.{name}": text, "org.systemd.other": "x", "y": "z"})
        return found

    def test_others_are_passed_over(self) -> None:
        assert compile_annotations({"a": "b", "org.systemd.property": "x"}) == ()

    @pytest.mark.parametrize(
        ("name", "text", "expected"),
        [
            ("CollectMode", "'inactive'", ("CollectMode", "s", "inactive")),
            ("TimeoutStopUSec", "uint64 123456789", ("TimeoutStopUSec", "t", 123456789)),
            ("TimeoutStopSec", "uint64 3", ("TimeoutStopUSec", "t", 3_000_000)),
            ("TimeoutStopSec", "3", ("TimeoutStopUSec", "t", 3_000_000)),
            ("TimeoutStopSec", "1.5", ("TimeoutStopUSec", "t", 1_500_000)),
            ("After", "['a.service']", ("After", "as", ["a.service"])),
            # Only after a small letter, as with runc: what ends in USec is in microseconds already.
            ("FooUSec", "uint64 3", ("FooUSec", "t", 3)),
        ],
    )
    def test_it(self, name: str, text: str, expected: tuple[str, str, object]) -> None:
        found = self.compile(name, text)
        assert (found.name, found.signature, found.value) == expected
        assert found.origin == f"/annotations/org.systemd.property.{name}"

    @pytest.mark.parametrize(
        ("name", "text", "what"),
        [
            ("Ab", "1", "three or more letters"),
            ("A/b", "1", "three or more letters"),
            ("Foo", "bar", "no GVariant text"),
            ("TimeoutStopSec", "'3'", "a number of seconds is needed"),
            ("TimeoutStopSec", "true", "a number of seconds is needed"),
            ("TimeoutStopSec", "-1", "out of range"),
            ("TimeoutStopSec", "uint64 18446744073709551615", "out of range"),
            ("TimeoutStopSec", "1e400", "."),
            ("PIDs", "[uint32 1]", "for the runtime alone"),
            ("Slice", "'a.slice'", "for the runtime alone"),
            ("Delegate", "false", "for the runtime alone"),
        ],
    )
    def test_refused(self, name: str, text: str, what: str) -> None:
        with pytest.raises(SpecError, match=what) as caught:
            self.compile(name, text)
        assert caught.value.pointer == "/annotations/org.systemd.property." + name.replace("/", "~1")


def properties(*settings: tuple[str, str]) -> dict[str, object]:
    """Name -> value of the properties for (file, value)."""
    compiled = compile_properties([Setting(f"/{file}", file, value) for file, value in settings])
    assert len({each.name for each in compiled}) == len(compiled)
    return {each.name: each.value for each in compiled}


DEVICE = "/dev/block/8:0"


class TestProperties:
    @pytest.mark.parametrize(
        ("file", "value", "expected"),
        [
            ("memory.max", "4096", {"MemoryMax": 4096}),
            ("memory.max", "max", {"MemoryMax": INFINITY}),
            ("memory.max", "0", {"MemoryMax": 1}),
            ("memory.high", "2M", {"MemoryHigh": 2 << 20}),
            ("memory.low", "0", {"MemoryLow": 0}),
            ("memory.min", "1k", {"MemoryMin": 1024}),
            ("memory.swap.max", "0", {"MemorySwapMax": 0}),
            ("memory.zswap.max", "5", {"MemoryZSwapMax": 5}),
            ("memory.zswap.writeback", "0", {"MemoryZSwapWriteback": False}),
            ("memory.oom.group", "1", {"OOMPolicy": "kill"}),
            ("memory.oom.group", "0", {"OOMPolicy": "continue"}),
            ("cpu.weight", "100", {"CPUWeight": 100}),
            ("cpu.idle", "1", {"CPUWeight": 0}),
            ("cpu.idle", "0", {}),
            ("cpu.max", "50000 100000", {"CPUQuotaPerSecUSec": 500_000, "CPUQuotaPeriodUSec": 100_000}),
            ("cpu.max", "50000", {"CPUQuotaPerSecUSec": 500_000, "CPUQuotaPeriodUSec": 100_000}),
            ("cpu.max", "max 20000", {"CPUQuotaPerSecUSec": INFINITY, "CPUQuotaPeriodUSec": 20_000}),
            ("cpu.max", "12345 100000", {"CPUQuotaPerSecUSec": 130_000, "CPUQuotaPeriodUSec": 100_000}),
            ("cpuset.cpus", "0-2,8", {"AllowedCPUs": [7, 1]}),
            ("cpuset.cpus", "", {"AllowedCPUs": []}),
            ("cpuset.mems", "1", {"AllowedMemoryNodes": [2]}),
            ("pids.max", "5", {"TasksMax": 5}),
            ("pids.max", "0", {"TasksMax": 1}),
            ("pids.max", "max", {"TasksMax": INFINITY}),
            ("io.weight", "200", {"IOWeight": 200}),
            ("io.weight", "default 200", {"IOWeight": 200}),
            ("io.weight", "8:0 200", {"IODeviceWeight": [(DEVICE, 200)]}),
            ("io.bfq.weight", "100", {"IOWeight": 100}),
            ("io.bfq.weight", "1000", {"IOWeight": 10000}),
            ("io.bfq.weight", "8:0 10", {"IODeviceWeight": [(DEVICE, 10)]}),
            ("io.max", "8:0 rbps=1000", {"IOReadBandwidthMax": [(DEVICE, 1000)]}),
            (
                "io.max",
                "8:0 wbps=max riops=1 wiops=2",
                {
                    "IOWriteBandwidthMax": [(DEVICE, INFINITY)],
                    "IOReadIOPSMax": [(DEVICE, 1)],
                    "IOWriteIOPSMax": [(DEVICE, 2)],
                },
            ),
            ("io.latency", "8:0 target=75000", {"IODeviceLatencyTargetUSec": [(DEVICE, 75000)]}),
        ],
    )
    def test_it(self, file: str, value: str, expected: dict[str, object]) -> None:
        assert properties((file, value)) == expected

    @pytest.mark.parametrize(
        ("file", "value"),
        [
            # No property there is.
            ("cpu.max.burst", "1000"),
            ("hugetlb.2MB.max", "0"),
            ("rdma.max", "mlx4_0 hca_handle=2"),
            ("misc.max", "res_a 1"),
            ("io.prio.class", "idle"),
            # What systemd's types cannot say, or the kernel will refuse.
            ("cpuset.cpus", "0-10:2/4"),
            ("cpuset.cpus", "all"),
            ("cpuset.cpus", "3-1"),
            ("memory.max", "a lot"),
            ("cpu.max", "1 2 3"),
            ("cpu.max", "1000 0"),
            ("cpu.weight", "x"),
            ("io.weight", "8:0 default"),
            ("io.max", "rbps=1"),
            ("pids.max", "-1"),
        ],
    )
    def test_the_rest_is_left_to_the_file(self, file: str, value: str) -> None:
        assert properties((file, value)) == {}

    def test_what_older_systemds_have_not(self) -> None:
        settings = [Setting("/x", "cpu.idle", "1"), Setting("/y", "memory.zswap.max", "1")]
        assert [(each.name, each.since) for each in compile_properties(settings)] == [
            ("CPUWeight", 252),
            ("MemoryZSwapMax", 253),
        ]

    def test_devices_are_gathered(self) -> None:
        both = properties(("io.max", "8:0 rbps=1"), ("io.max", "8:16 rbps=2"), ("io.weight", "7"))
        assert both == {"IOReadBandwidthMax": [(DEVICE, 1), ("/dev/block/8:16", 2)], "IOWeight": 7}

    def test_the_last_counts(self) -> None:
        assert properties(("memory.max", "1"), ("memory.max", "2")) == {"MemoryMax": 2}
        assert properties(("cpuset.cpus", "0"), ("cpuset.cpus", "1")) == {"AllowedCPUs": [2]}

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    def test_an_idle_cgroup_has_no_weight(self, order: tuple[int, int]) -> None:
        settings = [("cpu.weight", "50"), ("cpu.idle", "1")]
        assert properties(*(settings[index] for index in order)) == {"CPUWeight": 0}

    def test_the_origin_is_kept(self) -> None:
        (found,) = compile_properties([Setting("/linux/resources/memory/limit", "memory.max", "1")])
        assert found.origin == "/linux/resources/memory/limit"

    @given(st.text(max_size=20), st.sampled_from(["cpu.max", "cpuset.cpus", "io.max", "io.weight", "memory.max", "x"]))
    def test_no_value_is_too_odd(self, value: str, file: str) -> None:
        compile_properties(fit_settings([Setting("/x", file, value)]))

    @given(st.integers(min_value=1, max_value=1000))
    def test_the_weight_of_bfq_comes_back(self, weight: int) -> None:
        (io_weight,) = properties(("io.bfq.weight", str(weight))).values()
        assert isinstance(io_weight, int)
        # BFQ_WEIGHT of systemd's cgroup-util.h
        back = io_weight if io_weight <= 100 else 100 + (io_weight - 100) * (1000 - 100) // (10000 - 100)
        assert back == weight


class TestQuota:
    def fit(self, value: str) -> str:
        (setting,) = fit_settings([Setting("/x", "cpu.max", value)])
        return setting.value

    @pytest.mark.parametrize(
        ("value", "fitted"),
        [
            ("50000 100000", "50000 100000"),
            ("12345 100000", "13000 100000"),
            ("12345", "13000"),
            ("1 1000000", "10000 1000000"),
            ("max 100000", "max 100000"),
            ("max", "max"),
            ("odd", "odd"),
        ],
    )
    def test_a_quota_is_whole_percents(self, value: str, fitted: str) -> None:
        assert self.fit(value) == fitted

    @given(st.integers(1000, 10**9), st.integers(1000, 10**6))
    def test_never_less_than_asked_and_no_percent_more(self, quota: int, period: int) -> None:
        fitted = self.fit(f"{quota} {period}")
        share = int(fitted.split()[0]) / period
        # A microsecond less: the kernel counts in whole ones, as systemd does.
        assert quota / period - 1 / period <= share < quota / period + 0.01 + 1e-6
        assert self.fit(fitted) == fitted

    def test_other_files_stay(self) -> None:
        settings = (Setting("/x", "cpu.max.burst", "12345"), Setting("/y", "memory.max", "1"))
        assert fit_settings(settings) == settings
