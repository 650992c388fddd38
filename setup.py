"""What pyproject.toml cannot say: that c_ext/build.py makes an extension module, which commit is built, and what the
wheel's `ocirt` is. That is the standalone binary that $OCIRT_WHEEL_BINARY names, as in `make wheel`; otherwise a script
that runs the modules, which works where no binary can be made.
"""

import os
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

# isort: split
from distutils.command.build_scripts import build_scripts  # setuptools' own, once that is imported

sys.path.insert(0, str(Path(__file__).resolve().parent))
from tools.commit import source_commit

BINARY = os.environ.get("OCIRT_WHEEL_BINARY")


class BuildWithCommit(build_py):
    """Writes ocirt/_commit.py, which `ocirt --version` shows, into what is built; never into the source tree."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            Path(self.build_lib, "ocirt", "_commit.py").write_text(f'COMMIT = "{source_commit()}"\n', encoding="ascii")


class CopyBinary(build_scripts):
    """Takes the binary as it is; setuptools' own command reads scripts as text, for their first lines."""

    def copy_scripts(self) -> tuple[list[str], list[str]]:
        self.mkpath(self.build_dir)
        copies = [self.copy_file(script, self.build_dir)[0] for script in self.scripts]
        return copies, copies


setup(
    cffi_modules=["c_ext/build.py:ffi"],
    cmdclass={"build_py": BuildWithCommit, "build_scripts": CopyBinary},
    **({"scripts": [BINARY]} if BINARY else {"entry_points": {"console_scripts": ["ocirt = ocirt.cli:main"]}}),
)
