from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from omtools.errors import UsageError
from omtui.mosmon.main import options, settings_of
from omtui.mosmon.settings import HELP, LETTERS, TITLES, Settings, pressed


def given_options(*words: str) -> Settings:
    return settings_of(options().parse_args([*words, "--ascii"])).drawn_in_ascii(False)


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("l", Settings()),
        ("L", Settings(figure="log")),
        ("s", Settings(figure="speed")),
        ("m", Settings(figure="memory")),
        ("r", Settings(figure="raw")),
        ("u", Settings(figure="util")),
        ("w", Settings(numbering="wide")),
        ("v", Settings(numbering="vertical")),
        ("V", Settings(numbering="tight")),
        ("a", Settings()),
        ("d", Settings(dead=True)),
        ("t", Settings(totals=True)),
        ("y", Settings(yardstick=True)),
    ],
)
def test_every_option_is_a_key(key: str, wanted: Settings) -> None:
    assert pressed(Settings(), key) == wanted
    assert given_options(f"-{key}") == wanted


def test_keys_toggle_and_options_set() -> None:
    assert pressed(pressed(Settings(), "d"), "d") == Settings()
    assert given_options("-d", "-d") == Settings(dead=True)
    assert pressed(Settings(dead=True, totals=True), "D") == Settings(totals=True)
    assert pressed(Settings(dead=True, totals=True), "T") == Settings(dead=True)


def test_options_in_one_word_and_the_last_one_holds() -> None:
    assert given_options("-tdm", "-u", "+7") == Settings("util", dead=True, totals=True, first=7)
    assert given_options("-F", "2.4.22", "-v", "-w") == Settings(numbering="wide")


@pytest.mark.parametrize("words", [["7"], ["+0"], ["+65536"], ["+x"], ["+"], ["-x"], ["+1", "+2"]])
def test_what_makes_no_sense_is_refused(words: list[str]) -> None:
    with pytest.raises(UsageError):
        given_options(*words)


@given(st.lists(st.one_of(st.sampled_from(sorted(LETTERS)), st.text(max_size=2)), max_size=30))
def test_no_key_breaks_anything(keys: list[str]) -> None:
    settings = Settings()
    for key in keys:
        settings = pressed(settings, key)
    assert settings.figure in TITLES


def test_every_letter_is_explained_once() -> None:
    assert len({key for key, _what in HELP}) == len(HELP)
