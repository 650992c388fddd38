"""features: what this runtime knows, in the structure of features.md and features-linux.md, whatever the host can do.

The lists are those of the modules that do what they name, so that a feature is listed exactly when it is there.
"""

from __future__ import annotations

from ocirt import SPEC_VERSION, __version__
from ocirt import constants as k
from ocirt.cli import Args, Context, commit
from ocirt.output import write_json

OCI_VERSION_MIN = "1.0.0"


def run(args: Args, context: Context) -> int:  # noqa: ARG001
    write_json(features())
    return 0


def features() -> dict[str, object]:
    from ocirt.compile.mount_options import OPTIONS

    return {
        "ociVersionMin": OCI_VERSION_MIN,
        "ociVersionMax": SPEC_VERSION,
        "hooks": list(_hook_kinds()),
        "mountOptions": sorted(OPTIONS),
        "linux": _linux(),
        "annotations": {
            "ocirt.version": __version__,
            "ocirt.commit": commit(),
            "ocirt.checkpoint.enabled": "false",
        },
        "potentiallyUnsafeConfigAnnotations": sorted(unsafe_annotations()),
    }


def unsafe_annotations() -> tuple[str, ...]:
    """Annotations of config.json that make ocirt do something else; a "." at the end stands for all that begin so."""
    from ocirt.cgroup.unit import ANNOTATION_PREFIX
    from ocirt.compile.namespaces import KEEP_GROUPS_ANNOTATION
    from ocirt.hooks import STDERR_ANNOTATION, STDOUT_ANNOTATION

    seccomp = "run.oci.seccomp_fail_unknown_syscall"
    return (KEEP_GROUPS_ANNOTATION, STDOUT_ANNOTATION, STDERR_ANNOTATION, ANNOTATION_PREFIX, seccomp)


def _hook_kinds() -> list[str]:
    """The names in config.json of the hooks that the model of it has."""
    from ocirt.spec import Hooks

    words = [name.split("_") for name in Hooks.__slots__]
    return [first + "".join(word.capitalize() for word in rest) for first, *rest in words]


def _linux() -> dict[str, object]:
    return {
        "namespaces": sorted(k.NAMESPACES),
        "capabilities": list(k.CAPABILITIES),
        "cgroup": {"v1": False, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
        "seccomp": _seccomp(),
        "apparmor": {"enabled": True},
        "selinux": {"enabled": True},
        "memoryPolicy": {"modes": list(k.MEMORY_POLICY_MODES), "flags": list(k.MEMORY_POLICY_FLAGS)},
        "intelRdt": {"enabled": True, "schemata": True, "monitoring": True},
        "mountExtensions": {"idmap": {"enabled": True}},
        "netDevices": {"enabled": True},
    }


def _seccomp() -> dict[str, object]:
    """Flags count as supported because ocirt's own code loads filters; a kernel without one is an error of its own."""
    from ocirt import seccomp

    return {
        "enabled": True,
        "actions": sorted(seccomp.ACTIONS),
        "operators": sorted(seccomp.OPERATORS),
        "archs": sorted(seccomp.supported_architectures()),
        "knownFlags": sorted(seccomp.FLAGS),
        "supportedFlags": sorted(seccomp.FLAGS),
    }
