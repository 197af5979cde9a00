"""Runs in a process of its own: imports the bindings over the forwarding libraries, does one job.

Usage: child.py LIBRARIES PACKAGES build FILE...   one JSON line for each ONNX file
       child.py LIBRARIES PACKAGES names CLASS...  the public names of the module and its classes

Never makes a ``Runtime``: without a GPU it ends the process.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from typing import Any


def load_bindings(libraries: Path, packages: Path) -> Any:
    # The loader takes a library that is loaded already for one of the same name, so no search
    # path is needed. The bindings then find the entry points among all global symbols.
    ctypes.CDLL(str(libraries / "libforward.so"), ctypes.RTLD_GLOBAL)
    for path in sorted(libraries.glob("libnv*.so.*")):
        ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
    sys.path.insert(0, str(packages))
    import tensorrt_bindings

    return tensorrt_bindings


def build(trt: Any, files: list[str]) -> None:
    from edgeface.backends.trt_build import build_engine
    from edgeface.errors import BackendError

    for file in map(Path, files):
        result: dict[str, Any] = {"file": file.name}
        try:
            built = build_engine(trt, file.read_bytes(), where=file.name)
        except BackendError as error:
            result["refused"] = str(error)
        else:
            result |= {
                "plan_bytes": len(built.plan),
                "layers": dict(built.layers),
                "timing_cache_bytes": len(built.timing_cache),
                "seconds": round(built.parse_s + built.build_s, 2),
                "log": list(built.log),
            }
        print(json.dumps(result), flush=True)  # noqa: T201 - this is its output


def names(trt: Any, classes: list[str]) -> None:
    found = {"": _public(trt)} | {name: _public(getattr(trt, name)) for name in classes}
    print(json.dumps({"version": trt.__version__, "names": found}))  # noqa: T201


def _public(thing: Any) -> list[str]:
    return sorted(name for name in dir(thing) if not name.startswith("_"))


if __name__ == "__main__":
    libraries, packages, job, *rest = sys.argv[1:]
    {"build": build, "names": names}[job](load_bindings(Path(libraries), Path(packages)), rest)
