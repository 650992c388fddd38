"""Compiles and links the plain binary."""

from __future__ import annotations

import os
import platform
import runpy
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.standalone import cpython, layout, sources

ROOT = Path(__file__).resolve().parent.parent.parent
C_EXT = ROOT / "c_ext"
STANDALONE = C_EXT / "standalone"

OURS = ("main.c", "renew.c", "save.c", "inittab.c", "fixed.c")
# Runs before libc: nothing of the compiler's that wants it.
FIRST = "window.c"
# In the place of libc's own start, if that is the one it is written after.
START = "start.c"
LIBC_START_SYMBOLS = frozenset(
    """
    _GLOBAL_OFFSET_TABLE_ __assert_fail __cxa_atexit __environ __fini_array_end __fini_array_start __init_array_end
    __init_array_start __libc_check_standard_fds __libc_early_init __libc_enable_secure __libc_fatal __libc_init_first
    __libc_setup_tls __libc_stack_end __nptl_deallocate_tsd __nptl_nthreads __preinit_array_end __preinit_array_start
    __pthread_initialize_minimal __rela_iplt_end __rela_iplt_start __tunable_get_val __tunable_set_val __tunables_init
    _dl_aux_init _dl_debug_initialize _dl_hwcap _dl_minsigstacksize _dl_platform _dl_random _dl_relocate_static_pie
    _dl_tunable_set_hwcaps _dl_x86_cpu_features _fini _init _setjmp exit
    __libc_start_main __libc_start_main_impl __x86_data_cache_size __x86_data_cache_size_half
    __x86_rep_movsb_stop_threshold __x86_rep_movsb_threshold __x86_rep_stosb_threshold __x86_shared_cache_size
    __x86_shared_cache_size_half __x86_shared_non_temporal_threshold __x86_string_control
    """.split()
)
ALLOCATORS = ("alloc.c", "image_heap.c")
NATIVE = ("native.c", "assistant.c", "bpf.c", "seccomp_names.c")
# What must give the same at every build: fixed.c.
WRAPPED = ("getrandom", "getpid", "clock_gettime", "gettimeofday", "time")
JOBS = os.cpu_count() or 1

_FLAGS = ["-O2", "-std=gnu11", "-fwrapv", "-DNDEBUG", "-fno-pie", "-g0"]
_FLAGS += ["-ffunction-sections", "-fno-asynchronous-unwind-tables"]
_WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wno-missing-field-initializers"]
_LIBRARIES = ["-lseccomp", "-lffi", "-lcap", "-lz", "-lm"]


@dataclass(frozen=True)
class Variant:
    """What a program has that the others have not: `objects` is the directory of its objects."""

    objects: str
    sources: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    wrapped: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    heap_bytes: int | None = None


USUAL = Variant("objects")
# It tells what it does with its pages (placement.py), and what it executes (cpython.py).
PROFILE = Variant("objects-profile", ("profile.c",), wrapped=("_exit",), heap_bytes=1 << 30)
COUNTING = Variant(
    "objects-counting", ("counting.c",), cpython.COUNTING_FLAGS, ("_exit", "__gcov_init"), libraries=("-lgcov",)
)


@dataclass(frozen=True)
class Unit:
    """A file to compile."""

    source: Path
    flags: tuple[str, ...] = ()
    ours: bool = False


def compiler() -> list[str]:
    return ["gcc"]


def python_headers() -> Path:
    include = Path(sysconfig.get_paths()["include"])
    if not (include / "Python.h").exists():  # a virtual environment's has none
        include = Path(f"/usr/include/python{sys.version_info.major}.{sys.version_info.minor}")
    return include


def python_library() -> Path:
    directory = Path(sysconfig.get_config_var("LIBPL"))
    return directory / f"libpython{sys.version_info.major}.{sys.version_info.minor}.a"


def write_native(build: Path) -> Path:
    """ocirt-init, and the C that cffi generates for ocirt._native."""
    from cffi import FFI

    argv = sys.argv
    sys.argv = [str(C_EXT / "build.py"), str(build / "ocirt-init")]
    try:
        names: dict[str, Any] = runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        sys.argv = argv
    ffi = FFI()
    ffi.cdef(names["declarations"]())
    ffi.set_source("ocirt._native", "\n".join(f'#include "{name}"' for name in names["HEADERS"]))
    output = build / "_native.c"
    ffi.emit_c_code(str(output))
    return output


def libc_start_is_known() -> bool:
    """Whether libc.a has the __libc_start_main that start.c does the work of."""
    located = subprocess.run([*compiler(), "-print-file-name=libc.a"], capture_output=True, text=True, check=True)
    command = ["nm", "--print-file-name", "--format=posix", "--extern-only", located.stdout.strip()]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    symbols = {line.split()[1] for line in listed if "[libc-start.o]: " in line}
    if symbols == LIBC_START_SYMBOLS:
        return True
    print("standalone: libc's start is another one than start.c is written after; libc's is taken", file=sys.stderr)
    return False


def units(build: Path, python: Path, variant: Variant) -> list[Unit]:
    modules = python / "Modules"
    # What comes before libc, and the allocators, may not count.
    count = variant.flags
    core = ("-DPy_BUILD_CORE_BUILTIN", f"-I{modules}", *count)
    cffi = sources.sdist("cffi", build)
    prctl = sources.sdist("python-prctl", build)
    allocator = ["-D_GNU_SOURCE", "-fno-builtin"]
    if variant.heap_bytes:
        allocator.append(f"-DHEAP_BYTES=({variant.heap_bytes}ul)")
    early = ("-D_GNU_SOURCE", "-ffreestanding", "-fno-stack-protector")
    native = (f"-I{C_EXT}", "-D_GNU_SOURCE", f'-DOCIRT_INIT_PATH="{build / "ocirt-init"}"', *count)
    return [
        *(Unit(STANDALONE / name, ("-D_GNU_SOURCE",), ours=True) for name in OURS + variant.sources),
        *(Unit(STANDALONE / name, early, ours=True) for name in (FIRST, *([START] if libc_start_is_known() else []))),
        Unit(STANDALONE / "frozen.c", (f'-DFROZEN="{build / "frozen"}"',), ours=True),
        *(Unit(STANDALONE / name, tuple(allocator), ours=True) for name in ALLOCATORS),
        *(Unit(modules / name, core) for name in sources.PYTHON_MODULES),
        Unit(cffi / "src/c/_cffi_backend.c", ("-DFFI_BUILDING=1", "-DUSE__THREAD", "-DHAVE_SYNC_SYNCHRONIZE", *count)),
        Unit(prctl / "_prctlmodule.c", count),
        Unit(build / "_native.c", native),
        *(Unit(C_EXT / name, native, ours=True) for name in NATIVE),
    ]


def compile_units(build: Path, wanted: list[Unit], directory: str) -> list[Path]:
    """Object files, in the order of the units. Paths of this machine stay out of them."""
    objects = build / directory
    shutil.rmtree(objects, ignore_errors=True)
    objects.mkdir(parents=True)
    maps = [f"-ffile-prefix-map={build}=build", f"-ffile-prefix-map={ROOT}=."]
    headers = [f"-I{python_headers()}", f"-I{python_headers()}/internal"]
    running = []
    for unit in wanted:
        output = objects / f"{unit.source.stem}.o"
        warnings = _WARNINGS if unit.ours else ["-w"]
        command = [*compiler(), *_FLAGS, *maps, *warnings, *headers, *unit.flags]
        running.append((output, subprocess.Popen([*command, "-c", str(unit.source), "-o", str(output)])))
        if len(running) % JOBS == 0:
            running[-JOBS][1].wait()
    codes = [process.wait() for _, process in running]
    if any(codes):
        raise subprocess.CalledProcessError(1, "compiling")
    return [output for output, _ in running]


@dataclass(frozen=True)
class Program:
    """A linked one: its image heap's address, and the linker's map of it."""

    path: Path
    heap_address: int
    sections: Path


def link(
    build: Path,
    objects: list[Path],
    library: Path,
    output: Path,
    variant: Variant,
    *,
    can_be_saved: bool,
    order: Sequence[str] = (),
) -> Program:
    """Static, at fixed addresses, stripped, without a build id; `library`: cpython.py; `order`: order.py.

    What it takes of libraries comes in a fixed order.
    """
    script = []
    if can_be_saved:
        (build / "layout.ld").write_text(layout.linker_script(compiler(), order))
        script = [f"-Wl,-T,{build / 'layout.ld'}"]
        if platform.machine() == "x86_64":
            script.append("-Wl,-e,window_start")
    wraps = [f"-Wl,--wrap={name}" for name in (*WRAPPED, *variant.wrapped)]
    plain = ["-static", "-no-pie", "-Wl,--build-id=none", "-Wl,--gc-sections", "-Wl,-z,noseparate-code"]
    names = [str(path) for path in objects]
    whole, sections = build / f"{output.name}.symbols", build / f"{output.name}.map"
    plain.append(f"-Wl,-Map,{sections}")
    libraries = [str(library), str(python_library()), *_LIBRARIES, *variant.libraries]
    command = [*compiler(), *plain, *script, *wraps, *names, *libraries, "-o", str(whole)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # What it says of getaddrinfo and dlopen in static programs is right, and they are not used.
    said = [line for line in done.stderr.splitlines() if "statically linked applications" not in line]
    said = [line for line in said if "in function" not in line]
    if said:
        print(*said, sep="\n", file=sys.stderr)
    if done.returncode != 0:
        raise subprocess.CalledProcessError(done.returncode, "linking")
    subprocess.run(["strip", "-s", "-o", str(output), str(whole)], check=True)
    symbols = subprocess.run(["nm", str(whole)], capture_output=True, text=True, check=True).stdout.splitlines()
    heap = next(int(line.split()[0], 16) for line in symbols if line.endswith(" image_heap"))
    return Program(output, heap, sections)
