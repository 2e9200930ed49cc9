from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from omtools.cluster.discovery import (
    Announcement,
    Known,
    Place,
    Roll,
    announcement_of,
    nodes_of,
    text_of,
    with_zone,
)

OURS, THEIRS = "a" * 43, "b" * 43
unicast6 = st.ip_addresses(v=6, network="2000::/3") | st.ip_addresses(v=6, network="fe80::/64")
addresses = (st.ip_addresses(v=4) | unicast6).map(str)
announcements = st.builds(
    Announcement,
    st.just(OURS),
    st.sampled_from(["", "valladolid"]),
    st.integers(1, 65535),
    st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z]", fullmatch=True),
    st.integers(1, 65535),
    st.integers(0, 65535),
    st.lists(addresses, min_size=1, max_size=6).map(tuple),
)


def announced(number: int, address: str, name: str = "", cluster: str = OURS) -> Announcement:
    return Announcement(cluster, "valladolid", number, name or f"n{number}", 4660, 0, (address,))


@given(announcements)
def test_over_the_wire_and_back(one: Announcement) -> None:
    assert announcement_of(text_of(one), one.port) == one


@given(st.dictionaries(st.sampled_from(["v", "cluster", "called", "id", "name", "join", "at"]), st.text()), st.integers())
def test_nonsense_is_nothing(text: dict[str, str], port: int) -> None:
    found = announcement_of(text, port)
    assert found is None or announcement_of(text_of(found), port) == found


@pytest.mark.parametrize(
    "change",
    [{"v": "2"}, {"id": "0"}, {"id": "65536"}, {"id": "x"}, {"cluster": "short"}, {"name": "a/b"}, {"name": ""},
     {"at": ""}, {"at": "1.2.3"}, {"at": "::1"}, {"at": "ff02::fb"}, {"at": "::"}, {"at": "fe80::1%eth0"}, {"at": "1::2::3"}, {"at": "1.2.3.999"}, {"join": "-1"}, {"called": "two words"}],
)  # fmt: skip
def test_what_makes_no_sense(change: dict[str, str]) -> None:
    text = text_of(announced(1, "10.0.0.1"))
    assert announcement_of(text, 4660) is not None
    assert announcement_of(text | change, 4660) is None


def test_zones_are_the_hearers_and_never_travel() -> None:
    one = Announcement(OURS, "", 2, "n2", 4660, 0, ("fe80::2%veth7", "2001:db8::2", "10.0.0.2"))
    heard = announcement_of(text_of(one), 4660)
    assert heard is not None
    assert heard.addresses == ("fe80::2", "2001:db8::2", "10.0.0.2")
    assert with_zone(heard, "eth0").addresses == ("fe80::2%eth0", "2001:db8::2", "10.0.0.2")
    assert with_zone(heard, "") == heard


def test_an_announcement_alone_moves_nothing() -> None:
    roll = Roll(OURS, 1)
    assert roll.heard("s", announced(2, "10.0.0.2"))
    assert roll.nodes == {}
    (place,) = roll.to_prove(0.0)
    assert roll.proven(place)
    assert nodes_of(roll.nodes)[0].address == "10.0.0.2"
    assert roll.to_prove(1.0) == []
    assert not roll.proven(place)  # nothing new


def test_other_clusters_and_this_node_are_not_looked_at() -> None:
    roll = Roll(OURS, 1)
    assert not roll.heard("s", announced(2, "10.0.0.2", cluster=THEIRS))
    assert not roll.heard("t", announced(1, "10.0.0.1"))
    assert roll.to_prove(0.0) == []


def test_a_liar_is_asked_ever_less_often() -> None:
    roll = Roll(OURS, 1, [Known(2, "n2", "10.0.0.2")])
    roll.heard("s", announced(2, "10.6.6.6"))
    tries, now = 0, 0.0
    while now < 3600:
        for place in roll.to_prove(now):
            assert place.address == "10.6.6.6"
            roll.failed(now, place)
            tries += 1
        now += 1
    assert 5 < tries < 15
    assert roll.nodes[2].address == "10.0.0.2"


def test_a_node_comes_back_with_another_address() -> None:
    roll = Roll(OURS, 1, [Known(2, "n2", "10.0.0.2"), Known(3, "n3", "10.0.0.3")])
    roll.left("s")
    assert set(roll.nodes) == {2, 3}
    roll.heard("s", announced(2, "10.0.0.3"))  # which was node 3's
    (place,) = roll.to_prove(0.0)
    assert roll.proven(place)
    assert {number: one.address for number, one in roll.nodes.items()} == {2: "10.0.0.3"}


def test_names_stay_unique() -> None:
    roll = Roll(OURS, 1, [Known(2, "same", "10.0.0.2")])
    assert roll.proven(Place(3, "Same", "10.0.0.3", 4660, ()))
    assert roll.nodes[3].name == "node3"
