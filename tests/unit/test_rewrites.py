from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from edgeface.errors import GateFailedError
from edgeface.onnx_file import refuse_foreign_content
from edgeface_export.architectures.network import Network
from edgeface_export.graph import rewrites
from edgeface_export.graph.emit import emit
from edgeface_export.graph.flip import flip_network
from edgeface_export.graph.rewrites import FORMS, PLAIN, fastest_fp32, rewrite_prelu
from edgeface_export.graph.session import EmbeddingSession
from tests.builders_export import LAYOUT_NAMES, random_crops, settled_network, small_network

pytest.importorskip("onnxruntime")
PRELU_LAYOUT = next(name for name in LAYOUT_NAMES if "xiaoccer" in name)
RELU_LAYOUT = next(name for name in LAYOUT_NAMES if "foamliu" in name)


def kinds(model: Any) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def rewritten(network: Network, form: str) -> Any:
    model = rewrite_prelu(emit(flip_network(network), name="m"), form)
    assert model is not None
    return model


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch", [1, 2, 8])
def test_every_form_equals_prelu(form: str, batch: int) -> None:
    network = settled_network(PRELU_LAYOUT)
    crops = random_crops(batch, network.crop_size)
    expected = EmbeddingSession(emit(network, name="m")).embed(crops)
    model = rewritten(network, form)
    assert "PRelu" not in kinds(model)
    assert EmbeddingSession(model).embed(crops) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_slopes_that_could_not_be_repaired_take_the_form_that_holds_for_all(form: str) -> None:
    network = small_network()
    model = rewritten(network, form)
    assert any(node.name == "stem_prelu.positive" for node in model.graph.node)
    crops = random_crops(5, network.crop_size)
    expected = EmbeddingSession(emit(network, name="m")).embed(crops)
    assert EmbeddingSession(model).embed(crops) == pytest.approx(expected, abs=1e-5)


def test_twins_take_the_place_of_the_convolution_and_leave_nothing_unread() -> None:
    model = rewritten(settled_network(PRELU_LAYOUT), "twins")
    read = {name for node in model.graph.node for name in node.input} | {"embeddings"}
    made = {name for node in model.graph.node for name in node.output}
    assert made <= read
    assert {tensor.name for tensor in model.graph.initializer} <= read


@pytest.mark.parametrize("form", FORMS)
def test_rewrites_obey_the_bundle_contract(form: str) -> None:
    model = rewritten(small_network(), form)
    refuse_foreign_content(model.SerializeToString(), where="model")
    assert [entry.name for entry in model.graph.input] == ["crops"]
    assert [entry.domain for entry in model.opset_import] == [""]


def test_the_fastest_was_timed_beside_the_plain_graph_and_is_never_slower() -> None:
    network = settled_network(PRELU_LAYOUT)
    plain, flipped = emit(network, name="m"), emit(flip_network(network), name="m")
    fastest = fastest_fp32(plain, flipped, random_crops(8, network.crop_size))
    assert set(fastest.milliseconds) == {PLAIN, *FORMS}
    assert all(set(taken) == {1, 8} for taken in fastest.milliseconds.values())
    assert fastest.milliseconds[fastest.form][1] == min(
        taken[1] for taken in fastest.milliseconds.values()
    )
    assert fastest.speed_ratio(1) >= 1.0


def test_network_without_prelu_keeps_its_plain_graph() -> None:
    network = settled_network(RELU_LAYOUT)
    model = emit(network, name="m")
    fastest = fastest_fp32(model, model, random_crops(2, network.crop_size))
    assert (fastest.form, list(fastest.milliseconds)) == (PLAIN, [PLAIN])
    assert fastest.model is model


def test_a_form_that_is_not_equal_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(rewriter: rewrites._Rewriter, x: str, slope: rewrites._Array, name: str) -> None:
        rewriter.node("Relu", [x], name)

    monkeypatch.setitem(FORMS, "wrong", wrong)
    network = settled_network(PRELU_LAYOUT)
    plain, flipped = emit(network, name="m"), emit(flip_network(network), name="m")
    with pytest.raises(GateFailedError, match="'wrong' differs from the plain graph by"):
        fastest_fp32(plain, flipped, random_crops(2, network.crop_size), forms=["wrong"])


def test_times_of_runs_are_medians_in_milliseconds() -> None:
    taken = rewrites.time_in_turns({"nothing": lambda: None, "work": lambda: np.ones(10**6)}, 5)
    assert 0 <= taken["nothing"] < taken["work"] < 1000
