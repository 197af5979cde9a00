"""Without a GPU or a package every road to one ends in one line, and the process lives on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from tests.builders import make_bundle

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None,
    reason="a stand-in for the driver is compiled, on Linux",
)

_DRIVER = """
#include <string.h>
int cuInit(unsigned f) { return 0; }
int cuDriverGetVersion(int *v) { *v = 13000; return 0; }
int cuDeviceGetCount(int *n) { *n = 1; return 0; }
int cuDeviceGet(int *d, int i) { *d = i; return 0; }
int cuDeviceGetName(char *s, int n, int d) { strcpy(s, "Stand-in"); return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = 8; return 0; }
int cuDeviceGetUuid_v2(char *u, int d) { memset(u, 1, 16); return 0; }
"""
_CHILD = """
import sys
from edgeface.backends import open_backend
from edgeface.bundle import Bundle
from edgeface.errors import EdgefaceError
bundle = Bundle.open(sys.argv[1])
try:
    open_backend(bundle, backend=sys.argv[2], artefact="fp32")
except EdgefaceError as error:
    print(f"{type(error).__name__}|{error}")
backend = open_backend(bundle, backend="ort", artefact="fp32")
print("alive")
"""
_PACKAGES = {
    "missing": "raise ModuleNotFoundError(\"No module named 'tensorrt'\", name='tensorrt')",
    "no libraries": (
        "raise ImportError('libnvonnxparser.so.11: cannot open shared object file: No such file')"
    ),
    "damaged": "raise OSError('libnvinfer.so.11: file too short')",
    "old": "__version__ = '10.2.0'",
    "odd": "__version__ = 'unknown'",
    "good": "__version__ = '10.3.0'",
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("driver")
    (folder / "cuda.c").write_text(_DRIVER)
    command = ["cc", "-shared", "-fPIC", "-o", "libcuda.so.1", "cuda.c"]
    subprocess.run(command, cwd=folder, check=True)
    return folder


def said(
    bundle: Path, backend: str, *, driver: Path | None = None, packages: Path | None = None
) -> str:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(driver or "")}
    if packages is not None:
        environment["PYTHONPATH"] = str(packages)
    command = [sys.executable, "-c", _CHILD, str(bundle), backend]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.splitlines()
    assert last == "alive"
    return first


@pytest.mark.parametrize("backend", ["tensorrt", "rtx", "cuda"])
def test_without_a_driver(bundle: Path, backend: str) -> None:
    kind, _, text = said(bundle, backend).partition("|")
    assert kind == "BackendError"
    assert text.startswith("no NVIDIA driver on this machine (libcuda.so.1")
    assert "install NVIDIA's driver" in text


@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("missing", "MissingDependencyError|this needs the package 'tensorrt'"),
        ("no libraries", "BackendError|tensorrt is installed but does not load (libnvonnxparser"),
        ("damaged", "BackendError|tensorrt is installed but does not load (libnvinfer.so.11: file"),
        ("old", "BackendError|tensorrt 10.2.0 is too old, edgeface uses 10.3 to 11"),
        ("odd", "BackendError|tensorrt unknown is too old"),
        ("good", "MissingDependencyError|this needs the package 'cuda-python'"),
    ],
)
def test_with_a_driver_and_a_tensorrt_that_is(
    bundle: Path, driver: Path, tmp_path: Path, package: str, line: str
) -> None:
    (tmp_path / "tensorrt.py").write_text(_PACKAGES[package])
    (tmp_path / "cuda.py").write_text("")
    found = said(bundle, "tensorrt", driver=driver, packages=tmp_path)
    assert found.startswith(line)
    if "Missing" in line:
        assert "pip install 'edgeface[tensorrt]'" in found


def test_with_a_driver_and_no_rtx_package(bundle: Path, driver: Path) -> None:
    found = said(bundle, "rtx", driver=driver)
    assert found.startswith("MissingDependencyError|this needs the package 'onnxruntime-ep-nv")
    assert "pip install 'edgeface[rtx]'" in found


def test_with_a_driver_and_an_onnx_runtime_for_cpus(bundle: Path, driver: Path) -> None:
    found = said(bundle, "cuda", driver=driver)
    assert found.startswith("BackendError|onnxruntime ")
    assert "was built without CUDA; replace it" in found
