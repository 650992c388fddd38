"""A container's seccomp filter as create and exec load it: the profile on this kernel, from the cache when there."""

from __future__ import annotations

from ocirt.seccomp import ALL_FLAGS, Filter, compile_seccomp, probe_flags
from ocirt.seccomp_cache import DirectoryCache
from ocirt.spec import Spec

DEFAULT_FLAG = "SECCOMP_FILTER_FLAG_SPEC_ALLOW"
STRICT_ANNOTATION = "run.oci.seccomp_fail_unknown_syscall"


def container_filter(spec: Spec, cache_directory: str) -> Filter | None:
    """None without a profile. Raises SpecError."""
    seccomp = spec.linux.seccomp if spec.linux else None
    if seccomp is None:
        return None
    return compile_seccomp(
        seccomp,
        fail_unknown_syscall=spec.annotations.get(STRICT_ANNOTATION) not in (None, "", "0", "false"),
        # Asking the kernel costs a system call a flag; most profiles have the default, which is in Linux since 4.17.
        supported_flags=probe_flags() if set(seccomp.flags) - {DEFAULT_FLAG} else ALL_FLAGS,
        cache=DirectoryCache(cache_directory),
    )
