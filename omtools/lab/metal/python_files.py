"""The running Python as files of an image: its program, library and packages, and this package.

In the image it lives in /usr, whatever its prefix is here: it finds its library by its own path. Bytecode is
compiled for it with the check of the source left out (PEP 552): otherwise every import would compare
the times of two files, which in an archive without times never agree, and compile anew.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from omtools.errors import MetalImageFailed
from omtools.i18n import _
from omtools.lab.metal import cpio, elf
from omtools.lab.metal.cpio import Entry
from omtools.lab.metal.packages import merged
from omtools.lab.settings import PACKAGE_HOME

REQUIRED = ("asyncssh", "cryptography", "msgspec", "rich")
# rich colours program text and renders Markdown with these; nothing here asks it to, and they are large.
LEFT_OUT = frozenset({"pygments", "markdown-it-py", "mdurl"})
_NOT_IN_LIBRARY = frozenset({
    "test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "pydoc_data", "venv",
    "site-packages", "dist-packages", "__pycache__", "turtle.py", "idle_test",
})  # fmt: skip
_NOT_LOADED = re.compile(r"(_tkinter|_test\w+|_ctypes_test|xx\w+|nis|_dbm|_gdbm)\.")
_COMPILER = Path(__file__).with_name("compile_image.py")
_PROGRAM = "#!/usr/bin/python3\nimport sys\n\nfrom omtools.commands.{name} import main\n\nsys.exit(main())\n"
SHARDS = 4  # fixed, not the number of processors: what is compiled together decides the bytes


def library_home() -> str:
    """Where the standard library is in the image, from the root."""
    return f"usr/lib/python{sys.version_info[0]}.{sys.version_info[1]}"


@functools.cache
def packages_home() -> str:
    """Where the image's Python looks for packages, from the root.

    The interpreter itself is asked, outside of any virtual environment: Debian's has an opinion of its own.
    """
    question = "import site; print(site.getsitepackages(['/usr'])[0])"
    command = [os.path.realpath(sys.executable), "-I", "-c", question]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip().lstrip("/")


def interpreter() -> list[tuple[str, Path]]:
    """The interpreter and its standard library: path in the image, file here."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    program = Path(os.path.realpath(sys.executable))
    found = [(f"usr/bin/{version}", program)]
    base = Path(sysconfig.get_paths()["stdlib"])
    for path in walk(base, _NOT_IN_LIBRARY):
        relative = path.relative_to(base)
        if relative.parts[0].startswith("config-") or _NOT_LOADED.match(path.name) or path.suffix == ".a":
            continue
        found.append((f"{library_home()}/{relative}", path))
    return found


def distributions(more: tuple[str, ...] = ()) -> list[tuple[str, Path]]:
    """The packages that this one needs, and `more`: path in the image, file here.

    Raises:
        MetalImageFailed: one of them is not installed as files.
    """
    found: dict[str, Path] = {}  # some lists name a file twice
    for name in sorted(_closure((*REQUIRED, *more))):
        distribution = importlib.metadata.distribution(name)
        if distribution.files is None:
            raise MetalImageFailed(why=_("Python's {name} has no list of its files").format(name=name))
        for one in distribution.files:
            if ".." in one.parts or "__pycache__" in one.parts or "tests" in one.parts:
                continue
            if ".dist-info" in one.parts[0] and one.name != "METADATA":
                continue
            found[f"{packages_home()}/{one}"] = Path(str(one.locate()))
    return list(found.items())


def _closure(names: Iterable[str]) -> set[str]:
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop().lower().replace("_", "-")
        if name in found or name in LEFT_OUT:
            continue
        try:
            requires = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            if name in REQUIRED:
                raise
            continue  # for another Python or system: its marker is not true here
        found.add(name)
        plain = [one for one in requires if "extra ==" not in one]
        todo += [re.split(r"[^A-Za-z0-9._-]", one, maxsplit=1)[0] for one in plain]
    return found


def own_package() -> list[tuple[str, Path]]:
    """This package: path in the image, file here."""
    base = PACKAGE_HOME / "omtools"
    return [(f"{packages_home()}/omtools/{path.relative_to(base)}", path)
            for path in walk(base, {"__pycache__"})]  # fmt: skip


def commands() -> list[Entry]:
    """A program for each command of this package."""
    found = []
    for path in sorted((PACKAGE_HOME / "omtools" / "commands").glob("[!_]*.py")):
        text = _PROGRAM.format(name=path.stem)
        found.append(cpio.file(f"usr/bin/{path.stem}", text, 0o755))
    return found


def walk(base: Path, without: Iterable[str]) -> Iterator[Path]:
    """The regular files below a directory, in order, except what has one of those names."""
    left_out = set(without)
    for parent, directories, names in os.walk(base):
        directories[:] = sorted(set(directories) - left_out)
        for name in sorted(set(names) - left_out):
            path = Path(parent, name)
            if path.is_file() and path.suffix not in (".pyc", ".pyo"):
                yield path


def libraries(files: Iterable[Path]) -> list[tuple[str, Path]]:
    """The shared libraries that programs of this machine load, and the loader: path in the image, file here.

    Raises:
        MetalImageFailed: ldd fails, or misses one.
    """
    wanted = sorted(str(path) for path in files)
    done = subprocess.run(["ldd", *wanted], capture_output=True, text=True, check=False)
    if missing := re.search(r"(\S+) => not found", done.stdout):
        raise MetalImageFailed(why=_("the library {name} is missing here").format(name=missing[1]))
    found: dict[str, Path] = {}
    for name, path in re.findall(r"^\s(?:(\S+) => )?(/\S+) \(0x", done.stdout, re.MULTILINE):
        # A name with a slash is the loader, which programs name by its whole path.
        found.setdefault(path if not name or "/" in name else name, Path(path))
    if "libc.so.6" not in found:
        raise MetalImageFailed(why=_("ldd tells nothing of {path}").format(path=wanted[0]))
    system = os.path.realpath(found["libc.so.6"].parent)
    placed = []
    for name, path in sorted(found.items()):
        if any(str(path).startswith(f"{home}/") for home in site.getsitepackages()):
            continue  # brought by a package, beside its own modules
        target = name if "/" in name else f"{system}/{name}"
        placed.append((merged(target.lstrip("/")), path))
    return placed


def of_the_c_library(*names: str) -> list[tuple[str, Path]]:
    """Further libraries of this machine's C library: path in the image, file here.

    Raises:
        MetalImageFailed: ldd does not tell where it is.
    """
    known = libraries([Path(os.path.realpath(sys.executable))])
    target, path = next(one for one in known if one[0].endswith("/libc.so.6"))
    return [(f"{target.rpartition('/')[0]}/{name}", path.with_name(name)) for name in names]


def strip(data: bytes) -> bytes:
    """The same program or library without what is for debuggers, where binutils are there to do it."""
    if not elf.is_elf(data) or shutil.which("strip") is None:
        return data
    with tempfile.NamedTemporaryFile() as copy:
        copy.write(data)
        copy.flush()
        done = subprocess.run(["strip", "--strip-debug", "-o", f"{copy.name}.s", copy.name],
                              capture_output=True, check=False)  # fmt: skip
        stripped = Path(f"{copy.name}.s")
        if done.returncode:
            return data
        try:
            return stripped.read_bytes()
        finally:
            stripped.unlink()


def compiled(files: Iterable[tuple[str, Path]]) -> list[Entry]:
    """The bytecode of those files that are Python modules, for the image.

    Raises:
        MetalImageFailed: the compiler failed.
    """
    modules = sorted((path, str(source)) for path, source in files if path.endswith(".py"))
    with tempfile.TemporaryDirectory() as place:
        running = []
        for shard in range(SHARDS):
            part = modules[shard::SHARDS]
            # A fresh interpreter with nothing random in it: marshal's bytes depend on who else
            # refers to a constant (bpo-34093), so they must not depend on what ran before.
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", str(_COMPILER), f"{place}/{shard}"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            running.append((process, part))
        said = [process.communicate(json.dumps(part))[0] for process, part in running]
        for (process, _part), text in zip(running, said, strict=True):
            if process.returncode:
                raise MetalImageFailed(why=(text.strip().splitlines() or ["?"])[-1])
        found = []
        for shard, (_process, part) in enumerate(running):
            for number, (path, _source) in enumerate(part):
                bytecode = Path(place, str(shard), str(number))
                if bytecode.exists():
                    found.append(cpio.file(cached_name(path), bytecode.read_bytes()))
    return found


def cached_name(path: str) -> str:
    """Where the image's Python looks for the bytecode of a module."""
    home, _slash, name = path.rpartition("/")
    return f"{home}/__pycache__/{name.removesuffix('.py')}.{sys.implementation.cache_tag}.pyc"
