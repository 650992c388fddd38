"""Checks of what config.md has outside of process: version, root, mounts, hooks, host and domain name."""

from __future__ import annotations

import posixpath
import re
from dataclasses import fields

from ocirt.errors import SpecError
from ocirt.spec._generated import Mount, Spec
from ocirt.spec.checks.problems import (
    PATH,
    REQUIRES,
    VERSION,
    Problems,
    absolute,
    has_dotdot,
    linux_of,
    mappings,
    namespace_of,
)
from ocirt.spec.values import RANGE, REQUIRED

# At most 9 digits, so that int() is bounded.
_NUMBER = r"(0|[1-9][0-9]{0,8})"
_PART = r"(0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)"
# The grammar of semver.org, version 2.0.0.
SEMVER = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-{_PART}(\.{_PART})*)?(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?")
SUPPORTED_MAJOR = 1
# __NEW_UTS_LEN of the kernel, in bytes.
MAX_UTS_BYTES = 64
IDMAP_OPTIONS = frozenset(("idmap", "ridmap"))
HOOK_NAMES = {
    "prestart": "prestart",
    "create_runtime": "createRuntime",
    "create_container": "createContainer",
    "start_container": "startContainer",
    "poststart": "poststart",
    "poststop": "poststop",
}


def version(spec: Spec) -> Problems:
    """config.md#specification-version. Major 0 is what came before 1.0.0, which 1 goes on with."""
    match = SEMVER.fullmatch(spec.oci_version)
    if not match:
        yield SpecError("/ociVersion", f'"{spec.oci_version:.40}" is not in SemVer v2.0.0 format', VERSION)
    elif int(match[1]) > SUPPORTED_MAJOR:
        yield SpecError("/ociVersion", f'"{spec.oci_version:.40}" is not supported, 1.x is', VERSION)


def root(spec: Spec) -> Problems:
    """config.md#root. The host's own root cannot be a container's: its mounts would be remade in place."""
    path = spec.root.path
    if not path:
        yield SpecError("/root/path", "must not be empty", PATH)
    elif path.startswith("/") and posixpath.normpath(path).lstrip("/") == "":
        yield SpecError("/root/path", "must not be /", PATH)


def uts_names(spec: Spec) -> Problems:
    """hostname and domainname would change the host's without a uts namespace."""
    for name, value in (("hostname", spec.hostname), ("domainname", spec.domainname)):
        if value is None:
            continue
        if len(value.encode()) > MAX_UTS_BYTES:
            yield SpecError(f"/{name}", f"is longer than {MAX_UTS_BYTES} bytes", RANGE)
        if not namespace_of(spec, "uts"):
            yield SpecError(f"/{name}", "needs a uts namespace in /linux/namespaces", REQUIRES)


def mounts(spec: Spec) -> Problems:
    """config.md#mounts. The options themselves are the mount compiler's matter."""
    user_namespace = namespace_of(spec, "user")
    for index, mount in enumerate(spec.mounts):
        at = f"/mounts/{index}"
        if not mount.destination:
            yield SpecError(f"{at}/destination", "must not be empty", PATH)
        elif has_dotdot(mount.destination):
            yield SpecError(f"{at}/destination", f'"{mount.destination:.80}" must not have ".."', PATH)
        is_bind = "bind" in mount.options or "rbind" in mount.options
        if is_bind and not mount.source:
            yield SpecError(at, "a bind mount needs a source", REQUIRED)
        if not is_bind and not mount.type:
            yield SpecError(at, "a mount that is no bind mount needs a type", REQUIRED)
        if mount.uid_mappings or mount.gid_mappings:
            yield from _mappings(mount, at)
        elif not user_namespace and not IDMAP_OPTIONS.isdisjoint(mount.options):
            yield from _idmap_options(mount, at)


def _mappings(mount: Mount, at: str) -> Problems:
    """Each MUST be specified along with the other (config.md#posix-platform-mounts)."""
    for name, ranges, other, others in (
        ("uidMappings", mount.uid_mappings, "gidMappings", mount.gid_mappings),
        ("gidMappings", mount.gid_mappings, "uidMappings", mount.uid_mappings),
    ):
        yield from mappings(ranges, f"{at}/{name}")
        if ranges and not others:
            yield SpecError(f"{at}/{name}", f"needs {other}", REQUIRES)


def _idmap_options(mount: Mount, at: str) -> Problems:
    """Of a mount without mappings in a container without a user namespace (config.md#linux-mount-options)."""
    for index, option in enumerate(mount.options):
        if option in IDMAP_OPTIONS:
            yield SpecError(f"{at}/options/{index}", f"{option} needs mappings or a user namespace", REQUIRES)


def hooks(spec: Spec) -> Problems:
    """config.md#posix-platform-hooks: a path MUST be absolute."""
    if not spec.hooks:
        return
    for member in fields(spec.hooks):
        name = HOOK_NAMES[member.name]
        for index, hook in enumerate(getattr(spec.hooks, member.name)):
            yield from absolute(hook.path, f"/hooks/{name}/{index}/path")


def restricted_paths(spec: Spec) -> Problems:
    """config-linux.md#masked-paths and #readonly-paths. Without a mount namespace they would be the host's."""
    linux = linux_of(spec)
    for name, paths in (("maskedPaths", linux.masked_paths), ("readonlyPaths", linux.readonly_paths)):
        if not all(path.startswith("/") for path in paths):
            for index, path in enumerate(paths):
                yield from absolute(path, f"/linux/{name}/{index}")
        if paths and not namespace_of(spec, "mount"):
            yield SpecError(f"/linux/{name}", "needs a mount namespace in /linux/namespaces", REQUIRES)
