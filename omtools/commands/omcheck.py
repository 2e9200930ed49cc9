"""``omcheck``: what this machine and user can do, each thing tried out, and what to do about the rest."""

from __future__ import annotations

import os
import resource
import sys
from dataclasses import dataclass
from typing import Literal

from omtools.commands import _probes as probes
from omtools.commands._common import parser, print_json, run
from omtools.i18n import N_, _

Group = Literal["needed", "better", "set up"]


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
        name: for programs that read --json; never changes.
        group: how much depends on it.
        title: what it is.
        cost: what does not work without it.
        remedy: how to get it.
        probe: tries it.
    """

    name: str
    group: Group
    title: str
    cost: str
    remedy: str
    probe: probes.Probe


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    check: Check
    present: bool
    detail: str


_CONTAINER = N_("A container or sandbox forbids it: allow it there (docker: --cap-add SYS_PTRACE "
                "--security-opt seccomp=unconfined), or work outside.")  # fmt: skip
_NEWER = N_("It comes with a newer kernel.")
_CONFIG = N_("The kernel was built without it: take your distribution's ordinary kernel.")
_USERNS = N_("As root: sysctl kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), "
             "kernel.unprivileged_userns_clone=1 (Debian), user.max_user_namespaces=15000; or run the agent "
             "as root.")  # fmt: skip

CHECKS: tuple[Check, ...] = (
    Check("kernel", "needed", N_("Linux 5.14 or later"), N_("Nothing works."),
          N_("Install a newer kernel."), probes.kernel),
    Check("x86_64", "needed", N_("a 64-bit x86 processor"),
          N_("Nothing works: other processors are not supported."), N_("Use another machine."),
          probes.processor),
    Check("ptrace_child", "needed", N_("tracing a process (ptrace)"), N_("No process can leave this node."),
          _CONTAINER, probes.trace_child),
    Check("rseq", "needed", N_("reading a thread's rseq area (PTRACE_GET_RSEQ_CONFIGURATION)"),
          N_("No process with a modern C library can leave this node."), _NEWER, probes.rseq),
    Check("proc_mem", "needed", N_("another process's memory (/proc/PID/mem, pagemap)"),
          N_("No process can leave or arrive."), _CONTAINER, probes.process_memory),
    Check("process_vm", "needed", N_("another process's memory (process_vm_readv)"),
          N_("System calls cannot be forwarded."), _CONTAINER, probes.process_vm),
    Check("seccomp_notify", "needed", N_("answering another process's system calls (seccomp notification)"),
          N_("This node takes no guests."), _CONTAINER, probes.notification),
    Check("seccomp_continue", "needed", N_("letting a notified call go on"), N_("This node takes no guests."),
          _NEWER, probes.notification_continue),
    Check("pidfd_getfd", "needed", N_("taking a copy of another process's descriptor (pidfd_getfd)"),
          N_("This node takes no guests."), _CONTAINER, probes.pidfd_getfd),
    Check("namespaces", "needed", N_("user, pid, mount, network, ipc and uts namespaces"),
          N_("This node takes no guests: there is no cage for them; the lab has plain nodes only."),
          _USERNS, probes.namespaces),
    Check("set_tid", "needed", N_("a process with a chosen pid (clone3 set_tid)"),
          N_("This node takes no guests: they could not keep their pid."), _USERNS, probes.chosen_pid),
    Check("time_namespace", "needed", N_("a time namespace"),
          N_("This node takes no guests: their clock would jump."), _CONFIG, probes.time_namespace),
    Check("set_mm_map", "needed", N_("setting a process's memory figures (PR_SET_MM_MAP)"),
          N_("Guests cannot be built."), _CONFIG, probes.memory_map),
    Check("memfd_exec", "needed", N_("a program in memory (memfd, execveat)"), N_("Guests cannot be built."),
          N_("As root: sysctl vm.memfd_noexec=0."), probes.memory_program),
    Check("ptrace_any", "better", N_("tracing processes that the agent did not start"),
          N_("Only what was started by the agent, mosrun or a lab's shell can migrate (in the lab: all)."),
          N_("As root: sysctl kernel.yama.ptrace_scope=0, or run the agent as root."), probes.trace_any),
    Check("seccomp_sync", "better", N_("quick switching at notifications (FD_SYNC_WAKE_UP, Linux 6.6)"),
          N_("Each forwarded system call costs 30 µs more."), _NEWER, probes.notification_sync),
    Check("seccomp_addfd", "better", N_("giving another process a descriptor (ADDFD)"),
          N_("No direct file access (DFSA): all file calls of guests go home."), _NEWER,
          probes.notification_addfd),
    Check("userfaultfd", "better", N_("serving page faults (userfaultfd)"),
          N_("No post-copy: a process moves only after all its memory has."),
          N_("As root: sysctl vm.unprivileged_userfaultfd=1; in a container allow the system call."),
          probes.userfaultfd),
    Check("lab_proc", "better", N_("a /proc for each node of the lab"),
          N_("`omlab` has plain nodes only: they share pids, /tmp and network with this machine."),
          _USERNS, probes.lab_node),
    Check("fuse", "better", "/dev/fuse",
          N_("/omfs cannot be mounted; its files can be reached by sftp only."),
          N_("As root: modprobe fuse, chmod 666 /dev/fuse; in a container pass the device in."),
          probes.device("/dev/fuse")),
    Check("tun", "better", "/dev/net/tun",
          N_("The metal lab's machines can talk with each other only, not with this one."),
          N_("As root: modprobe tun, chmod 666 /dev/net/tun; in a container pass the device in."),
          probes.device("/dev/net/tun")),
    Check("qemu", "better", "QEMU", N_("No metal lab (two emulated machines, one booting from the other)."),
          N_("Install qemu-system-x86."), probes.program("qemu-system-x86_64", "qemu-kvm")),
    Check("ps", "better", "ps", N_("`mps` has nothing to add its column to."), N_("Install procps."),
          probes.program("ps")),
    Check("nofile", "better", N_("4096 open files"), N_("Few processes can be away at the same time."),
          N_("Raise nofile in /etc/security/limits.conf, or LimitNOFILE of the service."),
          probes.limit(resource.RLIMIT_NOFILE, 4096)),
    Check("nproc", "better", N_("1024 processes"), N_("Few processes can be away at the same time."),
          N_("Raise nproc in /etc/security/limits.conf, or TasksMax of the service."),
          probes.limit(resource.RLIMIT_NPROC, 1024)),
    Check("memlock", "better", N_("64 KB of locked memory"),
          N_("Guests that lock memory (gpg) are refused their lock."),
          N_("Raise memlock in /etc/security/limits.conf."), probes.limit(resource.RLIMIT_MEMLOCK, 65536)),
    Check("map", "set up", N_("a map of the cluster"), N_("This node knows no other."),
          N_("Write one (`1 192.168.1.1 2` is two nodes), or work in a lab: `omlab up`."),
          probes.map_configured),
    Check("agent", "set up", N_("an agent that answers"), N_("Nothing can be asked to migrate here."),
          N_("Start it with `openmosix start`, or work in a lab: `omlab up`, then `omlab shell mCii`."),
          probes.agent_reachable),
)  # fmt: skip

_HEADINGS: dict[Group, str] = {
    "needed": N_("Needed"),
    "better": N_("Better with it"),
    "set up": N_("Set up"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_omcheck, arguments)


def _omcheck(arguments: list[str]) -> int:
    what = _("Try out everything that migration needs of this machine and user. Exit status 1: something "
             "needed is missing.")  # fmt: skip
    options = parser("omcheck", what)
    options.add_argument("--json", action="store_true", help=_("print the findings as JSON"))
    given = options.parse_args(arguments)
    findings = [Finding(check, *probes.attempt(check.probe)) for check in CHECKS]
    works = all(finding.present for finding in findings if finding.check.group == "needed")
    if given.json:
        print_json({"works": works, "checks": [_as_json(finding) for finding in findings]})
    else:
        _print_table(findings)
        _print_verdict(findings)
    return 0 if works else 1


def _as_json(finding: Finding) -> dict[str, object]:
    check = finding.check
    return {
        "name": check.name,
        "group": check.group,
        "title": _(check.title),
        "present": finding.present,
        "detail": finding.detail,
        "cost": "" if finding.present else _(check.cost),
        "remedy": "" if finding.present else _(check.remedy),
    }


def _print_table(findings: list[Finding]) -> None:
    from rich.console import Console  # noqa: PLC0415 - a third of this command's start, and not for --json
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for group, heading in _HEADINGS.items():
        table.add_row("", f"[bold]{escape(_(heading))}[/bold]")
        for finding in findings:
            if finding.check.group == group:
                table.add_row(_mark(finding), escape(_words(finding)))
        table.add_row("", "")
    Console(highlight=False).print(table)


def _mark(finding: Finding) -> str:
    if finding.present:
        return f"[green]{_('yes')}[/green]"
    if finding.check.group == "needed":
        return f"[bold red]{_('NO')}[/bold red]"
    return f"[yellow]{_('no')}[/yellow]"


def _words(finding: Finding) -> str:
    check = finding.check
    title = f"{_(check.title)} ({finding.detail})" if finding.detail else _(check.title)
    return title if finding.present else f"{title}\n{_(check.cost)} {_(check.remedy)}"


def _print_verdict(findings: list[Finding]) -> None:
    missing = [finding for finding in findings if not finding.present]
    needed = [finding for finding in missing if finding.check.group == "needed"]
    who = _("root") if os.geteuid() == 0 else _("this user")
    if needed:
        print(_("Processes of {who} cannot migrate here: {count} of what is needed is missing.").format(
            who=who, count=len(needed)))  # fmt: skip
    else:
        print(_("Processes of {who} can migrate here.").format(who=who))


if __name__ == "__main__":
    sys.exit(main())
