"""Speed of the CPU artefacts beside plain graphs and a peer's model, all in turns in one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from edgeface.backends import choose_backend, open_backend, selection
from edgeface.backends.base import Backend
from edgeface.bundle import Bundle
from edgeface.types import ImageArray
from edgeface_export.architectures import recognition
from edgeface_export.checkpoints import read_checkpoint
from edgeface_export.cpu_artefacts import Timing, build_cpu_artefacts
from edgeface_export.graph.emit import emit
from edgeface_export.quantise import QuantiseOptions, quantise
from edgeface_export.quantise.integer_fit import quantise_integer
from tests.builders import make_bundle

onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = [pytest.mark.slow, pytest.mark.integration]

ROUNDS = {1: 80, 8: 12}
# Runs of one model in a row, as a device has them: in turns of one, each would find the caches
# full of another's weights, which no device runs.
IN_A_ROW = {1: 4, 8: 1}
PLAIN, PEER = "ort/fp32", "naive INT8 (peer)"
# Of the times of a run the fifth part that other programs disturbed least.
QUANTILE = 0.2


@pytest.fixture(scope="module")
def bundle(
    checkpoints: Path, real_crops: dict[str, ImageArray], tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """Xiaoccer with every artefact; ranges of sixteen faces, which speed does not depend on."""
    tensors = read_checkpoint(checkpoints / "arcface-mobilefacenet-112x96-xiaoccer.ckpt").tensors
    network = recognition.recognise({name: t.array for name, t in tensors.items()}).network
    crops = real_crops[network.alignment_template]
    fp32 = emit(network, name="xiaoccer")
    int8 = quantise(network, crops, QuantiseOptions())
    integer = quantise_integer(network, crops, QuantiseOptions())
    built = build_cpu_artefacts(network, fp32, int8, integer, timing=Timing(crops[:8]))
    models = {"fp32": fp32, "int8": int8.model, **built.models}
    path = make_bundle(
        tmp_path_factory.mktemp("speed"),
        artefacts={name: model.SerializeToString() for name, model in models.items()},
        crop_size=network.crop_size,
        embedding_size=network.embedding_size,
    )
    return Bundle.open(path)


@pytest.fixture(scope="module")
def backends(bundle: Bundle) -> dict[str, Backend]:
    """Every pair that ``auto`` considers, one thread."""
    names = [entry.name for entry in bundle.manifest.artefacts]
    return {
        f"{engine}/{name}": open_backend(bundle, backend=engine, artefact=name, threads=1)
        for engine, entry in selection.ENGINES.items()
        if find_spec(entry.package)
        for name in entry.artefacts
        if name in names
    }


def peer(path: Path, batch: int) -> Callable[[], object]:
    """Runs of the peer's model, whose batch is fixed to one, one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    wanted = session.get_inputs()[0]
    shape = [size if isinstance(size, int) and size > 0 else 1 for size in wanted.shape]
    noise = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)

    def run() -> None:
        for _ in range(batch):
            session.run(None, {wanted.name: noise})

    return run


def quiet_ms(
    runs: Mapping[str, Callable[[], object]], rounds: int, in_a_row: int
) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 3):
        for name, run in runs.items():
            run()
            for _ in range(in_a_row):
                started = time.perf_counter()
                run()
                if turn >= 3:
                    times[name].append((time.perf_counter() - started) * 1e3)
    return {name: float(np.quantile(taken, QUANTILE)) for name, taken in times.items()}


@pytest.mark.parametrize("batch", ROUNDS)
def test_speed_of_every_engine_and_artefact(
    bundle: Bundle,
    backends: dict[str, Backend],
    batch: int,
    test_data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    crops = selection.probe_crops(bundle, batch)
    runs: dict[str, Callable[[], object]] = {
        name: partial(backend.run, crops) for name, backend in backends.items()
    }
    models = test_data / "models" / "peers"
    runs[PEER] = peer(models / "naive-int8-mobilefacenet-112x96.onnx", batch)
    ms = quiet_ms(runs, ROUNDS[batch], IN_A_ROW[batch])
    floats = {name: value for name, value in ms.items() if name.endswith("fp32")}
    fastest_float = min(floats, key=lambda name: floats[name])
    with capsys.disabled():
        versions = ", ".join(
            f"{entry.package} {metadata.version(entry.package)}"
            for entry in selection.ENGINES.values()
            if find_spec(entry.package)
        )
        print(f"\none thread, {batch} crop(s), Xiaoccer; {versions}; not at hand: ORT 1.24")  # noqa: T201
        print(f"{'':22}{'ms':>8}{'x plain':>9}{'x peer':>9}{'x fastest float':>17}")  # noqa: T201
        for name, value in sorted(ms.items(), key=lambda entry: entry[1]):
            ratios = (ms[PLAIN] / value, ms[PEER] / value, ms[fastest_float] / value)
            print(f"  {name:<20}{value:8.2f}{ratios[0]:9.2f}{ratios[1]:9.2f}{ratios[2]:17.2f}")  # noqa: T201
    if batch == 1:
        best = min((name for name in ms if name != PEER), key=lambda name: ms[name])
        assert ms[PLAIN] / ms["ort/cpu-fp32"] >= 1.3
        assert ms[PLAIN] / ms["ort/cpu-int8"] >= 2.8
        assert ms[PLAIN] / ms[best] >= 2.8
        assert ms[PEER] / ms[best] >= 3.5
        if "openvino/int8" in ms:
            # Wanted 2.0; measured 1.8 to 2.2 from run to run (docs/benchmarks.md).
            assert ms[fastest_float] / ms[best] >= 1.7


def test_auto_takes_the_fastest(
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(selection, "cache_folder", lambda part: tmp_path / part)
    started = time.perf_counter()
    choice = choose_backend(bundle, threads=1)
    measured_s = time.perf_counter() - started
    started = time.perf_counter()
    assert choose_backend(bundle, threads=1).remembered
    remembered_s = time.perf_counter() - started
    with capsys.disabled():
        print(f"\nauto: {choice}\n  {measured_s:.1f} s, then {remembered_s * 1e3:.1f} ms")  # noqa: T201
    assert "int8" in choice.artefact
    assert measured_s < 10
    assert remembered_s < 0.1
