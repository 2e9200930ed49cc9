"""Kernel modules: which ones a list of wanted ones needs, and in which order they are loaded.

The package of a kernel has no modules.dep: depmod makes it when it is installed. What depmod reads is in the
modules themselves, in a section `.modinfo` of NUL-terminated `key=value` strings.
"""

from __future__ import annotations

import lzma
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from omtools.lab.metal import elf


@dataclass(frozen=True, slots=True)
class Module:
    """One module.

    Attributes:
        name: with underscores, as the kernel has it.
        path: below /lib/modules/VERSION, without a suffix of compression.
        data: the object file.
        depends: names of the modules that must be there before it.
        aliases: patterns of the devices that it drives, as /sys names them in `modalias`.
    """

    name: str
    path: str
    data: bytes
    depends: tuple[str, ...]
    aliases: tuple[str, ...] = ()


def module_name(path: str) -> str:
    """The kernel's name of the module in that file: virtio-rng.ko.xz is virtio_rng."""
    return PurePosixPath(path).name.partition(".")[0].replace("-", "_")


def read_module(path: str, data: bytes) -> Module:
    """A module from its file, plain or compressed with xz.

    Raises:
        ValueError: it is none.
    """
    if path.endswith(".xz"):
        path, data = path.removesuffix(".xz"), lzma.decompress(data)
    pairs = [pair.partition(b"=") for pair in elf.sections(data).get(".modinfo", b"").split(b"\0")]
    depends = next((value.decode() for key, _equals, value in pairs if key == b"depends"), "")
    names = tuple(name.replace("-", "_") for name in depends.split(",") if name)
    aliases = tuple(value.decode() for key, _equals, value in pairs if key == b"alias")
    return Module(module_name(path), path, data, names, aliases)


def resolve(
    wanted: Iterable[str], files: Mapping[str, str], builtin: frozenset[str], read: Callable[[str], bytes]
) -> list[Module]:
    """The wanted modules and all that they need, in an order in which they can be loaded.

    Args:
        wanted: names.
        files: the path of each module that there is.
        builtin: names of those that are part of the kernel.
        read: gives the contents of a path.

    Raises:
        KeyError: a module, wanted or needed, is nowhere.
        ValueError: a file is no module, or modules need each other in a circle.
    """
    ordered: dict[str, Module] = {}

    def add(name: str, above: tuple[str, ...]) -> None:
        if name in ordered or name in builtin:
            return
        if name in above:
            raise ValueError(f"{name} needs itself")
        module = read_module(files[name], read(files[name]))
        for one in module.depends:
            add(one, (*above, name))
        ordered[name] = module

    for name in wanted:
        add(name, ())
    return list(ordered.values())


def alias_file(ordered: Iterable[Module]) -> str:
    """The text of modules.alias: which module drives a device."""
    return "".join(f"alias {alias} {module.name}\n" for module in ordered for alias in module.aliases)


def dependency_file(ordered: Iterable[Module]) -> str:
    """The text of modules.dep (5) for those modules: each file with all it needs, the nearest first."""
    found: dict[str, list[Module]] = {}
    lines = []
    for module in ordered:
        closure: dict[str, Module] = {}
        for name in module.depends:
            for one in found.get(name, []):
                closure[one.name] = one
        lines.append(f"{module.path}:{''.join(f' {one.path}' for one in reversed(closure.values()))}\n")
        found[module.name] = [*closure.values(), module]
    return "".join(lines)
