"""What the tests of the compiler begin with: configs, hosts, requests, and a short way to a plan."""

from __future__ import annotations

from typing import Any, TypeVar

from ocirt import constants as k
from ocirt.cgroup.paths import CgroupHost
from ocirt.compile import Compiled, CreateRequest, ExecRequest, compile_create, compile_exec
from ocirt.host import Host
from ocirt.ops import Op
from ocirt.spec import check_spec, parse_config

Config = dict[str, Any]
AnyOp = TypeVar("AnyOp", bound=Op)

ROOT = Host(cgroup=CgroupHost("/sys/fs/cgroup", "/", "/user.slice", "/"))
ROOTLESS = Host(euid=1000, egid=1000, effective=0, cgroup=CgroupHost("/sys/fs/cgroup", "/", "/user.slice/x", None))
MAPPINGS = [{"containerID": 0, "hostID": 100000, "size": 65536}]


def request(**changes: Any) -> CreateRequest:
    state = {"ociVersion": "1.3.0", "id": "c1", "bundle": "/b"}
    values: Config = {"container_id": "c1", "bundle": "/b", "rootfs": "/b/rootfs", "state": state, "cgroup": "/c1"}
    return CreateRequest(**(values | changes))


def exec_request(**changes: Any) -> ExecRequest:
    values: Config = {"container_id": "c1", "rootfs": "/b/rootfs", "namespaces": k.CLONE_NEWNS | k.CLONE_NEWPID}
    return ExecRequest(**(values | changes))


def created(config: Config, host: Host = ROOT, **changes: Any) -> Compiled:
    spec = parse_config(config)
    check_spec(spec)
    return compile_create(spec, host, request(**changes))


def executed(config: Config, host: Host = ROOT, **changes: Any) -> Compiled:
    """The container's own process, once more."""
    spec = parse_config(config)
    assert spec.process
    return compile_exec(spec.process, spec, host, exec_request(**changes))


def all_ops(compiled: Compiled) -> tuple[Op, ...]:
    plan = compiled.plan
    return (*plan.host_ops, *plan.entry_ops, *plan.ops)


def ops_of(compiled: Compiled, kind: type[AnyOp]) -> list[AnyOp]:
    return [op for op in all_ops(compiled) if isinstance(op, kind)]


def only(compiled: Compiled, kind: type[AnyOp]) -> AnyOp:
    (op,) = ops_of(compiled, kind)
    return op


def with_mounts(config: Config, *mounts: Config) -> Config:
    return config | {"mounts": list(mounts)}


def use_user_namespace(config: Config) -> Config:
    linux = config["linux"]
    linux = linux | {"namespaces": [*linux["namespaces"], {"type": "user"}]}
    return config | {"linux": linux | {"uidMappings": MAPPINGS, "gidMappings": MAPPINGS}}
