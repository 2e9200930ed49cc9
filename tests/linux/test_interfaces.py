from __future__ import annotations

from pathlib import Path

import pytest

from omtools.linux.interfaces import address_of, default_interface


def test_the_loopback_interface() -> None:
    assert address_of("lo") == "127.0.0.1"


@pytest.mark.parametrize("name", ["", "nothing-like", "far-too-long-for-the-kernel", "ä"])
def test_no_such_interface(name: str) -> None:
    with pytest.raises(OSError, match="No such device"):
        address_of(name)


def test_the_default_route_is_one_of_the_machines() -> None:
    found = default_interface()
    routes = [line.split() for line in Path("/proc/net/route").read_text().splitlines()[1:]]
    assert found in [fields[0] for fields in routes if fields[1] == "00000000"] or not found
