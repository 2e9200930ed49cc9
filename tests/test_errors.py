"""omtools.errors: one table, and every row of it can be said, sent and told apart."""

from __future__ import annotations

import re
import string

import msgspec
import pytest
from hypothesis import given, strategies as st

from omtools import errors
from omtools.errors import NodeFull, NoSuchProcess, OmError

ALL = [cls for cls in OmError.registry.values() if cls.__module__.startswith(errors.__name__)]
TREE = re.compile(r"[├└]── (\w+) +(\d+)")


def fields_of(cls: type[OmError]) -> dict[str, str | int]:
    """A value for each field of its sentence and its remedy."""
    names = {
        name
        for text in (cls.template, cls.remedy)
        for _literal, name, _spec, _conversion in string.Formatter().parse(text)
        if name
    }
    return {name: 4711 if name == "pid" else f"<{name}>" for name in names}


def test_the_docstring_s_tree_is_the_table() -> None:
    tree = {name: int(status) for name, status in TREE.findall(errors.__doc__ or "")}
    assert tree == {cls.__name__: cls.exit_status for cls in ALL}


def test_exit_statuses_are_unique_and_usable() -> None:
    statuses = [cls.exit_status for cls in ALL] + [OmError.exit_status]
    assert len(statuses) == len(set(statuses))
    # 0 is success, 1 the answer no, 126 and above the shell's own
    assert all(2 <= status < 126 for status in statuses)


def test_the_registry_knows_them_by_name() -> None:
    assert len(ALL) > 30
    for cls in ALL:
        assert OmError.registry[cls.__name__] is cls
        assert issubclass(cls, OmError)


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: str(cls.__name__))
def test_it_can_be_said(cls: type[OmError]) -> None:
    fields = fields_of(cls)
    said = str(cls(**fields)) if fields else str(cls(detail="<detail>"))
    for value in fields.values():
        assert str(value) in said
    assert said.endswith((".", "?", "<detail>"))
    assert "{" not in said
    assert (cls.__doc__ or "").strip()


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: str(cls.__name__))
def test_it_travels(cls: type[OmError]) -> None:
    error = cls(**fields_of(cls))
    for encode, decode in (
        (msgspec.json.encode, msgspec.json.decode),
        (msgspec.msgpack.encode, msgspec.msgpack.decode),
    ):
        again = OmError.from_wire(decode(encode(error.to_wire())))
        assert type(again) is cls
        assert again.fields == error.fields
        assert str(again) == str(error)


def test_an_error_of_a_later_version_keeps_its_words() -> None:
    again = OmError.from_wire({"error": "NotInventedYet", "pid": 7, "why": "it rains"})
    assert type(again) is OmError
    assert "NotInventedYet" in str(again)
    assert "it rains" in str(again)
    assert again.exit_status == 3


def test_fields_that_another_version_does_not_send() -> None:
    assert "needs ? MB" in str(OmError.from_wire({"error": "NodeFull", "node": "mCii", "free_mb": 7}))
    assert "no process ?" in str(NoSuchProcess())


@given(st.dictionaries(st.text(max_size=10), st.one_of(st.text(max_size=20), st.integers()), max_size=5))
def test_whatever_a_peer_sends_is_an_error_that_can_be_said(wire: dict[str, str | int]) -> None:
    assert isinstance(str(OmError.from_wire(wire)), str)
    assert isinstance(str(OmError.from_wire({**wire, "error": "NodeFull"})), str)


def test_field_names_of_python_s_own() -> None:
    wire: dict[str, str | int] = {"error": "NodeFull", "self": 1, "cls": 2, "fields": 3}
    assert OmError.from_wire(wire).fields == {"self": 1, "cls": 2, "fields": 3}


def test_it_is_an_exception_like_any_other() -> None:
    with pytest.raises(NodeFull, match="1 MB free and the process needs 2 MB") as caught:
        raise NodeFull(node="mCii", free_mb=1, needed_mb=2)
    assert caught.value.to_wire() == {"error": "NodeFull", "node": "mCii", "free_mb": 1, "needed_mb": 2}
