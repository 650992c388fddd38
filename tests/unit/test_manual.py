"""The man pages: all that the help says, in text that man(1) has nothing to say against, and the same every time."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ocirt.cli.flags import Flag
from ocirt.cli.help import shown_default
from ocirt.cli.manual import pages
from ocirt.cli.table import COMMANDS, GLOBAL_FLAGS

ROOT = Path(__file__).parents[2]
PAGES = pages()


def rendered(text: str) -> str:
    """The page as a person reads it, in lines of any length. Nothing may be said against it."""
    if not shutil.which("groff"):
        pytest.skip("needs groff")
    result = subprocess.run(
        ["groff", "-man", "-Tascii", "-ww", "-P-c", "-P-b", "-P-u", "-P-o", "-rLL=2000n"],
        input=text, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert result.stderr == ""
    return result.stdout


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_a_page_for_ocirt_and_for_every_command() -> None:
    assert set(PAGES) == {"ocirt.8", *(f"ocirt-{name}.8" for name in COMMANDS)}


@pytest.mark.parametrize("name", PAGES)
def test_man_has_nothing_to_say(name: str, tmp_path: Path) -> None:
    if not shutil.which("man"):
        pytest.skip("needs man")
    path = tmp_path / name
    path.write_text(PAGES[name], encoding="ascii")
    command = ["man", "--warnings=w", "-E", "UTF-8", "-l", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert result.stderr == ""
    assert "NAME" in result.stdout


@pytest.mark.parametrize("name", PAGES)
def test_parts(name: str) -> None:
    """What man(1), whatis(1) and people look for; a line that begins with a dot is a macro that is meant."""
    text = PAGES[name]
    macros = set(re.findall(r"^([.'].*?)(?: |$)", text, re.MULTILINE))
    assert macros <= {".TH", ".SH", ".TP", ".PP", ".nf", ".fi"}
    sections = re.findall(r'^\.SH "?([A-Z ]+)"?$', text, re.MULTILINE)
    assert sections[:3] == ["NAME", "SYNOPSIS", "DESCRIPTION"]
    assert sections[-1] == "SEE ALSO"
    title = name.removesuffix(".8")
    first = rendered(text).splitlines()[0].split()
    assert (first[0], first[-1]) == (f"{title.upper()}(8)", f"{title.upper()}(8)")
    assert re.search(rf"^NAME\n +{title} - \S", rendered(text), re.MULTILINE)


def flags_of(flags: tuple[Flag, ...]) -> list[str]:
    return [f"--{flag.name}" for flag in flags if not flag.hidden]


@pytest.mark.parametrize("name", COMMANDS)
def test_all_that_the_help_says(name: str) -> None:
    command = COMMANDS[name]
    text = plain(rendered(PAGES[f"ocirt-{name}.8"]))
    assert f"ocirt-{name} - {plain(command.summary)} " in text
    assert plain(command.description) in text
    assert plain(command.arguments) in text
    for flag in command.flags:
        assert (f"--{flag.name} " in text) != flag.hidden
        assert (flag.help[1:] + shown_default(flag) in text) != flag.hidden
    assert ("doesn't support it" in text) == (not command.supported)


def test_main_page() -> None:
    text = plain(rendered(PAGES["ocirt.8"]))
    for flag in GLOBAL_FLAGS:
        assert f"--{flag.name} " in text
        assert flag.help[1:] + shown_default(flag) in text
    for name, command in COMMANDS.items():
        assert (f"ocirt-{name}(8)" in text) == command.supported
        assert name in text


def test_flags_can_be_copied() -> None:
    """A hyphen that is typed is a minus in roff, not the hyphen of a typographer."""
    for text in PAGES.values():
        assert not re.search(r"(?<!\\)-", text.replace(".TH", ""))


def test_reproducible(tmp_path: Path) -> None:
    """The same bytes in another process, on another day, in another place; without anything of before."""
    for at, environment in enumerate(({"TZ": "UTC", "PYTHONHASHSEED": "1"}, {"TZ": "Asia/Tokyo", "LC_ALL": "C"})):
        folder = tmp_path / str(at) / "man"
        folder.mkdir(parents=True)
        (folder / "ocirt-gone.8").touch()
        (folder / "other.8").touch()
        subprocess.run(
            [sys.executable, "-P", str(ROOT / "tools/man.py"), str(folder)],
            env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environment},
            check=True,
            timeout=60,
        )
        (folder / "other.8").unlink()
        assert {path.name: path.read_text() for path in folder.iterdir()} == PAGES
