from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeface.backends.ort import OrtBackend
from edgeface.bundle import Bundle
from edgeface.errors import ArchitectureError
from edgeface_export.architectures.network import Linear
from edgeface_export.cpu_artefacts import Timing, build_cpu_artefacts
from edgeface_export.graph.emit import emit
from edgeface_export.graph.session import EmbeddingSession
from edgeface_export.quantise import QuantiseOptions, quantise
from edgeface_export.quantise.integer_fit import quantise_integer
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


def test_prelu_network_gets_both_artefacts_and_their_figures() -> None:
    network = settled_network(PRELU_LAYOUT)
    fp32 = emit(network, name="m")
    crops = random_crops(8, network.crop_size)
    built = build_cpu_artefacts(
        network,
        fp32,
        quantise(network, None, QuantiseOptions()),
        quantise_integer(network, crops, QuantiseOptions()),
        timing=Timing(crops, budget_s=0.0),
    )
    assert set(built.models) <= {"cpu-fp32", "cpu-int8"}
    assert "cpu-int8" in built.models
    names = ("int8_qdq", *(name.replace("-", "_") for name in built.models))
    timed = {(row["artefact"], row["batch"]) for row in built.speed}
    assert timed == {(name, n) for name in ("fp32", "int8", *built.models) for n in (1, 8)}
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
    integer = quantise_integer(network, None, QuantiseOptions())
    built = build_cpu_artefacts(network, emit(network, name="m"), None, integer)
    assert list(built.models) == ["cpu-int8"]
    assert built.notes == ("cpu-fp32 is left out: the network has no PReLU to rewrite",)


def test_without_an_integer_graph_there_is_no_integer_artefact() -> None:
    network = small_network()
    built = build_cpu_artefacts(network, emit(network, name="m"), None, None)
    assert "cpu-int8" not in built.models


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_network_without_an_integer_form_says_why(share: float) -> None:
    network = small_network(linear=True)
    second = Linear("again", "embed_norm", normal(np.random.default_rng(0), 4, 8))
    more = replace(network, layers=(*network.layers, second))
    options = QuantiseOptions(float_share=share)
    if share:
        # What has no integer form is in the end, which stays in float.
        crops = random_crops(4, more.crop_size)
        expected = EmbeddingSession(emit(more, name="m")).embed(crops)
        rows = EmbeddingSession(quantise_integer(more, crops, options)).embed(crops)
        assert (rows * expected).sum(axis=1).min() > 0.95
        return
    with pytest.raises(ArchitectureError, match="no integer form"):
        quantise_integer(more, None, options)


def test_the_runtime_opens_what_was_built(tmp_path: Path) -> None:
    network = settled_network(PRELU_LAYOUT)
    fp32 = emit(network, name="m")
    crops = random_crops(8, network.crop_size)
    integer = quantise_integer(network, crops, QuantiseOptions())
    built = build_cpu_artefacts(network, fp32, None, integer)
    content = {name: model.SerializeToString() for name, model in built.models.items()}
    bundle = Bundle.open(
        make_bundle(
            tmp_path,
            artefacts={"fp32": fp32.SerializeToString(), **content},
            crop_size=network.crop_size,
            embedding_size=network.embedding_size,
        )
    )
    expected = OrtBackend(bundle, "fp32").run(crops[:3])
    for name in content:
        rows = OrtBackend(bundle, name, threads=1).run(crops[:3])
        assert (rows * expected).sum(axis=1).min() > 0.95
