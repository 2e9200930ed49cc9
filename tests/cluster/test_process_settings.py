from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, strategies as st

from omtools.cluster.constraints import Hint
from omtools.cluster.decay import Decay
from omtools.cluster.process_settings import DEFAULTS, NO_SETTINGS, NodeDecay, ProcessSettings

numbers = st.lists(st.integers(1, 300), unique=True, max_size=5).map(tuple)
settings = st.builds(
    ProcessSettings,
    st.none() | st.booleans(),
    st.none() | st.booleans(),
    st.none() | numbers,
    st.sampled_from([None, "deny", "allow"]),
    st.sampled_from([None, "none", "cpu", "io"]),
    st.sampled_from([None, "slow", "fast", "none", "own"]),
    st.none() | st.floats(0.5, 60),
    st.none() | st.integers(0, 1000),
)


@given(settings, settings)
def test_what_is_made_counts_and_the_rest_is_inherited(own: ProcessSettings, older: ProcessSettings) -> None:
    both = own.over(older)
    for name in own.__struct_fields__:
        mine = getattr(own, name)
        assert getattr(both, name) == (getattr(older, name) if mine is None else mine)


@given(settings, settings, settings)
def test_inheriting_in_steps_is_inheriting_at_once(a: ProcessSettings, b: ProcessSettings, c: ProcessSettings) -> None:
    assert a.over(b).over(c) == a.over(b.over(c))


@given(settings)
def test_over_the_wire_and_back(one: ProcessSettings) -> None:
    assert msgspec.json.decode(msgspec.json.encode(one), type=ProcessSettings) == one


@given(numbers, st.integers(1, 300))
def test_the_mask_is_the_originals(nodes: tuple[int, ...], number: int) -> None:
    allow = ProcessSettings(migfilter=True, mignodes=nodes, migpolicy="allow").mask
    deny = ProcessSettings(migfilter=True, mignodes=nodes, migpolicy="deny").mask
    assert allow.permits(number) is (number in nodes)
    assert deny.permits(number) is (number not in nodes)
    assert allow.nodes == sum(2 ** (one - 1) for one in nodes)  # "bit value 2^(PE-1)"
    assert ProcessSettings(migfilter=False, mignodes=nodes, migpolicy="allow").mask.permits(number)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (NO_SETTINGS, Decay(2.0, 900)),
        (ProcessSettings(decay="slow"), Decay(2.0, 900)),
        (ProcessSettings(decay="fast"), Decay(2.0, 500)),
        (ProcessSettings(decay="none"), Decay(2.0, 1000)),
        (ProcessSettings(decay="own", interval_s=5.0, keep=100), Decay(5.0, 100)),
        (ProcessSettings(decay="own", keep=100), Decay(2.0, 100)),
        (ProcessSettings(interval_s=5.0, keep=100), Decay(2.0, 900)),
    ],
)
def test_how_fast_is_forgotten(made: ProcessSettings, expected: Decay) -> None:
    assert made.forgetting(NodeDecay(2.0, 900, 500)) == expected


def test_defaults() -> None:
    assert DEFAULTS.forgetting(NodeDecay()) == Decay(1.0, 975)
    assert DEFAULTS.owners_hint is Hint.NONE
    assert ProcessSettings(hint="io").owners_hint is Hint.IO


@pytest.mark.parametrize(
    "line",
    ['{"type":"process_settings","mignodes":[0]}', '{"type":"process_settings","mignodes":[65536]}',
     '{"type":"process_settings","keep":1001}', '{"type":"process_settings","hint":"gpu"}',
     '{"type":"process_settings","interval_s":0}'],
)  # fmt: skip
def test_what_cannot_be_is_refused(line: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(line, type=ProcessSettings)
