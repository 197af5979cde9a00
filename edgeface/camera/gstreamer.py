"""GStreamer, called directly: OpenCV packages from an index are built without it.

Runs in the reader's process only, so that the credentials of a pipeline are in no command line
and a fault of a plugin ends nothing but the reader.
"""

from __future__ import annotations

import ctypes
import time
from ctypes import (
    POINTER,
    Structure,
    byref,
    c_char_p,
    c_int,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any

import numpy as np

from edgeface.camera.captures import Capture, Shot
from edgeface.camera.pipelines import CSI_SOURCES, checked_pipeline, csi_pipeline
from edgeface.errors import CameraError
from edgeface.types import Size

__all__ = ["open_csi", "open_pipeline"]

_SINK = "edgeface_frames"
# One buffer: the newest frame wins inside the pipeline too. RGB, so that nothing is left to do.
_TAIL = (
    f" ! videoconvert ! video/x-raw,format=RGB ! appsink name={_SINK} max-buffers=1 drop=true"
    " sync=false"
)
_STATE_NULL, _STATE_PLAYING = 1, 4
_STATE_FAILURE = 0
_MESSAGE_ERROR = 1 << 1
_NS = 1_000_000_000
_POLL_NS = _NS // 4
_NO_TIME = (1 << 64) - 1


class _GError(Structure):
    _fields_ = (("domain", c_uint32), ("code", c_int), ("message", c_char_p))


# GstBuffer up to pts: GstMiniObject has 64 bytes on every 64-bit system, then a pool.
class _Buffer(Structure):
    _fields_ = (("mini_object", ctypes.c_byte * 64), ("pool", c_void_p), ("pts", c_uint64))


_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "gst_init_check": (c_int, [c_void_p, c_void_p, c_void_p]),
    "gst_parse_launch": (c_void_p, [c_char_p, POINTER(POINTER(_GError))]),
    "gst_bin_get_by_name": (c_void_p, [c_void_p, c_char_p]),
    "gst_element_set_state": (c_int, [c_void_p, c_int]),
    "gst_element_factory_find": (c_void_p, [c_char_p]),
    "gst_element_get_bus": (c_void_p, [c_void_p]),
    "gst_bus_pop_filtered": (c_void_p, [c_void_p, c_int]),
    "gst_message_parse_error": (None, [c_void_p, POINTER(POINTER(_GError)), c_void_p]),
    "gst_mini_object_unref": (None, [c_void_p]),
    "gst_object_unref": (None, [c_void_p]),
    "gst_sample_get_caps": (c_void_p, [c_void_p]),
    "gst_sample_get_buffer": (POINTER(_Buffer), [c_void_p]),
    "gst_caps_get_structure": (c_void_p, [c_void_p, c_uint32]),
    "gst_structure_get_int": (c_int, [c_void_p, c_char_p, POINTER(c_int)]),
    "gst_structure_get_fraction": (c_int, [c_void_p, c_char_p, POINTER(c_int), POINTER(c_int)]),
    "gst_buffer_extract": (c_size_t, [c_void_p, c_size_t, c_void_p, c_size_t]),
    "gst_app_sink_try_pull_sample": (c_void_p, [c_void_p, c_uint64]),
    "gst_app_sink_is_eos": (c_int, [c_void_p]),
}


def open_pipeline(*, pipeline: str, name: str, timeout_s: float, max_pixels: int) -> Capture:
    """Return the frames of a GStreamer ``pipeline``, which errors call ``name``.

    Raises:
        CameraError: GStreamer is not installed, or the pipeline does not start.
    """
    return _Pipeline(_Library(), checked_pipeline(pipeline), name, timeout_s, max_pixels)


def open_csi(
    *, number: int, name: str, size: tuple[int, int] | None, timeout_s: float, max_pixels: int
) -> Capture:
    """Return the CSI camera ``number``.

    Raises:
        CameraError: No element for CSI cameras is installed, or the camera does not start.
    """
    library = _Library()
    for element in CSI_SOURCES:
        if library.has(element):
            pipeline = csi_pipeline(element, number, Size(*size) if size else None)
            return _Pipeline(library, pipeline, name, timeout_s, max_pixels)
    raise CameraError(
        f"{name} cannot be opened: GStreamer has none of {', '.join(CSI_SOURCES)} here; on a "
        "Jetson install nvidia-l4t-gstreamer, on a Raspberry Pi gstreamer1.0-libcamera"
    )


class _Library:
    """The functions of libgstreamer and libgstapp that are used."""

    def __init__(self) -> None:
        try:
            core = ctypes.CDLL("libgstreamer-1.0.so.0")
            app = ctypes.CDLL("libgstapp-1.0.so.0")
        except OSError as exc:
            raise CameraError(
                "GStreamer is not installed; on Debian and Ubuntu: apt install "
                "gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
            ) from exc
        self.call: dict[str, Any] = {}
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(app if "app_sink" in name else core, name)
            function.restype, function.argtypes = result, arguments
            self.call[name] = function
        if not self.call["gst_init_check"](None, None, None):
            raise CameraError("GStreamer does not start here")

    def has(self, element: str) -> bool:
        factory = self.call["gst_element_factory_find"](element.encode())
        if factory:
            self.call["gst_object_unref"](factory)
        return bool(factory)


class _Pipeline:
    def __init__(
        self, library: _Library, pipeline: str, name: str, timeout_s: float, max_pixels: int
    ) -> None:
        self._call = library.call
        self._name = name
        self._max_pixels = max_pixels
        self._timeout_s = timeout_s
        self.fps: float | None = None
        error = POINTER(_GError)()
        self._pipeline = self._call["gst_parse_launch"]((pipeline + _TAIL).encode(), byref(error))
        if not self._pipeline or bool(error):
            raise CameraError(f"{name} cannot be opened: {_text(error)}")
        self._sink = self._call["gst_bin_get_by_name"](self._pipeline, _SINK.encode())
        self._bus = self._call["gst_element_get_bus"](self._pipeline)
        started = self._call["gst_element_set_state"](self._pipeline, _STATE_PLAYING)
        if started == _STATE_FAILURE:
            message = self._error() or "it does not start"
            self.release()
            raise CameraError(f"{name} cannot be opened: {message}")

    def read(self) -> Shot:
        until_s = time.monotonic() + self._timeout_s
        while True:
            sample = self._call["gst_app_sink_try_pull_sample"](self._sink, _POLL_NS)
            if sample:
                try:
                    return self._shot(sample)
                finally:
                    self._call["gst_mini_object_unref"](sample)
            message = self._error()
            if message or self._call["gst_app_sink_is_eos"](self._sink):
                raise CameraError(f"{self._name} stopped giving frames: {message or 'it ended'}")
            if time.monotonic() > until_s:
                raise CameraError(f"{self._name} gave no frame for {self._timeout_s:.1f} s")

    def release(self) -> None:
        self._call["gst_element_set_state"](self._pipeline, _STATE_NULL)
        for one in (self._sink, self._bus, self._pipeline):
            self._call["gst_object_unref"](one)

    def _shot(self, sample: int) -> Shot:
        caps = self._call["gst_caps_get_structure"](self._call["gst_sample_get_caps"](sample), 0)
        width, height = self._number(caps, b"width"), self._number(caps, b"height")
        if width * height > self._max_pixels:
            raise CameraError(
                f"a frame of {width}x{height} has more than {self._max_pixels} pixels"
            )
        self.fps = self._rate(caps)
        # Rows of RGB begin at multiples of four bytes.
        stride = -(-width * 3 // 4) * 4
        rows = np.empty((height, stride), np.uint8)
        buffer = self._call["gst_sample_get_buffer"](sample)
        copied = self._call["gst_buffer_extract"](buffer, 0, rows.ctypes.data, rows.nbytes)
        if copied < rows.nbytes:
            return Shot(None)
        pts = int(buffer.contents.pts)
        position_s = None if pts == _NO_TIME else pts / _NS
        return Shot(rows[:, : width * 3].reshape(height, width, 3), position_s, is_rgb=True)

    def _number(self, caps: int, field: bytes) -> int:
        value = c_int(0)
        self._call["gst_structure_get_int"](caps, field, byref(value))
        return value.value

    def _rate(self, caps: int) -> float | None:
        above, below = c_int(0), c_int(1)
        self._call["gst_structure_get_fraction"](caps, b"framerate", byref(above), byref(below))
        return above.value / below.value if above.value > 0 and below.value > 0 else None

    def _error(self) -> str | None:
        """Return the message of an error on the bus; its debugging text holds addresses."""
        message = self._call["gst_bus_pop_filtered"](self._bus, _MESSAGE_ERROR)
        if not message:
            return None
        error = POINTER(_GError)()
        self._call["gst_message_parse_error"](message, byref(error), None)
        self._call["gst_mini_object_unref"](message)
        return _text(error)


def _text(error: Any) -> str:
    if not error or not error.contents.message:
        return "unknown error"
    text: str = error.contents.message.decode(errors="replace")
    return text
