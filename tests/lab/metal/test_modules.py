from __future__ import annotations

import lzma
import struct

import pytest

from omtools.lab.metal.modules import dependency_file, module_name, read_module, resolve


def module(depends: str, **more: str) -> bytes:
    """An ELF file with a section .modinfo, as a compiler's and linker's would be, but for the code."""
    pairs = {"license": "GPL", "depends": depends, **more}
    content = b"".join(f"{key}={value}\0".encode() for key, value in pairs.items())
    names = b"\0.modinfo\0.shstrtab\0"
    header = struct.Struct("<16sHHIQQQIHHHHHH")
    section = struct.Struct("<IIQQQQIIQQ")
    at = header.size
    sections = [
        section.pack(0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        section.pack(1, 1, 0, 0, at, len(content), 0, 0, 1, 0),
        section.pack(10, 3, 0, 0, at + len(content), len(names), 0, 0, 1, 0),
    ]
    start = at + len(content) + len(names)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head = header.pack(ident, 1, 62, 1, 0, 0, start, 0, header.size, 0, 0, section.size, 3, 2)
    return head + content + names + b"".join(sections)


FILES = {
    "kernel/net/virtio_net.ko": module("net_failover,virtio_ring"),
    "kernel/net/net-failover.ko": module("failover"),
    "kernel/net/failover.ko": module(""),
    "kernel/virtio/virtio_ring.ko.xz": lzma.compress(module("virtio")),
    "kernel/a.ko": module("b"),
    "kernel/b.ko": module("a"),
    "kernel/c.ko": module("nowhere"),
}
BY_NAME = {module_name(path): path for path in FILES}
BUILTIN = frozenset({"virtio"})


def order(*wanted: str) -> list[str]:
    return [one.name for one in resolve(wanted, BY_NAME, BUILTIN, FILES.__getitem__)]


def test_names_are_the_kernels() -> None:
    assert module_name("kernel/drivers/char/hw_random/virtio-rng.ko.xz") == "virtio_rng"


def test_what_a_module_says_of_itself() -> None:
    found = read_module("kernel/net/net-failover.ko", FILES["kernel/net/net-failover.ko"])
    assert (found.name, found.depends) == ("net_failover", ("failover",))


def test_a_compressed_one_is_unpacked() -> None:
    found = read_module("kernel/virtio/virtio_ring.ko.xz", FILES["kernel/virtio/virtio_ring.ko.xz"])
    assert found.path == "kernel/virtio/virtio_ring.ko"
    assert found.data == module("virtio")


def test_all_that_is_needed_comes_first_and_once() -> None:
    assert order("virtio_net") == ["failover", "net_failover", "virtio_ring", "virtio_net"]
    assert order("net_failover", "virtio_net", "failover") == ["failover", "net_failover", "virtio_ring", "virtio_net"]
    assert order("virtio") == []


def test_one_that_is_missing_is_named() -> None:
    for wanted in ("nowhere", "c"):
        with pytest.raises(KeyError, match="nowhere"):
            order(wanted)


def test_a_circle_is_found() -> None:
    with pytest.raises(ValueError, match="a needs itself"):
        order("a")


def test_the_file_that_modprobe_reads() -> None:
    text = dependency_file(resolve(["virtio_net"], BY_NAME, BUILTIN, FILES.__getitem__))
    assert text.splitlines() == [
        "kernel/net/failover.ko:",
        "kernel/net/net-failover.ko: kernel/net/failover.ko",
        "kernel/virtio/virtio_ring.ko:",
        "kernel/net/virtio_net.ko: kernel/virtio/virtio_ring.ko kernel/net/net-failover.ko kernel/net/failover.ko",
    ]
