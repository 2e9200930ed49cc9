from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies as st

from omtools.cluster.map import MAX_LINES, Map, Node, Range, parse_map, parse_names
from omtools.errors import BadMap, UnknownNode

HOWTO = """
# the HOWTO's own example
1  192.168.1.1   4        # ids 1..4
4  192.168.10.10 ALIAS    # second interface of node 4

10 metrakilate   1
"""


def test_the_howtos_example() -> None:
    found = parse_map(HOWTO)
    assert list(found.nodes) == [1, 2, 3, 4, 10]
    assert found.number(3) == Node(3, "node3", "192.168.1.3")
    assert found.number(4) == Node(4, "node4", "192.168.1.4", ("192.168.10.10",))
    assert found.number(10) == Node(10, "metrakilate", "metrakilate")
    assert found.ranges == (Range(1, "192.168.1.1", 4), Range(10, "metrakilate", 1))
    assert len(found) == 5


@pytest.mark.parametrize("word", ["4", "node4", "NODE4", "192.168.1.4", "192.168.10.10", "04"])
def test_many_ways_to_a_node(word: str) -> None:
    assert parse_map(HOWTO).find(word).number == 4


@pytest.mark.parametrize(
    "word",
    ["", "0", "5", "65536", "99999999999", "node5", "192.168.1.5", "home", "-1", "\uff14", "4 ", "1e1"],
)
def test_ways_to_no_node(word: str) -> None:
    with pytest.raises(UnknownNode):
        parse_map(HOWTO).find(word)
    with pytest.raises(UnknownNode):
        parse_map(HOWTO).number(77)


def test_names() -> None:
    names = parse_names("# number name\n1 mCii\n2 metrakilate # diskless\n\n")
    found = parse_map("1 10.77.0.1 3", names=names)
    assert [node.name for node in found.nodes.values()] == ["mCii", "metrakilate", "node3"]
    assert found.find("MCII").number == 1
    assert found.name(2) == "metrakilate"
    assert found.name(9) == "9"


def test_a_name_of_digits_is_still_found_by_number_first() -> None:
    found = parse_map("7 10.0.0.1 1\n8 10.0.0.2 1", names={8: "x7"})
    assert found.find("7").number == 7


def test_aliases_may_come_first_and_as_ranges_of_zero() -> None:
    found = parse_map("4 10.1.0.4 alias\n4 10.2.0.4 0\n4 10.0.0.4 1\n")
    assert found.number(4).aliases == ("10.1.0.4", "10.2.0.4")


def test_ipv6() -> None:
    found = parse_map("1 fd00::1 3\n")
    assert found.number(3).address == "fd00::3"


def test_an_empty_map() -> None:
    assert len(parse_map("")) == 0
    assert parse_map("# nothing\n\n  \n") == Map({})


@pytest.mark.parametrize(("text", "line", "words"), [
    ("1 10.0.0.1", 1, "not 2 words"),
    ("1 10.0.0.1 1 name=x", 1, "not 4 words"),
    ("\n\n1 10.0.0.1 x", 3, "“x” is neither a number of nodes nor ALIAS"),
    ("0 10.0.0.1 1", 1, "“0” is no node number (1 to 65535)"),
    ("65536 10.0.0.1 1", 1, "no node number"),
    ("-1 10.0.0.1 1", 1, "no node number"),
    ("one 10.0.0.1 1", 1, "“one” is no node number"),
    ("\uff11 10.0.0.1 1", 1, "no node number"),
    ("1 10.0.0 1", 1, "“10.0.0” is neither a host name nor an address"),
    ("1 10.0.0.256 1", 1, "neither"),
    ("1 -bad- 1", 1, "neither"),
    ("1 home 1", 1, "neither"),
    ("1 ../etc 1", 1, "neither"),
    ("1 host 2", 1, "a range of nodes needs an address, not the name host"),
    ("1 10.0.0.254 3", 1, "the last byte ends at 255"),
    ("65530 10.0.0.1 10", 1, "node numbers go up to 65535"),
    ("1 10.0.0.1 999999999", 1, "go up to"),
    ("1 10.0.0.1 2\n2 10.0.1.1 1", 2, "node 2 is in the map twice"),
    ("1 10.0.0.1 2\n3 10.0.0.2 1", 2, "10.0.0.2 is node 2 already"),
    ("1 a 1\n2 A 1", 2, "A is node 1 already"),
    ("1 node2 1\n2 10.0.0.2 1", 2, "node 1 is called node2 already"),
    ("4 10.0.0.1 ALIAS", 1, "an ALIAS needs a line of its own for node 4"),
    ("1 10.0.0.1 2\n1 10.0.0.2 ALIAS", 2, "10.0.0.2 is node 2 already"),
    ("1 10.0.0.1 -1", 1, "“-1” is neither"),
    ("1 10.0.0.1 1\x00", 1, "neither"),
])  # fmt: skip
def test_mistakes_are_named_with_their_line(text: str, line: int, words: str) -> None:
    with pytest.raises(BadMap) as caught:
        parse_map(text, "/etc/openmosix.map")
    assert caught.value.fields["path"] == "/etc/openmosix.map"
    assert caught.value.fields["line"] == line
    assert words in str(caught.value)
    assert re.fullmatch(r"[^\n]+\.", str(caught.value))


@pytest.mark.parametrize(("text", "line", "words"), [
    ("1", 1, "a line is a node's number and its name"),
    ("1 a b", 1, "number and its name"),
    ("x a", 1, "no node number"),
    ("1 7", 1, "“7” cannot be a node's name"),
    ("1 home", 1, "cannot be"),
    ("1 a/b", 1, "cannot be"),
    ("1 a\n1 b", 2, "named twice"),
    ("1 a\n2 A", 2, "“A” is named twice"),
])  # fmt: skip
def test_mistakes_in_names(text: str, line: int, words: str) -> None:
    with pytest.raises(BadMap) as caught:
        parse_names(text)
    assert caught.value.fields["line"] == line
    assert words in str(caught.value)


def test_256_lines_and_no_more() -> None:
    lines = [f"{number} 10.{number // 256}.{number % 256}.1 1" for number in range(1, MAX_LINES + 2)]
    assert len(parse_map("# a comment is no line\n" + "\n".join(lines[:-1]))) == MAX_LINES
    with pytest.raises(BadMap, match="at most 256 lines") as caught:
        parse_map("\n".join(lines))
    assert caught.value.fields["line"] == MAX_LINES + 1


@given(st.text(max_size=200))
def test_any_text_is_a_map_or_a_bad_map(text: str) -> None:
    try:
        found = parse_map(text)
    except BadMap as error:
        line = int(error.fields["line"])
    else:
        line = 1
        assert all(found.find(str(number)) == node for number, node in found.nodes.items())
    assert 1 <= line <= text.count("\n") + 1


_WORDS = st.sampled_from(
    [
        "1",
        "2",
        "3",
        "65535",
        "0",
        "10.0.0.1",
        "10.0.0.2",
        "10.0.0.255",
        "host",
        "other",
        "ALIAS",
        "#",
        "\n",
        "fd00::1",
    ]
)


@given(st.lists(_WORDS, max_size=30))
def test_almost_maps(words: list[str]) -> None:
    try:
        found = parse_map(" ".join(words))
    except BadMap:
        return
    addresses = [address for node in found.nodes.values() for address in (node.address, *node.aliases)]
    assert len(set(addresses)) == len(addresses)
    assert sum(entry.count for entry in found.ranges) == len(found)


@given(st.dictionaries(st.integers(1, 65535), st.integers(0, 2**32 - 1), max_size=20, min_size=1))
def test_what_is_written_is_read(entries: dict[int, int]) -> None:
    import ipaddress

    unique = {address: number for number, address in entries.items()}
    text = "".join(f"{number} {ipaddress.ip_address(address)} 1\n" for address, number in unique.items())
    found = parse_map(text)
    assert {node.number: node.address for node in found.nodes.values()} == {
        number: str(ipaddress.ip_address(address)) for address, number in unique.items()
    }
    assert list(found.nodes) == sorted(found.nodes)
