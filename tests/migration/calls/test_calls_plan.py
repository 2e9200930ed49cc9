"""Playbooks: for each shape, what travels, where it comes back to, and what of it is written."""

from __future__ import annotations

import struct
from errno import EFAULT, EINVAL, ENAMETOOLONG, ERANGE

import pytest

from migration.calls.calls_fakes import ARENA, HERE, Pages, forwarded, planned
from omtools.migration.calls.model import Answer, ComeHome, Forward, Out, OutRule, Timeout
from omtools.migration.calls.plan import collect, land, out_length, with_timeout

BASE = ARENA.base
RET, FULL, ALWAYS, POSITIVE = OutRule.RET, OutRule.FULL, OutRule.ALWAYS, OutRule.POSITIVE


def words(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}q", *numbers)


def test_read_reserves_and_lands_what_came() -> None:
    it = forwarded("read", 3, HERE, 100)
    assert it == Forward(
        0, (3, BASE, 100, 0, 0, 0), b"", 100, (Out(0, 100, RET),), (((HERE, 100),),), may_block=True
    )
    assert land(it, 5, b"hello") == [(HERE, b"hello")]
    assert land(it, 0, b"") == []
    assert land(it, -11, b"") == []
    assert land(it, 2**64 - 11, b"") == []


def test_a_huge_read_says_its_true_length() -> None:
    assert forwarded("read", 3, HERE, 1 << 30).arena_length == 1 << 30
    assert forwarded("read", 3, HERE, 1 << 40).arena_length == 0x7FFFF000
    assert forwarded("read", 3, HERE, 1 << 63).arena_length == 0


def test_write_sends_its_bytes() -> None:
    memory = Pages(buffer=b"hello")
    it = forwarded("write", 1, HERE, 5, memory=memory)
    assert (it.args, it.arena, it.arena_length, it.outs) == ((1, BASE, 5, 0, 0, 0), b"hello", 5, ())
    assert forwarded("write", 1, 0, 5).args[1] == 0
    assert forwarded("write", 1, 12345, 0).arena == b""
    assert planned("write", 1, HERE, 6, memory=memory) == Answer(-EFAULT)


def test_ints_travel_as_they_are() -> None:
    garbage = 0xDEAD_BEEF_0000_0003
    assert forwarded("lseek", garbage, 2**64 - 1, 5).args == (garbage, 2**64 - 1, 5, 0, 0, 0)


def test_paths() -> None:
    memory = Pages(name=b"/tmp/x\0", long=b"x" * 4096, longest=b"y" * 4095 + b"\0")
    first, long, longest = memory.pieces
    it = forwarded("rename", first, longest, memory=memory)
    assert it.arena == b"/tmp/x\0".ljust(16, b"\0") + b"y" * 4095 + b"\0"
    assert it.args[:2] == (BASE, BASE + 16)
    assert planned("stat", long, HERE, memory=memory) == Answer(-ENAMETOOLONG)
    assert planned("stat", 5, HERE, memory=memory) == Answer(-EFAULT)
    assert forwarded("unlink", 0).args[0] == 0
    name = Pages(path=b"f\0", attribute=b"user." + b"x" * 300)
    path, attribute = name.pieces
    assert planned("removexattr", path, attribute, memory=name) == Answer(-ERANGE)


def test_pieces_are_aligned_and_room_is_not_sent() -> None:
    memory = Pages(path=b"abc\0")
    it = forwarded("stat", HERE, HERE + 100, memory=memory)
    assert it.arena == b"abc\0"
    assert it.arena_length == 16 + 144
    assert it.outs == (Out(16, 144, FULL),)
    assert it.args[:2] == (BASE, BASE + 16)
    assert not it.may_block


def test_pointers_into_the_kernel_are_left_to_the_kernel() -> None:
    kernel = 0xFFFF_8000_0000_0000
    it = forwarded("fstat", 1, kernel)
    assert (it.args[1], it.outs) == (kernel, ())


def test_readv_fills_segments_in_turn() -> None:
    memory = Pages(vector=words(HERE + 0x10000, 3, 0, 0, HERE + 0x20000, 10))
    it = forwarded("readv", 3, HERE, 3, memory=memory)
    assert it.arena == words(BASE + 48, 3, BASE + 51, 0, BASE + 51, 10)
    assert it.outs == (Out(48, 13, RET),)
    assert land(it, 5, b"abcde") == [(HERE + 0x10000, b"abc"), (HERE + 0x20000, b"de")]
    assert land(it, 2, b"ab") == [(HERE + 0x10000, b"ab")]
    assert planned("readv", 3, HERE, 1025, memory=memory) == Answer(-EINVAL)
    assert planned("readv", 3, HERE, 4, memory=memory) == Answer(-EFAULT)
    assert forwarded("readv", 3, HERE, 0, memory=memory).arena_length == 0


def test_writev_gathers_and_leaves_a_bad_segment_to_the_kernel() -> None:
    memory = Pages(vector=words(HERE + 8192, 3, 4096, 7, HERE + 8192, 2), data=b"abcdef")
    assert forwarded("writev", 3, HERE, 1, memory=memory).arena == b"abc".ljust(16, b"\0") + words(BASE, 3)
    it = forwarded("writev", 3, HERE, 3, memory=memory)
    assert it.arena == b"abc".ljust(16, b"\0") + words(BASE, 3, 0, 7, 0, 2)
    memory = Pages(vector=words(HERE, -1))
    assert planned("writev", 3, HERE, 1, memory=memory) == Answer(-EINVAL)


def test_iovecs_are_cut_to_what_the_kernel_takes() -> None:
    memory = Pages(vector=words(HERE, 0x7FFFF000 - 5, HERE, 100, HERE, 100))
    it = forwarded("readv", 3, HERE, 3, memory=memory)
    assert it.outs[0].length == 0x7FFFF000
    assert struct.unpack("<6q", it.arena)[1::2] == (0x7FFFF000 - 5, 5, 0)


def test_value_result_lengths() -> None:
    memory = Pages(size=struct.pack("<i", 110))
    it = forwarded("accept", 3, HERE + 0x5000, HERE, memory=memory)
    assert it.arena == struct.pack("<i", 110)
    assert it.outs == (Out(0, 4, FULL), Out(16, 110, FULL))
    reply = struct.pack("<i", 16) + bytes(range(110))
    assert land(it, 4, reply) == [(HERE, struct.pack("<i", 16)), (HERE + 0x5000, bytes(range(16)))]
    # longer than there is room: the kernel says how long it would be, and fills the room
    longer = struct.pack("<i", 128) + bytes(110)
    assert land(it, 4, longer)[1] == (HERE + 0x5000, bytes(110))
    assert land(it, 4, bytes(114)) == [(HERE, bytes(4))]
    assert land(it, -11, b"") == []
    nothing = forwarded("accept", 3, 0, 999)
    assert (nothing.args[1:3], nothing.outs) == ((0, 0), ())


def test_value_result_room_is_capped() -> None:
    memory = Pages(size=struct.pack("<i", 1 << 30))
    assert forwarded("getsockname", 3, HERE + 0x5000, HERE, memory=memory).arena == struct.pack("<i", 128)
    memory = Pages(size=struct.pack("<i", -1))
    it = forwarded("getsockname", 3, HERE + 0x5000, HERE, memory=memory)
    assert it.arena == struct.pack("<i", -1)
    assert it.outs == (Out(0, 4, FULL),)


def test_recvmsg_never_lands_a_pointer() -> None:
    header = struct.pack("<QiiQQQQii", HERE + 0x9000, 110, 0, HERE + 8192, 1, HERE + 0xA000, 64, 0, 0)
    memory = Pages(header=header, vector=words(HERE + 0xB000, 50))
    it = forwarded("recvmsg", 3, HERE, 0, memory=memory)
    answer = struct.pack("<QiiQQQQii", 1, 16, 0, 2, 1, 3, 20, 0x20, 0)
    data = answer + b"payload" + b"n" * 110 + b"c" * 64
    assert out_length(it.outs, 7) == len(data)
    assert land(it, 7, data) == [
        (HERE + 8, struct.pack("<i", 16)),
        (HERE + 40, struct.pack("<q", 20)),
        (HERE + 48, struct.pack("<i", 0x20)),
        (HERE + 0xB000, b"payload"),
        (HERE + 0x9000, b"n" * 16),
        (HERE + 0xA000, b"c" * 20),
    ]


def test_sendmsg_sends_all_it_points_to() -> None:
    memory = Pages(
        header=struct.pack("<QiiQQQQii", HERE + 0x2000, 4, 0, HERE + 0x4000, 1, HERE + 0x6000, 16, 0, 0),
        name=b"name",
        vector=words(HERE + 0x8000, 4),
        control=b"c" * 16,
        data=b"data",
    )
    it = forwarded("sendmsg", 3, HERE, 0, memory=memory)
    fields = struct.unpack("<QiiQQQQii", it.arena[it.args[1] - BASE :])
    assert it.arena[fields[0] - BASE :][:4] == b"name"
    assert it.arena[fields[5] - BASE :][:16] == b"c" * 16
    address, length = struct.unpack_from("<QQ", it.arena, fields[3] - BASE)
    assert it.arena[address - BASE :][:length] == b"data"
    assert it.outs == ()


def test_recvmmsg_asks_for_what_fits() -> None:
    """All room of received messages travels back, so the room is limited; one message always fits."""
    header = struct.pack("<QiiQQQQiiii", 0, 0, 0, HERE + 8192, 1, 0, 0, 0, 0, 0, 0)
    for size, asked in ((1000, 64), (65536, 1), (1 << 20, 1)):
        memory = Pages(headers=header * 64, vector=words(HERE + 0x100000, size))
        it = forwarded("recvmmsg", 3, HERE, 64, 0, 0, memory=memory)
        assert it.args[2] == asked
        assert out_length(it.outs, 0) == asked * size


def test_epoll_counts_events() -> None:
    it = forwarded("epoll_wait", 3, HERE, 1000, -1)
    assert it.timeout is None
    assert out_length(it.outs, 2) == 24
    assert land(it, 2, b"x" * 24) == [(HERE, b"x" * 24)]
    assert forwarded("epoll_wait", 3, HERE, 1_000_000, 0).args[2] == 4096


def test_select_looks_only_as_far_as_memory_goes() -> None:
    """select(65536, …) with a set of 128 bytes at the end of the stack works, as the kernel has it."""
    memory = Pages(sets=bytes(4096))
    last = HERE + 4096 - 128
    it = forwarded("select", 65536, last, 0, 0, 0, memory=memory)
    assert it.args[0] == 1024
    assert it.outs == (Out(0, 128, FULL),)
    assert planned("select", 65536, 4096, 0, 0, 0, memory=memory) == Answer(-EFAULT)
    assert forwarded("select", -1, last, 0, 0, 0, memory=memory).outs == ()


def test_timeouts() -> None:
    assert forwarded("poll", 0, 0, 250).timeout == Timeout(2, -1, 1_000_000)
    assert forwarded("poll", 0, 0, 0xFFFF_FFFF).timeout is None
    memory = Pages(wait=words(3, 500))
    it = forwarded("select", 0, 0, 0, 0, HERE, memory=memory)
    assert it.timeout == Timeout(4, 0, 1000)
    assert it.outs == (Out(0, 16, ALWAYS),)
    assert land(it, -4, words(1, 2)) == [(HERE, words(1, 2))]
    assert forwarded("ppoll", 0, 0, HERE, 0, 8, memory=memory).timeout == Timeout(2, 0, 1)
    assert forwarded("epoll_pwait2", 3, HERE, 4, HERE, 0, 8, memory=memory).timeout == Timeout(3, 0, 1)
    assert forwarded("recvmmsg", 3, 0, 0, 0, HERE, memory=memory).outs == (Out(0, 16, POSITIVE),)


def test_going_on_with_what_is_left() -> None:
    poll = forwarded("poll", 0, 0, 250)
    assert with_timeout(poll, 1_000_001).args[2] == 2
    assert with_timeout(poll, -5).args[2] == 0
    assert with_timeout(poll, 1 << 80).args[2] == 0x7FFFFFFF
    memory = Pages(wait=words(3, 500), mask=words(7))
    ppoll = forwarded("ppoll", 0, 0, HERE, HERE + 8192, 8, memory=memory)
    shorter = with_timeout(ppoll, 1_500_000_000)
    assert shorter.arena == words(1, 500_000_000, 7)
    assert ppoll.arena == words(3, 500, 7), "the first one is as it was"
    assert (shorter.outs, shorter.landing, shorter.args) == (ppoll.outs, ppoll.landing, ppoll.args)
    select = forwarded("select", 0, 0, 0, 0, HERE, memory=memory)
    assert with_timeout(select, 2_000_000_001).arena == words(2, 1)
    assert with_timeout(select, 999_999_999).arena == words(1, 0)
    read = forwarded("read", 3, HERE, 1)
    assert with_timeout(read, 5) is read


def test_wait4_writes_only_with_a_child() -> None:
    it = forwarded("wait4", -1, HERE, 1, HERE + 100)
    assert out_length(it.outs, 0) == out_length(it.outs, -10) == 0
    assert land(it, 4711, b"s" * 4 + b"u" * 144) == [(HERE, b"s" * 4), (HERE + 100, b"u" * 144)]


def test_msgrcv_counts_the_text_alone() -> None:
    it = forwarded("msgrcv", 1, HERE, 100, 0, 0)
    assert land(it, 3, words(9) + b"abc") == [(HERE, words(9)), (HERE + 8, b"abc")]


def test_getgroups_counts_groups() -> None:
    it = forwarded("getgroups", 10, HERE)
    assert (out_length(it.outs, 2), out_length(it.outs, 11)) == (8, 40)


def test_pselect_has_its_mask_inside_a_struct() -> None:
    memory = Pages(pack=words(HERE + 8192, 8), mask=words(0x55))
    it = forwarded("pselect6", 0, 0, 0, 0, 0, HERE, memory=memory)
    where, size = struct.unpack_from("<QQ", it.arena, it.args[5] - BASE)
    assert size == 8
    assert it.arena[where - BASE :][:8] == words(0x55)
    assert planned("pselect6", 0, 0, 0, 0, 0, HERE, memory=Pages(pack=words(8, 8))) == Answer(-EFAULT)


def test_mq_notify_starts_no_threads_away() -> None:
    for notify, kind in ((0, Forward), (1, Forward), (2, ComeHome)):
        memory = Pages(event=struct.pack("<Qii", HERE, 10, notify).ljust(64, b"\0"))
        assert type(planned("mq_notify", 3, HERE, memory=memory)) is kind


def test_a_socket_option_with_less_room_than_it_says() -> None:
    memory = Pages(size=struct.pack("<i", 4000), value=b"abcd")
    it = forwarded("getsockopt", 3, 1, 3, HERE + 8192, HERE, memory=memory)
    assert it.outs == (Out(0, 4, ALWAYS), Out(16, 4000, FULL))
    assert land(it, 0, struct.pack("<i", 4) + b"1234" + bytes(3996))[1] == (HERE + 8192, b"1234")


def test_a_filter_travels_behind_its_option() -> None:
    memory = Pages(program=struct.pack("<HxxxxxxQ", 2, HERE + 8192), code=b"0123456789abcdef")
    it = forwarded("setsockopt", 3, 1, 26, HERE, 16, memory=memory)
    count, where = struct.unpack_from("<HxxxxxxQ", it.arena, it.args[3] - BASE)
    assert count == 2
    assert it.arena[where - BASE :][:16] == b"0123456789abcdef"


def test_semop_and_the_kernels_own_limits() -> None:
    assert planned("msgsnd", 1, HERE, 1 << 40, 0) == Answer(-EINVAL)
    assert planned("poll", HERE, 1 << 21, 0) == Answer(-EINVAL)
    memory = Pages(operations=b"o" * 12)
    assert forwarded("semop", 1, HERE, 2, memory=memory).arena == b"o" * 12


def test_collect_is_the_deputys_half() -> None:
    arena = bytes(range(200))
    outs = (Out(0, 4, FULL), Out(16, 10, RET), Out(32, 2, ALWAYS), Out(48, 2, POSITIVE))
    read = lambda offset, length: arena[offset : offset + length]  # noqa: E731
    assert collect(outs, 3, read) == arena[:4] + arena[16:19] + arena[32:34] + arena[48:50]
    assert collect(outs, 0, read) == arena[:4] + arena[32:34]
    assert collect(outs, -4, read) == collect(outs, 2**64 - 4, read) == arena[32:34]
    assert collect((), 3, read) == b""


def test_a_reply_of_the_wrong_length_is_refused() -> None:
    it = forwarded("read", 3, HERE, 100)
    with pytest.raises(ValueError, match="read"):
        land(it, 5, b"toolong")
    with pytest.raises(ValueError, match="read"):
        land(it, 5, b"abc")
