"""The parser: runc's rules, as every engine relies on them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.cli.flags import Args, Kind
from ocirt.cli.parse import Invocation, UnknownCommandError, parse
from ocirt.cli.table import COMMANDS, GLOBAL_FLAGS
from ocirt.errors import UsageError


def parsed(*words: str) -> tuple[Invocation, Args]:
    options = Args(GLOBAL_FLAGS)
    return parse(words, options), options


# How the callers call, each with what must come of it: (words, command, positional, {flag: value}, {global: value}).
CALLS = [
    (
        "--root /r --log /l --log-format json --systemd-cgroup create --bundle /b --pid-file /p --preserve-fds 2 c1",
        "create",
        ("c1",),
        {"bundle": "/b", "pid-file": "/p", "preserve-fds": 2, "no-pivot": False},
        {"root": "/r", "log": "/l", "log-format": "json", "systemd-cgroup": True},
    ),
    (
        "create --bundle /b --console-socket /s --no-pivot --no-new-keyring c1",
        "create",
        ("c1",),
        {"console-socket": "/s", "no-pivot": True, "no-new-keyring": True},
        {},
    ),
    ("exec --process /p.json --detach --pid-file /pid c1", "exec", ("c1",), {"detach": True, "process": "/p.json"}, {}),
    ("kill --all c1 9", "kill", ("c1", "9"), {"all": True}, {}),
    ("kill -a c1 9", "kill", ("c1", "9"), {"all": True}, {}),
    ("kill c1 -9", "kill", ("c1", "-9"), {"all": False}, {}),
    ("delete --force c1", "delete", ("c1",), {"force": True}, {}),
    ("delete c1 --force", "delete", ("c1",), {"force": True}, {}),
    ("ps --format json c1", "ps", ("c1",), {"format": "json"}, {}),
    ("ps c1 --format json", "ps", ("c1", "--format", "json"), {"format": "table"}, {}),
    ("ps c1 -o pid -x", "ps", ("c1", "-o", "pid", "-x"), {}, {}),
    ("update --resources=- c1", "update", ("c1",), {"resources": "-"}, {}),
    ("update --resources - c1", "update", ("c1",), {"resources": "-"}, {}),
    ("update --pids-limit -1 --memory 512m c1", "update", ("c1",), {"pids-limit": -1, "memory": "512m"}, {}),
    ("events --stats c1", "events", ("c1",), {"stats": True, "interval": 5.0}, {}),
    ("events --interval=1m30s c1", "events", ("c1",), {"interval": 90.0}, {}),
    (
        "restore --detach --image-path I --work-path W -no-subreaper --empty-ns network --empty-ns ipc c1",
        "restore",
        ("c1",),
        {"detach": True, "image-path": "I", "no-subreaper": True, "empty-ns": ("network", "ipc")},
        {},
    ),
    (
        "start --log-format=json --log F --cgroup-manager disabled c1",
        "start",
        ("c1",),
        {},
        {"cgroup-manager": "disabled"},
    ),
    ("state c1 --root /r", "state", ("c1",), {}, {"root": "/r"}),
    ("-debug=false list -q -f json", "list", (), {"quiet": True, "format": "json"}, {"debug": False}),
    ("run --detach=false --keep=t c1", "run", ("c1",), {"detach": False, "keep": True}, {}),
    ("exec -e A=1,2 -e=B=3 --env C c1 ls -l", "exec", ("c1", "ls", "-l"), {"env": ("A=1,2", "B=3", "C")}, {}),
    (
        "exec -u 0:0 -g 1 -g 2 c1 sh -c x",
        "exec",
        ("c1", "sh", "-c", "x"),
        {"user": "0:0", "additional-gids": ("1", "2")},
        {},
    ),
    ("exec c1 -- ls", "exec", ("c1", "ls"), {}, {}),
    ("exec -- c1 -t", "exec", ("c1", "-t"), {"tty": False}, {}),
    ("create -- -x", "create", ("-x",), {}, {}),
    ("create --bundle= c1", "create", ("c1",), {"bundle": ""}, {}),
    ("create --bundle -x c1", "create", ("c1",), {"bundle": "-x"}, {}),
    ("-- state c1", "state", ("c1",), {}, {}),
]


@pytest.mark.parametrize(
    ("words", "command", "positional", "flags", "global_flags"), CALLS, ids=[c[0][:50] for c in CALLS]
)
def test_calls(
    words: str, command: str, positional: tuple[str, ...], flags: dict[str, object], global_flags: dict[str, object]
) -> None:
    invocation, options = parsed(*words.split())
    assert invocation.command is COMMANDS[command]
    assert invocation.args.positional == positional
    for args, expected in ((invocation.args, flags), (options, global_flags)):
        assert {name: value_of(args, name) for name in expected} == expected


def value_of(args: Args, name: str) -> object:
    readers = {
        Kind.SWITCH: args.switch,
        Kind.TEXT: args.text,
        Kind.TEXTS: args.texts,
        Kind.INTEGER: args.number,
        Kind.COUNT: args.number,
        Kind.DURATION: args.seconds,
    }
    return readers[args._flags[name].kind](name)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("restore --lsm-mount-context", "flag needs an argument: --lsm-mount-context"),
        ("run -b", "flag needs an argument: -b"),
        ("--root", "flag needs an argument: --root"),
        ("--nosuch list", "flag provided but not defined: -nosuch"),
        ("create --nosuch=1 x", "flag provided but not defined: -nosuch"),
        ("list -fq json", "flag provided but not defined: -fq"),
        ("list --version", "flag provided but not defined: -version"),
        ("delete --forc x", "flag provided but not defined: -forc"),
        ("--debug=maybe list", 'invalid boolean value "maybe" for --debug'),
        ("--debug= list", 'invalid boolean value "" for --debug'),
        ("create --preserve-fds x c", 'invalid value "x" for flag --preserve-fds'),
        ("create --preserve-fds -1 c", 'invalid value "-1" for flag --preserve-fds'),
        ("create --preserve-fds ٣ c", 'invalid value "٣" for flag --preserve-fds'),
        ("create --preserve-fds 1_0 c", 'invalid value "1_0" for flag --preserve-fds'),
        ("create --preserve-fds 99999999999999999999 c", "invalid value"),
        ("events --interval 5 c", 'invalid value "5" for flag --interval'),
        ("list -f x", 'invalid format option "x"'),
        ("--log-format x list", 'invalid log-format option "x"'),
        ("create", '"create" requires exactly 1 argument(s)'),
        ("create a b", '"create" requires exactly 1 argument(s)'),
        ("list x", '"list" requires exactly 0 argument(s)'),
        ("kill", '"kill" requires a minimum of 1 argument(s)'),
        ("kill a 9 b", '"kill" requires a maximum of 2 argument(s)'),
        ("exec", '"exec" requires a minimum of 1 argument(s)'),
    ],
)
def test_errors(words: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(*words.split())
    assert message in str(caught.value)


@pytest.mark.parametrize("words", ["nosuch", "--debug nosuch", "help nosuch", "-1", "crate x"])
def test_unknown_commands(words: str) -> None:
    with pytest.raises(UnknownCommandError):
        parsed(*words.split())


def test_unknown_command_is_told_what_it_resembles() -> None:
    with pytest.raises(UnknownCommandError, match='did you mean "create"'):
        parsed("crate")


@pytest.mark.parametrize("words", ["", "--debug", "--help", "-h", "help", "-debug -h", "h"])
def test_main_help(words: str) -> None:
    invocation, _ = parsed(*words.split())
    assert invocation.help
    assert invocation.command is None


@pytest.mark.parametrize(
    "words", ["checkpoint --help", "checkpoint -h", "help checkpoint", "--help checkpoint", "checkpoint a b -help"]
)
def test_command_help(words: str) -> None:
    invocation, _ = parsed(*words.split())
    assert invocation.help
    assert invocation.command is COMMANDS["checkpoint"]


def test_global_flags_reach_the_log_even_when_the_rest_is_wrong() -> None:
    options = Args(GLOBAL_FLAGS)
    with pytest.raises(UsageError):
        parse(["--log", "/l", "create", "--log-format", "json", "--nosuch"], options)
    assert (options.text("log"), options.text("log-format")) == ("/l", "json")


def test_reading_a_flag_by_the_wrong_type_or_name_is_a_bug() -> None:
    args = Args(COMMANDS["create"].flags)
    with pytest.raises(TypeError):
        args.switch("bundle")
    with pytest.raises(KeyError):
        args.text("nosuch")


def test_given_tells_an_empty_value_from_none() -> None:
    invocation, _ = parsed("create", "--bundle=", "c")
    assert invocation.args.given("bundle")
    assert not invocation.args.given("pid-file")


@pytest.mark.parametrize("command", COMMANDS.values(), ids=list(COMMANDS))
def test_no_flag_of_a_command_hides_another(command: object) -> None:
    names = [name for flag in COMMANDS[command.name].flags for name in (flag.name, flag.short) if name]  # type: ignore[attr-defined]
    assert len(names) == len(set(names))
    assert {"h", "help"}.isdisjoint(names)


words = st.lists(
    st.one_of(
        st.sampled_from(
            ["-", "--", "--debug", "-h", "--root", "--root=x", "--bundle", "-b=1", "create", "kill", "exec", "-1"]
        ),
        st.text(max_size=8),
    ),
    max_size=8,
)


@given(words)
def test_any_words_are_understood_or_refused(argv: list[str]) -> None:
    with contextlib.suppress(UsageError):
        invocation, _ = parsed(*argv)
        assert invocation.command is not None or invocation.help or invocation.version


@given(st.lists(st.text(), max_size=5))
def test_after_two_dashes_everything_is_positional(argv: list[str]) -> None:
    invocation, _ = parsed("ps", "--", "c1", *argv)
    assert invocation.args.positional == ("c1", *argv)


@given(st.text(), st.text(min_size=1).filter(lambda text: text != "--"))
def test_exec_hands_on_what_follows_the_program(value: str, program: str) -> None:
    invocation, _ = parsed("exec", "--cwd", value, "c1", program, "--cwd", value)
    if program.startswith("--"):
        return
    assert invocation.args.positional == ("c1", program, "--cwd", value)
    assert invocation.args.text("cwd") == value


@given(st.text().filter(lambda text: "," in text or text))
def test_repeated_values_are_kept_as_they_are(value: str) -> None:
    invocation, _ = parsed("exec", "-e", value, f"-e={value}", f"--env={value}", "c1")
    assert invocation.args.texts("env") == (value,) * 3
