"""Brings NVIDIA's parser and builder to a machine without a GPU.

The real TensorRT cannot be installed from a package index. Its Python bindings can, and so can
TensorRT-RTX, which has the same C++ interfaces and builds engines without a GPU. Three empty
libraries with the names that the bindings ask for, and one that forwards their nine entry points
(forward.c), join the two.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

BINDINGS_11 = "tensorrt_cu13_bindings==11.4.0.106"
BINDINGS_10 = "tensorrt_cu13_bindings==10.16.1.11"
RTX = "onnxruntime-ep-nv-tensorrt-rtx-cu13==0.5.0"
SONAMES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Bindings:
    """A folder to import ``tensorrt_bindings`` from, and one with the libraries it loads."""

    packages: Path
    libraries: Path


def require_linux() -> None:
    """Skip where NVIDIA's wheels and this way of joining libraries do not exist."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip(f"the wheels are for Linux x86-64, this is {sys.platform} {platform.machine()}")
    if shutil.which("cc") is None:
        pytest.skip("no C compiler `cc`")


def installed(requirement: str) -> Path:
    """Return the folder that holds ``requirement``, installed once and kept in the user's cache."""
    name = requirement.replace("==", "-")
    base = os.environ.get("XDG_CACHE_HOME")
    cache = (Path(base) if base else Path.home() / ".cache") / "edgeface" / "tests"
    target = cache / f"{name}-cp{sys.version_info.major}{sys.version_info.minor}"
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        part = Path(folder) / "packages"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--no-deps"]
        command += ["--only-binary=:all:", "--disable-pip-version-check", "--no-compile"]
        command += ["--target", str(part), requirement]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"{requirement} cannot be installed: {error}")
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
            pytest.skip(f"{requirement} cannot be installed: {last}")
        if not target.is_dir():
            part.rename(target)
    return target


def compiled(folder: Path, major: int, rtx: Path | None) -> Path:
    """Return ``folder`` with libraries for the bindings of TensorRT ``major`` in it.

    Without ``rtx`` they let the bindings be imported and do nothing.
    """
    folder.mkdir(parents=True)
    defines = []
    if rtx is not None:
        home = rtx / "onnxruntime_ep_nv_tensorrt_rtx"
        for macro, library in (("CORE", "tensorrt_rtx"), ("PARSER", "tensorrt_onnxparser_rtx")):
            (file,) = home.glob(f"lib{library}.so.*.*.*")
            defines.append(f'-DRTX_{macro}="{file}"')
    forward = folder / "libforward.so"
    _compile(["-o", str(forward), *defines, str(HERE / "forward.c"), "-ldl"])
    for name in SONAMES:
        target = folder / f"lib{name}.so.{major}"
        _compile([f"-Wl,-soname,{target.name}", "-o", str(target), "-x", "c", "/dev/null"])
    return folder


def _compile(arguments: list[str]) -> None:
    subprocess.run(["cc", "-w", "-shared", "-fPIC", *arguments], check=True, timeout=60)


def run_child(bindings: Bindings, job: str, arguments: list[str], *, timeout_s: float = 200) -> str:
    """Return what ``child.py`` printed; it runs apart, for NVIDIA's code may end the process."""
    root = str(HERE.parent.parent)
    paths = [root, str(Path(root) / "export"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, str(HERE / "child.py")]
    command += [str(bindings.libraries), str(bindings.packages), job, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout_s, check=False, env=environment
    )
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr[-2000:]}"
    return done.stdout
