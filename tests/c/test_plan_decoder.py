"""The decoder of plans under the sanitizers, with damaged plans and with anything at all (CVE-2021-43784)."""

from __future__ import annotations

import random
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from ocirt import ops
from ocirt._native import lib
from ocirt.plan import Plan

C_EXT = Path(__file__).parents[2] / "c_ext"
SOURCES = [Path(__file__).parent / "fuzz_plan.c", *(C_EXT / name for name in ("plan.c", "report.c", "protocol.c"))]
REFERENCES = ("str_t", "strv_t", "u32v_t", "blob_t", "slot_t")
FUZZ_SECONDS = 20
INTERESTING = (0, 1, 7, 8, 0x7F, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 2**31 - 1, 2**31, 2**32 - 8, 2**32 - 1)


def fields_of_plan() -> str:
    """FIELD() for every reference in the records of plan.h."""
    lines, text = [], (C_EXT / "plan.h").read_text()
    for name, body in re.findall(r"^struct op_(\w+) \{\n(.*?)^\};", text, re.MULTILINE | re.DOTALL):
        for kind, field in re.findall(r"^    (\w+) (\w+);", body, re.MULTILINE):
            if kind in REFERENCES:
                lines.append(f"FIELD(OP_{name.upper()}, op_{name}, {field}, {kind})\n")
    return "".join(lines)


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("clang"):
        pytest.skip("needs clang")
    folder = tmp_path_factory.mktemp("fuzzer")
    (folder / "plan_fields.h").write_text(fields_of_plan())
    flags = ["-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all", "-g", "-O1", "-D_GNU_SOURCE"]
    command = ["clang", *flags, f"-I{C_EXT}", f"-I{folder}", *map(str, SOURCES), "-o", str(folder / "fuzz_plan")]
    subprocess.run(command, check=True)
    return folder / "fuzz_plan"


def real_plans() -> list[bytes]:
    every = (
        ops.OpenProc("/a"),
        ops.OpenTree("/a", "/some/path", lib.TREE_RECURSIVE, 1),
        ops.AttachRoot("/a", "/some/path", 1),
        ops.MountFs("/a", "tmpfs", "tmpfs", "/dev", ("mode=755", "size=65536k"), lib.MOUNT_TAKE_OVER, 2),
        ops.OpenTree("/a", "/some/other", 0, 3),
        ops.Bind("/a", "/target", 3),
        ops.Remount("/a", "/dev", ("ro",), ops.Attributes(set=1)),
        ops.MakeDevice("/a", "/dev/null", 0o020666, 1, 3, 0, 0),
        ops.MakeSymlink("/a", "/dev/fd", "/proc/self/fd", tolerated=(17, 20)),
        ops.Pivot("/a", lib.PIVOT_ROOT),
        ops.MaskPath("/a", "/proc/kcore"),
        ops.SetCpuAffinity("/a", bytes(range(16))),
        ops.LoadSeccomp("/a", bytes(80), 0, False),
        ops.SetUser("/a", 1, 2, (3, 4, 5), 0),
        ops.RunHook("/a", "/bin/hook", ("hook", "argument"), ("A=b",), '{"pid":', "}", 5),
        ops.CloseDescriptors("/a"),
        ops.Execute("/a", ("sh", "-c", "exit"), ("PATH=/bin", "TERM=xterm")),
    )
    small = Plan(ops=(ops.OpenProc("/a"),), slot_count=1, filled_slots=1, joins=((0x20000000, 0),))
    return [Plan(every[:1], every[1:], slot_count=8).encode(), small.encode(), Plan().encode()]


def damaged(plan: bytes, source: random.Random) -> bytes:
    """A plan with some of its numbers changed, truncated or extended at times."""
    data = bytearray(plan)
    for _ in range(source.randint(1, 4)):
        size, form = source.choice(((1, "B"), (2, "H"), (4, "I"), (4, "I")))
        at = source.randrange(0, max(len(data) - size, 1) // size + 1) * size
        value = source.choice((source.choice(INTERESTING), source.getrandbits(32), source.randrange(len(data) + 16)))
        if at + size <= len(data):
            struct.pack_into(f"={form}", data, at, value % (1 << 8 * size))
    if source.random() < 0.2:
        del data[source.randrange(len(data)) :]
    if len(data) >= 12 and source.random() < 0.5:
        struct.pack_into("=I", data, 8, len(data))  # the length in the header fits
    return bytes(data)


def run(fuzzer: Path, *arguments: str) -> str:
    result = subprocess.run(
        [str(fuzzer), f"-artifact_prefix={fuzzer.parent}/", *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env={"ASAN_OPTIONS": "symbolize=0"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stderr


def test_every_reference_is_known() -> None:
    fields = fields_of_plan()
    assert "FIELD(OP_MOUNT_FS, op_mount_fs, options, strv_t)" in fields
    assert {f"OP_{name}" for name in ("EXECUTE", "RUN_HOOK", "SET_USER", "SET_CPU_AFFINITY", "BIND")} <= set(
        re.findall(r"OP_\w+", fields)
    )


def test_damaged_plans(fuzzer: Path, tmp_path: Path) -> None:
    source, plans = random.Random(20240615), real_plans()
    for number, plan in enumerate(plans):
        (tmp_path / f"plan-{number}").write_bytes(plan)
    for number in range(5000):
        (tmp_path / f"damaged-{number}").write_bytes(damaged(plans[number % 2], source))
    done = re.search(r"Done (\d+) runs", run(fuzzer, "-runs=0", str(tmp_path)))
    assert done is not None
    assert int(done[1]) > 4900  # empty files don't count


@pytest.mark.slow
def test_anything(fuzzer: Path, tmp_path: Path) -> None:
    seeds, corpus = tmp_path / "seeds", tmp_path / "corpus"
    for folder in (seeds, corpus):
        folder.mkdir()
    for number, plan in enumerate(real_plans()):
        (seeds / f"plan-{number}").write_bytes(plan)
    options = [f"-max_total_time={FUZZ_SECONDS}", "-max_len=4096", "-timeout=5", "-rss_limit_mb=1024"]
    assert "Done" in run(fuzzer, *options, str(corpus), str(seeds))


def test_a_decoder_without_checks_is_caught(fuzzer: Path, tmp_path: Path) -> None:
    """The harness reads what it says: with the decoder's check taken out, a damaged plan ends it."""
    unchecked = tmp_path / "plan.c"
    text = (C_EXT / "plan.c").read_text()
    unchecked.write_text(text.replace("offset + bytes > ctx->plan->data_bytes", "false"))
    assert unchecked.read_text() != text
    flags = ["-fsanitize=fuzzer,address", "-g", "-O1", "-D_GNU_SOURCE"]
    sources = [str(unchecked if source.name == "plan.c" else source) for source in SOURCES]
    program = tmp_path / "fuzz_plan"
    subprocess.run(["clang", *flags, f"-I{C_EXT}", f"-I{fuzzer.parent}", *sources, "-o", str(program)], check=True)
    folder = tmp_path / "plans"
    folder.mkdir()
    source = random.Random(1)
    for number in range(500):
        (folder / str(number)).write_bytes(damaged(real_plans()[0], source))
    result = subprocess.run(
        [str(program), "-runs=0", f"-artifact_prefix={tmp_path}/", str(folder)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env={"ASAN_OPTIONS": "symbolize=0"},
    )  # fmt: skip
    assert "ERROR: AddressSanitizer" in result.stderr
