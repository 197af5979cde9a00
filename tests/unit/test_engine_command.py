from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from edgeface.backends import cuda_device, trt_engine
from edgeface.backends.cuda_device import CudaProbe, CudaState
from edgeface.backends.engine_cache import EngineCache
from edgeface.backends.trt import TensorRtBackend
from edgeface.backends.trt_build import build_engine
from edgeface.bundle import Bundle
from edgeface.cli.engine_command import engine_app
from edgeface.errors import BackendError, GateFailedError
from edgeface_export.engine import build_engines
from tests.builders import make_bundle
from tests.builders_export import LAYOUT_NAMES, settled_network
from tests.fakes_cuda import GPU, FakeCuda
from tests.fakes_tensorrt import FakeTensorRt
from tests.tensorrt_cpu.graphs import graphs_of


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEFACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(trt_engine, "_WARM_UPS", 0)
    monkeypatch.setattr(trt_engine, "_TIMED", 1)
    monkeypatch.setattr(trt_engine, "PROBE_CROPS", 12)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = settled_network(LAYOUT_NAMES[0])
    graphs = graphs_of(network, "net")
    content = {kind: graphs[f"net.{kind}"].SerializeToString() for kind in ("fp32", "int8")}
    return make_bundle(
        tmp_path_factory.mktemp("bundle"),
        artefacts=content,
        embedding_size=network.embedding_size,
        crop_size=network.crop_size,
    )


def put_gpu(monkeypatch: pytest.MonkeyPatch, **how: Any) -> FakeTensorRt:
    cuda = FakeCuda()
    trt = FakeTensorRt(cuda, **how)
    monkeypatch.setattr(cuda_device, "probe_cuda", lambda: CudaProbe(CudaState.READY, (GPU,)))
    monkeypatch.setattr(trt_engine, "import_tensorrt", lambda: trt)
    monkeypatch.setattr(trt_engine, "import_cuda_runtime", lambda: cuda)
    return trt


def latencies(monkeypatch: pytest.MonkeyPatch, *seconds: float) -> None:
    """Have the candidates take these times, one after the other."""
    # Two measurements for each: one crop and the largest batch.
    times = iter([taken for each in seconds for taken in (each, 3 * each)])
    monkeypatch.setattr(trt_engine, "_latency_s", lambda executor, crops: next(times))


def call(*arguments: str) -> Any:
    result = CliRunner().invoke(engine_app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def test_an_empty_cache_lists_nothing_and_clears_nothing() -> None:
    assert "no engine is built" in call("list").stdout
    assert json.loads(call("list", "--json").stdout)["engines"] == []
    assert json.loads(call("clear", "--json").stdout) == {"deleted": 0}


def test_every_precision_is_built_and_the_fastest_of_each_artefact_kept(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_gpu(monkeypatch)
    latencies(monkeypatch, 0.004, 0.002, 0.003, 0.001)
    report = json.loads(call("build", str(bundle), "--json").stdout)
    found = {entry["precision"]: entry for entry in report["candidates"]}
    assert [name for name in found if found[name]["kept"]] == ["fp16", "int8-fp16"]
    assert report["fastest"]["precision"] == "int8-fp16"
    assert found["fp16"]["figures"]["latency_ms"] == pytest.approx(2.0)
    assert found["fp16"]["figures"]["batch_latency_ms"] == pytest.approx(6.0)
    assert found["int8"]["layers"]["quantizelinear"] > 40
    assert found["fp16"]["figures"]["cosine_worst"] > 0.9999
    for artefact, precision in (("fp32", "fp16"), ("int8", "int8-fp16")):
        assert TensorRtBackend(Bundle.open(bundle), artefact).precision == precision
    assert call("list").stdout.count("sealed") == 2
    assert call("clear").stdout == "deleted 3 files\n"


def test_a_larger_batch_is_found_by_the_backend(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = put_gpu(monkeypatch)
    call("build", str(bundle), "--max-batch", "13")
    builds = len(trt._builds)
    backend = TensorRtBackend(Bundle.open(bundle), "int8")
    assert len(trt._builds) == builds
    assert backend._executor._io.largest_batch == 13
    shown = json.loads(call("list", "--json").stdout)["engines"]
    assert {entry["key"]["profile"]["largest"] for entry in shown} == {13}


def test_a_candidate_that_fails_is_named_and_the_others_stand(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_gpu(monkeypatch)

    def fails_for_float16(trt: Any, content: bytes, *rest: Any, where: str) -> Any:
        if "fp16" in where:
            raise BackendError(f"{where}: TensorRT cannot read the graph: so there")
        return build_engine(trt, content, *rest, where=where)

    monkeypatch.setattr(trt_engine, "build_engine", fails_for_float16)
    text = call("build", str(bundle)).stdout
    assert "int8-fp16: tiny.edgeface, int8-fp16: TensorRT cannot read the graph: so there" in text
    assert text.count("kept") == 2
    assert text.count("failed") == 2


def test_when_no_engine_is_right_nothing_is_kept_and_the_outcome_is_no(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_gpu(monkeypatch, spoil=lambda rows: rows * np.nan)
    with pytest.raises(
        GateFailedError, match=r"no engine can be used: fp32: .*int8-fp16: "
    ) as caught:
        build_engines(Bundle.open(bundle))
    assert caught.value.exit_code == 1
    assert EngineCache().entries() == []


def test_a_foreign_engine_is_listed_as_not_believed(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "engines"
    folder.mkdir(parents=True)
    (folder / "foreign.engine").write_bytes(b"x" * 100)
    assert "not believed: truncated, or not a sealed file" in call("list").stdout
    (entry,) = json.loads(call("list", "--json").stdout)["engines"]
    assert entry["key"] is None


def test_without_a_gpu_building_is_one_line(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = CudaProbe(CudaState.NO_DRIVER, detail="libcuda.so.1 is missing")
    monkeypatch.setattr(cuda_device, "probe_cuda", lambda: probe)
    with pytest.raises(BackendError, match="no NVIDIA driver"):
        call("build", str(bundle))
