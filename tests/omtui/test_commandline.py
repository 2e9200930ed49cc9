from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, strategies as st

from omtools.agent import api
from omtools.errors import UsageError
from omtui.actions import Action, Renice, Signal, known_switches
from omtui.commandline import SYNTAX, Dress, Go, Look, Plain, parse, suggestions


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        ("migrate 7 metrakilate", api.Migrate(7, "metrakilate")),
        ("migrate 7 home", api.Migrate(7, "home")),
        ("lock 7", api.Lock(7, True)),
        ("unlock 7", api.Lock(7, False)),
        ("kill 7", Signal(7, "TERM")),
        ("kill -9 7", None),
        ("kill -SIGSTOP 7", Signal(7, "STOP")),
        ("kill -cont 7", Signal(7, "CONT")),
        ("renice -n -5 -p 7", Renice(7, -5)),
        ("renice 20 7", None),
        ("mosctl block", api.Switch("block", True)),
        ("mosctl lock 7", api.Lock(7, True)),
        ("mosctl unlock 7", api.Lock(7, False)),
        ("mosctl setyard 20000 --on 2", api.Tune("2", yardstick=20000)),
        ("mosctl setyard 0", None),
        ("mosctl setdecay 2 975 926", api.SetDecay(api.NodeDecay(2.0, 975, 926))),
        ("mosctl setdecay 2 975", None),
        ("mosctl setdecay 2 975 926 --on 3", api.SetDecay(api.NodeDecay(2.0, 975, 926), "3")),
        ("mosctl getdecay", api.GetDecay()),
        ("mosctl gettune --on 2", api.Tune("2")),
        ("moslimit", api.Tune()),
        ("moslimit --load 300 --guests off --on 2", api.Tune("2", load_limit=300, guest_limit=-1)),
        ("moslimit --cpu 101", None),
        ("moslimit --cpu", None),
        ("moslimit --speed 3", None),
        ("mosctl setspeed 99999999", None),
        ("mosctl nomfs", api.Switch("mfs", False)),
        ("mosctl block --on 2", api.Switch("block", True, "2")),
        ("mosctl expel --on metrakilate", api.Expel("metrakilate")),
        ("mosctl block --on", None),
        ("mosctl setspeed 7000", api.SetSpeed(7000)),
        ("mosctl expel", api.Expel()),
        ("mosctl bring", api.Bring()),
        ("mosctl dance", None),
        ("migrate 7", None),
        ("migrate x 2", None),
        ("lock", None),
        ("", None),
        ("'", None),
    ],
)
def test_the_tools_own_lines(line: str, request_: object) -> None:
    if request_ is None:
        with pytest.raises(UsageError):
            parse(line)
        return
    order = parse(line)
    assert isinstance(order, Action)
    assert order.request == request_


def test_each_action_s_command_line_is_understood_and_means_the_same() -> None:
    """What a screen shows can be typed."""
    for line in ("migrate 7 2", "kill -STOP 7", "renice -n 5 -p 7", "mosctl expel", "mosctl setspeed 0"):
        order = parse(line)
        assert isinstance(order, Action)
        assert order.command == line
    for row in known_switches():
        for verb in (row.name, f"no{row.name}"):
            order = parse(f"mosctl {verb}")
            assert isinstance(order, Action)
            assert order.command == f"mosctl {verb}"


def test_the_application_s_own() -> None:
    assert parse("processes") == Go("processes")
    assert parse("theme light") == Dress("textual-light")
    assert parse("mosctl status 3") == Look("3")
    assert parse("mosctl whois") == Look("")
    assert parse("q") == parse("quit") == Plain("quit")
    with pytest.raises(UsageError, match="It is written `theme NAME`"):
        parse("theme plaid")


def test_did_you_mean() -> None:
    with pytest.raises(UsageError, match="Did you mean `processes`"):
        parse("proceses")
    with pytest.raises(UsageError, match="no command “xyzzy”"):
        parse("xyzzy")


def test_every_suggestion_begins_something_that_is_explained() -> None:
    words = {line.split()[0] for line, _what in SYNTAX}
    assert {suggestion.split()[0] for suggestion in suggestions()} <= words


@given(st.text(max_size=40))
def test_whatever_is_typed_is_an_order_or_a_sentence(line: str) -> None:
    with contextlib.suppress(UsageError):
        assert isinstance(parse(line), Action | Go | Dress | Look | Plain)
