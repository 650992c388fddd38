"""The linker's script for an image that can be saved: the linker's own, with some places changed.

Guarantees, of the writable memory:
- What is libc's (and the compiler's run-time library's), of .data and of .bss, is in a segment before all else.
- `saved_start` begins another one, at a boundary of 2 MiB: everybody else's data, last the hot part of the allocator's
  heap, up to `hot_end`. One huge page takes its beginning (c_ext/standalone/window.c).
- The heap's other part is a third one, up to `saved_end`.
Of the rest: what `order` names of code and constants is in front of the others, up to `used_end`.
A linker whose script has other words is an error, not a wrong layout.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

HUGE_PAGE_BYTES = 2 << 20
# Whatever these keep about the process (thread-local storage, the vDSO, the processor's features, unwind tables) must
# be as in a program that has not run yet.
LIBC = ("*libc.a:*", "*libgcc.a:*", "*libgcc_eh.a:*", "*crt1.o", "*crti.o", "*crtn.o", "*crtbegin*.o", "*crtend*.o")

_DATA = re.compile(r"(  \.data\s*:\s*\{\s*)(\*\(\.data \.data\.\* \.gnu\.linkonce\.d\.\*\))")
_BSS = re.compile(r"\*\(\.bss \.bss\.\* \.gnu\.linkonce\.b\.\*\)(\s*)\*\(COMMON\)([^}]*\})")
_TEXT = re.compile(r"(?<=\n)  \.text\s*:\s*\{")
# Equal ones are one, wherever they come from.
_STRINGS = "*(.rodata.str* .rodata.cst* .rodata.*.str* .rodata.*.cst*)"
_HEAP = "*image_heap.o"


class LayoutError(Exception):
    """The linker's script isn't one that this module can change."""


def linker_script(compiler: Sequence[str], order: Sequence[str] = ()) -> str:
    """The text for -Wl,-T. `order`: patterns of input sections (order.py). Raises LayoutError."""
    command = [*compiler, "-static", "-no-pie", "-Wl,--verbose", "-x", "c", "-", "-o", "/dev/null"]
    done = subprocess.run(command, input="int main(void){return 0;}", capture_output=True, text=True, check=True)
    parts = done.stdout.split("=" * 50)
    if len(parts) < 3:
        raise LayoutError("the linker shows no script")
    text = parts[1]
    libc = " ".join(f"{files}({kind})" for kind in (".data .data.*", ".bss .bss.* COMMON") for files in LIBC)
    others = f"*(EXCLUDE_FILE({_HEAP}) .bss EXCLUDE_FILE({_HEAP}) .bss.* .gnu.linkonce.b.*)"
    boundary = f"  . = ALIGN({HUGE_PAGE_BYTES:#x});\n"
    libc_data = f"  .libc_data : {{ {libc} *(__libc_freeres_ptrs) }}\n{boundary}"
    # Where no page is between the two, the linker makes one segment of them.
    heap = f"\n  . = . + 0x2000;\n{boundary}  .image_heap : {{ {_HEAP}(.bss.heap) saved_end = .; }}"
    text_used = " ".join(pattern for pattern in order if "(.text" in pattern)
    rodata_used = " ".join(pattern for pattern in order if "(.rodata" in pattern)
    used = f"  .text_used : {{ {text_used} }}\n  .rodata_used : {{ {_STRINGS} {rodata_used} }}\n" if order else ""
    for old, new in (
        (_TEXT, rf"{used}  used_end = .;\n\g<0>"),
        (_DATA, rf"{libc_data}\1saved_start = .; \2"),
        (_BSS, rf"{others}\1*(COMMON) {_HEAP}(.bss) {_HEAP}(.bss.hot) hot_end = .;\2{heap}"),
    ):
        text, count = old.subn(new, text)
        if count != 1:
            raise LayoutError(f"the linker's script has {count} times {old.pattern!r}")
    return text
