from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeface.backends.ort import OrtBackend
from edgeface.bundle import Bundle
from edgeface_export.architectures.network import Linear, Network
from edgeface_export.cpu_artefacts import IntegerSource, build_cpu_artefacts
from edgeface_export.graph.emit import emit
from edgeface_export.graph.session import EmbeddingSession
from edgeface_export.quantise import QuantiseOptions, quantise
from edgeface_export.quantise.integer import integer_model
from edgeface_export.quantise.ranges import TensorRange, collect_ranges
from tests.builders import make_bundle
from tests.builders_export import (
    LAYOUT_NAMES,
    normal,
    random_crops,
    settled_network,
    small_network,
)

pytest.importorskip("onnxruntime")
PRELU_LAYOUT = next(name for name in LAYOUT_NAMES if "xiaoccer" in name)
RELU_LAYOUT = next(name for name in LAYOUT_NAMES if "foamliu" in name)


def ranges_of(source: IntegerSource, network: Network) -> dict[str, TensorRange]:
    crops = random_crops(8, network.crop_size)
    return collect_ranges(source.model, source.tensors, crops, method="minmax")


def test_prelu_network_gets_both_artefacts_and_their_figures() -> None:
    network = settled_network(PRELU_LAYOUT)
    fp32 = emit(network, name="m")
    crops = random_crops(8, network.crop_size)
    source = IntegerSource.of(network)
    built = build_cpu_artefacts(
        network,
        fp32,
        quantise(network, None, QuantiseOptions()),
        ranges_of(source, network),
        source=source,
        crops=crops,
    )
    assert set(built.models) <= {"cpu-fp32", "cpu-int8"}
    assert "cpu-int8" in built.models
    names = ("int8_qdq", *(name.replace("-", "_") for name in built.models))
    wanted = {f"{name}_speed_ratio{end}" for name in names for end in ("", "_batch8")}
    assert set(built.figures) == wanted
    assert all(value > 0 for value in built.figures.values())
    expected = EmbeddingSession(fp32).embed(crops)
    for name, limit in (("cpu-fp32", 0.99999), ("cpu-int8", 0.95)):
        if name in built.models:
            rows = EmbeddingSession(built.models[name]).embed(crops)
            assert (rows * expected).sum(axis=1).min() > limit


def test_relu_network_keeps_its_float_graph_and_says_so() -> None:
    network = settled_network(RELU_LAYOUT)
    source = IntegerSource.of(network)
    built = build_cpu_artefacts(
        network, emit(network, name="m"), None, ranges_of(source, network), source=source
    )
    assert list(built.models) == ["cpu-int8"]
    assert built.notes == ("cpu-fp32 is left out: the network has no PReLU to rewrite",)


def test_without_ranges_there_is_no_integer_artefact() -> None:
    network = small_network()
    built = build_cpu_artefacts(network, emit(network, name="m"), None, None)
    assert "cpu-int8" not in built.models


def test_network_without_an_integer_form_says_why() -> None:
    network = small_network(linear=True)
    second = Linear("again", "embed_norm", normal(np.random.default_rng(0), 4, 8))
    network = replace(network, layers=(*network.layers, second))
    source = IntegerSource.of(network)
    assert source.tensors == ()
    built = build_cpu_artefacts(network, emit(network, name="m"), None, {}, source=source)
    assert "cpu-int8" not in built.models
    assert any("cpu-int8 is left out: no integer form" in note for note in built.notes)


@pytest.mark.parametrize("layout", [PRELU_LAYOUT, RELU_LAYOUT])
def test_equalising_changes_no_embedding_and_costs_no_accuracy(layout: str) -> None:
    network = settled_network(layout)
    crops = random_crops(16, network.crop_size)
    expected = EmbeddingSession(emit(network, name="m")).embed(crops)
    means = []
    for source in (IntegerSource.of(network), IntegerSource.of(network, crops=crops)):
        rows = EmbeddingSession(source.model).embed(crops)
        assert (rows * expected).sum(axis=1).min() > 0.999
        ranges = collect_ranges(source.model, source.tensors, crops, method="minmax")
        model = integer_model(source.network, ranges, name="m")
        means.append((EmbeddingSession(model).embed(crops) * expected).sum(axis=1).mean())
    assert means[1] > means[0] - 0.002


def test_the_runtime_opens_what_was_built(tmp_path: Path) -> None:
    network = settled_network(PRELU_LAYOUT)
    fp32 = emit(network, name="m")
    source = IntegerSource.of(network)
    built = build_cpu_artefacts(network, fp32, None, ranges_of(source, network), source=source)
    content = {name: model.SerializeToString() for name, model in built.models.items()}
    bundle = Bundle.open(
        make_bundle(
            tmp_path,
            artefacts={"fp32": fp32.SerializeToString(), **content},
            crop_size=network.crop_size,
            embedding_size=network.embedding_size,
        )
    )
    crops = random_crops(3, network.crop_size)
    expected = OrtBackend(bundle, "fp32").run(crops)
    for name in content:
        rows = OrtBackend(bundle, name, threads=1).run(crops)
        assert (rows * expected).sum(axis=1).min() > 0.95
