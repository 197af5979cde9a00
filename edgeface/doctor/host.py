"""The machine: Python, clock, disk, temperature, processors."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import struct
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from edgeface.doctor.findings import Finding, fault, ok, skipped, warning

__all__ = [
    "check_clock",
    "check_disk",
    "check_processors",
    "check_python",
    "check_temperature",
    "kernel_clock_is_synchronised",
]

_MIN_PYTHON = (3, 10)
# 2026-01-01 and 2100-01-01. A board without a battery for its clock starts in 1970, or on the
# day its image was made.
_EARLIEST_S, _LATEST_S = 1_767_225_600.0, 4_102_444_800.0
# A gallery's commit needs kilobytes; a full disk stops galleries, logs and the audit.
_LITTLE_DISK_BYTES, _LOW_DISK_BYTES = 100 << 20, 1 << 30
# A Raspberry Pi slows down from 80 degrees on, a Jetson from about 97 on.
_WARM_C, _HOT_C = 80.0, 95.0
_LEAST_PLAUSIBLE_C, _MOST_PLAUSIBLE_C = -40.0, 150.0
_TIME_ERROR = 5
"""What adjtimex returns for a clock that nothing keeps right: see man 2 adjtimex."""


def check_python() -> Finding:
    """Return whether Python and the system can run edgeface at all."""
    bits = struct.calcsize("P") * 8
    got = (
        f"Python {platform.python_version()} ({bits} bit) on {platform.system()} "
        f"{platform.release()}, {platform.machine()}"
    )
    if sys.version_info < _MIN_PYTHON or bits != 64:
        return fault(
            "python",
            "interpreter",
            got,
            wanted="Python 3.10 or later, 64 bit",
            fix="install a 64-bit Python 3.10 or later and make a new virtual environment",
        )
    return ok("python", "interpreter", got)


def check_clock(
    now_s: float | None = None, synchronised: Callable[[], bool | None] | None = None
) -> list[Finding]:
    """Return whether the date is plausible, and whether something keeps it right."""
    now_s = time.time() if now_s is None else now_s
    is_date = 0.0 <= now_s < 1e11
    date = time.strftime("%Y-%m-%d", time.gmtime(now_s)) if is_date else "no date"
    if not _EARLIEST_S <= now_s < _LATEST_S:
        found = fault(
            "clock",
            "date",
            date,
            wanted="a date from 2026 on",
            fix="set the clock: schedules of doors stay closed until it is right",
        )
    else:
        found = ok("clock", "date", f"{date} (UTC)")
    return [found, _synchronisation((synchronised or kernel_clock_is_synchronised)())]


def _synchronisation(state: bool | None) -> Finding:
    if state is None:
        return skipped("clock", "synchronisation", "this system does not tell")
    if state:
        return ok("clock", "synchronisation", "the kernel says that the clock is kept right")
    return warning(
        "clock",
        "synchronisation",
        "the kernel says that nothing keeps the clock right",
        wanted="a clock that is set by NTP",
        fix="run `timedatectl set-ntp true`, or set up chrony; without it, times in events and "
        "schedules drift",
    )


def kernel_clock_is_synchronised() -> bool | None:
    """Return whether the kernel holds its clock for right; None where it cannot be asked."""
    if sys.platform != "linux":
        return None
    # struct timex has about 200 bytes; modes = 0 in its first field only reads.
    buffer = ctypes.create_string_buffer(512)
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def check_disk(folders: Mapping[str, Path]) -> list[Finding]:
    """Return how much room is left where edgeface writes; ``folders`` by what they hold."""
    return [_room(what, path) for what, path in folders.items()]


def _room(what: str, path: Path) -> Finding:
    existing = next((one for one in (path, *path.parents) if one.exists()), Path("/"))
    try:
        free = shutil.disk_usage(existing).free
    except OSError as exc:
        return fault(
            "disk", what, f"{exc.strerror}", wanted="a readable disk", fix="check the disk"
        )
    got = f"{free / (1 << 30):.1f} GiB free"
    if not os.access(existing, os.W_OK):
        return warning(
            "disk",
            what,
            f"{existing} cannot be written",
            wanted="a folder that this user may write",
            fix=f"change the owner of {existing}, or name another folder",
        )
    if free < _LOW_DISK_BYTES:
        make = fault if free < _LITTLE_DISK_BYTES else warning
        return make("disk", what, got, wanted="1 GiB or more", fix="make room on this disk")
    return ok("disk", what, got)


def check_temperature(zones: Path = Path("/sys/class/thermal")) -> Finding:
    """Return how warm the warmest part of the machine is that the kernel knows of."""
    readings = [_reading(zone) for zone in sorted(zones.glob("thermal_zone*"))]
    known = [
        (celsius, name)
        for celsius, name in filter(None, readings)
        if _LEAST_PLAUSIBLE_C < celsius < _MOST_PLAUSIBLE_C
    ]
    if not known:
        return skipped("temperature", "thermal zones", "this machine shows none")
    celsius, name = max(known)
    got = f"{celsius:.0f} °C ({name}, the warmest of {len(known)})"
    if celsius < _WARM_C:
        return ok("temperature", "thermal zones", got)
    make = fault if celsius >= _HOT_C else warning
    return make(
        "temperature",
        "thermal zones",
        got,
        wanted=f"below {_WARM_C:.0f} °C",
        fix="give it air or a heat sink: a hot machine runs slower, and drops frames",
    )


def _reading(zone: Path) -> tuple[float, str] | None:
    try:
        milli = int((zone / "temp").read_text())
        name = (zone / "type").read_text().strip()[:40]
    except (OSError, ValueError):
        return None
    return milli / 1000.0, name


def check_processors() -> list[Finding]:
    """Return how many processors this process may use, and what holds it to fewer."""
    count = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else count
    quota = _quota()
    got = f"{usable} of {count} processors"
    got += f", {quota:.1f} by the limit of its control group" if quota is not None else ""
    findings = [ok("threads", "processors", got)]
    given = {name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ}
    if given:
        said = ", ".join(f"{name}={value}" for name, value in given.items())
        findings.append(ok("threads", "environment", said[:200]))
    if quota is not None and quota < usable / 2:
        findings.append(
            warning(
                "threads",
                "limit",
                f"{quota:.1f} processors for {usable} threads",
                wanted="about one thread for each processor",
                fix="pass --threads, or RecognizerOptions(threads=…), with that number",
            )
        )
    return findings


_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def _quota(path: Path = Path("/sys/fs/cgroup/cpu.max")) -> float | None:
    """Return the processors that cgroup v2 grants, None without a limit."""
    try:
        most, period = path.read_text().split()
        return None if most == "max" else int(most) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
