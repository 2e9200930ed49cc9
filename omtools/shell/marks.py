"""How a bash under a pseudo-terminal tells that it waits for a line: an invisible mark in its output.

The mark is an operating system command (ECMA-48, OSC) that no terminal knows, with a random token, so that
no program prints it by chance. The bash reads its lines without echo and unedited, since omsh has edited
them; while a command runs the terminal is as every program expects it. Bash 4.4 (2016) or newer.
"""

from __future__ import annotations

import base64
import shlex
from dataclasses import dataclass

_BEGIN, _END = b"\x1b]7701;", b"\x07"
_LONGEST = 8192  # bytes of a mark; a path has at most 4096

# PS0 is expanded between the reading of a line and its first command, PROMPT_COMMAND before the next is read.
_SETTINGS = r"""
[ -r ~/.bashrc ] && . ~/.bashrc
unset PROMPT_COMMAND HISTFILE
set +H +o history
shopt -s expand_aliases checkwinsize
PS1= PS2=
__omsh_terminal=$(stty -g)
__omsh_idle() {
    local status=$? jobs='\j'
    stty -echo -icanon -isig -ixon
    # What was typed for the command and not read by it is no command line.
    while read -r -t 0; do read -r -N 1024 -t 0.01; done
    printf '\e]7701;%s;%s;%s;%s\a' TOKEN "$status" "${jobs@P}" "$PWD"
}
PROMPT_COMMAND=__omsh_idle
# When the terminal goes away bash may see the end of its input before the hang-up, and forget its jobs.
trap 'for job in $(jobs -p); do kill -HUP -- -$job; kill -CONT -- -$job; done 2>/dev/null' EXIT
PS0='$(stty "$__omsh_terminal")'
"""


@dataclass(frozen=True, slots=True)
class Mark:
    """The shell waits.

    Attributes:
        status: exit status of what it ran last.
        jobs: how many it has in the background.
        directory: its working directory.
    """

    status: int
    jobs: int
    directory: str


def bash_command(token: str) -> str:
    """The command line, for any kind of login shell, that starts the bash."""
    settings = base64.b64encode(_SETTINGS.replace("TOKEN", token).encode()).decode()
    inner = f"exec bash --noediting --noprofile --rcfile <(printf %s {settings} | base64 -d) -i"
    return shlex.join(["bash", "-c", inner])


def as_input(line: str) -> bytes:
    """A command line as the bash is sent it: whatever it holds, it is one complete command."""
    return f"eval {shlex.quote(line)}\n".encode(errors="surrogateescape")


class MarkFilter:
    """Takes marks out of what a shell prints, however it is cut into pieces."""

    def __init__(self, token: str) -> None:
        self._prefix = _BEGIN + token.encode() + b";"
        self._held = b""

    def feed(self, data: bytes) -> list[bytes | Mark]:
        """The next piece of output, as pieces for the eye and marks, in order."""
        self._held += data
        found: list[bytes | Mark] = []
        while (at := self._held.find(self._prefix)) >= 0:
            end = self._held.find(_END, at, at + _LONGEST)
            if end < 0 and len(self._held) - at < _LONGEST:
                break
            mark = _mark(self._held[at + len(self._prefix) : end]) if end >= 0 else None
            if mark is None:  # it only looks like one
                self._emit(found, at + len(self._prefix))
                continue
            self._emit(found, at)
            self._held = self._held[end - at + 1 :]
            found.append(mark)
        safe = at if at >= 0 else len(self._held) - self._beginning()
        self._emit(found, safe)
        return found

    def _emit(self, found: list[bytes | Mark], length: int) -> None:
        if length:
            found.append(self._held[:length])
        self._held = self._held[length:]

    def _beginning(self) -> int:
        """How many bytes at the end may be the beginning of a mark."""
        most = min(len(self._prefix) - 1, len(self._held))
        return next((n for n in range(most, 0, -1) if self._held.endswith(self._prefix[:n])), 0)


def _mark(payload: bytes) -> Mark | None:
    parts = payload.split(b";", 2)
    if len(parts) != 3 or not parts[0].isdigit() or not parts[1].strip().isdigit():
        return None
    return Mark(int(parts[0]), int(parts[1]), parts[2].decode(errors="surrogateescape"))
