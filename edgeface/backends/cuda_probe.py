"""Asks the NVIDIA driver what GPUs there are; run in a process of its own.

A driver that does not fit its GPU can end the process that asks it, so this file is run by
:mod:`edgeface.backends.cuda_device` as a program and prints one line of JSON. It needs nothing but
the standard library.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

__all__ = ["ask_driver"]

# Numbers of cuda.h, which never change.
_CC_MAJOR, _CC_MINOR, _INTEGRATED = 75, 76, 18
_NAME_BYTES, _UUID_BYTES = 256, 16
_MODULE_VERSION = "/sys/module/nvidia/version"


def ask_driver() -> dict[str, Any]:
    """Return ``{"driver", "devices"}``, or ``{"error", "code"}`` of the step that failed.

    ``code`` is CUDA's error number, or -1 where the driver's library cannot be loaded.
    """
    try:
        library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
        cuda = ctypes.CDLL(library)
    except OSError as error:
        return {"error": " ".join(str(error).split()), "code": -1}
    count, version = ctypes.c_int(0), ctypes.c_int(0)
    steps: tuple[tuple[str, Any], ...] = (
        ("cuInit", 0),
        ("cuDriverGetVersion", ctypes.byref(version)),
        ("cuDeviceGetCount", ctypes.byref(count)),
    )
    for name, argument in steps:
        code = int(getattr(cuda, name)(argument))
        if code != 0:
            return {"error": f"{name} gave error {code}", "code": code}
    return {
        "driver": _driver(version.value),
        "devices": [_device(cuda, index) for index in range(count.value)],
    }


def _driver(cuda_version: int) -> str:
    words = [f"{cuda_version // 1000}.{cuda_version % 1000 // 10}"]
    try:
        with open(_MODULE_VERSION, encoding="ascii") as file:  # noqa: PTH123 - this file imports little
            words.append(file.read(64).strip())
    except OSError:
        pass  # A Jetson and Windows have no such file; there the CUDA version is all there is.
    return " ".join(words)


def _device(cuda: ctypes.CDLL, index: int) -> dict[str, Any]:
    handle = ctypes.c_int(0)
    name = ctypes.create_string_buffer(_NAME_BYTES)
    uuid = ctypes.create_string_buffer(_UUID_BYTES)
    cuda.cuDeviceGet(ctypes.byref(handle), index)
    cuda.cuDeviceGetName(name, _NAME_BYTES, handle)
    # The second version tells the slices of a divided GPU apart.
    get_uuid = getattr(cuda, "cuDeviceGetUuid_v2", None) or cuda.cuDeviceGetUuid
    get_uuid(uuid, handle)
    major, minor, integrated = (
        _attribute(cuda, number, handle) for number in (_CC_MAJOR, _CC_MINOR, _INTEGRATED)
    )
    return {
        "index": index,
        "name": name.value.decode(errors="replace"),
        "uuid": uuid.raw.hex(),
        "compute_capability": f"{major}.{minor}",
        "integrated": bool(integrated),
    }


def _attribute(cuda: ctypes.CDLL, number: int, handle: ctypes.c_int) -> int:
    value = ctypes.c_int(0)
    cuda.cuDeviceGetAttribute(ctypes.byref(value), number, handle)
    return value.value


if __name__ == "__main__":
    sys.stdout.write(json.dumps(ask_driver()) + "\n")
