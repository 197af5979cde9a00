from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeface.backends import cuda_device
from edgeface.backends.cuda_device import CudaState, probe_cuda, require_cuda
from edgeface.errors import BackendError

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None,
    reason="a stand-in for the driver is compiled, on Linux",
)

_DRIVER = """
#include <stdlib.h>
#include <string.h>
int cuInit(unsigned f) { %(init)s }
int cuDriverGetVersion(int *v) { *v = 12060; return 0; }
int cuDeviceGetCount(int *n) { *n = %(count)d; return 0; }
int cuDeviceGet(int *d, int i) { *d = i; return 0; }
int cuDeviceGetName(char *s, int n, int d) { strcpy(s, d ? "Second" : "First"); return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 8 : a == 76 ? 7 : d; return 0; }
int %(uuid)s(char *u, int d) { memset(u, 16 + d, 16); return 0; }
"""

Driver = Callable[..., None]


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    probe_cuda.cache_clear()
    yield
    probe_cuda.cache_clear()


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    def put(init: str = "return 0;", count: int = 2, uuid: str = "cuDeviceGetUuid_v2") -> None:
        source = tmp_path / "cuda.c"
        source.write_text(_DRIVER % {"init": init, "count": count, "uuid": uuid})
        library = str(tmp_path / "libcuda.so.1")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, str(source)], check=True)
        monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))

    return put


@pytest.mark.parametrize("uuid", ["cuDeviceGetUuid_v2", "cuDeviceGetUuid"])
def test_gpus_are_described(driver: Driver, uuid: str) -> None:
    driver(uuid=uuid)
    probe = probe_cuda()
    assert probe.state is CudaState.READY
    first, second = probe.devices
    assert (first.name, first.compute_capability, first.uuid) == ("First", "8.7", "10" * 16)
    assert first.driver.startswith("12.6")
    assert (second.index, second.name, second.integrated) == (1, "Second", True)
    assert require_cuda(1) == second
    with pytest.raises(BackendError, match=r"no GPU 2, choose one of 0 \(First\), 1 \(Second\)"):
        require_cuda(2)


@pytest.mark.parametrize(
    ("init", "count", "state", "said"),
    [
        ("return 0;", 0, CudaState.NO_DEVICE, "finds no GPU"),
        ("return 100;", 0, CudaState.NO_DEVICE, "finds no GPU"),
        ("return 34;", 1, CudaState.BROKEN_DRIVER, "cuInit gave error 34"),
        ("return 999;", 1, CudaState.BROKEN_DRIVER, "cuInit gave error 999"),
        ("abort();", 1, CudaState.BROKEN_DRIVER, "ended with status -6"),
        ("*(volatile int *)0 = 1; return 0;", 1, CudaState.BROKEN_DRIVER, "status -11"),
    ],
)
def test_a_driver_without_a_gpu_or_a_bad_one_is_a_value(
    driver: Driver, init: str, count: int, state: CudaState, said: str
) -> None:
    driver(init, count)
    assert probe_cuda().state is state
    with pytest.raises(BackendError, match=said) as caught:
        require_cuda()
    assert "\n" not in str(caught.value)


def test_a_library_that_is_none_is_no_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "libcuda.so.1").write_bytes(b"not a library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    probe = probe_cuda()
    assert probe.state is CudaState.NO_DRIVER
    with pytest.raises(BackendError, match="no NVIDIA driver on this machine"):
        require_cuda()


def test_a_driver_that_hangs_is_given_up(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver("for (;;);")
    monkeypatch.setattr(cuda_device, "_TIMEOUT_S", 1.0)
    assert probe_cuda().state is CudaState.BROKEN_DRIVER


def test_it_is_asked_once(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver()
    first = probe_cuda()
    monkeypatch.setenv("LD_LIBRARY_PATH", "")
    assert probe_cuda() is first
