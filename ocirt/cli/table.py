"""Every command with every flag: the one table from which parsing, help texts, completions and man pages are made."""

from __future__ import annotations

from ocirt.cli.flags import Command, Flag, Kind

GLOBAL_FLAGS = (
    Flag("debug", "write debug messages, and a traceback with an internal error", Kind.SWITCH),
    Flag("log", "append the log to this file; errors still go to the standard error", value="FILE"),
    Flag("log-format", "how log lines are written", value="text|json", choices=("text", "json"), default="text"),
    Flag(
        "root",
        "directory of the containers' state, which should be on a tmpfs (default: /run/ocirt, and for users other than "
        "root $XDG_RUNTIME_DIR/ocirt)",
        value="DIR",
    ),
    Flag("systemd-cgroup", 'the same as "--cgroup-manager systemd"; cgroupsPath is slice:prefix:name', Kind.SWITCH),
    Flag(
        "cgroup-manager",
        "who makes cgroups; disabled: containers stay in the cgroup of their caller (default: cgroupfs)",
        value="cgroupfs|systemd|disabled",
        choices=("cgroupfs", "systemd", "disabled"),
    ),
    Flag(
        "rootless",
        "go on where a cgroup may not be written (default: auto, which is: unless root)",
        value="true|false|auto",
    ),
    Flag("help", "show this help", Kind.SWITCH, short="h"),
    Flag("version", "show the version", Kind.SWITCH, short="v"),
)

_BUNDLE = Flag("bundle", "the bundle's directory (default: the current one)", short="b", value="DIR")
_DETACH = Flag("detach", "don't wait for the process", Kind.SWITCH, short="d")
_CONSOLE_SOCKET = Flag("console-socket", "send the terminal's master side over this AF_UNIX socket", value="SOCKET")
_PIDFD_SOCKET = Flag("pidfd-socket", "send a pidfd of the process over this AF_UNIX socket", value="SOCKET")
_PID_FILE = Flag("pid-file", "write the process's pid to this file", value="FILE")
_NO_PIVOT = Flag("no-pivot", "move the root instead of pivot_root(2): for a root file system on a ramdisk", Kind.SWITCH)
_NO_NEW_KEYRING = Flag("no-new-keyring", "keep the caller's session keyring", Kind.SWITCH)
_PRESERVE_FDS = Flag(
    "preserve-fds", "pass N descriptors from 3 on, besides the $LISTEN_FDS ones", Kind.COUNT, value="N", default="0"
)
_FORMAT = Flag("format", "how to print", short="f", value="table|json", choices=("table", "json"), default="table")
_NO_SUBREAPER = Flag("no-subreaper", "don't adopt the container's orphaned processes", Kind.SWITCH)

_CREATE_FLAGS = (_BUNDLE, _CONSOLE_SOCKET, _PIDFD_SOCKET, _PID_FILE, _NO_PIVOT, _NO_NEW_KEYRING, _PRESERVE_FDS)

_EXEC_FLAGS = (
    _DETACH,
    Flag("tty", "give the process a terminal", Kind.SWITCH, short="t"),
    Flag("process", "read the process from this JSON file (as config.json's process)", short="p", value="FILE"),
    Flag("env", "add to the environment; may be repeated", Kind.TEXTS, short="e", value="NAME=VALUE"),
    Flag("user", "numeric user, and group", short="u", value="UID[:GID]"),
    Flag("additional-gids", "add a supplementary group; may be repeated", Kind.TEXTS, short="g", value="GID"),
    Flag("cap", "add a capability; may be repeated", Kind.TEXTS, short="c", value="CAP"),
    Flag("cwd", "working directory in the container", value="DIR"),
    _CONSOLE_SOCKET,
    _PIDFD_SOCKET,
    _PID_FILE,
    Flag("process-label", "SELinux label of the process", value="LABEL"),
    Flag("apparmor", "AppArmor profile of the process", value="PROFILE"),
    Flag("no-new-privs", "set the process's no_new_privs", Kind.SWITCH),
    _PRESERVE_FDS,
    Flag(
        "cgroup",
        "run in this cgroup below the container's; a list of controllers before it is for cgroup v1",
        Kind.TEXTS,
        value="[CTRL[,CTRL]:]PATH",
    ),
    Flag("ignore-paused", "do it in a paused container: the process then waits for resume", Kind.SWITCH),
)

_UPDATE_FLAGS = (
    Flag(
        "resources", "read resources from a JSON file or - (the other flags then don't count)", short="r", value="FILE"
    ),
    Flag("blkio-weight", "weight of block I/O, 10 to 1000", Kind.COUNT, value="N"),
    Flag("cpu-period", "CFS period in microseconds", value="USEC"),
    Flag("cpu-quota", "CPU time in microseconds in a period; -1: no limit", value="USEC"),
    Flag("cpu-burst", "unused CPU time in microseconds that may be added to a quota", value="USEC"),
    Flag("cpu-share", "CPU shares, relative to other containers", value="N"),
    Flag("cpu-rt-period", "realtime period in microseconds", value="USEC"),
    Flag("cpu-rt-runtime", "realtime CPU time in microseconds in a period", value="USEC"),
    Flag("cpu-idle", "1: run only when a CPU is idle", value="0|1"),
    Flag("cpuset-cpus", "the CPUs to use", value="LIST"),
    Flag("cpuset-mems", "the memory nodes to use", value="LIST"),
    Flag("memory", "memory limit, such as 512m; -1: none", value="BYTES"),
    Flag("memory-reservation", "soft memory limit", value="BYTES"),
    Flag("memory-swap", "limit of memory and swap together; -1: none", value="BYTES"),
    Flag("pids-limit", "largest number of processes; -1: no limit", Kind.INTEGER, value="N"),
    Flag("l3-cache-schema", "L3 cache schema of Intel RDT", value="SCHEMA"),
    Flag("mem-bw-schema", "memory bandwidth schema of Intel RDT", value="SCHEMA"),
    Flag("kernel-memory", "ignored", value="BYTES", hidden=True),
    Flag("kernel-memory-tcp", "ignored", value="BYTES", hidden=True),
)

# What checkpoint and restore have in common.
_CRIU_FLAGS = (
    Flag("image-path", "directory of the images", value="DIR"),
    Flag("work-path", "directory for work files and logs", value="DIR"),
    Flag("tcp-established", "with open TCP connections", Kind.SWITCH),
    Flag("ext-unix-sk", "with external unix sockets", Kind.SWITCH),
    Flag("shell-job", "with a terminal", Kind.SWITCH),
    Flag("file-locks", "with file locks", Kind.SWITCH),
    Flag("lazy-pages", "transfer memory pages when they are needed", Kind.SWITCH),
    Flag(
        "manage-cgroups-mode",
        "how cgroups are treated",
        value="soft|full|strict|ignore",
        choices=("soft", "full", "strict", "ignore"),
    ),
    Flag("empty-ns", "leave a namespace's properties out; may be repeated", Kind.TEXTS, value="NAMESPACE"),
    Flag("auto-dedup", "remove duplicate memory pages from the images", Kind.SWITCH),
)

_CHECKPOINT_FLAGS = (
    *_CRIU_FLAGS,
    Flag("parent-path", "directory of the previous images", value="DIR"),
    Flag("leave-running", "leave the container running", Kind.SWITCH),
    Flag("tcp-skip-in-flight", "leave out connections that are being made", Kind.SWITCH),
    Flag("link-remap", "give deleted files a name again", Kind.SWITCH),
    Flag("status-fd", "descriptor to write to when lazy pages are ready", Kind.INTEGER, value="FD", default="-1"),
    Flag("page-server", "where to send memory pages", value="ADDRESS:PORT"),
    Flag("pre-dump", "write memory alone, and leave the container running", Kind.SWITCH),
)

_RESTORE_FLAGS = (
    _BUNDLE,
    _DETACH,
    _CONSOLE_SOCKET,
    _PID_FILE,
    _NO_SUBREAPER,
    _NO_PIVOT,
    *_CRIU_FLAGS,
    Flag("lsm-profile", "security profile of the restored container", value="TYPE:NAME"),
    Flag("lsm-mount-context", "security context of the restored mounts", value="CONTEXT"),
)

_NOT_YET = "This version of ocirt doesn't support it: the command ends with an error."

_ALL = (
    Command(
        "create",
        "make a container from a bundle, ready to be started",
        _CREATE_FLAGS,
        module="create",
        description="A bundle is a directory with config.json and a root file system. The container's namespaces, "
        "mounts and cgroup are made, and its init process waits for start before it executes the configuration's "
        "program. Later changes to config.json have no effect. The id is free to choose: letters, digits and _ + - . "
        "(but for a leading -).",
        failure="ocirt create failed",
    ),
    Command("start", "execute the program of a created container", module="start"),
    Command(
        "run",
        "create and start a container, and wait for it",
        (
            *_CREATE_FLAGS,
            _DETACH,
            Flag("keep", "don't delete the container when it has exited", Kind.SWITCH),
            _NO_SUBREAPER,
        ),
        module="run",
        description="Does what create, start and delete do. Signals are passed on to the container's process, and its "
        "exit code becomes that of the command (128 + N when a signal N ended it).",
        failure="ocirt run failed",
    ),
    Command(
        "exec",
        "run another program in a container",
        _EXEC_FLAGS,
        "<container-id> <program> [argument ...]",
        most=None,
        stops_at_positional=True,
        module="exec",
        description="What isn't given by flags is taken from the container's configuration. With --process, the file "
        "stands for all of it, and the container's id is the only argument. The exit code is the program's, or 255 "
        "when the program could not be started.",
        failure="exec failed",
        failure_code=255,
    ),
    Command("state", "print the state of a container as JSON", module="state"),
    Command(
        "list",
        "list the containers",
        (_FORMAT, Flag("quiet", "print the ids alone", Kind.SWITCH, short="q")),
        arguments="",
        least=0,
        most=0,
        module="list",
    ),
    Command(
        "ps",
        "list the processes of a container",
        (_FORMAT,),
        "<container-id> [ps option ...]",
        most=None,
        stops_at_positional=True,
        module="ps",
        description="Prints those lines of ps(1) (with -ef, or with the options that follow the id) that are about the "
        "container's processes, or with --format json their pids alone.",
    ),
    Command(
        "kill",
        "send a signal to a container's init process",
        (Flag("all", "a container that isn't running is no error", Kind.SWITCH, short="a", hidden=True),),
        "<container-id> [signal]",
        most=2,
        stops_at_positional=True,
        module="kill",
        description="The signal is a number or a name, such as 9, KILL, SIGKILL or RTMIN+3; without one it is TERM. "
        "SIGKILL to a container that shares its pid namespace is for all of its processes.",
    ),
    Command(
        "delete",
        "delete a container that isn't running",
        (
            Flag(
                "force", "kill it first if need be; a container that doesn't exist is no error", Kind.SWITCH, short="f"
            ),
        ),
        module="delete",
        description="Removes what create has made: the process that waits for the start, if it still does, the cgroup "
        "and the state. The bundle stays.",
    ),
    Command(
        "pause",
        "freeze the processes of a container",
        module="pause",
        description="The command ends when all of them have stopped, those in cgroups that the container made too. "
        "Signals other than SIGKILL reach them when they run again.",
    ),
    Command("resume", "let the processes of a paused container run", module="resume"),
    Command(
        "update",
        "change the resource limits of a container",
        _UPDATE_FLAGS,
        module="update",
        description="What isn't given stays as it is, and when something can't be changed nothing is. The file has an "
        "object like config.json's linux.resources; device rules in it replace all that the container has.",
    ),
    Command(
        "events",
        "print usage statistics and out-of-memory events of a container",
        (
            Flag("interval", "time between statistics", Kind.DURATION, value="TIME", default="5s"),
            Flag("stats", "print statistics once", Kind.SWITCH),
        ),
        module="events",
        description="Prints one JSON object a line, until the container ends.",
    ),
    Command("checkpoint", "save a running container", _CHECKPOINT_FLAGS, module="unsupported", supported=False),
    Command("restore", "restore a saved container", _RESTORE_FLAGS, module="unsupported", supported=False),
    Command(
        "spec",
        "write a config.json to begin with",
        (
            Flag("bundle", "directory to write it to (default: the current one)", short="b", value="DIR"),
            Flag("rootless", "for a container that is run by a user other than root", Kind.SWITCH),
        ),
        arguments="",
        least=0,
        most=0,
        module="spec",
        description="The bundle then needs a root file system in the directory rootfs, and process.args the program to "
        "run. An existing config.json is not overwritten.",
    ),
    Command(
        "validate",
        "check a bundle, and tell everything that is wrong with it",
        (_BUNDLE, _FORMAT),
        "[bundle]",
        least=0,
        module="validate",
        description="Prints every error and, apart from them, warnings: properties that nobody knows, conversions that "
        "lose something, and what this host cannot do. The exit code is 1 when there is an error.",
    ),
    Command(
        "plan",
        "print what create would do, without doing it",
        (_BUNDLE, _NO_PIVOT, _NO_NEW_KEYRING, _PRESERVE_FDS, _FORMAT),
        "[bundle]",
        least=0,
        module="plan",
        description="One line an operation, in the order of execution, each with the property of config.json that asks "
        "for it.",
    ),
    Command(
        "features",
        "print the features of this runtime as JSON",
        arguments="",
        least=0,
        most=0,
        module="features",
        description="The structure is that of features.md in the OCI runtime specification. It tells what ocirt knows, "
        "not what the host can do.",
    ),
    Command(
        "doctor",
        "tell what of ocirt's features this host and this user can do, and what to do about the rest",
        (Flag("json", "print it as JSON", Kind.SWITCH),),
        arguments="",
        least=0,
        most=0,
        module="doctor",
        description="Every line is a check: ok, limited (a part is there, or it has conditions) or missing, what was "
        "found, and what that means for containers; below it, what would help. Things are found out by doing them, in "
        "processes and namespaces that end with that; nothing is changed. The exit code is 0 when containers can run "
        "as this user, otherwise 1.",
    ),
    Command(
        "completion",
        "print the script with which a shell completes command lines of ocirt",
        arguments="bash|zsh|fish",
        module="completion",
        description="Where it belongs: with bash /etc/bash_completion.d/ocirt (or, without the package "
        'bash-completion, a line eval "$(ocirt completion bash)" in .bashrc), with zsh a file _ocirt in a directory '
        "of $fpath, with fish ~/.config/fish/completions/ocirt.fish.",
    ),
)

COMMANDS = {command.name: command for command in _ALL}


def unsupported_note(command: Command) -> str:
    """What a help text says of a command that is parsed but can't be done; "" for all others."""
    return "" if command.supported else _NOT_YET
