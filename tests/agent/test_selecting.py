"""omtools.agent.selecting: a family of made-up processes, and real ones."""

from __future__ import annotations

import os
import threading

from omtools.agent.selecting import Process, Selections, look, now


class Family:
    """1 has forked 2 at 10, 2 has forked 3 at 20 and 4 at 40."""

    def __init__(self) -> None:
        self.time = 0
        self.living = {1: Process(1, 0, 0), 2: Process(2, 1, 10), 3: Process(3, 2, 20), 4: Process(4, 2, 40)}
        self.selections = Selections(self.living.get, lambda: self.time)

    def select(self, time: int, pid: int, node: int | None) -> None:
        self.time = time
        self.selections.select(pid, node)

    @property
    def all(self) -> list[int | None]:
        return [self.selections.selected(pid) for pid in (1, 2, 3, 4)]


def test_nobody_has_selected_anything() -> None:
    assert Family().all == [None] * 4


def test_what_was_forked_later_has_the_same() -> None:
    family = Family()
    family.select(30, 2, 7)
    assert family.all == [None, 7, None, 7]
    family.select(50, 2, 8)  # the children have been forked
    assert family.all == [None, 8, None, 7]
    family.select(50, 3, 9)
    assert family.all == [None, 8, 9, 7]
    family.select(60, 2, None)
    assert family.all == [None, None, 9, 7]


def test_it_goes_over_generations_and_the_nearest_counts() -> None:
    family = Family()
    family.select(5, 1, 6)
    assert family.all == [6] * 4
    family.select(15, 2, None)
    assert family.all == [6, None, None, None]
    family.select(25, 1, 5)
    assert family.all == [5, None, None, None]


def test_a_pid_that_is_used_again_has_selected_nothing() -> None:
    family = Family()
    family.select(30, 2, 7)
    family.living[2] = Process(2, 1, 31)
    assert family.all == [None] * 4
    family.select(32, 2, 8)
    assert family.selections.selected(2) == 8
    family.select(32, 77, 8)  # there is none such
    assert family.selections.selected(77) is None


def test_those_who_have_ended_are_forgotten() -> None:
    family = Family()
    for pid in range(100, 1600):
        family.living[pid] = Process(pid, 1, 1)
        family.select(2, pid, 3)
        del family.living[pid]
    assert len(family.selections._made) <= 1024


def test_real_processes() -> None:
    own = look(os.getpid())
    assert own is not None
    assert own[:2] == (os.getpid(), os.getppid())
    assert own.begun <= now()
    seen: list[Process | None] = []
    thread = threading.Thread(target=lambda: seen.append(look(threading.get_native_id())))
    thread.start()
    thread.join()
    assert seen == [own]
    assert look(0) is None
