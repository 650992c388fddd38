"""The automaton of the conversation with ocirt-init: what may follow what."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt._native import lib
from ocirt.protocol import GO, MESSAGE_BYTES, Conversation, Message, ProtocolError

CLONED = Message(lib.MESSAGE_CLONED, value=42)
EXECUTE = Message(lib.MESSAGE_EXECUTE)
FAILED = Message(lib.MESSAGE_FAILED, op=3, error=2)


def sync(kind: int) -> Message:
    return Message(lib.MESSAGE_SYNC, value=kind)


def test_messages_have_the_layout_of_the_header() -> None:
    data = struct.pack("=IIiI480s", lib.MESSAGE_FAILED, 7, 13, 0, b"openat2 /dev\0rest")
    assert Message.decode(data) == Message(lib.MESSAGE_FAILED, 7, 13, 0, "openat2 /dev")
    assert len(GO) == MESSAGE_BYTES == len(data)


@pytest.mark.parametrize("data", [b"", b"x", bytes(MESSAGE_BYTES - 1), bytes(MESSAGE_BYTES + 1)])
def test_a_message_of_another_size_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Message.decode(data)


def test_nothing_is_held_of_an_init_that_is_alone() -> None:
    conversation = Conversation(cloned=True)
    assert conversation.receive(sync(lib.SYNC_READY)) == [sync(lib.SYNC_READY)]
    with pytest.raises(ProtocolError, match="cloned twice"):
        conversation.receive(CLONED)


def test_what_comes_before_cloned_is_held_until_then() -> None:
    conversation = Conversation()
    assert conversation.receive(sync(lib.SYNC_MAPS)) == []
    assert conversation.receive(CLONED) == [CLONED, sync(lib.SYNC_MAPS)]


def test_a_failure_of_the_host_section_needs_no_clone() -> None:
    assert Conversation().receive(FAILED) == [FAILED]


def test_ready_is_the_last_word() -> None:
    conversation = Conversation()
    conversation.receive(CLONED)
    conversation.receive(sync(lib.SYNC_READY))
    assert conversation.ready
    for message in (sync(lib.SYNC_MAPS), EXECUTE, FAILED):
        with pytest.raises(ProtocolError):
            conversation.receive(message)


@pytest.mark.parametrize(
    "messages",
    [
        [CLONED, CLONED],
        [CLONED, sync(lib.SYNC_MAPS), sync(lib.SYNC_MAPS)],
        [CLONED, sync(lib.SYNC_CONSOLE), sync(lib.SYNC_MAPS)],
        [sync(lib.SYNC_CONSOLE), sync(lib.SYNC_MAPS), CLONED],
        [CLONED, sync(lib.SYNC_READY + 1)],
        [CLONED, sync(0)],
        [CLONED, Message(lib.MESSAGE_GO)],
    ],
)
def test_what_is_out_of_order_is_refused(messages: list[Message]) -> None:
    conversation = Conversation()
    with pytest.raises(ProtocolError):
        [conversation.receive(message) for message in messages]


@given(st.sets(st.integers(lib.SYNC_MAPS, lib.SYNC_SECCOMP_FD)), st.integers(0, 7))
def test_every_ascending_sequence_of_syncs_is_given_in_order(kinds: set[int], late: int) -> None:
    syncs = [sync(kind) for kind in sorted(kinds)]
    sent = [*syncs[:late], CLONED, *syncs[late:]]
    conversation = Conversation()
    given_out = [due for message in sent for due in conversation.receive(message)]
    assert given_out == [CLONED, *syncs]
