"""Which NVIDIA GPUs this machine has: asked before any library that dies without one."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from edgeface.errors import BackendError

__all__ = ["CudaDevice", "CudaProbe", "CudaState", "probe_cuda", "require_cuda"]

# A cold driver of a large machine takes some seconds to start.
_TIMEOUT_S = 60.0
_NO_DEVICE = 100
_PROBE = Path(__file__).with_name("cuda_probe.py")


class CudaState(str, Enum):
    """Whether there is a GPU that can be used, and if not, what is missing."""

    READY = "ready"
    NO_DRIVER = "no driver"
    NO_DEVICE = "no device"
    BROKEN_DRIVER = "broken driver"


@dataclass(frozen=True, slots=True)
class CudaDevice:
    """A GPU.

    ``uuid`` is 32 hexadecimal digits. ``integrated`` ones share the CPU's memory. ``driver`` is
    the newest CUDA version it knows and, where the system tells, its own ("13.0 580.65.06").
    """

    index: int
    name: str
    uuid: str
    compute_capability: str
    integrated: bool
    driver: str


@dataclass(frozen=True, slots=True)
class CudaProbe:
    """What the driver said; ``detail`` is its reason when ``state`` is not ``READY``."""

    state: CudaState
    devices: tuple[CudaDevice, ...] = ()
    detail: str = ""


@cache
def probe_cuda() -> CudaProbe:
    """Return what the driver says of this machine's GPUs; never raises and cannot crash.

    It is asked once, in a process of its own: a driver that ends the process that asks is a
    ``BROKEN_DRIVER`` here.
    """
    # Nothing but the standard library: an installed package's start-up file could itself fail.
    command = [sys.executable, "-I", "-S", str(_PROBE)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return CudaProbe(CudaState.BROKEN_DRIVER, detail=f"the driver cannot be asked: {error}")
    if done.returncode != 0:
        detail = f"asking it ended with status {done.returncode}"
        return CudaProbe(CudaState.BROKEN_DRIVER, detail=detail)
    try:
        return _read(json.loads(done.stdout))
    except (ValueError, KeyError, TypeError) as error:
        return CudaProbe(CudaState.BROKEN_DRIVER, detail=f"its answer makes no sense: {error!r}")


def require_cuda(index: int = 0) -> CudaDevice:
    """Return the GPU with this index.

    Raises:
        BackendError: There is none; one line says what is missing and what to do.
    """
    probe = probe_cuda()
    if probe.state is not CudaState.READY:
        raise BackendError(_MISSING[probe.state].format(detail=probe.detail))
    if not 0 <= index < len(probe.devices):
        known = ", ".join(f"{each.index} ({each.name})" for each in probe.devices)
        raise BackendError(f"there is no GPU {index}, choose one of {known}")
    return probe.devices[index]


_MISSING = {
    CudaState.NO_DRIVER: "no NVIDIA driver on this machine ({detail}); install NVIDIA's driver "
    "(on a Jetson: JetPack), or use another backend",
    CudaState.NO_DEVICE: "the NVIDIA driver is here but finds no GPU ({detail}); make one visible "
    "(CUDA_VISIBLE_DEVICES, a container's --gpus), or use another backend",
    CudaState.BROKEN_DRIVER: "the NVIDIA driver does not work ({detail}); `nvidia-smi` may say "
    "more; install it again, or use another backend",
}


def _read(answer: dict[str, Any]) -> CudaProbe:
    if "error" in answer:
        state = {-1: CudaState.NO_DRIVER, _NO_DEVICE: CudaState.NO_DEVICE}
        return CudaProbe(
            state.get(answer["code"], CudaState.BROKEN_DRIVER), detail=str(answer["error"])
        )
    driver = str(answer["driver"])
    devices = tuple(CudaDevice(**entry, driver=driver) for entry in answer["devices"])
    if not devices:
        return CudaProbe(CudaState.NO_DEVICE, detail="it counts 0")
    return CudaProbe(CudaState.READY, devices)
