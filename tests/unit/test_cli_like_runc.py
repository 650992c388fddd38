"""Where behaviour is common, it is runc's: exit codes and the words that callers know."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ocirt.commands.spec import default_config, rootless_config

RUNC = shutil.which("runc", path="/usr/sbin:/usr/bin:/usr/local/bin")
needs_runc = pytest.mark.skipif(RUNC is None, reason="runc isn't installed")


def run(*words: str | Path) -> tuple[int, str, str]:
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


# Words that both must have in their error.
COMMON = [
    ("state nope", "container does not exist"),
    ("start nope", "container does not exist"),
    ("kill nope", "container does not exist"),
    ("ps nope", "container does not exist"),
    ("delete nope", "container does not exist"),
    ("delete --force nope", ""),
    ("delete -f ../x", "invalid container ID format"),
    ("start a;b", "invalid container ID format"),
    ("start é", "invalid container ID format"),
    ("nosuch", "nosuch"),
    ("help nosuch", "nosuch"),
    ("--nosuch list", "flag provided but not defined: -nosuch"),
    ("list --nosuch", "flag provided but not defined: -nosuch"),
    ("list -fq json", "flag provided but not defined: -fq"),
    ("create --bundle", "flag needs an argument: "),
    ("restore --lsm-mount-context", "flag needs an argument: "),
    ("--debug=maybe list", 'invalid boolean value "maybe" for '),
    ("create --preserve-fds x c", 'invalid value "x" for flag '),
    ("create", '"create" requires exactly 1 argument(s)'),
    ("state a b", '"state" requires exactly 1 argument(s)'),
    ("kill", '"kill" requires a minimum of 1 argument(s)'),
    ("kill a b c", '"kill" requires a maximum of 2 argument(s)'),
    ("ps", '"ps" requires a minimum of 1 argument(s)'),
    ("exec", '"exec" requires a minimum of 1 argument(s)'),
    ("spec x", '"spec" requires exactly 0 argument(s)'),
    ("list -f x", "invalid format option"),
    ("--log-format x list", "invalid log-format"),
    ("exec nope true", "exec failed: container does not exist"),
    ("list", ""),
    ("list --quiet", ""),
    ("-debug=false list", ""),
    ("checkpoint --help", ""),
    ("create -h", ""),
    ("", ""),
    ("--version", ""),
]


@needs_runc
@pytest.mark.parametrize(("words", "message"), COMMON, ids=[words for words, _ in COMMON])
def test_exit_code_and_words(words: str, message: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    theirs = run(str(RUNC), "--root", root, *words.split(" ") if words else ())
    ours = run(sys.executable, "-m", "ocirt", "--root", root, *words.split(" ") if words else ())
    assert ours[0] == theirs[0]
    for _, out, err in (ours, theirs):
        assert message in (out + err).replace('\\"', '"')


@needs_runc
def test_empty_list(tmp_path: Path) -> None:
    assert (
        run(sys.executable, "-m", "ocirt", "--root", tmp_path, "list")[1]
        == run(str(RUNC), "--root", tmp_path, "list")[1]
    )


@needs_runc
def test_json_log(tmp_path: Path) -> None:
    values = {}
    for name, command in (("runc", [str(RUNC)]), ("ocirt", [sys.executable, "-m", "ocirt"])):
        log = tmp_path / f"{name}.json"
        run(*command, "--root", tmp_path, "--log", log, "--log-format", "json", "kill", "nope")
        values[name] = json.loads(log.read_text())
    ours, theirs = values["ocirt"], values["runc"]
    assert theirs.keys() <= ours.keys()
    assert ours["level"] == theirs["level"] == "error"
    assert theirs["msg"] in ours["msg"]
    assert len(ours["time"]) == len(theirs["time"])


# ---- spec


def written(command: list[str], directory: Path, *words: str) -> dict[str, Any]:
    directory.mkdir()
    code, out, err = run(*command, "spec", "--bundle", directory, *words)
    assert (code, out, err) == (0, "", "")
    config: dict[str, Any] = json.loads((directory / "config.json").read_text())
    return config


@needs_runc
@pytest.mark.parametrize("words", [(), ("--rootless",)])
def test_spec_differs_from_runc_s_as_intended(words: tuple[str, ...], tmp_path: Path) -> None:
    """Debian's runc is older, and this host's cgroups are v1 for it: so no cgroup namespace, and other capabilities."""
    ours = written([sys.executable, "-m", "ocirt"], tmp_path / "ocirt", *words)
    theirs = written([str(RUNC)], tmp_path / "runc", *words)
    assert ours.pop("ociVersion") == "1.3.0"
    assert theirs.pop("ociVersion")
    assert (ours.pop("hostname"), theirs.pop("hostname")) == ("ocirt", "runc")
    # Since runc 1.2 neither inheritable nor ambient capabilities are in the default (CVE-2022-29162).
    for kind in ("inheritable", "ambient"):
        theirs["process"]["capabilities"].pop(kind, None)
    kinds = [namespace["type"] for namespace in ours["linux"]["namespaces"]]
    assert kinds.pop(kinds.index("cgroup")) == "cgroup"
    their_kinds = [namespace["type"] for namespace in theirs["linux"]["namespaces"] if namespace["type"] != "cgroup"]
    assert sorted(kinds) == sorted(their_kinds)
    ours["linux"].pop("namespaces")
    theirs["linux"].pop("namespaces")
    assert ours == theirs


def test_spec_is_written_once(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text("mine")
    code, _, err = run(sys.executable, "-m", "ocirt", "spec", "-b", tmp_path)
    assert (code, err) == (1, f"ocirt: File {config} exists. Remove it first\n")
    assert config.read_text() == "mine"
    config.unlink()
    config.symlink_to(tmp_path / "elsewhere")
    assert run(sys.executable, "-m", "ocirt", "spec", "-b", tmp_path)[0] == 1
    assert not (tmp_path / "elsewhere").exists()
    code, _, err = run(sys.executable, "-m", "ocirt", "spec", "-b", tmp_path / "no")
    assert (code, err) == (1, f"ocirt: write {tmp_path}/no/config.json: no such file or directory\n")


def test_rootless_spec() -> None:
    config: dict[str, Any] = rootless_config(1000, 1001)
    assert config["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 1000, "size": 1}]
    assert config["linux"]["gidMappings"] == [{"containerID": 0, "hostID": 1001, "size": 1}]
    assert "resources" not in config["linux"]
    options = [option for mount in config["mounts"] for option in mount.get("options", ())]
    assert not [option for option in options if option.startswith(("gid=", "uid="))]
    assert default_config() == default_config()


def test_specs_are_valid() -> None:
    from ocirt.spec import all_problems, parse_config

    for config in (default_config(), rootless_config(1000, 1000)):
        assert list(all_problems(parse_config(config))) == []
