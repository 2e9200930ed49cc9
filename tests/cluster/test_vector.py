from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, strategies as st

from omtools.cluster.load import CONFIGURED, UP, Loads, Memory, normalised
from omtools.cluster.vector import (
    MAX_ENTRIES,
    MAX_MESSAGE,
    MB,
    Entry,
    Kind,
    Message,
    Suspicion,
    Untrue,
    UntrueError,
    Vector,
    decode,
    encode,
    fault,
    hundredths,
)


@st.composite
def vectors(draw: st.DrawFn) -> Vector:
    total = draw(st.integers(0, (1 << 32) - 1))
    upper = draw(st.integers(0, (1 << 32) - 1))
    return Vector(
        draw(st.integers(1, 65535)),
        draw(st.integers(0, (1 << 48) - 1)),
        draw(st.integers(0, (1 << 48) - 1)),
        draw(st.integers(0, upper)),
        draw(st.integers(0, upper)),
        upper,
        draw(st.integers(1, 10_000_000)),
        draw(st.integers(1, 65535)),
        total,
        draw(st.integers(0, total)),
        draw(st.integers(0, total)),
        draw(st.integers(0, 100)),
        draw(st.integers(0, 100)),
        draw(st.integers(0, 65535)),
        draw(st.integers(0, 65535)),
        draw(st.integers(0, 65535)),
        draw(st.integers(0, 255)),
    )


@given(st.lists(vectors(), max_size=MAX_ENTRIES), st.sampled_from(Kind))
def test_a_message_arrives_as_it_was_sent(sent: list[Vector], kind: Kind) -> None:
    entries = tuple(Entry(vector, at) for at, vector in enumerate(sent))
    message = Message(7, kind, entries, (Suspicion(3, 5),))
    assert decode(encode(message)) == message
    assert all(fault(vector) is None for vector in sent)


def test_a_whole_window_fits_a_datagram() -> None:
    """With figures as large as they get in practice: 500 nodes of 256 processors and 4 TB."""
    vector = Vector(
        65535, 1_790_000_000, 1 << 31, 123456, 123456, 123456, 30000, 256,
        4 << 20, 4 << 20, 4 << 20, 100, 100, 255, 300, 300,
    )  # fmt: skip
    message = Message(65535, Kind.NEWS, (Entry(vector, 9999),) * 19, (Suspicion(65535, 9999),) * 5)
    assert len(encode(message)) < 1472  # an Ethernet frame, less the headers of IPv4 and UDP


@given(st.floats(0, 1000), st.integers(1, 100_000), st.integers(1, 64))
def test_runnable_tasks_come_back_from_a_load(tasks: float, speed: int, cpus: int) -> None:
    load = normalised(tasks, speed, cpus)
    loads = Loads(load, load, load)
    vector = Vector(1, load_mean=hundredths(loads.mean), load_upper=hundredths(load), speed=speed, cpus=cpus)
    step = speed * cpus / 1e8  # tasks in a hundredth of a unit
    if load < (1 << 32) / 100:
        assert vector.runnable_mean == pytest.approx(tasks, abs=step)
        assert vector.runnable_upper == pytest.approx(tasks, abs=step)


def test_properties() -> None:
    vector = Vector(1, status=CONFIGURED | UP, total_mb=3, free_mb=1, available_mb=2)
    assert vector.up
    assert not Vector(1).up
    assert vector.memory == Memory(3 * MB, MB, 2 * MB)
    assert hundredths(-1) == 0
    assert hundredths(1e300) == (1 << 32) - 1


@pytest.mark.parametrize(("figures", "reason"), [
    ({"total_mb": 1, "free_mb": 2}, Untrue.MEMORY),
    ({"total_mb": 1, "available_mb": 2}, Untrue.MEMORY),
    ({"load_now": 1}, Untrue.UPPER),
    ({"load_mean": 1}, Untrue.UPPER),
])  # fmt: skip
def test_contradictions(figures: dict[str, int], reason: Untrue) -> None:
    assert fault(Vector(1, **figures)) is reason


@pytest.mark.parametrize("field", [
    ("number", 0), ("number", 65536), ("speed", 0), ("speed", 10_000_001), ("cpus", 0), ("util", 101),
    ("pressure", -1), ("load_now", -1), ("incarnation", 1 << 48), ("sequence", -1), ("total_mb", 1 << 32),
    ("status", 1 << 16), ("guests", -1), ("away", 65536),
])  # fmt: skip
def test_out_of_range_is_refused(field: tuple[str, int]) -> None:
    name, value = field
    lie = msgspec.structs.replace(Vector(1), **{name: value})
    with pytest.raises(UntrueError) as caught:
        decode(encode(Message(1, Kind.NEWS, (Entry(lie),))))
    assert caught.value.reason is Untrue.MALFORMED


@given(st.binary(max_size=300))
def test_noise_is_refused_or_a_message(data: bytes) -> None:
    try:
        message = decode(data)
    except UntrueError:
        pass
    else:
        assert 1 <= message.sender <= 65535


def test_too_long_is_refused() -> None:
    with pytest.raises(UntrueError, match="bytes"):
        decode(b"\x00" * (MAX_MESSAGE + 1))
    with pytest.raises(UntrueError):
        decode(encode(Message(1, Kind.NEWS, (Entry(Vector(1)),) * (MAX_ENTRIES + 1))))
