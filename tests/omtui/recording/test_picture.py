"""Pictures and what changes between them."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, strategies as st

from omtools.agent import api
from omtools.errors import BadRecording
from omtui.local import LocalProcess
from omtui.recording.picture import (
    Change,
    Picture,
    apply,
    by_key,
    copied,
    difference,
    happenings_between,
    packed,
    unpacked,
)

NODE = st.builds(
    api.NodeView,
    number=st.integers(1, 4),
    name=st.sampled_from(["mCii", "ñandú", ""]),
    address=st.just("10.0.0.1"),
    state=st.sampled_from(["up", "down", ""]),
    status=st.integers(0, 3),
    load=st.floats(0, 1000),
    mem_total=st.integers(0, 1 << 40),
)
INFO = st.builds(
    api.ProcessInfo,
    pid=st.integers(1, 5),
    local_pid=st.integers(1, 5),
    uid=st.just(0),
    role=st.sampled_from(["deputy", "guest"]),
    migration=st.just("1-5-a"),
    home=st.integers(1, 3),
    where=st.integers(1, 3),
    phase=st.sampled_from(["home", "away"]),
    calls_forwarded=st.integers(0, 9),
)
LOCAL = st.builds(
    LocalProcess,
    pid=st.integers(1, 5),
    ppid=st.integers(0, 5),
    uid=st.just(0),
    state=st.sampled_from("RST"),
    command=st.text(max_size=5),
)
PICTURE = st.builds(
    lambda own, nodes, lists, local: Picture(
        own,
        {node.number: node for node in nodes},
        {number: by_key(infos) for number, infos in lists.items()},
        {process.pid: process for process in local},
    ),
    st.integers(1, 4),
    st.lists(NODE, max_size=4),
    st.dictionaries(st.integers(1, 3), st.lists(INFO, max_size=4), max_size=3),
    st.lists(LOCAL, max_size=4),
)


@given(PICTURE, PICTURE)
def test_a_picture_and_a_change_make_the_next(before: Picture, after: Picture) -> None:
    untouched = copied(before)
    change = unpacked(packed(difference(before, after, [1])), "r")
    assert change.asked == [1]
    assert before == untouched
    made = copied(before)
    apply(made, change)
    assert made == after
    assert before == untouched


@given(PICTURE)
def test_where_nothing_changes_little_is_kept(picture: Picture) -> None:
    change = difference(picture, picture)
    assert change == Change(picture.own)
    whole = Picture()
    apply(whole, difference(Picture(), picture))
    assert whole == picture


@given(PICTURE, PICTURE)
def test_what_is_read_off_another_node_is_what_it_would_have_told(before: Picture, after: Picture) -> None:
    for node in after.nodes:
        events = happenings_between(before, after, node)
        seen = dict(before.processes.get(node, {}))
        for event in events:
            if isinstance(event, api.ProcessChanged):
                key = (event.process.role, event.process.local_pid)
                if event.gone:
                    del seen[key]
                else:
                    seen[key] = event.process
            else:
                assert isinstance(event, api.SwitchChanged)
                assert event.status == after.nodes[node].status
        if node in before.processes and node in after.processes:
            now = after.processes[node]
            assert {k: (v.where, v.phase) for k, v in seen.items()} == {k: (v.where, v.phase) for k, v in now.items()}
        assert happenings_between(after, after, node) == []


@given(st.binary(max_size=200))
def test_damage_is_said(data: bytes) -> None:
    for broken in (b"\0" + data, zlib.compress(b"\xc1" + data), zlib.compress(b"\x81\xa3own\xa1x" + data)):
        with pytest.raises(BadRecording, match="somewhere"):
            unpacked(broken, "somewhere")


def test_a_later_version_s_fields_are_passed_over() -> None:
    import msgspec

    later = msgspec.msgpack.encode({"own": 2, "nodes": [{"number": 1, "name": "a", "address": "b", "heat": 7}], "new": []})
    change = unpacked(zlib.compress(later), "r")
    assert (change.own, change.nodes[0].name) == (2, "a")
    with pytest.raises(BadRecording):
        unpacked(zlib.compress(b"\xc1"), "r")
