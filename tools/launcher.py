#!/usr/bin/env python3
"""Prints the script that starts an ocirt installed below the folder given: `launcher.py LIBDIR`.

The script names the interpreter that the extension modules were built for, and isolates it (-I, -S): neither the
caller's environment, nor its folder, nor a site-packages decides what a privileged runtime imports.
"""

from __future__ import annotations

import os
import sys

SCRIPT = """\
#!{interpreter} -IS
import sys

sys.path.insert(0, {libdir!r})

from ocirt.cli import main

sys.exit(main())
"""


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: launcher.py LIBDIR", file=sys.stderr)
        return 2
    interpreter = os.path.realpath(sys.executable)
    sys.stdout.write(SCRIPT.format(interpreter=interpreter, libdir=os.path.abspath(arguments[0])))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
