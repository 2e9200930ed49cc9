"""What learners read of the patterns that checks look for."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies as st

from omtools.shell.legible import ANYTHING, legible


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"python3 omcount\.py", "python3 omcount.py"),
        (r"^sleep 1000$", "sleep 1000"),
        (r"^(?!.*&).*work\.py", "work.py"),
        (r"work\.py *&.*work\.py", "work.py &…work.py"),
        (r"mosctl isup (metrakilate|2)", "mosctl isup metrakilate"),
        (r"^dhcp-host=(?P<mac>52:54:00:77:00:02),(?P<address>10\.77\.0\.2),metrakilate\b",
         "dhcp-host=52:54:00:77:00:02,10.77.0.2,metrakilate"),
        (r"^kernel http://[^ ]*:8080/vmlinuz .*root=/dev/nfs (?P<words>nfsroot=\S+:/srv/nfs/root)",
         "kernel http://…:8080/vmlinuz …root=/dev/nfs nfsroot=…:/srv/nfs/root"),
        (r"net0: (?P<mac>[0-9a-f:]{17})", "net0:"),
        (r"here (?P<first>1) home 1[^\0]*here (?P<then>2)", "here 1 home 1…here 2"),
        (r"^1\s+192\.168\.1\.10\s+(2|1\s+2\s+192\.168\.1\.11\s+1)\b", "1 192.168.1.10 2"),
        (r"^D:\*", "D:*"),
        (r"(?P<text>\S.*)", ANYTHING),
        ("colou?r", "color"),
    ],
)  # fmt: skip
def test_patterns_of_lessons(pattern: str, text: str) -> None:
    re.compile(pattern)
    assert legible(pattern) == text


@given(st.text(st.sampled_from("abc .*+?()[]{}|^$\\-/&1"), min_size=1))
def test_what_was_escaped_is_itself(text: str) -> None:
    assert legible(re.escape(text)) == (text.strip(" ") or ANYTHING)


@given(st.text(st.sampled_from("ab.*+?()[]{}|^$\\P<>:=!d,1")))
def test_nothing_is_too_odd(text: str) -> None:
    assert legible(text)
