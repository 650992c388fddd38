"""Import is build time: what a module computes when it is imported must hold on every machine and in every process.

Every module of ocirt is imported twice, in processes that differ in all that a process can differ in here, and all that
can be reached from the modules' globals is written down. The two lists must be the same.
"""

from __future__ import annotations

import ast
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

SNAPSHOT = r"""
import importlib, os, pkgutil, sys, types
before = {fd for fd in range(256) if os.path.lexists(f"/proc/self/fd/{fd}")}
import ocirt
names = ["ocirt", *(m.name for m in pkgutil.walk_packages(ocirt.__path__, "ocirt.") if not m.name.endswith("__main__"))]
for name in names:
    importlib.import_module(name)
after = {fd for fd in range(256) if os.path.lexists(f"/proc/self/fd/{fd}")}
if after - before:
    print("descriptors left open:", sorted(after - before))
seen = {}  # by id, kept alive: an id must not be used twice
PLAIN = (str, bytes, int, float, complex, bool, type(None))
def walk(path, value, depth):
    if isinstance(value, PLAIN):
        print(path, repr(value))
        return
    if id(value) in seen or depth > 12:
        return
    seen[id(value)] = value
    if isinstance(value, types.ModuleType):
        return
    if isinstance(value, dict) or isinstance(value, types.MappingProxyType):
        for key in sorted(value, key=repr):
            name = repr(key) if isinstance(key, PLAIN) else type(key).__name__
            walk(f"{path}[{name}]", value[key], depth + 1)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            walk(f"{path}[{i}]", item, depth + 1)
    elif isinstance(value, (set, frozenset)):
        print(path, sorted(map(repr, value)) if all(isinstance(v, PLAIN) for v in value) else len(value))
    elif isinstance(value, type):
        if value.__module__.startswith("ocirt"):
            own = {k: v for k, v in vars(value).items() if k not in ("__doc__", "__dict__", "__weakref__")}
            walk(path, own, depth + 1)
    elif isinstance(value, types.FunctionType):
        if value.__module__ and value.__module__.startswith("ocirt"):
            walk(path + ".defaults", [value.__defaults__, value.__kwdefaults__], depth + 1)
            cells = [c for c in value.__closure__ or () if c != types.CellType()]
            walk(path + ".closure", [c.cell_contents for c in cells], depth + 1)
    elif isinstance(value, (staticmethod, classmethod)):
        walk(path, value.__func__, depth + 1)
    elif isinstance(value, property):
        walk(path, [value.fget, value.fset], depth + 1)
    elif type(value).__module__.startswith("ocirt"):
        print(path, type(value).__qualname__)
        slots = [s for c in type(value).__mro__ for s in getattr(c, "__slots__", ())]
        own = {s: getattr(value, s) for s in slots if hasattr(value, s)}
        walk(path, getattr(value, "__dict__", {}) | own, depth + 1)
    else:
        print(path, type(value).__qualname__)
for name in sorted(n for n in sys.modules if n == "ocirt" or n.startswith("ocirt.")):
    module = sys.modules[name]
    if getattr(module, "__file__", None) and not name.endswith("_native"):
        walk(name, {k: v for k, v in vars(module).items() if not k.startswith("__") or k == "__all__"}, 0)
"""


def snapshot(cwd: Path, env: dict[str, str], argv: list[str], *, cpus: set[int], limit: int, umask: int) -> str:
    def differ() -> None:
        os.umask(umask)
        os.sched_setaffinity(0, cpus)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    command = [sys.executable, "-P", "-c", SNAPSHOT, *argv]
    environment = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **env}
    result = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, preexec_fn=differ, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_nothing_of_a_process_or_a_machine_is_kept_by_an_import(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    cpus = os.sched_getaffinity(0)
    one = snapshot(
        here,
        {
            "PYTHONHASHSEED": "1",
            "HOME": "/here",
            "XDG_RUNTIME_DIR": "/here/run",
            "PATH": "/bin",
            "TZ": "UTC",
            "LC_ALL": "C",
        },
        ["first"],
        cpus=cpus,
        limit=256,
        umask=0o022,
    )
    two = snapshot(
        there,
        {
            "PYTHONHASHSEED": "2",
            "NOTIFY_SOCKET": "/x",
            "LISTEN_FDS": "3",
            "LISTEN_PID": "1",
            "TZ": "Asia/Tokyo",
            "USER": "u",
        },
        ["second", "third"],
        cpus={min(cpus)},
        limit=300,
        umask=0o077,
    )
    assert "descriptors left open" not in one
    assert one.count("\n") > 500, "the walk reached next to nothing"
    assert one.splitlines() == two.splitlines()


@pytest.mark.parametrize("statement", ["import os; KEPT = os.getcwd()", "import os\nclass C:\n    kept = os.getpid()"])
def test_the_walk_finds_what_a_module_keeps(tmp_path: Path, statement: str) -> None:
    """The check itself: a package that does keep something is told apart."""
    package = tmp_path / "lib" / "ocirt"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(statement)
    outputs = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        result = subprocess.run(
            [sys.executable, "-P", "-c", SNAPSHOT],
            cwd=tmp_path / name,
            env={"PYTHONPATH": str(tmp_path / "lib"), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.append(result.stdout)
    assert outputs[0] != outputs[1]


# Tools, and commands that no engine waits for.
MAY_COMPILE_PATTERNS = {"cli/completion", "doctor", "spec/generate.py"}


def test_patterns_are_compiled_at_import() -> None:
    """re's cache is empty at every start: a pattern in a function's body would be compiled by each process anew."""
    found = []
    for path in sorted((ROOT / "ocirt").rglob("*.py")):
        name = path.relative_to(ROOT / "ocirt").as_posix()
        if any(name.startswith(excluded) for excluded in MAY_COMPILE_PATTERNS):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            of_re = isinstance(node.func.value, ast.Name) and node.func.value.id == "re"
            if of_re and node.func.attr != "compile" and isinstance(node.args[0], ast.Constant):
                found.append(f"{name}:{node.lineno}")
    assert found == []
