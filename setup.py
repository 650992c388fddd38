"""What pyproject.toml cannot say: that c_ext/build.py makes an extension module, and which commit is built."""

import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithCommit(build_py):
    """Writes ocirt/_commit.py, which `ocirt --version` shows, into what is built; never into the source tree."""

    def run(self) -> None:
        super().run()
        commit = None if self.editable_mode else source_commit()
        if commit:
            Path(self.build_lib, "ocirt", "_commit.py").write_text(f'COMMIT = "{commit}"\n', encoding="ascii")


def source_commit() -> str | None:
    """The commit of the work tree, with -dirty where it differs from it; None outside of a work tree of git."""
    here = Path(__file__).resolve().parent
    if not (here / ".git").exists():
        return None
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


setup(cffi_modules=["c_ext/build.py:ffi"], cmdclass={"build_py": BuildWithCommit})
