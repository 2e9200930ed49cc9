"""Debian packages as sources of files: fetched by the system's apt, unpacked, never installed.

Nobody needs to be root for that. Where the system's package lists are missing or out of date, which is the
rule in containers, apt keeps lists of its own for us below the cache.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from omtools.errors import MetalImageFailed
from omtools.i18n import _
from omtools.lab.metal.cpio import Entry

_PATIENCE = 600.0
_NOT_TAKEN = ("usr/share/doc/", "usr/share/man/", "usr/share/locale/", "usr/share/lintian/", "usr/share/bug/")


class Package(msgspec.Struct, frozen=True):
    """One package as a file.

    Attributes:
        name: of the package.
        file: the name apt gives it.
        size: in bytes.
        sha256: of the file, in hexadecimal.
    """

    name: str
    file: str
    size: int
    sha256: str


def parse_stanzas(text: str) -> dict[str, dict[str, str]]:
    """What `apt-cache show` printed: the fields of each package, by its name; of two, the first."""
    found: dict[str, dict[str, str]] = {}
    for paragraph in text.split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", paragraph, re.MULTILINE))
        if "Package" in fields:
            found.setdefault(fields["Package"], fields)
    return found


def depended_on(fields: Mapping[str, str]) -> list[str]:
    """The packages a package depends on, of alternatives the first."""
    names = []
    for key in ("Pre-Depends", "Depends"):
        for clause in filter(None, fields.get(key, "").split(",")):
            names.append(re.split(r"[\s(:|]", clause.strip(), maxsplit=1)[0])
    return names


def is_library(name: str) -> bool:
    """Whether a package is one of shared libraries, going by Debian's rules for names.

    The C library does not count: it comes from this machine, with its Python.
    """
    return (name.startswith("lib") or name == "zlib1g") and name not in {"libc6", "libc-bin"}


def parse_uris(text: str) -> list[Package]:
    """What `apt-get download --print-uris` printed: 'URL' FILE SIZE SHA256:HEX."""
    found = re.findall(r"^'\S+' (\S+) (\d+) SHA256:([0-9a-f]+)$", text, re.MULTILINE)
    return [Package(file.partition("_")[0], file, int(size), digest) for file, size, digest in found]


class Apt:
    """The system's apt, working below a directory of ours.

    Attributes:
        directory: where packages are kept, and lists if need be.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._options: list[str] = []

    def obtain(self, kernel: str, programs: Sequence[str]) -> tuple[list[Package], list[Package]]:
        """Find packages and download those that are not there; returns all, and the new ones.

        The system's lists may be so old that what they name is no longer to be had: then we get our own.

        Args:
            kernel: as for `find`.
            programs: as for `find`.

        Raises:
            MetalImageFailed: apt does not know them, or cannot get them.
        """
        found = self.find(kernel, programs)
        try:
            return found, self.fetch(found)
        except MetalImageFailed:
            if self._options:
                raise
        self._own_lists()
        found = self.find(kernel, programs)
        return found, self.fetch(found)

    def find(self, kernel: str, programs: Sequence[str]) -> list[Package]:
        """The newest packages of a kernel and of programs with their libraries.

        Args:
            kernel: the package that depends on the newest kernel of its kind.
            programs: packages.

        Raises:
            MetalImageFailed: apt does not know them.
        """
        if not self._knows(kernel, *programs):
            self._own_lists()
        shown = self._show([kernel, *programs])
        wanted = [name for name in depended_on(shown.get(kernel, {})) if name.startswith("linux-image-")]
        todo = [*programs]
        while todo:
            missing = [name for name in todo if name not in shown]
            shown.update(self._show(missing))
            wanted += [name for name in todo if name in shown]  # a virtual package has no file of its own
            names = {one for name in todo for one in depended_on(shown.get(name, {})) if is_library(one)}
            todo = sorted(names - set(wanted))
        return parse_uris(self._run("apt-get", "download", "--print-uris", *dict.fromkeys(wanted)))

    def fetch(self, packages: Iterable[Package]) -> list[Package]:
        """Download those that are not there; returns which.

        Raises:
            MetalImageFailed: apt could not, or the file is not the one that the list promised.
        """
        missing = [one for one in packages if not self._is_here(one)]
        if missing:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._run("apt-get", "download", "-q", *(one.name for one in missing))
        for one in missing:
            if not self._is_here(one):
                why = _("{file} is not to be had any more; `omlab image build --force` looks for newer ones")
                raise MetalImageFailed(why=why.format(file=one.file))
        return missing

    def _is_here(self, package: Package) -> bool:
        try:
            with open(self.directory / package.file, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == package.sha256
        except FileNotFoundError:
            return False

    def _knows(self, *names: str) -> bool:
        try:
            shown = self._show(names)
            wanted = depended_on(shown.get(names[0], {}))[:1]
            # --print-uris needs no network; --simulate of a download does not exist
            return set(names) <= set(shown) and bool(wanted) and self._has_source(wanted[0])
        except MetalImageFailed:
            return False

    def _has_source(self, name: str) -> bool:
        return bool(parse_uris(self._run("apt-get", "download", "--print-uris", name)))

    def _show(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        if not names:
            return {}
        # one unknown name among many is an exit status, and the others are printed all the same
        text = self._run("apt-cache", "show", "--no-all-versions", *names, check=False)
        return parse_stanzas(text)

    def _own_lists(self) -> None:
        base = self.directory / "apt"
        for name in ("lists/partial", "archives/partial"):
            (base / name).mkdir(parents=True, exist_ok=True)
        self._options = [
            "-o", f"Dir::State::Lists={base / 'lists'}", "-o", f"Dir::Cache={base}",
        ]  # fmt: skip
        self._run("apt-get", "update", "-q")

    def _run(self, program: str, *arguments: str, check: bool = True) -> str:
        # The sandbox user of apt cannot write into a directory of ours, and says so at every download.
        command = [program, "-o", "APT::Sandbox::User=root", *self._options, *arguments]
        # Of what lies where it is run, apt-get names no address: it would have nothing to download.
        place = self.directory / "empty" if "--print-uris" in arguments else self.directory
        place.mkdir(parents=True, exist_ok=True)
        try:
            done = subprocess.run(
                command, cwd=place, capture_output=True, text=True, check=False, timeout=_PATIENCE,
                stdin=subprocess.DEVNULL, env=_environment(),
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            why = _("{program} did not end within {seconds} s")
            raise MetalImageFailed(why=why.format(program=program, seconds=int(_PATIENCE))) from None
        if check and done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("E:")]
            said = (errors or done.stderr.splitlines() or [str(done.returncode)])[0]
            raise MetalImageFailed(why=f"{program}: {said.removeprefix('E:').strip()}")
        return done.stdout


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}


class Contents:
    """The files of packages, together.

    Attributes:
        files: by path from the root, those of /lib, /bin, /sbin and /lib64 where they are since they are
            links into /usr.
    """

    def __init__(self, files: Mapping[str, Entry]) -> None:
        self.files = dict(files)

    @classmethod
    def of(cls, paths: Iterable[Path]) -> Contents:
        """Read packages.

        Raises:
            MetalImageFailed: one cannot be read.
        """
        files: dict[str, Entry] = {}
        for path in paths:
            done = subprocess.run(["dpkg-deb", "--fsys-tarfile", path], capture_output=True, check=False)
            if done.returncode:
                said = done.stderr.decode(errors="replace").strip().partition("\n")[0]
                raise MetalImageFailed(why=f"{path.name}: {said}")
            files.update(read_tar(done.stdout))
        return cls(files)

    def library(self, soname: str) -> Entry | None:
        """The shared library of that name, symbolic links followed."""
        for path, entry in self.files.items():
            if path.rpartition("/")[2] == soname and ".so" in soname:
                return self.follow(entry)
        return None

    def follow(self, entry: Entry) -> Entry | None:
        """What an entry is after its symbolic links, under its own path."""
        path, found = entry.path, entry
        for _step in range(8):
            if found.mode & 0o170000 != 0o120000:
                return Entry(entry.path, found.mode, found.data)
            path = _joined(path, found.data.decode())
            if path not in self.files:
                return None
            found = self.files[path]
        return None


def _joined(path: str, target: str) -> str:
    parts = [] if target.startswith("/") else path.split("/")[:-1]
    for part in target.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return merged("/".join(parts))


def merged(path: str) -> str:
    """A path of a package in a root whose /bin, /sbin, /lib and /lib64 are links into /usr."""
    first = path.partition("/")[0]
    return f"usr/{path}" if first in ("bin", "sbin", "lib", "lib64") else path


def read_tar(data: bytes) -> dict[str, Entry]:
    """The regular files and symbolic links of a package, without its documentation."""
    found: dict[str, Entry] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            path = merged(str(Path(member.name)).lstrip("/"))
            if path.startswith(_NOT_TAKEN):
                continue
            if member.issym():
                found[path] = Entry(path, 0o120777, member.linkname.encode())
            elif member.isfile():
                extracted = tar.extractfile(member)
                assert extracted is not None
                found[path] = Entry(path, 0o100000 | member.mode & 0o7777, extracted.read())
            elif member.islnk():
                source = found.get(merged(str(Path(member.linkname)).lstrip("/")))
                if source is not None:
                    found[path] = Entry(path, source.mode, source.data)
    return found
