"""Programs that people use, moved again and again: the same output, the same end."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from . import counting
from .journey import Traveller, build, running
from .nest import Nest

COMMANDS = {
    "sort": "sort --parallel=1 -S 8M words | md5sum",
    "xz": "xz -T1 -1 -c words | sha256sum",
    "gzip": "gzip -c words | gzip -dc | md5sum",
    "awk": "awk '{n[substr($0,1,3)]++} END {for (k in n) print k, n[k]}' words | sort",
    "perl": "perl -ne '$n{substr($_,0,2)}++; END {print \"$_ $n{$_}\\n\" for sort keys %n}' words",
    "bc": "echo 'scale=1500; 4*a(1)' | bc -l",
    "sqlite": "sqlite3 base 'create table t(a,b); with recursive c(i) as (select 1 union all select i+1 from c"
              " where i<200000) insert into t select i, i*7919%10007 from c; select sum(a*b), count(distinct b)"
              " from t; select count(*) from t x where b in (select a from t where a%17=3);'",
    "tar": "tar cf - stuff | tar tf - | md5sum",
    "sha256sum": "cat words words words words words words words words words words words words | sha256sum",
    "shell": "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; echo $i; for f in a b c; do echo $f; done",
    "grep": "grep -c 'a.*b.*[0-9]*7' words; sed -n 's/a\\(.\\)/\\1a/gp' words | md5sum",
    "dd": "dd if=words bs=777 status=none | dd bs=1000 status=none | md5sum",
}  # fmt: skip
NEEDS = {"sqlite": "sqlite3", "bc": "bc", "perl": "perl", "xz": "xz"}
PYTHON = """
import hashlib, json, re, zlib, decimal, subprocess, os, time
from collections import Counter
text = open("words", "rb").read()
for round in range(3):
    counts = Counter(re.findall(rb"[a-f]+", text[round * 1000:]))
    print(round, len(counts), counts.most_common(3), flush=True)
    print(hashlib.sha256(zlib.compress(text, 6)).hexdigest(), flush=True)
    decimal.getcontext().prec = 300
    print(decimal.Decimal(2 + round).sqrt().exp(), flush=True)
    print(json.dumps({str(k): v for k, v in counts.items()}, sort_keys=True)[:200])
    print(subprocess.run(["echo", str(round)], capture_output=True).stdout, os.listdir("stuff")[:0], flush=True)
"""


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Something to work on."""
    folder = tmp_path_factory.mktemp("material")
    value = 12345
    lines = []
    for _line in range(120_000):
        value = value * 1103515245 + 12345 & 0x7FFFFFFF
        lines.append(f"{value:x} {value % 977} {'abcdef'[value % 6] * (value % 5)}\n")
    (folder / "words").write_text("".join(lines))
    (folder / "stuff").mkdir()
    for number in range(40):
        (folder / "stuff" / str(number)).write_text("".join(lines[number * 100 : number * 110]))
    return folder


_ENOUGH = 25  # moves; what has not gone wrong by then was in the same states before


async def _always_moving(nest: Nest, pid: int) -> int:
    """There and back and to a third node for as long as it lives, or often enough; returns how often."""
    moves = 0
    traveller = Traveller(nest, pid)
    while moves < _ENOUGH:
        for node in (2, 1, 2, 3, 1):
            try:
                await traveller.go([node])
            except (AssertionError, EOFError, OSError):
                assert _over(pid), "it could not move"
                return moves
            except Exception as error:
                if type(error).__name__ in ("NoSuchProcess", "ZombieProcess"):
                    return moves
                raise
            moves += 1
    return moves


def _over(pid: int) -> bool:
    """It is gone, or ends within a moment."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 1)[0])
    finally:
        os.close(descriptor)


async def _moved_all_the_way(nest: Nest, command: list[str | Path], folder: Path) -> tuple[bytes, int, int]:
    async with running(*command, cwd=folder) as process:
        assert process.stdout is not None
        moving = asyncio.create_task(_always_moving(nest, process.pid))
        output = await process.stdout.read()
        status = await process.wait()
        return output, status, await moving


@pytest.mark.parametrize("name", COMMANDS)
async def test_pipelines(nest: Nest, tmp_path: Path, material: Path, name: str) -> None:
    """The shell is moved with whatever it does; its children stay."""
    if NEEDS.get(name) and not shutil.which(NEEDS[name]):
        pytest.skip(f"{NEEDS[name]} is not installed")
    results = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        for thing in ("words", "stuff"):
            (folder / thing).symlink_to(material / thing)
    command = COMMANDS[name]
    undisturbed = subprocess.run(["sh", "-c", command], cwd=tmp_path / "a", capture_output=True, check=False)
    results.append((undisturbed.stdout, undisturbed.returncode))
    output, status, _moves = await _moved_all_the_way(nest, ["sh", "-c", command], tmp_path / "b")
    assert (output, status) == results[0]


SINGLE = {
    "sort": ["sort", "--parallel=1", "-S", "8M", *["words"] * 4],
    "xz": ["xz", "-T1", "-3", "-c", "words"],
    "gzip": ["gzip", "-9", "-n", "-c", "words"],
    "awk": ["awk", "{n[$2]+=length($1)} END {for (i=0;i<977;i++) print i, n[i]}", *["words"] * 15],
    "perl": ["perl", "-ne", "$n{$_ % 97} .= $_ for split; END {print length $n{$_}, qq(\\n) for sort keys %n}", *["words"] * 4],
    "sha256sum": ["sha256sum", *["words"] * 150],
    "tar": ["tar", "cf", "-", "--dereference", "--mtime=@0", *["stuff", "words"] * 400],
    "python": [sys.executable, "-c", PYTHON],
    "sqlite": ["sqlite3", "base", "create table t(a,b); with recursive c(i) as (select 1 union all select i+1 from "
               "c where i<150000) insert into t select i, i*7919%10007 from c; create index x on t(b); "
               "select sum(a*b), count(distinct b) from t;"],
}  # fmt: skip


_ATTEMPTS = 6  # a fast machine may be done with a program before it is moved once


@pytest.mark.parametrize("name", SINGLE)
async def test_single_programs(nest: Nest, tmp_path: Path, material: Path, name: str) -> None:
    """The worker itself is moved all the time."""
    if not shutil.which(SINGLE[name][0]):
        pytest.skip(f"{SINGLE[name][0]} is not installed")
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        for thing in ("words", "stuff"):
            (folder / thing).symlink_to(material / thing)
    undisturbed = subprocess.run(SINGLE[name], cwd=tmp_path / "a", capture_output=True, check=False)
    command: list[str | Path] = [*SINGLE[name]]
    for _attempt in range(_ATTEMPTS):
        output, status, moves = await _moved_all_the_way(nest, command, tmp_path / "b")
        assert status == undisturbed.returncode == 0
        assert output == undisturbed.stdout
        if moves:
            return
        (tmp_path / "b" / "base").unlink(missing_ok=True)  # sqlite's
    pytest.fail("it was over before it could be moved, every time")


def test_what_a_counting_program_says_is_known_without_it(workshop: Path) -> None:
    program = build("steady", workshop)
    for lines in (0, 1, 300):
        done = subprocess.run([program, str(lines)], capture_output=True, check=False, text=True)
        assert done.stdout == counting.steady(lines)


@pytest.mark.timeout(300)
async def test_there_and_back_a_hundred_times_under_load(nest: Nest, workshop: Path) -> None:
    program = build("steady", workshop)
    async with running(program) as process:
        assert process.stdin is not None
        load = [await asyncio.create_subprocess_exec("sh", "-c", "while :; do :; done") for _cpu in
                range(os.cpu_count() or 1)]  # fmt: skip
        try:
            traveller = Traveller(nest, process.pid)
            for _round in range(100):
                await traveller.go([2, 1])
        finally:
            for busy in load:
                busy.kill()
                await busy.wait()
        process.stdin.write(b"x")
        assert process.stdout is not None
        said = await process.stdout.read()
        assert await process.wait() == 7
    assert said.decode() == counting.steady(said.count(b"\n") - 1)


async def test_a_sleeper_fifty_times(nest: Nest) -> None:
    async with running("sleep", "6") as process:
        traveller = Traveller(nest, process.pid)
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _round in range(25):
            await traveller.go([2, 1])
        moving = loop.time() - began
        assert await process.wait() == 0
        assert 5.5 < loop.time() - began < max(6, moving) + 2.5  # begun anew it would be six more
