"""ioctl requests of terminals (include/uapi/asm-generic/ioctls.h, arch/x86/include/uapi/asm/ioctls.h).

Where the kernel asks whether the process may touch the terminal at all (drivers/tty/tty_jobctrl.c,
tty_check_change), it matters whether it blocks SIGTTOU: those carry `mask`.
"""

from __future__ import annotations

from omtools.migration.calls.shapes import InBytes, InOutBytes, OutBytes
from omtools.migration.calls.spec import Do, Spec, at_once, forward

_TERMIOS = 36   # asm-generic/termbits.h, the kernel's struct termios
_TERMIOS2 = 44  # asm-generic/termbits.h
_TERMIO = 18    # asm-generic/termios.h
_WINSIZE = 8    # asm-generic/termios.h
_SERIAL = 72    # linux/serial.h, struct serial_struct (its pointer is the kernel's own)
_ICOUNT = 80    # linux/serial.h, struct serial_icounter_struct
_RS485 = 32     # linux/serial.h, struct serial_rs485


def _get(size: int) -> Do:
    return at_once(OutBytes(2, size))


def _put(size: int) -> Do:
    return at_once(InBytes(2, size))


def _change(size: int) -> Do:
    """The ones that job control may stop; those that drain may wait, too."""
    return forward(InBytes(2, size), mask=True)


_STOPPABLE = forward(mask=True)

TERMINALS: dict[int, Spec] = {
    0x5401: _get(_TERMIOS),      # TCGETS
    0x5402: _change(_TERMIOS),   # TCSETS
    0x5403: _change(_TERMIOS),   # TCSETSW
    0x5404: _change(_TERMIOS),   # TCSETSF
    0x5405: _get(_TERMIO),       # TCGETA
    0x5406: _change(_TERMIO),    # TCSETA
    0x5407: _change(_TERMIO),    # TCSETAW
    0x5408: _change(_TERMIO),    # TCSETAF
    0x5409: _STOPPABLE,          # TCSBRK, also tcdrain
    0x540A: _STOPPABLE,          # TCXONC
    0x540B: _STOPPABLE,          # TCFLSH
    0x540C: at_once(),           # TIOCEXCL
    0x540D: at_once(),           # TIOCNXCL
    0x540E: at_once(),           # TIOCSCTTY
    0x540F: _get(4),             # TIOCGPGRP
    0x5410: _change(4),          # TIOCSPGRP
    0x5411: _get(4),             # TIOCOUTQ, SIOCOUTQ
    0x5412: _put(1),             # TIOCSTI
    0x5413: _get(_WINSIZE),      # TIOCGWINSZ
    0x5414: _put(_WINSIZE),      # TIOCSWINSZ
    0x5415: _get(4),             # TIOCMGET
    0x5416: _put(4),             # TIOCMBIS
    0x5417: _put(4),             # TIOCMBIC
    0x5418: _put(4),             # TIOCMSET
    0x5419: _get(4),             # TIOCGSOFTCAR
    0x541A: _put(4),             # TIOCSSOFTCAR
    0x541D: at_once(),           # TIOCCONS
    0x541E: at_once(InOutBytes(2, _SERIAL)),  # TIOCGSERIAL
    0x541F: _put(_SERIAL),       # TIOCSSERIAL
    0x5420: _put(4),             # TIOCPKT
    0x5422: at_once(),           # TIOCNOTTY
    0x5423: _change(4),          # TIOCSETD
    0x5424: _get(4),             # TIOCGETD
    0x5425: _STOPPABLE,          # TCSBRKP
    0x5427: _STOPPABLE,          # TIOCSBRK
    0x5428: _STOPPABLE,          # TIOCCBRK
    0x5429: _get(4),             # TIOCGSID
    0x802C542A: _get(_TERMIOS2),     # TCGETS2
    0x402C542B: _change(_TERMIOS2),  # TCSETS2
    0x402C542C: _change(_TERMIOS2),  # TCSETSW2
    0x402C542D: _change(_TERMIOS2),  # TCSETSF2
    0x542E: at_once(InOutBytes(2, _RS485)),  # TIOCGRS485
    0x542F: at_once(InOutBytes(2, _RS485)),  # TIOCSRS485
    0x80045430: _get(4),         # TIOCGPTN
    0x40045431: _put(4),         # TIOCSPTLCK
    0x80045432: _get(4),         # TIOCGDEV
    0x40045436: at_once(),       # TIOCSIG: the signal's number itself
    0x5437: at_once(),           # TIOCVHANGUP
    0x80045438: _get(4),         # TIOCGPKT
    0x80045439: _get(4),         # TIOCGPTLCK
    0x80045440: _get(4),         # TIOCGEXCL
    0x5441: at_once(),           # TIOCGPTPEER: open flags
    0x5456: _get(_TERMIOS),      # TIOCGLCKTRMIOS
    0x5457: _put(_TERMIOS),      # TIOCSLCKTRMIOS
    0x5459: _get(4),             # TIOCSERGETLSR
    0x545C: forward(),           # TIOCMIWAIT
    0x545D: _get(_ICOUNT),       # TIOCGICOUNT
    # linux/kd.h and linux/vt.h: what programs ask to find out whether they are on a console
    0x4B33: _get(1),             # KDGKBTYPE
    0x4B3B: _get(4),             # KDGETMODE: an int (drivers/tty/vt/vt_ioctl.c)
    0x4B44: _get(4),             # KDGKBMODE: an int
    0x4B64: _get(1),             # KDGKBLED: a char
    0x5600: _get(4),             # VT_OPENQRY
    0x5601: _get(8),             # VT_GETMODE: struct vt_mode
    0x5603: _get(6),             # VT_GETSTATE: struct vt_stat
}
