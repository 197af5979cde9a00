"""Video devices of Linux: which camera is behind a number, and whether it is one."""

from __future__ import annotations

import os
import re
from pathlib import Path

from edgeface.errors import CameraError

__all__ = ["device_now", "path_of_device", "refuse_virtual"]

_LINKS = Path("/dev/v4l/by-path")
_DEVICES = Path("/sys/class/video4linux")
_NUMBER = re.compile(r"video(\d{1,3})")


def path_of_device(index: int, links: Path = _LINKS) -> str | None:
    """Return the link that stands for the plug of /dev/video``index``, None where there is none.

    Numbers change when cameras are plugged in and out; the plug stays.
    """
    try:
        found = sorted(links.iterdir())
    except OSError:
        return None
    for link in found:
        if os.path.realpath(link).endswith(f"/video{index}"):
            return str(link)
    return None


def device_now(index: int, by_path: str | None) -> int:
    """Return the number that the camera at the plug ``by_path`` has now; ``index`` without one.

    Raises:
        CameraError: Nothing is plugged in there.
    """
    if by_path is None:
        return index
    match = _NUMBER.fullmatch(Path(os.path.realpath(by_path)).name)
    if match is None or not Path(by_path).exists():
        raise CameraError(f"webcam {index} is not plugged in any more; plug it in where it was")
    return int(match.group(1))


def refuse_virtual(index: int, devices: Path = _DEVICES) -> None:
    """Return if /dev/video``index`` is a device, as far as the system tells.

    Raises:
        CameraError: It is made by a program (v4l2loopback, OBS): who can write to it decides what
            is seen.
    """
    where = os.path.realpath(devices / f"video{index}")
    if "/devices/virtual/" not in where:
        return
    try:
        name = (devices / f"video{index}" / "name").read_text(errors="replace").strip()
    except OSError:
        name = "no name"
    raise CameraError(
        f"webcam {index} is not a camera but a program's ({name[:60]!r}); whoever can write to it "
        "decides what is seen; set allow_virtual to use it all the same"
    )
