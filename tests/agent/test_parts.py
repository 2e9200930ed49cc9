"""Answers longer than a line: in parts, and whole again."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings as effort, strategies as st

from omtools.agent import api, parts
from omtools.agent.asking import open_unix
from omtools.agent.callers import Caller
from omtools.agent.client import Client
from omtools.agent.conversation import MAX_LONG, MAX_UNREAD, Conversation, Notify
from omtools.agent.parts import Joining, lines_of
from omtools.errors import BadRequest, OmError

from .test_conversation import FakeAgent, Wire


def info(number: int, reason: str = "") -> api.ProcessInfo:
    return api.ProcessInfo(number, number, 1000, "deputy", f"1-{number}", 1, 2, "away", reason=reason)


def long_list(count: int = 12_000) -> api.ProcessList:
    return api.ProcessList(1, [info(number) for number in range(1, count + 1)])


class LongAgent(FakeAgent):
    async def handle(self, request: api.Request, caller: Caller, notify: Notify) -> api.Result:
        return long_list() if isinstance(request, api.Processes) else await super().handle(request, caller, notify)


def whole(lines: list[bytes]) -> api.FromAgent:
    joining = Joining()
    taken = [joining.take(parts._decoder.decode(line)) for line in lines]
    assert all(one is None for one in taken[:-1])
    assert taken[-1] is not None
    return taken[-1]


@effort(deadline=None, max_examples=15)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), st.integers(0, 300_000))
def test_whatever_it_says_comes_through_and_no_line_is_too_long(text: str, length: int) -> None:
    reason = (text * (length // len(text) + 1))[:length]
    answer = api.Answer(7, api.ProcessList(1, [info(1, reason), info(2, reason), info(3, reason), info(4, "\0" * length)]))
    lines = list(lines_of(answer))
    assert all(len(line) <= api.MAX_LINE and line.endswith(b"\n") for line in lines)
    assert whole(lines) == answer


def test_short_answers_are_lines_as_ever() -> None:
    assert list(lines_of(api.Answer(1, api.Done()))) == [api.line_of(api.Answer(1, api.Done()))]


def test_parts_of_several_answers_may_come_mixed() -> None:
    joining, found = Joining(), []
    answers = [api.Answer(number, long_list(5000)) for number in (1, 2)]
    for pair in zip(*(lines_of(answer) for answer in answers), strict=True):
        found += [message for line in pair if (message := joining.take(parts._decoder.decode(line))) is not None]
    assert found == answers


@pytest.mark.parametrize(
    "text", ["", "{", '{"type":"done"}', api.line_of(api.Hello(1)).decode(), api.line_of(api.Answer(8, api.Done())).decode()]
)
def test_what_makes_no_answer(text: str) -> None:
    with pytest.raises(BadRequest):
        Joining().take(api.Part(7, text, last=True))


def test_nobody_can_fill_the_memory_with_parts() -> None:
    joining, piece = Joining(), "x" * (1 << 20)
    for number in range(parts.MAX_ANSWER >> 20):
        joining.take(api.Part(number, piece))
    with pytest.raises(BadRequest, match="characters"):
        joining.take(api.Part(0, piece))


def test_what_is_asked_of_an_agent_comes_in_no_parts() -> None:
    with pytest.raises(msgspec.ValidationError, match="part"):
        msgspec.json.decode(api.line_of(api.Part(1, "x")), type=api.ToAgent)


async def test_one_that_reads_slowly_gets_all_of_it() -> None:
    wire = Wire(LongAgent()).greet()
    wire.unread = MAX_UNREAD // 2
    wire.call(1, api.Processes())
    wire.call(2, api.Migrate(4, "2"))
    await wire.settle()
    assert [message.id for message in wire.sent if not isinstance(message, api.Hello)] == [2]
    wire.unread = 0
    while not (wire.sent and isinstance(wire.sent[-1], api.Part) and wire.sent[-1].last):
        await asyncio.sleep(0.01)
    joining = Joining()
    taken = [joining.take(message) for message in wire.sent]
    assert taken[-1] == api.Answer(1, long_list())
    assert not wire.closed


async def test_one_that_reads_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omtools.agent.conversation._STALLED", 0.1)
    wire = Wire(LongAgent()).greet()
    wire.unread = MAX_UNREAD // 2
    for number in range(MAX_LONG + 2):
        wire.call(number, api.Processes())
    while not wire.closed:
        await asyncio.sleep(0.01)
    assert wire.failures() == [(number, "BadRequest") for number in (MAX_LONG, MAX_LONG + 1)]
    wire.talk.lost()


class _Server(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._talk = Conversation(
            LongAgent(), Caller("user", 0), transport.write, transport.close, transport.get_write_buffer_size
        )

    def data_received(self, data: bytes) -> None:
        self._talk.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._talk.lost()


async def test_both_ways_of_asking_get_long_answers(tmp_path: Path) -> None:
    server = await asyncio.get_running_loop().create_unix_server(_Server, tmp_path / "s")
    asking = await open_unix(tmp_path / "s", "test")
    assert await asking.call(api.Processes(), api.ProcessList) == long_list()
    await asking.close()

    def ask() -> api.ProcessList:
        with Client(tmp_path / "s") as client:
            return client.call(api.Processes(), api.ProcessList)

    assert await asyncio.to_thread(ask) == long_list()
    server.close()
    await server.wait_closed()


def test_a_line_without_end_is_not_read_for_ever(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()

    def talk() -> None:
        connection, _address = listener.accept()
        with connection:
            try:
                while True:
                    connection.sendall(b"x" * 65536)
            except OSError:
                pass

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        with pytest.raises(OmError, match="bytes"):
            Client(tmp_path / "s")
    finally:
        thread.join()
        listener.close()
