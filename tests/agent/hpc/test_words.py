from __future__ import annotations

import contextlib
import errno
import math

import pytest
from hypothesis import given, strategies as st

from omtools.agent import api
from omtools.agent.hpc import words
from omtools.errors import (
    KernelThread,
    MaskForbids,
    NodeDown,
    NoSuchProcess,
    NotYourProcess,
    OmError,
    UnknownNode,
)

NUMBERS = st.integers(1, words.MAX_NODE)


@given(st.lists(NUMBERS, unique=True, max_size=50))
def test_a_mask_is_read_as_it_is_written(nodes: list[int]) -> None:
    assert words.nodes_of_mask(words.mask_of_nodes(tuple(nodes)) + "\n") == tuple(sorted(nodes))


@given(st.lists(st.integers(1, 60), unique=True))
def test_a_mask_is_the_sum_of_powers_of_two(nodes: list[int]) -> None:
    assert words.mask_of_nodes(tuple(nodes)) == str(sum(2 ** (node - 1) for node in nodes))


@given(st.text())
def test_what_is_no_number_is_refused(text: str) -> None:
    found = -errno.EINVAL
    with contextlib.suppress(OSError):
        found = words.whole(text, 0, 65535)
    if text.strip() in map(str, range(65536)):
        assert found == int(text)
    else:
        assert found == -errno.EINVAL or text.strip().lstrip("0") in (str(found), "")


@pytest.mark.parametrize("text", ["", "\n", "x", "-1", "1.5", "0x", "0xg", "1 2", "٣", "9" * 5000, "0x" + "f" * 17000])
def test_nonsense_is_einval(text: str) -> None:
    for read in (words.whole, words.flag, words.target, words.nodes_of_mask):
        with pytest.raises(OSError, match="Invalid argument") as caught:
            read(text)
        assert caught.value.errno == errno.EINVAL


def test_masks_have_limits() -> None:
    assert words.nodes_of_mask(hex(1 << (words.MAX_NODE - 1))) == (words.MAX_NODE,)
    for mask in (1 << words.MAX_NODE, (1 << 5000) - 1):
        with pytest.raises(OSError, match="Invalid"):
            words.nodes_of_mask(hex(mask))
    assert math.log10(2) * 12_000 < 4000, "what is written in decimal can be read again"


def test_overheads_are_read_as_they_are_written() -> None:
    assert words.overheads_of(api.Tuned(0.0201, 148e-6, 398e6)) == "20.1 148 398"
    assert words.overheads("20.1 148 398\n") == api.Tune(fixed_s=0.0201, call_s=148e-6, bytes_per_s=398e6)
    for text in ("", "1 2", "1 2 3 4", "a b c", "nan 1 1", "-1 1 1", "1 1 0", "1e9 1 1"):
        with pytest.raises(OSError, match="Invalid"):
            words.overheads(text)


def test_targets() -> None:
    assert [words.target(text) for text in ("2\n", "0\n", "home\n", "balance")] == ["2", "home", "home", "balance"]


def test_news_of_a_node_that_is_not_up_do_not_say_that_it_is() -> None:
    assert words.status_of(api.NodeView(2, "b", "127.0.0.2", "up", status=3)) == 3
    assert words.status_of(api.NodeView(2, "b", "127.0.0.2", "down", status=19)) == 17
    assert words.status_of(api.NodeView(2, "b", "127.0.0.2")) == 1


@pytest.mark.parametrize(("error", "number"), [
    (NoSuchProcess(pid=1), errno.ESRCH),
    (NotYourProcess(pid=1, user="x", why="y"), errno.EPERM),
    (UnknownNode(node="9"), errno.EINVAL),
    (NodeDown(node="b", address="a", why="w"), errno.EHOSTDOWN),
    (MaskForbids(pid=1, node="b"), errno.EPERM),
    (KernelThread(pid=2), errno.EOPNOTSUPP),
    (OmError(detail="anything"), errno.EIO),
])  # fmt: skip
def test_a_refusal_has_an_errno(error: OmError, number: int) -> None:
    assert words.errno_of(error) == number


def test_the_map_is_written_in_its_own_syntax() -> None:
    nodes = api.NodeList(1, [api.MapRange(1, "10.0.0.1", 4)], [api.NodeName(4, "d", "10.0.0.4", ["192.168.0.4"])])
    assert words.map_of(nodes) == "1\t10.0.0.1\t4\n4\t192.168.0.4\tALIAS"
