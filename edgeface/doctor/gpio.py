"""The pins of a Raspberry Pi: whether a relay falls when the program that held it is gone."""

from __future__ import annotations

import re
from pathlib import Path

from edgeface.doctor.findings import Finding, ok, skipped, warning

__all__ = ["check_gpio"]

_BOARD = Path("/proc/device-tree/model")
_MODULES = Path("/sys/module")
_COMMAND_LINE = Path("/proc/cmdline")
# A Raspberry Pi 5 has its pins at the RP1, and the other driver for its own needs.
_DRIVERS = ("pinctrl_rp1", "pinctrl_bcm2835")
_PARAMETER = "persist_gpio_outputs"


def check_gpio(
    board: Path = _BOARD, modules: Path = _MODULES, command_line: Path = _COMMAND_LINE
) -> Finding:
    """Return whether this kernel frees a pin whose program died, on a Raspberry Pi.

    Its kernels keep a freed output as it was, so that a relay stays on when the process that held
    its pin is killed: raspberrypi/linux, pull requests 6117 and 6150. Others let go.
    """
    what = "outputs whose program died"
    name = _text(board)
    if "Raspberry Pi" not in name:
        return skipped("gpio", what, "this is no Raspberry Pi")
    keeps = _keeps_outputs(modules, _text(command_line))
    if keeps is False:
        return ok("gpio", what, "the kernel lets go of them")
    return warning(
        "gpio",
        what,
        "the kernel keeps them as they were"
        if keeps
        else "the kernel does not say; those of Raspberry Pi OS keep them as they were",
        wanted="pins that fall, where a relay of a door hangs on one",
        fix="add the line dtparam=strict_gpiod to /boot/firmware/config.txt, and restart",
    )


def _keeps_outputs(modules: Path, command_line: str) -> bool | None:
    """Return whether freed outputs stay as they were; None where the kernel does not say."""
    for driver in _DRIVERS:
        value = _text(modules / driver / "parameters" / _PARAMETER)
        given = re.findall(rf"\b{driver}\.{_PARAMETER}=(\w+)", command_line)
        value = value or (given[-1] if given else "")
        if value:
            return value.lower() not in ("n", "0", "no")
    # The name that the parameter had for a few weeks of 2024, with the opposite meaning.
    strict = _text(modules / "pinctrl_bcm2835" / "parameters" / "strict_gpiod").lower()
    return strict != "y" if strict else None


def _text(path: Path) -> str:
    try:
        return path.read_bytes()[:4096].decode("utf-8", "replace").strip("\0\n ")
    except OSError:
        return ""
