"""Stores an object twice where the file system has no hard links: a child process of the tests.

A seccomp filter refuses link and linkat as exFAT, SMB and FUSE file systems do.
"""

import asyncio
import ctypes
import errno
import os
import struct
import sys

from service.imaging.object_store import open_store, put_once

LINK, LINKAT = {"x86_64": (86, 265)}.get(os.uname().machine, (37, 37))
"""Numbers of the system calls; ARM has linkat alone."""

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # of the number of the system call, which comes first
REFUSE, ALLOW = 0x00050000 | errno.EPERM, 0x7FFF0000


def refuse_hard_links() -> None:
    program = [(LOAD, 0, 0, 0), (JUMP_IF_EQUAL, 1, 0, LINK), (JUMP_IF_EQUAL, 0, 1, LINKAT)]
    program += [(RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)]
    instructions = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(instructions))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_ulong]
    if prctl(PR_SET_NO_NEW_PRIVS, 1, None, 0, 0) or prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0):
        sys.exit("no seccomp")


async def main(address: str) -> None:
    store = open_store(address)
    refuse_hard_links()
    try:
        os.link(__file__, f"{__file__}.link")
    except PermissionError:
        print(await put_once(store, "a/b.png", b"first"), await put_once(store, "a/b.png", b"second"))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
