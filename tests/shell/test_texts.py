"""Rendering, completing, folding: what is shown and offered."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from omtools.shell.complete import Surroundings, complete, unfinished
from omtools.shell.markdown import Style, render, visible
from omtools.shell.session import clip, fold

TEXT = """\
# Heading

A paragraph with `code here`, **bold words** and *one more*, long enough to be broken at forty columns.

- first item that is also rather long, so that it wraps
- second

```try
migrate 1 home
```

```
literal   text
```
"""


def test_a_text_on_a_narrow_terminal() -> None:
    assert render(TEXT, Style(width=40)).split("\n") == [
        "Heading", "",
        "A paragraph with `code here`,", "bold words and one more, long", "enough to be broken at forty columns.", "",
        "  - first item that is also rather", "    long, so that it wraps", "  - second", "",
        "    $ migrate 1 home", "", "    literal   text", "",
    ]  # fmt: skip


def test_colours_letters_and_plain() -> None:
    coloured = render(TEXT, Style(width=60, colour=True))
    assert "\x1b[36mcode here\x1b[0m" in coloured
    assert "`" not in visible(coloured)
    plain = render(TEXT, Style(plain=True))
    assert "\x1b" not in plain
    assert "    migrate 1 home\n" in plain
    assert render("¿Qué “pasa” → aquí? ✓ π", Style(unicode=False)) == 'Que "pasa" -> aqui? * pi\n'


@given(st.text(st.sampled_from("abc *`-#\n1.é"), max_size=200), st.integers(20, 120))
def test_any_text_can_be_shown(text: str, width: int) -> None:
    shown = render(text, Style(width=width, unicode=False))
    assert shown.isascii()
    assert shown == "" or shown.endswith("\n")


@given(st.lists(st.text("abc", min_size=1, max_size=9), max_size=12), st.integers(9, 60))
def test_folded_words_fit_and_none_is_lost(words: list[str], width: int) -> None:
    lines = fold(words, width)
    assert all(len(line) <= width for line in lines)
    assert " ".join(lines).split() == words
    assert all(len(clip(line, 5)) <= 5 for line in lines)


AROUND = Surroundings(
    nodes=("mCii", "metrakilate"),
    processes=((412, "sort big"), (43, "xz")),
    commands=lambda: ["migrate", "mps", "mosctl"],
    entries=lambda directory: {"": ["my file", "mosaic.c", ".hidden"], "/etc/": ["hosts", "host.conf"]}.get(directory, []),
)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        (":h", [":hint", ":help"]),
        ("m", ["migrate", "mosctl", "mps", "mCii", "metrakilate"]),
        ("ls | mp", ["mps"]),
        ("migrate ", ["43", "412", "home", "--json", "mosaic.c", "my\\ file"]),
        ("migrate 4", ["43", "412"]),
        ("migrate 412 me", ["metrakilate"]),
        ("migrate 412 ho", ["home"]),
        ("kill 41", ["412"]),
        ("on ", ["mCii", "metrakilate", "mosaic.c", "my\\ file"]),
        ("on metrakilate mo", ["mosctl"]),
        ("mosctl nob", ["noblock"]),
        ("cat /etc/hos", ["/etc/host.conf", "/etc/hosts"]),
        ("cat my\\ f", ["my\\ file"]),
        ("cat .h", [".hidden"]),
        ("ping metr", ["metrakilate"]),
    ],
)
def test_completion(line: str, offered: list[str]) -> None:
    assert sorted(one.text for one in complete(line, AROUND)) == sorted(offered)
    for one in complete(line, AROUND):
        word = line[len(line) + one.start :]
        assert one.text.casefold().startswith(word.casefold())


@given(st.text(max_size=40))
def test_completing_never_breaks(line: str) -> None:
    for one in complete(line, AROUND):
        assert -len(line) <= one.start <= 0


@pytest.mark.parametrize(
    ("line", "more"),
    [
        ("ls", False), ("echo 'a", True), ("echo 'a'", False), ('echo "a\\"', True), ("ls |", True), ("ls \\", True),
        ("true &&", True), ("echo \\'", False), ("sleep 1 &", False), ('echo "it\'s"', False),
    ],
)  # fmt: skip
def test_whether_a_line_goes_on(line: str, more: bool) -> None:
    assert unfinished(line) == more
