"""For all tests: whoever leaves a process, a descriptor or a mount behind has failed."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings
from short import of_another_worker

from omtools.linux import namespaces

settings.register_profile("house", deadline=None)  # other tests run on the same processors
settings.load_profile("house")

# In CI everything is at hand that tests need; what may be skipped there all the same:
_MAY_SKIP = (
    "root is not forbidden anything",
    "this kernel does not tell where a process sleeps",
    "no device here can be mapped",
)

_WRONGLY_SKIPPED = 8  # pytest's own statuses end with 5; this one is no reason to try again
_DYING_MS = 2000  # for a process whose end was asked for and has not been seen yet


class Belongings(NamedTuple):
    """What this process has."""

    children: frozenset[int]
    descriptors: frozenset[tuple[int, str]]
    mounts: frozenset[str]


def _children() -> frozenset[int]:
    found: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            found.update(map(int, Path(f"/proc/self/task/{thread}/children").read_text().split()))
    return frozenset(found)


def _descriptors() -> frozenset[tuple[int, str]]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own
            found.append((int(name), os.readlink(f"/proc/self/fd/{name}")))
    return frozenset(found)


def _threads() -> list[str]:
    """What may have opened something while a test ran that did not."""
    return [repr(thread) for thread in threading.enumerate()]


def _belongings() -> Belongings:
    lines = Path("/proc/self/mountinfo").read_bytes().decode(errors="replace").split("\n")
    mounts = frozenset(line for line in lines if not of_another_worker(line))
    return Belongings(_children(), _descriptors(), mounts)


def _left(before: Belongings) -> Belongings:
    now = _belongings()
    return Belongings(
        now.children - before.children, now.descriptors - before.descriptors, now.mounts - before.mounts
    )


def _await_end(pids: frozenset[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            poller.poll(_DYING_MS)
            os.close(pidfd)


def _end(pids: frozenset[int]) -> None:
    """So that the next test does not inherit them."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """After every test there are no children, descriptors and mounts that were not there before it.

    Only what belongs to this very process is looked at, so tests may run side by side (pytest-xdist).
    """
    before = _belongings()
    yield
    if not any(_left(before)):
        return
    gc.collect()  # what only waits for its collection is no leak
    _await_end(_children() - before.children)
    children, descriptors, mounts = _left(before)
    _end(_children() - before.children)
    assert not children, f"processes left behind: {sorted(children)}"
    assert not descriptors, f"descriptors left open: {sorted(descriptors)}, of {_threads()}"
    assert not mounts, f"mounts left: {sorted(mounts)}"


def pytest_configure() -> None:
    """Programs speak English to tests, whatever the tester speaks.

    As root, what this process mounts is seen by nobody else, so tests that mount may run side by side.
    """
    os.environ["LANGUAGE"] = "en"
    os.environ["PATH"] += ":/usr/sbin:/sbin"  # where an ordinary user has dnsmasq, but no path leads
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):  # root of a container may not
            namespaces.unshare(namespaces.Clone.NEWNS)
            namespaces.mount(None, "/", None, namespaces.Mount.REC | namespaces.Mount.SLAVE)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skip that should not be is a failure: a test that never runs shows nothing."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("CI") or reporter is None or hasattr(session.config, "workerinput"):
        return
    for report in reporter.stats.get("skipped", []):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if not any(allowed in reason for allowed in _MAY_SKIP):
            reporter.write_line(f"CI must not skip {report.nodeid}: {reason}", red=True)
            session.exitstatus = _WRONGLY_SKIPPED
