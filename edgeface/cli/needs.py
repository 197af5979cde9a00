"""Turns a missing optional package into one line that says which extra brings it."""

from __future__ import annotations

from importlib.util import find_spec

from edgeface.errors import MissingDependencyError

__all__ = ["need_cpu", "need_export"]


def need_export() -> None:
    """Return if the packages of the ``export`` extra are installed.

    Raises:
        MissingDependencyError: One is not.
    """
    _need(("onnx", "onnxruntime"), "export")


def need_cpu() -> None:
    """Return if the packages of the ``cpu`` extra are installed.

    Raises:
        MissingDependencyError: One is not.
    """
    _need(("onnxruntime", "mediapipe", "cv2"), "cpu")


def _need(packages: tuple[str, ...], extra: str) -> None:
    for package in packages:
        if find_spec(package) is None:
            raise MissingDependencyError(package, extra=extra)
