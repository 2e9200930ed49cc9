from __future__ import annotations

import struct

import asyncssh
import pytest

from omtools.lab.metal import identity
from omtools.lab.metal.cpio import Entry
from omtools.lab.settings import AGENT_PORT


@pytest.fixture(scope="module")
def keys() -> identity.Keys:
    return identity.new_keys()


def files(entries: list[Entry]) -> dict[str, str]:
    return {entry.path: entry.data.decode(errors="replace") for entry in entries}


def test_hardware_addresses_and_what_ipxe_asks_for() -> None:
    assert identity.hardware_address(2) == "52:54:00:77:00:02"
    assert identity.archive_name(2) == "52-54-00-77-00-02.cpio"
    assert identity.hardware_address(300) == "52:54:00:77:01:2c"


def test_a_key_in_all_its_formats() -> None:
    key = identity.new_key("somebody@somewhere")
    private = asyncssh.import_private_key(key.private)
    assert private.export_public_key().decode().split()[:2] == key.public.split()[:2]
    assert key.public.endswith(" somebody@somewhere\n")
    length = struct.unpack(">I", key.dropbear[:4])[0]
    assert key.dropbear[4 : 4 + length] == b"ssh-ed25519"
    both = key.dropbear[4 + length + 4 :]
    assert len(both) == 64
    assert both[32:] == asyncssh.import_public_key(key.public).public_data[-32:]


def test_each_machine_gets_its_own(keys: identity.Keys) -> None:
    first, second = (files(identity.node_entries(number, keys)) for number in identity.NUMBERS)
    assert "NAME=metrakilate\nNUMBER=2\nADDRESS=10.77.0.2\nROLE=diskless\n" in second["etc/omlab/node"]
    assert "ROLE=server\nBARE=no\n" in first["etc/omlab/node"]
    for name in ("ssh_host_ed25519_key", "id_ed25519"):
        assert first[f"etc/openmosix/{name}"] != second[f"etc/openmosix/{name}"]
    assert first["etc/openmosix/openmosix.map"] == second["etc/openmosix/openmosix.map"]
    assert "BARE=yes\n" in files(identity.node_entries(1, keys, bare=True))["etc/omlab/node"]


def test_agents_know_each_other(keys: identity.Keys) -> None:
    for number, other in ((1, 2), (2, 1)):
        own = files(identity.node_entries(number, keys))
        theirs = files(identity.node_entries(other, keys))
        known = asyncssh.import_known_hosts(own["etc/openmosix/known_hosts"])
        matched = known.match(f"10.77.0.{other}", f"10.77.0.{other}", AGENT_PORT)[0]
        shown = asyncssh.import_private_key(theirs["etc/openmosix/ssh_host_ed25519_key"])
        assert shown.convert_to_public() in matched
        client = asyncssh.import_private_key(theirs["etc/openmosix/id_ed25519"])
        allowed = asyncssh.import_authorized_keys(own["etc/openmosix/authorized_nodes"])
        assert allowed.validate(client.convert_to_public(), "", "") is not None


def test_private_files_are_private(keys: identity.Keys) -> None:
    for entry in identity.node_entries(2, keys):
        if b"PRIVATE KEY" in entry.data or "dropbear" in entry.path:
            assert entry.mode & 0o777 == 0o600, entry.path


def test_the_server_brings_the_archives_of_the_others_and_not_its_own(keys: identity.Keys) -> None:
    whole = identity.server_archive(keys)
    assert b"var/lib/omlab/nodes/52-54-00-77-00-02.cpio\0" in whole
    assert b"52-54-00-77-00-01.cpio" not in whole
    assert keys.hosts[2].dropbear in whole
    assert keys.user.private.encode() not in whole
