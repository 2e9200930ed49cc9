"""omtools.linux.cgroup on trees as the kernel shows them, of both versions."""

from __future__ import annotations

from pathlib import Path

from omtools.linux.cgroup import MemoryLimit, cpu_limit, groups, memory_limit, own_groups

NEW = "31 23 0:28 {root} {top} rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
OLD = "32 31 0:29 {root} {top} rw,relatime - cgroup cgroup rw,{controllers}\n"
OTHERS = "23 1 8:1 / / rw - ext4 /dev/sda1 rw\n24 1 0:5 / /with\\040space rw - tmpfs none rw\n"


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def test_version_2_and_the_groups_around(tmp_path: Path) -> None:
    inner = tmp_path / "a.slice/b.service"
    write(inner, cpu__max="max 100000", memory__max="max", memory__current="7")
    write(tmp_path / "a.slice", cpu__max="150000 100000", memory__max="1000", memory__current="900")
    write(tmp_path / "a.slice", memory__stat="anon 1\nactive_file 100\ninactive_file 50\nslab 3")
    mounts = OTHERS + NEW.format(root="/", top=tmp_path)
    for controller in ("cpu", "memory"):
        (found,) = groups("0::/a.slice/b.service\n", mounts, controller)
        assert found.path == inner
    assert cpu_limit([found]) == 1.5
    assert memory_limit([found]) == MemoryLimit(1000, 900, 100)
    assert MemoryLimit(1000, 900, 100).left == 200
    assert MemoryLimit(1000, 2000, 0).left == 0


def test_version_1(tmp_path: Path) -> None:
    cpu, memory = tmp_path / "cpu,cpuacct", tmp_path / "memory"
    write(cpu / "x", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    write(cpu, cpu__cfs_quota_us="25000", cpu__cfs_period_us="100000")
    write(memory / "x", memory__limit_in_bytes="5000", memory__usage_in_bytes="4000",
          memory__stat="active_file 1\ntotal_active_file 20\ntotal_inactive_file 10")  # fmt: skip
    write(memory, memory__limit_in_bytes="9223372036854771712")
    memberships = "5:memory:/x\n4:cpu,cpuacct:/x\n1:name=systemd:/x\n0::/\n"
    mounts = OLD.format(root="/", top=cpu, controllers="cpu,cpuacct")
    mounts += OLD.format(root="/", top=memory, controllers="memory") + NEW.format(root="/", top=tmp_path / "unified")
    assert cpu_limit(groups(memberships, mounts, "cpu")) == 0.25
    assert memory_limit(groups(memberships, mounts, "memory")) == MemoryLimit(5000, 4000, 20)


def test_a_container_that_sees_only_its_own_part(tmp_path: Path) -> None:
    write(tmp_path, cpu__max="50000 100000")
    mounts = NEW.format(root="/docker/c0ffee", top=tmp_path)
    assert cpu_limit(groups("0::/docker/c0ffee\n", mounts, "cpu")) == 0.5
    assert cpu_limit(groups("0::/elsewhere\n", mounts, "cpu")) == 0.5  # all that can be seen of it


def test_what_is_not_there_or_nonsense_limits_nothing(tmp_path: Path) -> None:
    mounts = NEW.format(root="/", top=tmp_path)
    for text in ("", "max", "x y", "5 0"):
        write(tmp_path, cpu__max=text, memory__max=text)
        found = groups("0::/\n", mounts, "cpu")
        assert cpu_limit(found) is None
        assert memory_limit(found) is None
    assert groups("", mounts, "cpu") == []
    assert groups("0::/\n", OTHERS, "cpu") == []


def test_this_process() -> None:
    limit = cpu_limit(own_groups("cpu"))
    assert limit is None or limit > 0
    memory = memory_limit(own_groups("memory"))
    assert memory is None or 0 <= memory.left <= memory.limit
