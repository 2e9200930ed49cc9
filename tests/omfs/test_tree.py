"""/omfs as a whole: what its top looks like, and the files of several nodes in one tree."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from omfs.support import Service, find, refused
from omtools.omfs.client import RemoteFiles
from omtools.omfs.cluster_files import ClusterFiles
from omtools.omfs.exports import only
from omtools.omfs.local import LocalFiles
from omtools.omfs.operations import NOBODY, ROOT, Caller, Changes, Files, Lock
from omtools.omfs.tree import MAGIC_NAME, PERSONAL, ClusterTree, Kind, Name


class Facts:
    """Process 100 is at home on node 1 and runs on node 2; all others have never left node 1."""

    def __init__(self) -> None:
        self.last_magic: dict[int, int] = {}
        self.choices: dict[int, int | None] = {100: 3}

    def here(self, pid: int) -> int:
        return 2 if pid == 100 else 1

    def home(self, _pid: int) -> int:
        return 1

    def lastexec(self, pid: int) -> int:
        return self.here(pid)

    def selected(self, pid: int) -> int | None:
        return self.choices.get(pid)

    def select(self, pid: int, node: int | None) -> None:
        self.choices[pid] = node

    def magic(self, pid: int) -> int | None:
        return self.last_magic.get(pid)

    def set_magic(self, pid: int, node: int) -> None:
        self.last_magic[pid] = node


AWAY, STAY = Caller(100), Caller(200)


def test_the_top() -> None:
    tree = ClusterTree({2: "mCii", 10: "metrakilate", 1: "node1"})
    assert [name.name for name in tree.names] == [
        b"1", b"2", b"10", b"here", b"home", b"lastexec", b"selected", b"magic", b"select",
        b"node1", b"mCii", b"metrakilate",
    ]  # fmt: skip
    assert tree.find(b"10") == Name(b"10", Kind.NODE, 10)
    assert tree.find(b"mCii") == Name(b"mCii", Kind.LINK, 2)
    assert tree.find(b"3") is None
    assert tree.has(10)
    assert not tree.has(3)


def test_links_lead_where_the_asking_process_belongs() -> None:
    tree, facts = ClusterTree({1: "a", 2: "b"}), Facts()

    def targets(pid: int) -> list[int | None]:
        links = [tree.find(name) for name in (*PERSONAL, b"b")]
        return [ClusterTree.target(link, facts, pid) for link in links if link is not None]

    assert targets(100) == [2, 1, 2, 3, 2]
    assert targets(200) == [1, 1, 1, None, 2]
    assert ClusterTree.magic_nodes(facts, 100) == (2, 2)
    facts.set_magic(100, 1)
    assert ClusterTree.magic_nodes(facts, 100) == (2, 1)


@given(st.dictionaries(st.integers(1, 65535), st.text(max_size=5) | st.sampled_from(["here", "magic", "3", "a/b", ".."])))
def test_every_node_has_its_number_and_no_name_hides_another(nodes: dict[int, str]) -> None:
    tree = ClusterTree(nodes)
    for number in nodes:
        assert tree.find(b"%d" % number) == Name(b"%d" % number, Kind.NODE, number)
    assert tree.find(MAGIC_NAME) == Name(MAGIC_NAME, Kind.MAGIC)
    names = [name.name for name in tree.names]
    assert len(names) == len(set(names))
    assert all(name and b"/" not in name and name not in {b".", b".."} for name in names)


class World:
    """Node 1 is here, node 2 is served, node 3 is down."""

    def __init__(self, top: Path) -> None:
        self.top = top
        for number in (1, 2):
            (top / str(number) / "tmp").mkdir(parents=True)
        self.served = Service(lambda: LocalFiles(only(str(top / "2"))))
        self.nodes = {1: "one", 2: "two", 3: "three"}
        self.facts = Facts()
        self.opened: list[int] = []
        self.files = ClusterFiles(lambda: ClusterTree(self.nodes), self.facts, self.open)

    def open(self, node: int) -> Files:
        self.opened.append(node)
        if node == 1:
            return LocalFiles(only(str(self.top / "1")))
        if node == 2:
            return RemoteFiles(self.served.connect, 60)
        raise OSError(errno.EHOSTDOWN, os.strerror(errno.EHOSTDOWN))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    with contextlib.ExitStack() as stack:
        stack.callback(made.served.close)
        stack.callback(made.files.close)
        yield made


def listing(files: Files, node: int, caller: Caller = NOBODY) -> list[bytes]:
    file = files.opendir(caller, node)
    names, cookie = [], 0
    while found := files.readdirplus(caller, file, cookie, 4):
        names += [plus.listed.name for plus in found if plus.listed.name not in {b".", b".."}]
        cookie = found[-1].listed.cookie
    files.releasedir(file)
    return sorted(names)


def test_files_of_two_nodes_in_one_tree(world: World) -> None:
    files = world.files
    for number in (1, 2):
        tmp = find(files, f"{number}/tmp")
        made = files.create(NOBODY, tmp.node, b"f", os.O_RDWR, 0o644)
        data = b"of node %d" % number
        assert files.write(made.file, 0, data) == len(data)
        assert files.read(made.file, 0, 100) == data
        assert (world.top / str(number) / "tmp" / "f").read_bytes() == data
        assert files.getattr(NOBODY, made.entry.node, made.file) == files.getattr(NOBODY, made.entry.node)
        files.setlk(made.file, 1, Lock(1))
        files.flush(made.file, 1)
        files.release(made.file)
        assert listing(files, tmp.node) == [b"f"]
        assert (files.descriptor(files.open(NOBODY, made.entry.node, os.O_RDONLY)) is None) == (number == 2)
    assert listing(files, ROOT) == sorted(
        [b"1", b"2", b"3", b"here", b"home", b"lastexec", b"selected", b"magic", b"select", b"one", b"two", b"three"]
    )


def test_nodes_do_not_mix(world: World) -> None:
    files = world.files
    one, two = find(files, "1/tmp"), find(files, "2/tmp")
    assert one.node != two.node
    assert one.attributes.ino != two.attributes.ino
    assert one.attributes.dev == two.attributes.dev
    made = [files.create(NOBODY, each.node, b"f", os.O_RDWR, 0o644) for each in (one, two)]
    assert made[0].entry.node != made[1].entry.node
    refused(errno.EXDEV, files.rename, NOBODY, one.node, b"f", two.node, b"g")
    refused(errno.EXDEV, files.link, NOBODY, made[0].entry.node, two.node, b"g")
    refused(errno.EXDEV, files.copy_file_range, made[0].file, 0, made[1].file, 0, 10)
    files.forget([(made[0].entry.node, 1), (made[1].entry.node, 5), (99999, 1)])
    refused(errno.ESTALE, files.getattr, NOBODY, made[0].entry.node)
    assert files.read(made[0].file, 0, 1) == b""


def test_the_inode_number_in_a_listing_is_the_one_of_stat(world: World) -> None:
    files = world.files
    tmp = find(files, "2/tmp")
    made = files.create(NOBODY, tmp.node, b"f", os.O_RDWR, 0o644)
    file = files.opendir(NOBODY, tmp.node)
    inodes = {entry.name: entry.ino for entry in files.readdir(file, 0)}
    assert inodes[b"f"] == made.entry.attributes.ino == files.getattr(NOBODY, made.entry.node).ino
    assert inodes[b"."] == tmp.attributes.ino


def test_links_at_the_top(world: World) -> None:
    files = world.files
    here = files.lookup(AWAY, ROOT, b"here")
    assert stat.S_ISLNK(here.attributes.mode)
    assert files.readlink(AWAY, here.node) == b"2"
    assert files.readlink(STAY, here.node) == b"1"
    selected = files.lookup(STAY, ROOT, b"selected").node
    assert files.readlink(AWAY, selected) == b"3"
    refused(errno.ENOENT, files.readlink, STAY, selected)
    assert files.readlink(NOBODY, files.lookup(NOBODY, ROOT, b"two").node) == b"2"
    refused(errno.ENOTDIR, files.lookup, NOBODY, here.node, b"tmp")


def test_the_top_itself_cannot_be_changed(world: World) -> None:
    files = world.files
    refused(errno.EROFS, files.mkdir, NOBODY, ROOT, b"new", 0o755)
    refused(errno.EROFS, files.create, NOBODY, ROOT, b"new", os.O_RDWR, 0o644)
    refused(errno.EROFS, files.unlink, NOBODY, ROOT, b"here")
    refused(errno.EROFS, files.rename, NOBODY, ROOT, b"one", ROOT, b"uno")
    refused(errno.EROFS, files.setattr, NOBODY, ROOT, Changes(mode=0o777))
    refused(errno.EROFS, files.access, NOBODY, ROOT, os.W_OK)
    refused(errno.ENOENT, files.lookup, NOBODY, ROOT, b"nowhere")
    files.access(NOBODY, ROOT, os.R_OK | os.X_OK)
    assert files.statfs(NOBODY, ROOT).blocks == 0
    assert files.listxattr(NOBODY, ROOT) == ()
    assert stat.S_ISDIR(files.getattr(NOBODY, ROOT).mode)


def test_a_node_that_is_down_is_told_and_the_others_work(world: World) -> None:
    files = world.files
    refused(errno.EHOSTDOWN, files.lookup, NOBODY, ROOT, b"3")
    two = find(files, "2/tmp")
    world.served.stop()
    refused(errno.EHOSTDOWN, files.getattr, NOBODY, two.node)
    assert find(files, "1/tmp").node
    world.served.start()
    refused(errno.ESTALE, files.getattr, NOBODY, two.node)
    again = find(files, "2/tmp")
    assert files.getattr(NOBODY, again.node).ino == two.attributes.ino


def test_a_node_that_leaves_the_cluster(world: World) -> None:
    files = world.files
    two = find(files, "2/tmp")
    made = files.create(NOBODY, two.node, b"f", os.O_RDWR, 0o644)
    del world.nodes[2]
    refused(errno.ENOENT, files.lookup, NOBODY, ROOT, b"2")
    refused(errno.ESTALE, files.getattr, NOBODY, two.node)
    refused(errno.ESTALE, files.read, made.file, 0, 1)
    files.release(made.file)
    files.forget([(two.node, 1)])
    world.nodes[2] = "two"
    assert find(files, "2/tmp").node != two.node
    assert world.opened.count(2) == 2


def test_magic_creates_where_the_process_runs_and_looks_where_it_last_did(world: World) -> None:
    files = world.files
    magic = find(files, "magic/tmp")
    assert stat.S_ISDIR(magic.attributes.mode)
    made = files.create(AWAY, magic.node, b"temporary", os.O_RDWR, 0o600)
    files.write(made.file, 0, b"here")
    assert (world.top / "2" / "tmp" / "temporary").read_bytes() == b"here"
    assert world.facts.last_magic == {100: 2}
    found = files.lookup(AWAY, magic.node, b"temporary")
    assert found.node == made.entry.node == find(files, "2/tmp/temporary").node
    refused(errno.ENOENT, files.lookup, STAY, magic.node, b"temporary")
    assert listing(files, magic.node, AWAY) == [b"temporary"]
    assert listing(files, magic.node, STAY) == []
    files.mkdir(AWAY, magic.node, b"d", 0o755)
    deep = files.lookup(AWAY, magic.node, b"d")
    files.symlink(AWAY, deep.node, b"s", b"x")
    assert os.readlink(world.top / "2" / "tmp" / "d" / "s") == "x"
    assert deep.attributes.ino != find(files, "2/tmp/d").attributes.ino  # to the kernel another directory
    assert files.setattr(AWAY, deep.node, Changes(mode=0o700)).ino == deep.attributes.ino
    files.unlink(AWAY, deep.node, b"s")
    files.rename(AWAY, magic.node, b"d", magic.node, b"e")
    files.rmdir(AWAY, magic.node, b"e")
    files.unlink(AWAY, magic.node, b"temporary")
    assert os.listdir(world.top / "2" / "tmp") == []
    other = files.create(STAY, magic.node, b"mine", os.O_RDWR, 0o600)
    assert (world.top / "1" / "tmp" / "mine").exists()
    assert world.facts.last_magic == {100: 2, 200: 1}
    files.release(other.file)


def test_nothing_is_left_of_what_is_forgotten(world: World) -> None:
    files = world.files
    for _turn in range(20):
        for path in ("1/tmp", "2/tmp", "magic/tmp"):
            entry = find(files, path)
            file = files.opendir(AWAY, entry.node)
            files.readdir(file, 0)
            files.releasedir(file)
            files.forget([(entry.node, 1)])
    assert len(files._handles._places) == 1  # the top itself
    assert files._handles._by_key == {}
    assert files._handles._opened == {}


def test_a_process_chooses_a_node(world: World) -> None:
    files = world.files
    node = files.lookup(STAY, ROOT, b"select").node
    link = files.lookup(STAY, ROOT, b"selected").node
    assert stat.S_ISREG(files.getattr(STAY, node).mode)
    files.access(STAY, node, os.R_OK | os.W_OK)
    refused(errno.EINVAL, files.readlink, STAY, node)
    refused(errno.ENOENT, files.readlink, STAY, link)
    file = files.open(STAY, node, os.O_RDWR | os.O_TRUNC)
    assert files.read(file, 0, 100) == b"0\n"
    for word, number in ((b"2\n", 2), (b"one", 1), (b"3", 3)):
        assert files.write(file, 0, word) == len(word)
        assert files.read(file, 0, 100) == b"%d\n" % number
        assert files.readlink(STAY, link) == b"%d" % number
    buffer = bytearray(10)
    assert files.read_into(file, 1, memoryview(buffer)) == 1
    for word in (b"4", b"", b"here", b"-1", b"1 2", b"select"):
        refused(errno.EINVAL, files.write, file, 0, word)
    assert files.readlink(STAY, link) == b"3"
    files.write(file, 0, b"0\n")
    files.flush(file)
    files.release(file)
    refused(errno.ENOENT, files.readlink, STAY, link)
    assert files.readlink(AWAY, link) == b"3"
