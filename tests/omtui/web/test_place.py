from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from omtools.errors import UsageError
from omtui.web.place import Place, known_host, may_act, place_of, same_site


@pytest.mark.parametrize(
    ("text", "place", "url", "to_others"),
    [
        ("8787", Place("127.0.0.1", 8787), "http://127.0.0.1:8787", False),
        ("0.0.0.0:80", Place("0.0.0.0", 80), "http://0.0.0.0:80", True),
        ("[::1]:9", Place("::1", 9), "http://[::1]:9", False),
        ("::1:9", Place("::1", 9), "http://[::1]:9", False),
        ("localhost:0", Place("localhost", 0), "http://localhost:0", False),
        ("mCii:1", Place("mCii", 1), "http://mCii:1", True),
    ],
)
def test_places(text: str, place: Place, url: str, to_others: bool) -> None:
    assert place_of(text) == place
    assert place.url == url
    assert place.open_to_others is to_others


@pytest.mark.parametrize("text", ["", ":", "a", "1:b", ":80", "65536", "-1", "1 ", "²"])
def test_no_places(text: str) -> None:
    with pytest.raises(UsageError, match="ADDRESS"):
        place_of(text)


@given(st.text(max_size=20), st.text(max_size=20))
def test_only_the_secret_opens(said: str, token: str) -> None:
    assert may_act(said, token) == (bool(token) and said == token)
    assert not may_act(None, token)


def test_other_sites_are_kept_out() -> None:
    place = Place("127.0.0.1", 8787)
    assert same_site(None, "127.0.0.1:8787")
    assert same_site("http://127.0.0.1:8787", "127.0.0.1:8787")
    assert not same_site("http://evil.example", "127.0.0.1:8787")
    assert not same_site("null", "127.0.0.1:8787")
    assert known_host("localhost:8787", place)
    assert known_host("[::1]:8787", place)
    assert not known_host("evil.example:8787", place)
    assert not known_host(None, place)
    assert known_host("anything:1", Place("0.0.0.0", 1))
