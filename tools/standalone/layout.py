"""The linker's script for an image that can be saved: the linker's own, with three places changed.

Guarantees: in the writable segment comes first what is libc's (and the compiler's run-time library's), of .data and of
.bss; then, from `saved_start` on, everybody else's; last, up to `saved_end`, the allocator's heap. A linker whose
script has other words is an error, not a wrong layout.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

# Whatever these keep about the process (thread-local storage, the vDSO, the processor's features, unwind tables) must
# be as in a program that has not run yet.
LIBC = ("*libc.a:*", "*libgcc.a:*", "*libgcc_eh.a:*", "*crt1.o", "*crti.o", "*crtn.o", "*crtbegin*.o", "*crtend*.o")

_DATA = "*(.data .data.* .gnu.linkonce.d.*)"
_BSS = "*(.bss .bss.* .gnu.linkonce.b.*)"
_COMMON = "*(COMMON)"


class LayoutError(Exception):
    """The linker's script isn't one that this module can change."""


def linker_script(compiler: Sequence[str]) -> str:
    """The text for -Wl,-T. Raises LayoutError."""
    command = [*compiler, "-static", "-no-pie", "-Wl,--verbose", "-x", "c", "-", "-o", "/dev/null"]
    done = subprocess.run(command, input="int main(void){return 0;}", capture_output=True, text=True, check=True)
    parts = done.stdout.split("=" * 50)
    if len(parts) < 3:
        raise LayoutError("the linker shows no script")
    text = parts[1]
    libc = " ".join(f"{files}(.data .data.* .bss .bss.* COMMON)" for files in LIBC)
    for old, new in (
        (_DATA, f"{libc} *(__libc_freeres_ptrs) . = ALIGN(4096); saved_start = .; {_DATA}"),
        (_BSS, "*(EXCLUDE_FILE(*image_heap.o) .bss EXCLUDE_FILE(*image_heap.o) .bss.* .gnu.linkonce.b.*)"),
        (_COMMON, "*(COMMON) *image_heap.o(.bss) *image_heap.o(.bss.*) saved_end = .;"),
    ):
        if text.count(old) != 1:
            raise LayoutError(f"the linker's script has {text.count(old)} times {old!r}")
        text = text.replace(old, new)
    return text
