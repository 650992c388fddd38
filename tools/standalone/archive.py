"""The archive of modules that stands behind the plain binary: a zip file with compiled modules and their data.

Guarantees: the same bytes for the same sources, wherever they lie. The modules are those that importing everything of
ocirt and of its dependencies imports, found in an interpreter of its own; what is not there can't be imported later.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import marshal
import os
import subprocess
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

# Where the modules seem to be: a name below a file is no file, so that no traceback shows lines of one that is found.
PREFIX = "/proc/self/exe"
# In the place of a module in Rust, and of a megabyte of tables.
STAND_INS = {name: Path(__file__).with_name(f"{name}.py") for name in ("rpds", "unicodedata")}
IMAGE = Path(__file__).with_name("image.py")

# What is imported by CPython itself, late or where a module in C is missing.
_LATE = """
encodings encodings.aliases encodings.ascii encodings.cp437 encodings.latin_1 encodings.raw_unicode_escape
encodings.unicode_escape encodings.utf_16 encodings.utf_32 encodings.utf_8 encodings.utf_8_sig _pydecimal contextvars
copyreg codecs io abc os stat posixpath genericpath linecache traceback warnings zipfile subprocess importlib.util
importlib.machinery importlib.abc importlib.readers importlib.resources.readers _strptime calendar
"""
# Tools of the build, and what the stand-in takes the place of.
_LEFT_OUT = {"ocirt.spec.generate", "ocirt.__main__", *"rpds rpds.rpds site _distutils_hack".split()}
# CPython's own, which are in its library.
_LEFT_OUT |= {"_frozen_importlib", "_frozen_importlib_external", "zipimport"}
_FROZEN = {
    "_frozen_importlib": ("importlib/_bootstrap.py", "importlib._bootstrap"),
    "_frozen_importlib_external": ("importlib/_bootstrap_external.py", "importlib._bootstrap_external"),
    "zipimport": ("zipimport.py", "zipimport"),
}
_DATA = {"ocirt": ("spec/schema/*.json",), "jsonschema_specifications": ("schemas/**/*",)}

_DISCOVER = """
import ast, importlib, json, pkgutil, sys
root, late, left_out = sys.argv[1], sys.argv[2].split(), set(sys.argv[3].split())
sys.path.insert(0, root)
for name in ("_bz2", "_lzma", "_decimal", "_uuid", "_datetime", "grp", "pwd"):
    sys.modules[name] = None  # not in the binary
import ocirt
names = ["ocirt", *(m.name for m in pkgutil.walk_packages(ocirt.__path__, "ocirt."))]
for name in [*(n for n in names if n not in left_out), "jsonschema", "jeepney.bus", "prctl", *late]:
    importlib.import_module(name)
late = set()  # what functions import
for module in [m for n, m in sys.modules.items() if n.partition(".")[0] in ("ocirt", "jeepney") and n not in left_out]:
    if getattr(module, "__file__", "").endswith(".py"):
        for node in ast.walk(ast.parse(open(module.__file__, "rb").read())):
            if isinstance(node, ast.Import):
                late.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                late.add(node.module)
for name in sorted(late - left_out):
    try:
        importlib.import_module(name)
    except ImportError:
        pass
found = {}
for name, module in sys.modules.items():
    spec = getattr(module, "__spec__", None)
    origin = getattr(module, "__file__", None)
    if name not in left_out and spec and spec.name == name and origin and origin.endswith(".py"):
        found[name] = [origin, hasattr(module, "__path__")]
json.dump(found, sys.stdout)
"""


def find_modules(root: Path) -> dict[str, tuple[Path, bool]]:
    """Module name -> its source, and whether it is a package."""
    command = [sys.executable, "-I", "-B", "-c", _DISCOVER, str(root), _LATE, " ".join(sorted(_LEFT_OUT))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={"PATH": "/usr/bin:/bin"})
    return {name: (Path(origin), package) for name, (origin, package) in json.loads(done.stdout).items()}


def member_name(module: str, *, package: bool) -> str:
    return module.replace(".", "/") + ("/__init__.py" if package else ".py")


def compiled(source: Path, file_name: str) -> bytes:
    """The module's code, marshalled."""
    tree = _Shorten().visit(ast.parse(source.read_bytes()))
    code = compile(tree, file_name, "exec", dont_inherit=True, optimize=0)
    return marshal.dumps(code if file_name.startswith(f"{PREFIX}/ocirt/") else _without_lines(code))


def _without_lines(code: types.CodeType) -> types.CodeType:
    """A traceback tells the lines of ocirt's own modules, and of others the functions."""
    constants = (_without_lines(item) if isinstance(item, types.CodeType) else item for item in code.co_consts)
    return code.replace(co_consts=tuple(constants), co_linetable=b"")


class _Shorten(ast.NodeTransformer):
    """Leaves out what is for readers: docstrings, and annotations of functions. A quarter of the image.

    A class keeps its annotations, and a word of docstring: dataclasses and attrs would make one up.
    """

    def visit_Module(self, node: ast.Module) -> ast.AST:
        _replace_docstring(node, "-")
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        _replace_docstring(node, "-")
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        _replace_docstring(node, ...)
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node


def _replace_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef, word: Any) -> None:
    match node.body:
        case [ast.Expr(ast.Constant(str())) as first, *_]:
            first.value = ast.copy_location(ast.Constant(word), first.value)


def entries(root: Path, commit: str, scratch: Path) -> dict[str, bytes]:
    """Everything of the archive, by name."""
    modules = find_modules(root)
    result: dict[str, bytes] = {}
    for package, patterns in _DATA.items():
        base = modules[package][0].parent
        for pattern in patterns:
            for path in base.glob(pattern):
                if path.is_file() and path.suffix not in (".py", ".pyc"):
                    result[f"{package}/{path.relative_to(base)}"] = path.read_bytes()
    written = scratch / "_commit.py"
    written.write_text(f'COMMIT = "{commit}"\n', encoding="ascii")
    modules |= {name: (path, False) for name, path in STAND_INS.items()}
    modules |= {"_ocirt_image": (IMAGE, False), "ocirt._commit": (written, False)}
    for module, (source, package_flag) in modules.items():
        name = member_name(module, package=package_flag)
        # A .pyc that needs no source to be compared with (PEP 552).
        head = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8)
        result[name + "c"] = head + compiled(source, f"{PREFIX}/{name}")
    return result


def write_frozen(directory: Path) -> None:
    """What c_ext/standalone/frozen.c takes in."""
    directory.mkdir(parents=True, exist_ok=True)
    library = Path(os.__file__).parent
    for name, (file, shown) in _FROZEN.items():
        (directory / name).write_bytes(compiled(library / file, f"<frozen {shown}>"))


def write_archive(output: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, members[name])


if __name__ == "__main__":
    # A process of its own, with a fixed hash seed and no memory of columns in code objects: see __main__.py.
    write_frozen(Path(sys.argv[2]).parent / "frozen")
    write_archive(Path(sys.argv[2]), entries(Path(sys.argv[1]), sys.argv[3], Path(sys.argv[2]).parent))
