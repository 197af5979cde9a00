"""The inference engines, by name. An engine is one module here and one line in ``BACKENDS``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast

from edgeface.backends.base import Backend
from edgeface.bundle import Bundle
from edgeface.errors import InvalidInputError

__all__ = ["BACKENDS", "choose_artefact", "open_backend"]

BACKENDS: dict[str, str] = {
    "ort": "edgeface.backends.ort:OrtBackend",
}
"""Where each engine's class lives; it is imported when it is asked for."""

_AUTO_BACKEND = "ort"
_SPEED_RATIO = "int8_speed_ratio"


def open_backend(
    bundle: Bundle, *, backend: str = "auto", artefact: str = "auto", threads: int | None = None
) -> Backend:
    """Return an engine with an artefact of ``bundle`` loaded; it says which in its attributes.

    ``backend="auto"`` takes ONNX Runtime. ``artefact="auto"`` follows :func:`choose_artefact`.
    What is named and cannot be had is an error; nothing else is tried in its place.

    Raises:
        InvalidInputError: No engine is called ``backend``, or ``threads`` is below 1.
        BundleFormatError: The bundle has no such artefact.
        BackendError: The engine cannot load the artefact.
        MissingDependencyError: The engine is not installed.
    """
    chosen = _AUTO_BACKEND if backend == "auto" else backend
    if chosen not in BACKENDS:
        known = ", ".join(["auto", *sorted(BACKENDS)])
        raise InvalidInputError(f"unknown backend {backend!r}, choose one of {known}")
    module, _, name = BACKENDS[chosen].partition(":")
    factory = cast(Callable[..., Backend], getattr(importlib.import_module(module), name))
    picked = choose_artefact(bundle) if artefact == "auto" else bundle.artefact(artefact).name
    return factory(bundle, picked, threads=threads)


def choose_artefact(bundle: Bundle) -> str:
    """Return ``int8`` where the verdict measured it to be faster than ``fp32``, else ``fp32``.

    Raises:
        BundleFormatError: The bundle has no ``fp32`` artefact and no measurement that favours
            ``int8``.
    """
    names = {entry.name for entry in bundle.manifest.artefacts}
    faster = bundle.manifest.verdict.figures.get(_SPEED_RATIO, 0.0) > 1.0
    return "int8" if faster and "int8" in names else bundle.artefact("fp32").name
