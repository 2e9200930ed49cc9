"""omtools.omfs.telling: what a server is told by the way."""

from __future__ import annotations

import threading

from omtools.omfs.telling import Telling
from omtools.omfs.wire import HEADER, REQUESTS, UNANSWERED, Kind, unpack_header


def parsed(told: bytes) -> list[tuple[Kind, object]]:
    found, at = [], 0
    while at < len(told):
        kind, serial, length = unpack_header(told[at : at + HEADER.size])
        assert serial == UNANSWERED
        at += HEADER.size
        found.append((kind, REQUESTS[kind].unpack(memoryview(told)[at : at + length])))
        at += length
    return found


def test_it_goes_with_the_next_question_once() -> None:
    telling = Telling(lambda: None)
    telling.forget(1, [(7, 2)])
    telling.release(1, 9)
    telling.forget(1, [(8, 1)])
    assert parsed(telling.take(1)) == [(Kind.RELEASE, (9,)), (Kind.FORGET, [(7, 2), (8, 1)])]
    assert telling.take(1) == b""
    telling.close()


def test_what_was_of_an_older_session_is_gone_with_it() -> None:
    telling = Telling(lambda: None)
    telling.forget(1, [(7, 2)])
    telling.release(2, 4)
    telling.release(1, 5)
    assert telling.take(1) == b""
    assert parsed(telling.take(2)) == [(Kind.RELEASE, (4,))]
    telling.close()


def test_without_a_question_it_is_sent_all_the_same() -> None:
    sent: list[object] = []
    done = threading.Event()

    def deliver() -> None:
        sent.extend(parsed(telling.take(1)))
        done.set()

    telling = Telling(deliver)
    telling.forget(1, [(7, 2)])
    assert done.wait(30)
    assert sent == [(Kind.FORGET, [(7, 2)])]
    telling.close()


def test_much_is_sent_at_once() -> None:
    sizes: list[int] = []
    telling = Telling(lambda: sizes.append(len(parsed(telling.take(1)))))
    for file in range(2000):
        telling.release(1, file)
    assert sum(sizes) + len(parsed(telling.take(1))) == 2000
    assert len(sizes) >= 3
    telling.close()
