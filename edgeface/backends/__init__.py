"""The inference engines, by name. An engine is one module here and one line in ``BACKENDS``."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from typing import cast

from edgeface.backends.base import Backend
from edgeface.backends.selection import Choice, choose
from edgeface.bundle import Bundle
from edgeface.errors import InvalidInputError

__all__ = ["BACKENDS", "Choice", "choose_backend", "open_backend"]

BACKENDS: dict[str, str] = {
    "ort": "edgeface.backends.ort:OrtBackend",
    "openvino": "edgeface.backends.ov:OpenVinoBackend",
    "tensorrt": "edgeface.backends.trt:TensorRtBackend",
    "rtx": "edgeface.backends.rtx:RtxBackend",
    "cuda": "edgeface.backends.ort_gpu:CudaBackend",
}
"""Where each engine's class lives; it is imported when it is asked for."""

_log = logging.getLogger(__name__)


def open_backend(
    bundle: Bundle, *, backend: str = "auto", artefact: str = "auto", threads: int | None = None
) -> Backend:
    """Return an engine with an artefact of ``bundle`` loaded; it says which in its attributes.

    ``auto`` follows :func:`choose_backend`, and what it took is logged. What is named and cannot
    be had is an error; nothing else is tried in its place.

    Raises:
        InvalidInputError: No engine is called ``backend``, it does not run the artefact, or
            ``threads`` is below 1.
        BundleFormatError: The bundle has no such artefact.
        BackendError: The engine cannot load the artefact.
        MissingDependencyError: The engine is not installed.
    """
    if "auto" in (backend, artefact):
        choice = choose_backend(bundle, backend=backend, artefact=artefact, threads=threads)
        _log.info("%s runs on %s", bundle.path.name, choice)
        backend, artefact = choice.backend, choice.artefact
    _require_known(backend)
    return _open(bundle, backend, bundle.artefact(artefact).name, threads)


def choose_backend(
    bundle: Bundle, *, backend: str = "auto", artefact: str = "auto", threads: int | None = None
) -> Choice:
    """Return what :func:`open_backend` takes, and why: the fastest on this device.

    It is measured for about a second, once for each bundle and device, and remembered.

    Raises:
        InvalidInputError: No engine is called ``backend``, it does not run the artefact, or
            ``threads`` is below 1.
        BundleFormatError: The bundle has no such artefact.
        BackendError: No engine can load an artefact.
        MissingDependencyError: No engine is installed.
    """
    _require_known(backend)
    if threads is not None and threads < 1:
        raise InvalidInputError(f"threads must be at least 1, got {threads}")
    return choose(bundle, open_one=_open, backend=backend, artefact=artefact, threads=threads)


def _require_known(backend: str) -> None:
    if backend != "auto" and backend not in BACKENDS:
        known = ", ".join(["auto", *sorted(BACKENDS)])
        raise InvalidInputError(f"unknown backend {backend!r}, choose one of {known}")


def _open(bundle: Bundle, backend: str, artefact: str, threads: int | None) -> Backend:
    module, _, name = BACKENDS[backend].partition(":")
    factory = cast(Callable[..., Backend], getattr(importlib.import_module(module), name))
    return factory(bundle, artefact, threads=threads)
