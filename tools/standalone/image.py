"""Runs in the interpreter that is to be saved: imports everything, and leaves nothing of the build behind.

`prepare` returns the function that every start of the saved image calls; main.c and renew.c do the rest.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.machinery
import json
import os
import sys
import zipimport
from collections.abc import Callable
from typing import Any

# Imported, but used by no command: for making classes, reading the archive, keywords and formats that no schema of ours
# has. What is left of their names in other modules is deleted, too.
_FORGOTTEN = """
_compression _pydecimal _strptime ast attr.filters attr.validators bz2 calendar contextvars datetime decimal dis
encodings.cp437 fnmatch fractions importlib.abc importlib.machinery importlib.readers importlib.resources importlib.util
inspect ipaddress locale ntpath numbers opcode pathlib pkgutil platform random shutil tempfile token tokenize
typing_extensions unicodedata uuid zipfile
""".split()

# CPython specializes a function's bytecode when it has run some times (PEP 659), in more than one step.
_WARM = 40

# Of the shape of an engine's: rules with and without arguments, with and without an errno.
_PROFILE: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "syscalls": [
        {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
        {
            "names": ["personality"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}],
        },
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
    ],
}


class _Programs(dict[bytes, bytes]):
    """A cache for compiled profiles."""

    put = dict.__setitem__


def prepare() -> Callable[[], None]:
    """Import all, warm up, forget. The interpreter can be saved when this has returned."""
    _import_all()
    main: Callable[[], None] = importlib.import_module("ocirt.cli").main

    def start() -> None:
        """A start of the saved image: what is Python's own to renew, then ocirt."""
        _renew_threading()
        main()

    _read_data()
    gc.unfreeze()
    _forget_modules()
    _forget_the_build()
    _warm_up()
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 100)
    return start


def _import_all() -> None:
    archive = sys.path[0]
    # main.c has made this one, without what an import statement looks for.
    spec: Any = importlib.machinery.ModuleSpec("ocirt._native", None)
    spec._initializing = False
    sys.modules["ocirt._native"].__spec__ = spec
    for name in sorted(zipimport.zipimporter(archive)._files):  # type: ignore[attr-defined]
        module, suffix = os.path.splitext(name)
        if suffix == ".pyc":
            importlib.import_module(module.removesuffix("/__init__").replace("/", "."))
            gc.collect()  # what is left over must not lie between what is kept
            gc.freeze()
            _begin_step()


def _begin_step() -> None:
    """What comes now has the same place in every image, whatever has happened before."""
    importlib.import_module("_ocirt_standalone").begin_step()


def _read_data() -> None:
    """What is read from the archive, and made from it, at its first use."""
    structure: Any = importlib.import_module("ocirt.spec.structure")
    for name in ("config", "state"):
        structure.load_schema(name)
    list(structure.structure_problems({}))


def _warm_up() -> None:
    """Run what is pure of a usual command, for the specialized bytecode and the caches of methods."""
    cli: Any = importlib.import_module("ocirt.cli.parse")
    flags: Any = importlib.import_module("ocirt.cli.flags")
    table: Any = importlib.import_module("ocirt.cli.table")
    spec: Any = importlib.import_module("ocirt.spec")
    load: Any = importlib.import_module("ocirt.spec.load")
    host: Any = importlib.import_module("ocirt.host")
    paths: Any = importlib.import_module("ocirt.cgroup.paths")
    compiler: Any = importlib.import_module("ocirt.compile")
    constants: Any = importlib.import_module("ocirt.constants")
    record: Any = importlib.import_module("ocirt.record")
    devices: Any = importlib.import_module("ocirt.cgroup.devices")
    resources: Any = importlib.import_module("ocirt.cgroup.resources")
    manager: Any = importlib.import_module("ocirt.cgroup.manager")
    protocol: Any = importlib.import_module("ocirt.protocol")
    seccomp: Any = importlib.import_module("ocirt.seccomp")
    config = importlib.import_module("ocirt.commands.spec").default_config()
    config["linux"]["seccomp"] = _PROFILE
    raw = json.dumps(config, indent=1).encode()
    programs = _Programs()
    machine = host.Host(cgroup=paths.CgroupHost("/sys/fs/cgroup", "/", "/", "/"))
    state = {"ociVersion": "1.0.2", "id": "a", "bundle": "/b"}
    create = compiler.CreateRequest(container_id="a", bundle="/b", rootfs="/b/rootfs", state=state, cgroup="/a")
    execute = compiler.ExecRequest(container_id="a", rootfs="/b/rootfs", namespaces=constants.CLONE_NEWNS)
    cgroup = manager.CgroupRecord(manager="cgroupfs", path="/a")
    _begin_step()
    _call_system()
    _begin_step()
    _use_native()
    _begin_step()
    for _ in range(_WARM):
        cli.parse(["--root", "/r", "run", "--bundle", "/b", "a"], flags.Args(table.GLOBAL_FLAGS))
        config = spec.parse_config(load.decode(raw, "config.json"))
        spec.check_spec(config)
        seccomp.compile_seccomp(config.linux.seccomp, cache=programs)
        compiler.compile_create(config, machine, create).plan.encode()
        compiler.compile_exec(config.process, config, machine, execute).plan.encode()
        resources.compile_resources(config.linux.resources)
        devices.compile_device_filter(config.linux.resources.devices).program()
        made = record.Record("a", "1.0.2", "/b", "/b/rootfs", cgroup=record.cgroup_properties(cgroup)).changed(pid=1)
        read = record.Record.decode(made.encode())
        read.cgroup_record()
        read.oci_state(record.Status.CREATED, 1)
        protocol.Message.decode(protocol.GO)


def _call_system() -> None:
    """Functions in C make a table of the names of their parameters at their first call that has any: those of a start.

    Each name is looked up in the table of all strings of all modules, on pages of its own.
    """
    none: dict[str, Any] = {"dir_fd": -1}
    calls: list[tuple[Callable[..., object], tuple[object, ...], dict[str, Any]]] = [
        *((call, ("",), none) for call in (os.mkdir, os.mkfifo, os.stat, os.unlink, os.rmdir, os.readlink)),
        *((call, ("", 0), none) for call in (os.open, os.access, os.chmod, os.mknod)),
        (os.rename, ("", ""), {"src_dir_fd": -1, "dst_dir_fd": -1}),
        (os.symlink, ("", ""), none),
        (os.chown, ("", -1, -1), none),
        (os.stat, ("",), {"follow_symlinks": False}),
        (os.pidfd_open, (), {"pid": -1, "flags": 0}),
    ]
    for call, arguments, options in calls:
        with contextlib.suppress(OSError):
            call(*arguments, **options)


def _use_native() -> None:
    """cffi finds out about a type, a constant or a function when it is asked for it first."""
    native: Any = importlib.import_module("ocirt._native")
    for name in native.ffi.list_types()[1]:
        native.ffi.typeof(f"struct {name}").fields  # noqa: B018
        native.ffi.typeof(f"struct {name} *")
    for text in ("char[]", "char *[]", "int[]", "int *", "int32_t[]", "uint32_t[]"):
        native.ffi.typeof(text)
    for name in dir(native.lib):
        getattr(native.lib, name)


def _forget_the_build() -> None:
    """No import can come from anywhere any more."""
    sys.path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()
    sys.meta_path[:] = [finder for finder in sys.meta_path if getattr(finder, "__name__", "") == "BuiltinImporter"]
    zipimport._zip_directory_cache.clear()  # type: ignore[attr-defined]
    threading: Any = sys.modules["threading"]
    threading._main_thread._native_id = 0
    sys.argv[:] = []
    sys.orig_argv[:] = []
    importlib.import_module("linecache").clearcache()
    importlib.import_module("re").purge()
    sys._clear_type_cache()  # its entries hold names all over the heap


def _forget_modules() -> None:
    gone = {name for name in sys.modules if name in _FORGOTTEN or name.startswith("importlib.resources.")}
    dropped = [sys.modules.pop(name) for name in sorted(gone)]
    ids = {id(module) for module in dropped}
    # The globals of modules, and the copies of them that attrs gives to the methods that it makes.
    for names in [item for item in gc.get_objects() if type(item) is dict and "__name__" in item]:
        for name, value in list(names.items()):
            if id(value) in ids or (callable(value) and getattr(value, "__module__", None) in gone):
                del names[name]
    typing: Any = sys.modules["typing"]
    for clear in typing._cleanups:
        clear()


def _renew_threading() -> None:
    """The main thread's descriptor has another address in every process."""
    threading: Any = sys.modules.get("threading")
    if threading is not None:
        main = threading._main_thread
        threading._active.clear()
        main._set_ident()
        main._set_native_id()
        threading._active[main._ident] = main
