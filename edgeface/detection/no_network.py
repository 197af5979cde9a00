"""Running code in threads that cannot reach the internet.

MediaPipe 1.x reports figures on its use to its maker over HTTPS, with no setting to turn that
off. Nothing of edgeface may use a network unless the user asked, so MediaPipe is created in a
thread that the kernel refuses internet sockets; every thread that it starts inherits that. Other
threads of the program are not affected. Linux on x86-64 and 64-bit Arm.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import platform
import socket
import struct
import sys
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["run_without_network"]

T = TypeVar("T")
_log = logging.getLogger(__name__)

# linux/audit.h, and the numbers of socket(2) and seccomp(2), of each machine.
_MACHINES = {"x86_64": (0xC000003E, 41, 317), "aarch64": (0xC00000B7, 198, 277)}
# linux/prctl.h, linux/seccomp.h, linux/bpf_common.h
_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER = 1
_FLAG_SPEC_ALLOW = 4  # without it, older kernels slow the whole thread down
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EACCES
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_AT_NUMBER, _AT_ARCHITECTURE, _AT_FIRST_ARGUMENT = 0, 4, 16


class _Program(ctypes.Structure):
    """``struct sock_fprog`` of linux/filter.h."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def run_without_network(call: Callable[[], T]) -> T:
    """Return what ``call`` returns, run in a new thread that cannot open internet sockets.

    Where the system cannot forbid it, a warning is logged and ``call`` runs all the same.
    """
    job = _Job(call)
    thread = threading.Thread(target=job.run, name="edgeface-no-network")
    thread.start()
    thread.join()
    return job.result()


class _Job(Generic[T]):
    """A call, and how it ended."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._results: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        problem = _forbid_internet_sockets()
        if problem:
            _log.warning(
                "MediaPipe reports figures on its use to its maker, and this system cannot "
                "forbid it (%s); block play.googleapis.com to stop it",
                problem,
            )
        try:
            self._results.append(self._call())
        except BaseException as error:  # noqa: BLE001 - handed over to the caller's thread
            self._error = error

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._results[0]


def _forbid_internet_sockets() -> str:
    """Return why this thread may still open internet sockets; empty when it may not."""
    machine = _MACHINES.get(platform.machine())
    if sys.platform != "linux" or machine is None:
        return f"no filter for {sys.platform} on {platform.machine()}"
    architecture, socket_number, seccomp_number = machine
    code = ctypes.create_string_buffer(_filter(architecture, socket_number))
    program = _Program(len(code.raw) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        flags = _FLAG_SPEC_ALLOW
        if libc.syscall(seccomp_number, _SET_MODE_FILTER, flags, ctypes.byref(program)) == 0:
            return ""
    return f"errno {ctypes.get_errno()}"


def _filter(architecture: int, socket_number: int) -> bytes:
    """Return the filter: refuse socket(AF_INET or AF_INET6, ...), allow everything else."""
    steps = (
        (_LOAD, 0, 0, _AT_ARCHITECTURE),
        (_JUMP_IF_EQUAL, 0, 6, architecture),
        (_LOAD, 0, 0, _AT_NUMBER),
        (_JUMP_IF_EQUAL, 0, 4, socket_number),
        (_LOAD, 0, 0, _AT_FIRST_ARGUMENT),
        (_JUMP_IF_EQUAL, 1, 0, int(socket.AF_INET)),
        (_JUMP_IF_EQUAL, 0, 1, int(socket.AF_INET6)),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    )
    return b"".join(struct.pack("<HBBI", *step) for step in steps)
