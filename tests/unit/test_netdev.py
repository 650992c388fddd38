"""ocirt.netdev and ocirt.rtnetlink without a kernel: the codec, the names, and answers that come as they should not."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt import netdev
from ocirt import rtnetlink as nl
from ocirt.errors import SpecError
from ocirt.netdev import Address, compile_netdevs, encode_address
from ocirt.rtnetlink import NetlinkError, RouteSocket
from ocirt.spec import NetDevice

items = st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40)), max_size=8)


@given(items)
def test_attributes_come_back_as_they_were(attributes: list[tuple[int, bytes]]) -> None:
    data = nl.attributes(attributes)
    assert len(data) % 4 == 0
    assert nl.parse_attributes(data) == attributes


@given(st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 65535), st.binary(max_size=40)), max_size=5))
def test_messages_come_back_as_they_were(messages: list[tuple[int, int, bytes]]) -> None:
    data = b""
    for kind, flags, payload in messages:
        data += nl.encode_message(kind, flags, 7, payload)
        data += bytes(-len(data) % 4)
    parsed = nl.parse_messages(data)
    assert [(one.type, one.flags, one.payload) for one in parsed] == messages
    assert all(one.sequence == 7 for one in parsed)


@given(st.binary(max_size=80))
def test_garbage_is_a_value_error_or_parsed_within_bounds(data: bytes) -> None:
    for parse in (nl.parse_attributes, nl.parse_messages):
        try:
            parsed = parse(data)
        except ValueError:
            continue
        assert sum(len(nl.attribute(0, b"")) for _ in parsed) <= len(data) + 3


def acknowledgement(number: int, text: bytes = b"", *, capped: bool = True) -> bytes:
    request = nl.encode_message(nl.RTM_NEWLINK, 0, 1, b"" if capped else b"abcde")
    payload = struct.pack("=i", number) + request + bytes(-len(request) % 4)
    flags = 0x100 if capped else 0
    if text:
        payload += nl.attribute(1, text + b"\0")
        flags |= 0x200
    return nl.encode_message(nl.NLMSG_ERROR, flags, 1, payload)


@pytest.mark.parametrize("capped", [True, False])
def test_the_kernels_explanation_is_read(capped: bool) -> None:
    (message,) = nl.parse_messages(acknowledgement(-errno.EINVAL, b"netns is immutable", capped=capped))
    error = nl.parse_error(message)
    assert error is not None
    assert (error.errno, error.explanation) == (errno.EINVAL, "netns is immutable")


def test_an_acknowledgement_of_success_is_no_error() -> None:
    (message,) = nl.parse_messages(acknowledgement(0, b"a warning"))
    assert nl.parse_error(message) is None
    with pytest.raises(ValueError, match="cut short"):
        nl.parse_error(nl.Message(nl.NLMSG_ERROR, 0, 1, b""))


class Kernel:
    """In a socket's place: answers each request with the next of its datagrams, made for the request's number."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.sequence = 0
        self.requests = 0

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def setsockopt(self, *_: int) -> None:
        pass

    def sendto(self, data: bytes, _: object) -> None:
        (message,) = nl.parse_messages(data)
        self.sequence = message.sequence
        self.requests += 1

    def recvmsg(self, size: int) -> tuple[bytes, list[Any], int, tuple[int, int]]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        data, flags, sender = answer if isinstance(answer, tuple) else (answer, 0, 0)
        assert len(data) <= size
        return data(self.sequence) if callable(data) else data, [], flags, (sender, 0)


def route(kernel: Kernel) -> RouteSocket:
    return RouteSocket(kernel)  # type: ignore[arg-type]


def answer(kind: int, payload: bytes = b"", flags: int = 0, offset: int = 0) -> Any:
    return Late(kind, payload, flags, offset)


class Late:
    """A message whose number is that of the request."""

    def __init__(self, kind: int, payload: bytes, flags: int, offset: int) -> None:
        self.kind, self.payload, self.flags, self.offset = kind, payload, flags, offset

    def __call__(self, sequence: int) -> bytes:
        return nl.encode_message(self.kind, self.flags, sequence + self.offset, self.payload)

    def __len__(self) -> int:
        return 16 + len(self.payload)


ACK = answer(nl.NLMSG_ERROR, bytes(20))
DONE = answer(nl.NLMSG_DONE, bytes(4))


def test_a_request_returns_what_came_before_the_acknowledgement() -> None:
    kernel = Kernel(answer(nl.RTM_NEWLINK, b"abcd"), ACK)
    assert [one.payload for one in route(kernel).request(nl.RTM_GETLINK, b"")] == [b"abcd"]


def test_answers_to_other_requests_and_from_processes_are_passed_over() -> None:
    kernel = Kernel(
        answer(nl.NLMSG_ERROR, struct.pack("=i", -errno.EPERM) + bytes(16), offset=-1),
        (answer(nl.NLMSG_ERROR, struct.pack("=i", -errno.EPERM) + bytes(16)), 0, 4711),
        ACK,
    )
    assert route(kernel).request(nl.RTM_NEWLINK, b"") == []


def test_a_truncated_answer_is_an_error() -> None:
    kernel = Kernel((answer(nl.RTM_NEWLINK), socket.MSG_TRUNC, 0))
    with pytest.raises(NetlinkError) as caught:
        route(kernel).request(nl.RTM_GETLINK, b"")
    assert caught.value.errno == errno.EMSGSIZE


def test_no_answer_is_an_error() -> None:
    with pytest.raises(NetlinkError) as caught:
        route(Kernel(TimeoutError())).request(nl.RTM_GETLINK, b"")
    assert caught.value.errno == errno.ETIMEDOUT


def test_a_dump_that_was_interrupted_is_repeated() -> None:
    kernel = Kernel(answer(nl.RTM_NEWADDR, b"old.", nl.NLM_F_DUMP_INTR), DONE, answer(nl.RTM_NEWADDR, b"new."), DONE)
    assert [one.payload for one in route(kernel).dump(nl.RTM_GETADDR, b"")] == [b"new."]
    assert kernel.requests == 2


def test_a_dump_interrupted_at_its_end_is_repeated() -> None:
    kernel = Kernel(answer(nl.NLMSG_DONE, bytes(4), nl.NLM_F_DUMP_INTR), DONE)
    assert route(kernel).dump(nl.RTM_GETADDR, b"") == []
    assert kernel.requests == 2


def test_a_dump_whose_answers_were_lost_is_repeated() -> None:
    lost = OSError(errno.ENOBUFS, "no buffer space")
    kernel = Kernel(answer(nl.RTM_NEWADDR), lost, answer(nl.RTM_NEWADDR, b"rest", offset=-1), DONE)
    assert route(kernel).dump(nl.RTM_GETADDR, b"") == []


def test_a_dump_is_not_repeated_for_ever() -> None:
    kernel = Kernel(*[answer(nl.NLMSG_DONE, bytes(4), nl.NLM_F_DUMP_INTR)] * 100)
    with pytest.raises(NetlinkError) as caught:
        route(kernel).dump(nl.RTM_GETADDR, b"")
    assert caught.value.errno == errno.EAGAIN
    assert kernel.requests == 10


def test_a_dump_that_fails_in_the_middle_is_an_error() -> None:
    failed = struct.pack("=i", -errno.ENODEV) + nl.attribute(1, b"Invalid device\0")
    kernel = Kernel(answer(nl.RTM_NEWADDR), answer(nl.NLMSG_DONE, failed, 0x200))
    with pytest.raises(NetlinkError) as caught:
        route(kernel).dump(nl.RTM_GETADDR, b"")
    assert (caught.value.errno, caught.value.explanation) == (errno.ENODEV, "Invalid device")


# names


def test_moves_are_in_the_configs_order_with_the_host_name_as_default() -> None:
    moves = compile_netdevs({"b": NetDevice(), "a~b": NetDevice(name="new"), "c": NetDevice(name="x%d")})
    assert [(one.name, one.new_name, one.pointer) for one in moves] == [
        ("b", "b", "/linux/netDevices/b"),
        ("a~b", "new", "/linux/netDevices/a~0b"),
        ("c", "x%d", "/linux/netDevices/c"),
    ]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "a:b", "x" * 16, "a\n", "ü" * 8, "a\xa0", "eth%d", "%"])
def test_what_is_no_name_of_a_device(name: str) -> None:
    with pytest.raises(SpecError) as caught:
        compile_netdevs({name: NetDevice()})
    assert caught.value.pointer == f"/linux/netDevices/{name.replace('/', '~1')}"
    if name not in ("", "eth%d"):
        with pytest.raises(SpecError) as caught:
            compile_netdevs({"eth0": NetDevice(name=name)})
        assert caught.value.pointer == "/linux/netDevices/eth0/name"


@pytest.mark.parametrize("name", ["x" * 15, "a.b", "eth0@x", "ü" * 7, "-", "...", "\x01"])
def test_what_is_a_name_of_a_device(name: str) -> None:
    assert compile_netdevs({name: NetDevice()})[0].new_name == name


@pytest.mark.parametrize("template", ["%d", "eth%d", "a%db", "x" * 13 + "%d"])
def test_templates(template: str) -> None:
    assert compile_netdevs({"a": NetDevice(name=template), "b": NetDevice(name=template)})[1].new_name == template


@pytest.mark.parametrize("template", ["%d%d", "%s", "%", "%%d", "x" * 14 + "%d"])
def test_what_is_no_template(template: str) -> None:
    with pytest.raises(SpecError, match=r"is no name of a network device"):
        compile_netdevs({"a": NetDevice(name=template)})


def test_two_devices_of_one_name_are_an_error() -> None:
    with pytest.raises(SpecError, match=r'^/linux/netDevices/b: the name "x" is also given to a'):
        compile_netdevs({"a": NetDevice(name="x"), "b": NetDevice(name="x")})
    with pytest.raises(SpecError, match=r'^/linux/netDevices/b: the name "b" is also given to a'):
        compile_netdevs({"a": NetDevice(name="b"), "b": NetDevice()})
    assert len(compile_netdevs({"a": NetDevice(name="b"), "b": NetDevice(name="a")})) == 2


# addresses


@pytest.mark.parametrize(
    ("label", "expected"),
    [(b"eth0", b"new0"), (b"eth0:web", b"new0:web"), (b"other", b"other"), (b"eth01", b"eth01"), (b"eth0:", b"new0:")],
)
def test_labels_follow_the_name(label: bytes, expected: bytes) -> None:
    assert netdev._label(label + b"\0", b"eth0", b"new0").rstrip(b"\0") == expected


def test_a_label_that_gets_too_long_loses_of_the_name() -> None:
    assert netdev._label(b"eth0:monitoring\0", b"eth0", b"container") == b"cont:monitoring\0"


@given(
    flags=st.integers(0, 2**32 - 1),
    preferred=st.sampled_from([0, 10, 2**32 - 1]),
    attributes=st.lists(st.tuples(st.integers(1, 40), st.binary(min_size=4, max_size=16)), max_size=5),
)
def test_an_address_is_asked_for_with_what_a_user_can_set(
    flags: int, preferred: int, attributes: list[tuple[int, bytes]]
) -> None:
    attributes = [item for item in attributes if item[0] not in (6, 8)]
    lifetime = struct.pack("=IIII", preferred, 2**32 - 1, 5, 5)
    address = Address(socket.AF_INET6, 64, 0, flags, (*attributes, (6, lifetime)))
    request = encode_address(address, 7, "old", "new")
    family, prefix, header_flags, scope, index = struct.unpack_from("=BBBBI", request)
    assert (family, prefix, scope, index) == (socket.AF_INET6, 64, 0, 7)
    sent = nl.parse_attributes(request[8:])
    assert {kind for kind, _ in sent} <= {1, 2, 3, 4, 5, 6, 8, 9, 11}
    assert struct.unpack("=I", dict(sent)[8])[0] == flags & 0x712
    assert header_flags == flags & 0x12
    assert [item for item in sent if item[0] in (1, 2, 4, 5, 9, 11)] == [
        item for item in attributes if item[0] in (1, 2, 4, 5, 9, 11)
    ]
    expected = [] if preferred == 2**32 - 1 else [struct.pack("=IIII", preferred, 2**32 - 1, 0, 0)]
    assert [value for kind, value in sent if kind == 6] == expected


@pytest.mark.parametrize(("flags", "scope", "travels"), [(0x80, 0, True), (0, 0, False), (0x80, 253, False)])
def test_permanent_global_addresses_travel(flags: int, scope: int, travels: bool) -> None:
    assert Address(socket.AF_INET, 24, scope, flags, ()).travels is travels
