"""The completion scripts, in the shells that they are for. A fake ocirt tells the containers' ids."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ocirt.cli.completion import SHELLS, script
from ocirt.cli.completion.words import arguments_of, value_of
from ocirt.cli.flags import Kind
from ocirt.cli.table import COMMANDS, GLOBAL_FLAGS
from ocirt.errors import UsageError
from tests.unit.conftest import Run

Complete = Callable[[str], list[str]]

FAKE = """#!/bin/sh
[ "$*" = "list --quiet" ] && printf 'web\\nweb-2\\ndb\\n'
[ "$*" = "--root /r list --quiet" ] && printf 'other\\n'
exit 0
"""

# The words of the line, of which the last is being completed.
BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_ocirt ocirt
printf '%s\\n' "${COMPREPLY[@]}"
"""

# What is offered to compadd is printed, by a shell in a terminal of its own in which TAB is pressed.
ZSH = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'PS1=; stty -echo; autoload -Uz compinit; compinit -u -D; source '$1
zpty -w shell 'bindkey "^I" complete-word; zstyle ":completion:*" verbose no'
zpty -w shell 'finish () { echo -E - "<<""END>>"; exit }; comppostfuncs=(finish)'
zpty -w shell 'compadd () {
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return $?; fi
    local -a hits; local hit
    builtin compadd -A hits "$@"
    for hit in $hits; do echo -E - "HIT:$hit"; done
    builtin compadd "$@"
}'
zpty -w shell 'echo "READ""Y"'
while zpty -r shell line; do [[ $line == *READY* ]] && break; done
zpty -n -w shell "$2"$'\t'
while zpty -r shell line; do
    [[ $line == *"<<END>>"* ]] && break
    [[ $line == *HIT:* ]] && line=${line##*HIT:} && echo -E - ${line%%[[:cntrl:]]*}
done
zpty -d shell
"""


def split(line: str) -> list[str]:
    """As bash does it for completion: "=" is a word of its own."""
    words = line.replace("=", " = ").split()
    return [*words, ""] if line.endswith((" ", "=")) else words


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with the fake program, and something to complete."""
    for name in ("bin", "files/alpha", "files/beta"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "files/afile").touch()
    (tmp_path / "bin/ocirt").write_text(FAKE)
    (tmp_path / "bin/ocirt").chmod(0o755)
    return tmp_path


@pytest.fixture(params=SHELLS)
def complete(request: pytest.FixtureRequest, folder: Path) -> Complete:
    """What a shell offers for a line, sorted."""
    shell: str = request.param
    if not shutil.which(shell):
        pytest.skip(f"needs {shell}")
    path = folder / f"completion.{shell}"
    path.write_text(script(shell))
    env = {"PATH": f"{folder}/bin:/usr/bin:/bin", "HOME": str(folder), "TERM": "dumb"}

    def complete(line: str) -> list[str]:
        command = {
            "bash": ["bash", "--norc", "-c", BASH, "bash", str(path), *split(line)],
            "zsh": ["zsh", "-f", "-c", ZSH, "zsh", str(path), line],
            "fish": ["fish", "--no-config", "-c", f"source {path}; complete -C '{line}'"],
        }[shell]
        result = subprocess.run(
            command,
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=True,
        )
        assert result.stderr == ""
        found = {text.partition("\t")[0].rstrip("/") for text in result.stdout.splitlines()}
        # zsh leaves out what the word begins with already, fish says it again with the flag.
        return sorted(text.rpartition("=")[2].removeprefix("files/") for text in found if text)

    return complete


SUPPORTED = sorted(name for name, command in COMMANDS.items() if command.supported)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ocirt ", [*SUPPORTED, "help"]),
        ("ocirt st", ["start", "state"]),
        ("ocirt --debug st", ["start", "state"]),
        ("ocirt --log x st", ["start", "state"]),
        ("ocirt help co", ["completion"]),
        ("ocirt start ", ["db", "web", "web-2"]),
        ("ocirt start w", ["web", "web-2"]),
        ("ocirt --root /r start ", ["other"]),
        ("ocirt --root=/r start ", ["other"]),
        ("ocirt start --root /r ", ["other"]),
        ("ocirt start --root=/r ", ["other"]),
        ("ocirt --debug start w", ["web", "web-2"]),
        ("ocirt exec -t --env A w", ["web", "web-2"]),
        ("ocirt exec web l", []),
        ("ocirt exec web -", []),
        ("ocirt kill web K", ["KILL"]),
        ("ocirt delete -f w", ["web", "web-2"]),
        ("ocirt list -f ", ["json", "table"]),
        ("ocirt list --format ", ["json", "table"]),
        ("ocirt list --format=", ["json", "table"]),
        ("ocirt list --format=j", ["json"]),
        ("ocirt --rootless ", ["auto", "false", "true"]),
        ("ocirt update --cpu-idle ", ["0", "1"]),
        ("ocirt completion ", ["bash", "fish", "zsh"]),
        ("ocirt run --b", ["--bundle"]),
        ("ocirt run --bundle files/", ["alpha", "beta"]),
        ("ocirt run --bundle=files/", ["alpha", "beta"]),
        ("ocirt run -b files/a", ["alpha"]),
        ("ocirt validate files/", ["alpha", "beta"]),
        ("ocirt update -r files/", ["afile", "alpha", "beta"]),
        ("ocirt --log files/a", ["afile", "alpha"]),
        ("ocirt doctor --j", ["--json"]),
        ("ocirt spec --ro", ["--root", "--rootless"]),
        ("ocirt kill --a", []),
    ],
)
def test_offered(complete: Complete, line: str, offered: list[str]) -> None:
    found = complete(line)
    assert found == sorted(offered)


def test_switch_of_the_name_of_a_global_flag_takes_no_value(complete: Complete) -> None:
    """`spec --rootless` is a switch: what follows is no value of `--rootless VALUE`."""
    assert not {"auto", "true", "false"} & set(complete("ocirt spec --rootless "))


@pytest.mark.parametrize("name", SUPPORTED)
def test_flags_of_every_command(complete: Complete, name: str) -> None:
    """Those of the table that the help shows, and no other."""
    own = {f"--{flag.name}" for flag in COMMANDS[name].flags if not flag.hidden}
    shared = {f"--{flag.name}" for flag in GLOBAL_FLAGS if flag.name != "version"}
    assert {word for word in complete(f"ocirt {name} --") if word.startswith("--")} == own | shared


def test_containers_are_asked_for_only_where_one_is_due(complete: Complete, folder: Path) -> None:
    (folder / "bin/ocirt").write_text(f"#!/bin/sh\ntouch {folder}/asked\n")
    for line in ("ocirt ", "ocirt list --format ", "ocirt kill web "):
        complete(line)
    assert not (folder / "asked").exists()
    complete("ocirt start ")
    assert (folder / "asked").exists()


def test_an_id_is_never_executed(complete: Complete, folder: Path) -> None:
    """What `list` prints is text, whatever it looks like."""
    (folder / "bin/ocirt").write_text("#!/bin/sh\nprintf '%s\\n' '$(touch executed)' '`touch executed`' good\n")
    assert "good" in complete("ocirt start ")
    assert not (folder / "executed").exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_syntax(shell: str, folder: Path) -> None:
    if not shutil.which(shell):
        pytest.skip(f"needs {shell}")
    path = folder / "script"
    path.write_text(script(shell))
    subprocess.run([shell, "-n", str(path)], check=True, timeout=30)


def test_bash_on_a_terminal(folder: Path) -> None:
    """Not only the function: the script is registered, and TAB completes."""
    (folder / "script").write_text(script("bash"))
    env = {"PATH": f"{folder}/bin:/usr/bin:/bin", "PS1": "$ ", "TERM": "dumb", "HOME": str(folder)}
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"], stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=folder,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        os.write(ours, b"source ./script; echo rea''dy\n")
        read_until(ours, b"ready\r\n")
        os.write(ours, b"ocirt delete --for\tw\t")
        assert b"--force web" in read_until(ours, b"--force web")
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)


def read_until(fd: int, wanted: bytes) -> bytes:
    shown, deadline = b"", time.monotonic() + 30
    while wanted not in shown and time.monotonic() < deadline and select.select([fd], [], [], 1)[0]:
        shown += os.read(fd, 4096).replace(b"\a", b"")  # the bell of an ambiguous completion
    return shown


def test_command(run: Run) -> None:
    for shell in SHELLS:
        assert run("completion", shell) == (0, script(shell), "")
    code, out, err = run("completion", "tcsh")
    assert (code, out) == (1, "")
    assert 'no completion for "tcsh": bash, zsh, fish are known' in err


def test_shells_are_those_of_the_help() -> None:
    assert COMMANDS["completion"].arguments.split("|") == list(SHELLS)
    with pytest.raises(UsageError):
        script("")


def test_every_value_is_understood() -> None:
    """A flag's value is an enumeration exactly where its text looks like one; a container stands where it should."""
    for command in COMMANDS.values():
        for flag in (*command.flags, *GLOBAL_FLAGS):
            value = value_of(flag)
            assert (value is None) == (flag.kind is Kind.SWITCH)
            if value and flag.choices:
                assert value.words == flag.choices
        kinds = [value.kind for value in arguments_of(command)]
        assert (kinds[:1] == ["container"]) == command.arguments.startswith("<container-id>")
