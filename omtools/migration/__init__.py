"""Moving a process: the protocol, the keepers of both halves, their link, forwarded system calls."""
