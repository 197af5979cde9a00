from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from edgeface.backends import cuda_device, open_backend, trt_engine, trt_packages
from edgeface.backends.cuda_device import CudaDevice, CudaProbe, CudaState
from edgeface.backends.engine_cache import BatchProfile, EngineCache
from edgeface.backends.ort import OrtBackend
from edgeface.backends.trt import TensorRtBackend, fastest_built_artefact
from edgeface.backends.trt_build import BuildOptions, build_engine
from edgeface.backends.trt_engine import TensorRtOptions
from edgeface.bundle import Bundle
from edgeface.errors import BackendError, InvalidInputError
from edgeface.types import ImageArray
from tests.builders import make_bundle, tiny_onnx
from tests.fakes_cuda import GPU, JETSON, FakeCuda
from tests.fakes_tensorrt import FakeTensorRt

LARGEST = 8


@dataclass
class Machine:
    """The fakes that a test put in the place of a GPU."""

    trt: FakeTensorRt
    cuda: FakeCuda


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEFACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(trt_engine, "_WARM_UPS", 1)
    monkeypatch.setattr(trt_engine, "_TIMED", 3)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.open(make_bundle(tmp_path, artefacts=("fp32", "int8")))


def put_gpu(monkeypatch: pytest.MonkeyPatch, device: CudaDevice = GPU, **how: Any) -> Machine:
    cuda = FakeCuda()
    trt = FakeTensorRt(cuda, **how)
    monkeypatch.setattr(cuda_device, "probe_cuda", lambda: CudaProbe(CudaState.READY, (device,)))
    monkeypatch.setattr(trt_engine, "import_tensorrt", lambda: trt)
    monkeypatch.setattr(trt_engine, "import_cuda_runtime", lambda: cuda)
    return Machine(trt, cuda)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return put_gpu(monkeypatch)


def crops(n: int, seed: int = 0) -> ImageArray:
    return np.random.default_rng(seed).integers(0, 256, (n, 112, 112, 3)).astype(np.uint8)


@pytest.mark.parametrize("device", [GPU, JETSON], ids=["copying", "sharing memory"])
@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "no graphs"])
def test_rows_are_those_of_the_graph_for_every_batch(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, device: CudaDevice, *, graphs: bool
) -> None:
    machine = put_gpu(monkeypatch, device)
    backend = TensorRtBackend(bundle, "int8", options=TensorRtOptions(cuda_graphs=graphs))
    reference = OrtBackend(bundle, "int8")
    for seed, n in enumerate([0, 1, 3, 1, 8, 3, 19, 1, 19]):
        faces = crops(n, seed)
        rows = backend.run(faces)
        assert rows.shape == (n, 16)
        assert rows == pytest.approx(reference.run(faces), abs=1e-5)
    assert ("cudaMemcpyAsync" in machine.cuda.calls) == (not device.integrated)
    assert ("cudaGraphLaunch" in machine.cuda.calls) == graphs
    backend.close()
    assert not machine.cuda.live


def test_the_first_use_builds_and_the_second_takes_the_cached_engine(
    bundle: Bundle, machine: Machine
) -> None:
    TensorRtBackend(bundle, "int8").close()
    TensorRtBackend(bundle, "int8").close()
    assert len(machine.trt._builds) == 1
    assert len(EngineCache().entries()) == 1
    assert fastest_built_artefact(bundle) == "int8"


def test_each_artefact_has_an_engine_of_its_own(bundle: Bundle, machine: Machine) -> None:
    for artefact in ("fp32", "int8"):
        backend = open_backend(bundle, backend="tensorrt", artefact=artefact)
        assert backend.artefact == artefact
        assert artefact in backend.name
        assert "tensorrt 11.4.0.106" in backend.name
        assert "Fake GPU" in backend.name
    assert len(machine.trt._builds) == 2


@pytest.mark.parametrize(
    "change",
    [{"driver": "13.1 590.2"}, {"uuid": "ff" * 16}, {"compute_capability": "9.0"}, {"name": "B"}],
)
def test_an_engine_of_another_gpu_or_driver_is_not_used(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    put_gpu(monkeypatch)
    TensorRtBackend(bundle, "int8").close()
    machine = put_gpu(monkeypatch, replace(GPU, **change))
    TensorRtBackend(bundle, "int8").close()
    assert len(machine.trt._builds) == 1


def test_an_engine_that_was_changed_is_built_again_and_never_deserialised(
    bundle: Bundle, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    TensorRtBackend(bundle, "int8").close()
    (entry,) = EngineCache().entries()
    content = bytearray(entry.path.read_bytes())
    content[-1] ^= 1
    entry.path.write_bytes(content)
    machine.trt._deserialised.clear()
    with caplog.at_level(logging.WARNING, "edgeface.tensorrt"):
        TensorRtBackend(bundle, "int8").close()
    assert len(machine.trt._builds) == 2
    assert all(plan[-50:] != bytes(content[-50:]) for plan in machine.trt._deserialised)
    assert "its seal does not fit" in caplog.text
    assert EngineCache().entries()[0].reason == ""


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rows: rows[:, ::-1],
        lambda rows: rows * np.nan,
        lambda rows: rows * 0,
        lambda rows: np.roll(rows, 1, 0) if len(rows) > 1 else rows,
        lambda rows: rows + 0.2,
    ],
    ids=["mirrored", "NaN", "zero", "rows shifted", "offset"],
)
def test_an_engine_that_computes_something_else_is_refused_and_not_kept(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, spoil: Any
) -> None:
    machine = put_gpu(monkeypatch, spoil=spoil)
    with pytest.raises(BackendError, match="does not compute what its graph says"):
        TensorRtBackend(bundle, "int8")
    assert EngineCache().entries() == []
    assert not machine.cuda.live


def test_where_graphs_cannot_be_recorded_it_runs_without_and_says_so(
    bundle: Bundle, machine: Machine
) -> None:
    machine.cuda.fails["cudaStreamEndCapture"] = 900
    backend = TensorRtBackend(bundle, "fp32")
    assert "no CUDA graphs: CUDA: cudaStreamEndCapture gave 900" in backend.name
    assert backend.run(crops(2)) == pytest.approx(OrtBackend(bundle).run(crops(2)), abs=1e-5)
    assert "cudaGraphLaunch" not in machine.cuda.calls


@pytest.mark.parametrize("call", ["cudaMalloc", "cudaHostAlloc", "cudaStreamSynchronize"])
def test_a_cuda_error_is_one_line_that_names_the_call(
    bundle: Bundle, machine: Machine, call: str
) -> None:
    machine.cuda.fails[call] = 2
    with pytest.raises(BackendError, match=f"{call} gave 2"):
        TensorRtBackend(bundle, "fp32")


def test_memory_is_given_back_when_opening_fails(bundle: Bundle, machine: Machine) -> None:
    TensorRtBackend(bundle, "int8").close()
    machine.trt._refuses_to_run = True
    for artefact in ("fp32", "int8"):
        with pytest.raises(BackendError, match="did not run the engine"):
            TensorRtBackend(bundle, artefact)
        assert not machine.cuda.live


def test_many_sizes_of_batch_do_not_pile_up(bundle: Bundle, machine: Machine) -> None:
    options = TensorRtOptions(profile=BatchProfile(1, 1, 40))
    backend = TensorRtBackend(bundle, "fp32", options=options)
    for n in range(1, 41):
        backend.run(crops(n))
    assert len(backend._executor._prepared) <= 16
    assert machine.cuda.calls.count("cudaGraphExecDestroy") >= 24
    backend.close()
    backend.close()
    made, freed = (
        machine.cuda.calls.count(name) for name in ("cudaGraphInstantiate", "cudaGraphExecDestroy")
    )
    assert made == freed


def test_a_closed_backend_says_so(bundle: Bundle, machine: Machine) -> None:
    backend = TensorRtBackend(bundle, "fp32")
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.run(crops(1))


def test_crops_of_another_shape_are_refused(bundle: Bundle, machine: Machine) -> None:
    backend = TensorRtBackend(bundle, "fp32")
    with pytest.raises(InvalidInputError, match=r"uint8 of shape \(n, 112, 112, 3\)"):
        backend.run(crops(1)[:, :100])


def test_an_artefact_for_another_engine_is_refused(tmp_path: Path, machine: Machine) -> None:
    content = {"fp32": tiny_onnx(), "cpu-int8": tiny_onnx(seed=1)}
    bundle = Bundle.open(make_bundle(tmp_path / "b", artefacts=content))
    with pytest.raises(BackendError, match="runs the artefacts fp32 and int8, not 'cpu-int8'"):
        TensorRtBackend(bundle, "cpu-int8")


@pytest.mark.parametrize(
    "options",
    [
        lambda: TensorRtOptions(profile=BatchProfile(2, 2, 8)),
        lambda: TensorRtOptions(profile=BatchProfile(1, 9, 8)),
        lambda: TensorRtOptions(optimisation_level=6),
        lambda: BuildOptions(workspace_mib=0),
    ],
)
def test_options_that_make_no_sense_are_refused(options: Any) -> None:
    with pytest.raises(InvalidInputError):
        options()


def test_the_builder_is_told_everything(machine: Machine) -> None:
    options = BuildOptions(
        profile=BatchProfile(1, 4, 16),
        workspace_mib=7,
        optimisation_level=5,
        timing_cache=b"timing",
    )
    built = build_engine(machine.trt, tiny_onnx(), options)
    ((network, config),) = machine.trt._builds
    flag = machine.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    assert network._flags == 1 << int(flag)
    assert list(config._pools.values()) == [7 << 20]
    assert config.builder_optimization_level == 5
    assert str(config.profiling_verbosity) == "ProfilingVerbosity.DETAILED"
    assert config._profiles[0]._shapes == tuple((n, 112, 112, 3) for n in (1, 4, 16))
    assert built.layers["conv"] == 1
    assert built.timing_cache == b"timingtiming"


def test_timing_notes_of_another_tensorrt_are_left_out(machine: Machine) -> None:
    built = build_engine(machine.trt, tiny_onnx(), BuildOptions(timing_cache=b"foreign"))
    assert built.timing_cache == b"timing"


def test_every_reason_of_the_parser_is_given_on_one_line(machine: Machine) -> None:
    with pytest.raises(
        BackendError, match=r"node 'conv1' \(Conv\): no model.*a second reason"
    ) as caught:
        build_engine(machine.trt, b"\xff not a model", where="x.onnx")
    assert str(caught.value).startswith("x.onnx: TensorRT cannot read the graph")
    assert "\n" not in str(caught.value)


def test_a_builder_that_gives_nothing_is_an_error(machine: Machine) -> None:
    machine.trt._builds_nothing = True
    with pytest.raises(BackendError, match="built nothing: no reason given"):
        build_engine(machine.trt, tiny_onnx())


def test_a_builder_that_cannot_be_made_is_an_error(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nullptr(logger: Any) -> None:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(FakeTensorRt, "Builder", staticmethod(nullptr))
    with pytest.raises(BackendError, match="cannot build an engine: pybind11::init"):
        build_engine(machine.trt, tiny_onnx())


def test_the_fake_knows_no_name_that_one_version_lacks(machine: Machine) -> None:
    for name in ("FP16", "INT8"):
        with pytest.raises(AssertionError, match="not in both"):
            getattr(machine.trt.BuilderFlag, name)
    with pytest.raises(AssertionError, match="not in both"):
        machine.trt.IInt8Calibrator  # noqa: B018
    with pytest.raises(AssertionError, match="not in both"):
        machine.cuda.cudaNoSuchThing(1)


def test_log_lines_that_repeat_are_counted(machine: Machine) -> None:
    lines = trt_packages.LogLines(machine.trt)
    for text in ("a", "b", "a"):
        lines.logger.log(machine.trt.ILogger.WARNING, text)
    lines.logger.log(machine.trt.ILogger.INFO, "not kept")
    assert lines.take() == ("a (2 times)", "b")
    assert lines.take() == ()
