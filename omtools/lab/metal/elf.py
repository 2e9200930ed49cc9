"""The little that is to be known of an ELF file here: its sections, and the libraries that it needs.

Source: elf(5). Only 64-bit little-endian files: there are no other ones on x86-64.
"""

from __future__ import annotations

import struct

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")  # Elf64_Ehdr
_SECTION = struct.Struct("<IIQQQQIIQQ")  # Elf64_Shdr
_DYNAMIC = struct.Struct("<qQ")  # Elf64_Dyn
_IDENT = b"\x7fELF\x02\x01"
_SHT_NOBITS = 8
_DT_NULL, _DT_NEEDED = 0, 1


def is_elf(data: bytes) -> bool:
    """Whether these are the contents of a 64-bit little-endian ELF file."""
    return data.startswith(_IDENT) and len(data) >= _HEADER.size


def sections(data: bytes) -> dict[str, bytes]:
    """The contents of its sections, by name (of two of one name, the last).

    Raises:
        ValueError: it is no such file, or a broken one.
    """
    if not is_elf(data):
        raise ValueError("no ELF file")
    header = _HEADER.unpack_from(data)
    start, size, count, names_at = header[6], header[11], header[12], header[13]
    if count and (size < _SECTION.size or start + size * count > len(data) or names_at >= count):
        raise ValueError("sections lie outside of the file")
    headers = [_SECTION.unpack_from(data, start + size * index) for index in range(count)]
    contents = [b"" if one[1] == _SHT_NOBITS else data[one[4] : one[4] + one[5]] for one in headers]
    if not contents:
        return {}
    names = contents[names_at]
    return {_text(names, one[0]): content for one, content in zip(headers, contents, strict=True)}


def needed(data: bytes) -> list[str]:
    """The libraries that it names as needed (DT_NEEDED); none for a static program.

    Raises:
        ValueError: it is no such file, or a broken one.
    """
    found = sections(data)
    dynamic, strings = found.get(".dynamic", b""), found.get(".dynstr", b"")
    names = []
    for tag, value in _DYNAMIC.iter_unpack(dynamic[: len(dynamic) // _DYNAMIC.size * _DYNAMIC.size]):
        if tag == _DT_NULL:
            break
        if tag == _DT_NEEDED:
            names.append(_text(strings, value))
    return names


def _text(table: bytes, at: int) -> str:
    end = table.find(b"\0", at)
    return table[at : end if end >= 0 else len(table)].decode(errors="surrogateescape")
