"""The man pages, made from the table of commands: ocirt(8), and one for each command.

Guarantees: the same table gives the same bytes (there is no date), all of them ASCII, in the macros of man(7).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ocirt import SPEC_VERSION, __version__
from ocirt.cli.flags import Command, Flag, Kind
from ocirt.cli.help import shown_default
from ocirt.cli.table import COMMANDS, GLOBAL_FLAGS, unsupported_note

SECTION = 8

_EXAMPLE = """\
mkdir -p bundle/rootfs
# ... a root file system in bundle/rootfs ...
ocirt spec --bundle bundle
ocirt run --bundle bundle my-container"""

_EXIT_CODES = (
    ("0", "Success."),
    ("1", "A failure; one line on the standard error says of what."),
    ("3", "There is no such command."),
    ("255", "exec could not start the program."),
    (
        "other",
        "run and exec, unless detached, end with the program's own exit code, or 128 + N when a signal N ended it.",
    ),
)
_FILES = (
    ("/run/ocirt", "The containers' state, a directory each."),
    ("$XDG_RUNTIME_DIR/ocirt", "The same for users other than root."),
    ("config.json", "In a bundle: the container's configuration."),
)
_ENVIRONMENT = (
    ("XDG_RUNTIME_DIR", "Where the state of users other than root is kept, unless --root says otherwise."),
    ("DBUS_SESSION_BUS_ADDRESS", "Of the user's systemd, for --systemd-cgroup without root."),
    ("DBUS_SYSTEM_BUS_ADDRESS", "Of the machine's systemd, where it isn't the usual one."),
    ("LISTEN_FDS", "The number of descriptors from 3 on that are passed to the container (sd_listen_fds(3))."),
    ("NOTIFY_SOCKET", "The socket to which the container's readiness is passed on (sd_notify(3))."),
    ("NO_COLOR", "When it is set, doctor prints no colours."),
)


def pages() -> dict[str, str]:
    """The text of every page by its file's name."""
    found = {f"ocirt.{SECTION}": _main_page()}
    for command in COMMANDS.values():
        found[f"ocirt-{command.name}.{SECTION}"] = _command_page(command)
    return found


def _main_page() -> str:
    supported = [command for command in COMMANDS.values() if command.supported]
    others = [command for command in COMMANDS.values() if not command.supported]
    lines = [
        *_title("ocirt", "a runtime for OCI containers"),
        *_section("SYNOPSIS", _line(_bold("ocirt"), "[", _italic("global option"), "...]", _italic("command"), "...")),
        *_section(
            "DESCRIPTION",
            _text(
                f"ocirt runs containers as the OCI runtime specification {SPEC_VERSION} describes them. It takes a "
                "bundle, a directory with a root file system and config.json, and makes a process of it. Its command "
                "line is that of runc(8), so that container engines can call it in the place of that."
            ),
        ),
        *_section("COMMANDS", *(_tagged(_reference(f"ocirt-{c.name}"), _sentence(c.summary)) for c in supported)),
        *(
            _text(f"Parsed, but not supported by this version: {', '.join(c.name for c in others)}.", new=True)
            if others
            else ""
        ).splitlines(),
        *_section("GLOBAL OPTIONS", _text("They may stand before the command or after it."), *_flags(GLOBAL_FLAGS)),
        *_section("EXIT STATUS", *(_tagged(_bold(code), _text(text)) for code, text in _EXIT_CODES)),
        *_section("ENVIRONMENT", *(_tagged(_bold(name), _text(text)) for name, text in _ENVIRONMENT)),
        *_section("FILES", *(_tagged(_italic(name), _text(text)) for name, text in _FILES)),
        *_section("EXAMPLES", ".nf", _text(_EXAMPLE), ".fi"),
        *_see_also([*(f"ocirt-{command.name}" for command in supported), "runc"]),
    ]
    return "\n".join(lines) + "\n"


def _command_page(command: Command) -> str:
    words = [_bold(f"ocirt {command.name}")]
    if any(not flag.hidden for flag in command.flags):
        words += ["[", _italic("option"), "...]"]
    paragraphs = [text for text in (unsupported_note(command), command.description) if text]
    lines = [
        *_title(f"ocirt-{command.name}", command.summary),
        *_section("SYNOPSIS", _line(*words, *_arguments(command))),
        *_section("DESCRIPTION", *_paragraphs(paragraphs or [command.summary[:1].upper() + command.summary[1:] + "."])),
        *_section(
            "OPTIONS", *_flags(command.flags), _text("The global options, in ocirt(8), may stand here too.", new=True)
        ),
        *_see_also(["ocirt"]),
    ]
    return "\n".join(lines) + "\n"


def _title(name: str, summary: str) -> Iterator[str]:
    """man(7): the date is left out, the source and the manual are named."""
    yield f'.TH {_escape(name.upper())} {SECTION} "" "ocirt {_escape(__version__)}" "ocirt"'
    yield ".SH NAME"
    yield rf"{_escape(name)} \- {_escape(summary)}"


def _section(title: str, *parts: str) -> Iterator[str]:
    yield f'.SH "{title}"' if " " in title else f".SH {title}"
    yield from parts


def _see_also(names: Iterable[str]) -> Iterator[str]:
    yield from _section("SEE ALSO", ",\n".join(_reference(name) for name in names))


def _reference(name: str) -> str:
    return f"{_bold(name)}({SECTION})"


def _line(*words: str) -> str:
    return " ".join(words).replace("[ ", "[").replace(r" ...", r"\ ...")


def _arguments(command: Command) -> list[str]:
    return [_italic(command.arguments)] if command.arguments else []


def _flags(flags: Iterable[Flag]) -> Iterator[str]:
    for flag in flags:
        if flag.hidden:
            continue
        names = [_bold(f"-{flag.short}")] if flag.short else []
        names.append(_bold(f"--{flag.name}"))
        value = f" {_italic(flag.value)}" if flag.kind is not Kind.SWITCH else ""
        yield _tagged(", ".join(names) + value, _sentence(flag.help + shown_default(flag)))


def _tagged(tag: str, text: str) -> str:
    return f".TP\n{tag}\n{text}"


def _paragraphs(texts: Iterable[str]) -> Iterator[str]:
    for at, text in enumerate(texts):
        yield _text(text, new=at > 0)


def _sentence(text: str) -> str:
    """A help text, which has no full stop, as a sentence."""
    return _text(text[:1].upper() + text[1:] + "." * (not text.endswith(".")))


def _text(text: str, *, new: bool = False) -> str:
    return (".PP\n" if new else "") + _escape(text)


def _bold(text: str) -> str:
    return rf"\fB{_escape(text)}\fR"


def _italic(text: str) -> str:
    return rf"\fI{_escape(text)}\fR"


_ESCAPES = str.maketrans(
    {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti", '"': r"\(dq"}
)


def _escape(text: str) -> str:
    """groff_char(7); a line that begins with a dot or an apostrophe would be a request."""
    return "\n".join(rf"\&{line}" if line.startswith(".") else line for line in text.translate(_ESCAPES).split("\n"))
