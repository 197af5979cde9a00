"""TensorRT and the CUDA bindings, imported when they are used; one clear line where one is missing.

TensorRT is an optional package and no version is pinned: a Jetson has the one of its JetPack (10.3
on JetPack 6), a desktop the newest. Only names that TensorRT 10.3 to 11 share are used;
``tests/contracts`` checks them against the bindings of both.
"""

from __future__ import annotations

import importlib
import logging
from collections import Counter, deque
from functools import cache
from typing import Any

from edgeface.errors import BackendError, MissingDependencyError

__all__ = ["EXTRA", "SUPPORTED", "LogLines", "import_cuda_runtime", "import_tensorrt", "log_lines"]

EXTRA = "tensorrt"
SUPPORTED = "10.3 to 11"
_OLDEST = (10, 3)
_KEPT_LINES = 400
_log = logging.getLogger("edgeface.tensorrt")


def import_tensorrt() -> Any:
    """Return the module ``tensorrt``.

    Raises:
        MissingDependencyError: It is not installed.
        BackendError: It is installed but its libraries do not load, or it is too old.
    """
    try:
        import tensorrt
    except (ImportError, OSError) as exc:
        if isinstance(exc, ModuleNotFoundError) and exc.name == "tensorrt":
            raise MissingDependencyError("tensorrt", extra=EXTRA) from exc
        reason = " ".join(str(exc).split())
        raise BackendError(
            f"tensorrt is installed but does not load ({reason}); its libraries are missing or of "
            "another version: install `tensorrt` itself, not its bindings alone, or on a Jetson "
            "the package python3-libnvinfer"
        ) from exc
    version = str(tensorrt.__version__)
    if _numbers(version) < _OLDEST:
        raise BackendError(f"tensorrt {version} is too old, edgeface uses {SUPPORTED}; update it")
    return tensorrt


def import_cuda_runtime() -> Any:
    """Return the module ``cuda.bindings.runtime``.

    Raises:
        MissingDependencyError: The package cuda-python is not installed.
        BackendError: It is installed but does not load.
    """
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ModuleNotFoundError as exc:
        raise MissingDependencyError("cuda-python", extra=EXTRA) from exc
    except (ImportError, OSError) as exc:
        reason = " ".join(str(exc).split())
        raise BackendError(
            f"cuda-python is installed but does not load ({reason}); install the version of the "
            "driver's CUDA: 12 on JetPack 6, 13 on JetPack 7 and new desktops"
        ) from exc


def _numbers(version: str) -> tuple[int, int]:
    """Return major and minor of a version such as ``10.16.1.11``; (0, 0) where it is no such."""
    parts = version.split(".")
    if len(parts) < 2 or not (parts[0].isdigit() and parts[1].isdigit()):
        return 0, 0
    return int(parts[0]), int(parts[1])


class LogLines:
    """The last lines TensorRT logged in this process; ``logger`` is what TensorRT is given."""

    def __init__(self, trt: Any) -> None:
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self.logger = self._logger(trt)

    def take(self) -> tuple[str, ...]:
        """Return the lines since the last call, each once, with how often where that was more."""
        counts = Counter(self._lines)
        self._lines.clear()
        return tuple(f"{text} ({n} times)" if n > 1 else text for text, n in counts.items())

    def _logger(self, trt: Any) -> Any:
        quiet = {trt.ILogger.VERBOSE: logging.DEBUG, trt.ILogger.INFO: logging.DEBUG}
        loud = {trt.ILogger.WARNING: logging.INFO, trt.ILogger.ERROR: logging.WARNING}
        levels = {**quiet, **loud, trt.ILogger.INTERNAL_ERROR: logging.WARNING}
        kept = self._lines

        class Logger(trt.ILogger):  # type: ignore[misc]
            """Passes lines on to :mod:`logging` and keeps warnings and errors."""

            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, text: str) -> None:
                """Take one line; called by TensorRT, from threads of its own."""
                level = levels.get(severity, logging.WARNING)
                if level > logging.DEBUG:
                    kept.append(text.strip())
                _log.log(level, "%s", text)

        return Logger()


@cache
def log_lines(trt: Any) -> LogLines:
    """Return the one log of this process: TensorRT keeps the first logger it is ever given."""
    return LogLines(trt)
