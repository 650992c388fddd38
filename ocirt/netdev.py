"""Moving network devices into a container (config-linux.md#configLinuxNetworkDevices).

Guarantees: nothing is changed before all the devices are found, and all the names are free. A device is never taken
down on the host by itself: the kernel closes it within the move, after its own checks, so that a refused move leaves it
as it was. When anything fails later, the devices that were moved come back with name, index, addresses, routes and
state (runtime.md#errors: as if never attempted); `restore_netdevs` does it for a failure that comes even later.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ocirt import rtnetlink as nl
from ocirt.errors import HostError, SpecError, errno_text
from ocirt.rtnetlink import NetlinkError, RouteSocket
from ocirt.spec import NetDevice
from ocirt.spec.values import pointer_to

_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg: family, 2 lengths, tos, table, protocol, scope, type, flags
_U32 = struct.Struct("=I")
_CACHE_INFO = struct.Struct("=IIII")  # struct ifa_cacheinfo: preferred, valid, 2 stamps
_FOREVER = 0xFFFFFFFF

_IFLA_IFNAME, _IFLA_NET_NS_FD, _IFLA_NEW_IFINDEX, _IFLA_ALT_IFNAME = 3, 28, 49, 53
_IFF_UP = 1
_MAX_NAME_BYTES = 15  # IFNAMSIZ without the NUL

_IFA_LABEL, _IFA_CACHEINFO, _IFA_FLAGS = 3, 6, 8
# address, local, broadcast, anycast, priority of its route, protocol
_IFA_KEPT = frozenset({1, 2, 4, 5, 9, 11})
_IFA_F_PERMANENT, _RT_SCOPE_UNIVERSE = 0x80, 0
# What a user sets: nodad, home, managetempaddr, noprefixroute, autojoin. The others are the kernel's findings.
_IFA_F_KEPT = 0x02 | 0x10 | 0x100 | 0x200 | 0x400

_RTA_OIF, _RTA_CACHEINFO = 4, 12
_RTA_GATEWAYS = frozenset({5, 18})  # and RTA_VIA
_RT_TABLE_LOCAL, _RTPROT_KERNEL, _RTM_F_CLONED, _RTNH_F_ONLINK = 255, 2, 0x200, 4


@dataclass(frozen=True, slots=True)
class DeviceMove:
    """A device by its name on the host, and the name (or the template with %d) that it gets."""

    name: str
    new_name: str
    pointer: str


@dataclass(frozen=True, slots=True)
class Address:
    """An address of a device: struct ifaddrmsg and its attributes, of any family."""

    family: int
    prefix_length: int
    scope: int
    flags: int
    attributes: tuple[tuple[int, bytes], ...]

    @property
    def travels(self) -> bool:
        return bool(self.flags & _IFA_F_PERMANENT) and self.scope == _RT_SCOPE_UNIVERSE


@dataclass(frozen=True, slots=True)
class MovedDevice:
    """What is needed to bring a device back."""

    move: DeviceMove
    index: int
    up: bool
    addresses: tuple[Address, ...] = field(repr=False)
    routes: tuple[bytes, ...] = field(repr=False)
    container_index: int
    container_name: str = ""


def compile_netdevs(netdevs: Mapping[str, NetDevice], pointer: str = "/linux/netDevices") -> tuple[DeviceMove, ...]:
    """The moves in the config's order. Raises SpecError on a name that no device can have, or that two would get."""
    moves = []
    taken: dict[str, str] = {}
    for name, device in netdevs.items():
        at = pointer_to(pointer, name)
        new_name = device.name or name
        if not _is_name(name):
            raise SpecError(at, f'"{name}" is no name of a network device')
        if device.name and not (_is_name(new_name) or _is_template(new_name)):
            raise SpecError(f"{at}/name", f'"{new_name}" is no name of a network device')
        if new_name in taken:
            raise SpecError(at, f'the name "{new_name}" is also given to {taken[new_name]}')
        if not _is_template(new_name):
            taken[new_name] = name
        moves.append(DeviceMove(name, new_name, at))
    return tuple(moves)


def _is_name(name: str) -> bool:
    """dev_valid_name() in Linux's net/core/dev.c; a % makes it a template, which no device is called."""
    raw = os.fsencode(name)
    return 0 < len(raw) <= _MAX_NAME_BYTES and name not in (".", "..") and not set(raw) & set(b"/:% \t\n\v\f\r\xa0\0")


def _is_template(name: str) -> bool:
    return name.count("%d") == 1 and _is_name(name.replace("%d", "00"))


def move_netdevs(
    netdevs: Mapping[str, NetDevice],
    container_socket: socket.socket,
    netns_fd: int,
    pointer: str = "/linux/netDevices",
) -> tuple[MovedDevice, ...]:
    """Move devices from the caller's network namespace into that of `netns_fd`, and set them up.

    `container_socket` is a NETLINK_ROUTE socket that was opened there, with CAP_NET_ADMIN over it. Raises SpecError and
    HostError; then no device has moved.
    """
    moves = compile_netdevs(netdevs, pointer)
    if not moves:
        return ()
    moved: list[MovedDevice] = []
    with nl.open_route_socket() as host_socket, _own_netns() as host_netns_fd:
        if os.path.sameopenfile(host_netns_fd, netns_fd):
            raise SpecError(pointer, "the container has no network namespace of its own to move devices into")
        host, container = RouteSocket(host_socket), RouteSocket(container_socket)
        found = [(move, _find(host, move)) for move in moves]
        for move in moves:
            _check_free(container, move)
        try:
            for move, (index, up) in found:
                device = _snapshot(host, container, move, index, up)
                _move(container, host, device, netns_fd, moved)
                moved[-1] = _settle(container, device)
        except HostError as error:
            problems = _restore(moved, host, container, host_netns_fd)
            if problems:
                raise HostError(
                    error.syscall, error.path, error.errno, pointer=error.pointer, hint="; ".join(problems)
                ) from None
            raise
    return tuple(moved)


def restore_netdevs(moved: Sequence[MovedDevice], container_socket: socket.socket) -> tuple[str, ...]:
    """Bring the devices back into the caller's network namespace, after a failure; what could not be restored."""
    if not moved:
        return ()
    with nl.open_route_socket() as host_socket, _own_netns() as host_netns_fd:
        return tuple(_restore(moved, RouteSocket(host_socket), RouteSocket(container_socket), host_netns_fd))


@contextmanager
def _own_netns() -> Iterator[int]:
    fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _explained(move: DeviceMove, kind: int, what: str = "") -> Iterator[None]:
    """A refusal of the kernel as a HostError with the pointer."""
    try:
        yield
    except NetlinkError as error:
        raise HostError(
            nl.MESSAGE_NAMES[kind], what or move.name, error.errno, pointer=move.pointer, hint=error.explanation
        ) from None
    except ValueError as error:
        raise HostError(
            nl.MESSAGE_NAMES[kind], what or move.name, errno.EBADMSG, pointer=move.pointer, hint=str(error)
        ) from None


def _name_attribute(name: str) -> bytes:
    return nl.attribute(_IFLA_IFNAME, os.fsencode(name) + b"\0")


def _link(route: RouteSocket, name: str = "", index: int = 0) -> tuple[int, int, str]:
    """A device's index, flags and name. Raises NetlinkError."""
    request = _LINK.pack(0, 0, index, 0, 0) + (_name_attribute(name) if name else b"")
    for message in route.request(nl.RTM_GETLINK, request):
        if message.type == nl.RTM_NEWLINK:
            _, _, found, flags, _ = _LINK.unpack_from(message.payload)
            names = dict(nl.parse_attributes(message.payload[_LINK.size :]))
            return found, flags, os.fsdecode(names.get(_IFLA_IFNAME, b"").rstrip(b"\0"))
    raise NetlinkError(errno.ENODEV)


def _find(host: RouteSocket, move: DeviceMove) -> tuple[int, bool]:
    """A device's index, and whether it is up."""
    with _explained(move, nl.RTM_GETLINK):
        index, flags, name = _link(host, move.name)
        if name != move.name:
            raise NetlinkError(errno.ENODEV, f"it is an alternative name of {name}")
        return index, bool(flags & _IFF_UP)


def _check_free(container: RouteSocket, move: DeviceMove) -> None:
    if _is_template(move.new_name):
        return
    with _explained(move, nl.RTM_NEWLINK, move.new_name):
        if _has(container, name=move.new_name):
            raise NetlinkError(errno.EEXIST, "the container's network namespace has a device of this name")


def _snapshot(host: RouteSocket, container: RouteSocket, move: DeviceMove, index: int, up: bool) -> MovedDevice:
    with _explained(move, nl.RTM_GETADDR):
        addresses = tuple(_addresses(host, index))
    with _explained(move, nl.RTM_GETROUTE):
        routes = tuple(_routes(host, index))
    with _explained(move, nl.RTM_GETLINK):
        # An index of our choosing says for sure which device came, whatever name it has got.
        used = {_LINK.unpack_from(one.payload)[2] for one in container.dump(nl.RTM_GETLINK, _LINK.pack(0, 0, 0, 0, 0))}
    container_index = index if index not in used else max(used) + 1
    return MovedDevice(move, index, up, addresses, routes, container_index)


def _addresses(route: RouteSocket, index: int) -> Iterator[Address]:
    for message in route.dump(nl.RTM_GETADDR, _ADDRESS.pack(0, 0, 0, 0, index)):
        family, prefix_length, flags, scope, owner = _ADDRESS.unpack_from(message.payload)
        if message.type == nl.RTM_NEWADDR and owner == index:
            attributes = nl.parse_attributes(message.payload[_ADDRESS.size :])
            for kind, value in attributes:
                if kind == _IFA_FLAGS:
                    (flags,) = _U32.unpack(value)
            yield Address(family, prefix_length, scope, flags, tuple(attributes))


def _routes(route: RouteSocket, index: int) -> list[bytes]:
    """Requests to make a device's routes again, but for those that come with addresses by themselves.

    Routes through a gateway come last, since they need one to the gateway.
    """
    output = _U32.pack(index)
    direct: list[bytes] = []
    indirect: list[bytes] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        request = _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + nl.attribute(_RTA_OIF, output)
        for message in route.dump(nl.RTM_GETROUTE, request):
            fields = list(_ROUTE.unpack_from(message.payload))
            attributes = nl.parse_attributes(message.payload[_ROUTE.size :])
            foreign = fields[0] != family or (_RTA_OIF, output) not in attributes or message.type != nl.RTM_NEWROUTE
            if foreign or fields[4] == _RT_TABLE_LOCAL or fields[5] == _RTPROT_KERNEL or fields[8] & _RTM_F_CLONED:
                continue
            fields[8] &= _RTNH_F_ONLINK
            kept = [item for item in attributes if item[0] != _RTA_CACHEINFO]
            group = indirect if any(kind in _RTA_GATEWAYS for kind, _ in kept) else direct
            group.append(_ROUTE.pack(*fields) + nl.attributes(kept))
    return direct + indirect


def _move(
    container: RouteSocket, host: RouteSocket, device: MovedDevice, netns_fd: int, moved: list[MovedDevice]
) -> None:
    """Move and rename. `moved` gets the device if it is in the container afterwards, also when renaming failed."""
    move = device.move
    try:
        with _explained(move, nl.RTM_NEWLINK):
            _send_away(host, device.index, netns_fd, move.new_name, device.container_index)
    except HostError:
        with _explained(move, nl.RTM_GETLINK):
            if _has(container, index=device.container_index):
                moved.append(device)
        raise
    moved.append(device)


def _send_away(route: RouteSocket, index: int, netns_fd: int, name: str, new_index: int) -> None:
    """The kernel moves the device under its old name where that is free, and renames it then."""
    route.request(
        nl.RTM_NEWLINK,
        _LINK.pack(0, 0, index, 0, 0)
        + nl.attribute(_IFLA_NET_NS_FD, _U32.pack(netns_fd))
        + _name_attribute(name)
        + (nl.attribute(_IFLA_NEW_IFINDEX, _U32.pack(new_index)) if new_index else b""),
    )


def _has(route: RouteSocket, name: str = "", index: int = 0) -> bool:
    try:
        _link(route, name, index)
    except NetlinkError as error:
        if error.errno == errno.ENODEV:
            return False
        raise
    return True


def _settle(container: RouteSocket, device: MovedDevice) -> MovedDevice:
    """Give the device its addresses again, and set it up."""
    move = device.move
    with _explained(move, nl.RTM_GETLINK):
        _, _, name = _link(container, index=device.container_index)
    with _explained(move, nl.RTM_NEWADDR):
        for address in device.addresses:
            if address.travels:
                request = encode_address(address, device.container_index, move.name, name)
                container.request(nl.RTM_NEWADDR, request, nl.NLM_F_CREATE | nl.NLM_F_EXCL)
    with _explained(move, nl.RTM_NEWLINK):
        _set_up(container, device.container_index)
    return MovedDevice(
        move, device.index, device.up, device.addresses, device.routes, device.container_index, container_name=name
    )


def _set_up(route: RouteSocket, index: int) -> None:
    route.request(nl.RTM_NEWLINK, _LINK.pack(0, 0, index, _IFF_UP, _IFF_UP))


def encode_address(address: Address, index: int, old_name: str, new_name: str) -> bytes:
    """The request that gives a device the address."""
    flags = address.flags & _IFA_F_KEPT
    items: nl.Attributes = [item for item in address.attributes if item[0] in _IFA_KEPT]
    items.append((_IFA_FLAGS, _U32.pack(flags)))
    for kind, value in address.attributes:
        if kind == _IFA_LABEL:
            items.append((kind, _label(value, os.fsencode(old_name), os.fsencode(new_name))))
        elif kind == _IFA_CACHEINFO:
            preferred, valid, _, _ = _CACHE_INFO.unpack(value)
            if preferred != _FOREVER:
                items.append((kind, _CACHE_INFO.pack(preferred, valid, 0, 0)))
    header = _ADDRESS.pack(address.family, address.prefix_length, flags & 0xFF, address.scope, index)
    return header + nl.attributes(items)


def _label(label: bytes, old_name: bytes, new_name: bytes) -> bytes:
    """A label follows its device's name, as it does when the kernel renames a device, and is cut as there."""
    name, colon, suffix = label.rstrip(b"\0").partition(b":")
    if name != old_name:
        return label
    return new_name[: _MAX_NAME_BYTES - len(colon + suffix)] + colon + suffix + b"\0"


def _restore(moved: Sequence[MovedDevice], host: RouteSocket, container: RouteSocket, host_netns_fd: int) -> list[str]:
    """Bring devices back, the last one first; what could not be done."""
    problems = []
    for device in reversed(moved):
        name = device.move.name
        try:
            index = 0 if _has(host, index=device.index) else device.index
            _send_away(container, device.container_index, host_netns_fd, name, index)
            lost = _refurnish(device, host)
        except NetlinkError as error:
            problems.append(f"{name} cannot be restored: {error.explanation or errno_text(error.errno)}")
        else:
            if lost:
                problems.append(f"{name} has lost {lost} of its addresses and routes")
    return problems


def _refurnish(device: MovedDevice, host: RouteSocket) -> int:
    """Give a device on the host all that it had; how many addresses and routes it could not get. The kernel makes
    some of them by itself, so that they are there already."""
    name = device.move.name
    index, _, _ = _link(host, name)
    lost = 0
    for address in device.addresses:
        request = encode_address(address, index, name, name)
        lost += not _succeeds(host, nl.RTM_NEWADDR, request, nl.NLM_F_CREATE | nl.NLM_F_REPLACE)
    if device.up:
        _set_up(host, index)
    for route in device.routes:
        lost += not _succeeds(host, nl.RTM_NEWROUTE, route, nl.NLM_F_CREATE)
    return lost


def _succeeds(route: RouteSocket, kind: int, request: bytes, flags: int) -> bool:
    try:
        route.request(kind, request, flags)
    except NetlinkError as error:
        return error.errno == errno.EEXIST
    return True
