"""Builds ocirt-init and declares the cffi extension ocirt._native that carries it (setup.py names `ffi`).

The declarations come from the headers themselves, preprocessed: each is the single source for C and for Python.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build"
HEADERS = ["plan.h", "native.h", "bpf.h", "seccomp_names.h"]
NATIVE_SOURCES = ["native.c", "assistant.c", "bpf.c", "seccomp_names.c"]
INIT_SOURCES = [
    *("init.c", "plan.c", "report.c", "protocol.c", "ns.c"),
    *(
        "path.c",
        "attributes.c",
        "filesystem.c",
        "mount.c",
        "copyup.c",
        "root.c",
        "hostviews.c",
        "protect.c",
        "device.c",
    ),
    *("cred.c", "process.c", "label.c", "seccomp_load.c", "tty.c", "hook.c", "execute.c"),
]
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wvla", "-Wconversion", "-Wno-sign-conversion"]


def compiler() -> list[str]:
    return shlex.split(os.environ.get("CC", "gcc"))


def build_init(output: Path, extra: list[str] | None = None) -> Path:
    """Compile ocirt-init, statically, with musl where there is musl-gcc: tens of KB to seal and map, glibc makes 800.

    With `extra` (sanitizers, which need glibc), dynamically with the ordinary compiler.
    """
    command = [*compiler(), *(extra or [])]
    if not extra:
        command = [*compiler(), "-static"]
        if shutil.which("musl-gcc") and "CC" not in os.environ:
            # musl has no kernel headers of its own
            kernel_headers = [
                "-idirafter",
                "/usr/include",
                "-idirafter",
                f"/usr/include/{os.uname().machine}-linux-gnu",
            ]
            command = ["musl-gcc", "-static", *kernel_headers]
        command += ["-Os", "-s", "-ffunction-sections", "-Wl,--gc-sections", "-Wl,-z,noseparate-code"]
    output.parent.mkdir(parents=True, exist_ok=True)
    sources = [str(HERE / name) for name in INIT_SOURCES]
    subprocess.run([*command, "-std=gnu11", "-D_GNU_SOURCE", *WARNINGS, *sources, "-o", str(output)], check=True)
    return output


def declarations() -> str:
    texts = []
    for name in HEADERS:
        command = [*compiler(), "-E", "-P", "-DOCIRT_CDEF", str(HERE / name)]
        texts.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return "\n".join(texts)


def check_native_sources() -> None:
    """Our own C under our own warnings: cffi compiles it together with code that it generates."""
    sources = [str(HERE / name) for name in NATIVE_SOURCES]
    macros = ["-D_GNU_SOURCE", '-DOCIRT_INIT_PATH="/dev/null"']
    subprocess.run([*compiler(), "-fsyntax-only", "-std=gnu11", *WARNINGS, *macros, *sources], check=True)


def make_ffi() -> FFI:
    init = build_init(BUILD / "ocirt-init")
    check_native_sources()
    ffi = FFI()
    # typedefs of fixed-width integers are known to cffi
    ffi.cdef(declarations())
    includes = "\n".join(f'#include "{name}"' for name in HEADERS)
    ffi.set_source(
        "ocirt._native",
        includes,
        sources=[os.path.relpath(HERE / name, HERE.parent) for name in NATIVE_SOURCES],
        include_dirs=[str(HERE)],
        depends=[str(HERE / name) for name in HEADERS] + [str(init)],
        define_macros=[("OCIRT_INIT_PATH", f'"{init}"'), ("_GNU_SOURCE", None)],
        extra_compile_args=["-O2", "-std=gnu11", "-Wall", "-Wextra", "-Wno-unused-parameter"],
        libraries=["seccomp"],
    )
    return ffi


if __name__ == "__main__":
    import sys

    build_init(Path(sys.argv[1]), sys.argv[2:])
else:
    ffi = make_ffi()
