"""What lint says of INT8 graphs that break a rule of placement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgeface.errors import (
    GateFailedError,
)

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

helper, numpy_helper = onnx.helper, onnx.numpy_helper

from edgeface_export.quantise import QuantiseOptions, quantise  # noqa: E402
from edgeface_export.quantise.lint import lint  # noqa: E402
from tests.builders_export import (  # noqa: E402
    set_constant,
    small_network,
)


def clean() -> Any:
    return quantise(small_network(), None, QuantiseOptions(), name="g").model


def node_named(model: Any, name: str) -> Any:
    return next(node for node in model.graph.node if node.name == name)


def drop_constant(model: Any, name: str) -> None:
    kept = [t for t in model.graph.initializer if t.name != name]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def rewire(model: Any, name: str, position: int, source: str) -> None:
    node_named(model, name).input[position] = source


def set_axis(model: Any, name: str, axis: int | None) -> None:
    node = node_named(model, name)
    del node.attribute[:]
    if axis is not None:
        node.attribute.append(helper.make_attribute("axis", axis))


def add_pair(model: Any, tensor: str, readers: tuple[str, ...]) -> None:
    scale, zero = "stem_prelu.scale", "stem_prelu.zero_point"
    model.graph.node.extend(
        [
            helper.make_node("QuantizeLinear", [tensor, scale, zero], ["extra.q"], name="extra.q"),
            helper.make_node(
                "DequantizeLinear", ["extra.q", scale, zero], ["extra.dq"], name="extra.dq"
            ),
        ]
    )
    for reader in readers:
        node = node_named(model, reader)
        for position, name in enumerate(node.input):
            if name == tensor:
                node.input[position] = "extra.dq"


def quantised_bias(model: Any) -> None:
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.zeros(16, np.int8), "bias.q"),
            numpy_helper.from_array(np.ones(16, np.float32), "bias.scale"),
            numpy_helper.from_array(np.zeros(16, np.int8), "bias.zero"),
        ]
    )
    model.graph.node.append(
        helper.make_node(
            "DequantizeLinear",
            ["bias.q", "bias.scale", "bias.zero"],
            ["bias.dq"],
            name="bias.dq",
            axis=0,
        )
    )
    rewire(model, "stem", 2, "bias.dq")


Breaking = Callable[[Any], object]
VIOLATIONS: dict[str, tuple[Breaking, str]] = {
    "asymmetric zero point": (
        lambda m: set_constant(m, "sum.zero_point", np.array(3, np.int8)),
        r"^sum\.(de)?quantised: its zero point must be INT8 zero",
    ),
    "one asymmetric channel": (
        lambda m: set_constant(m, "stem.weight.zero_point", np.eye(1, 16, 5, dtype=np.int8)[0]),
        "^stem.weight.dequantised: its zero point must be INT8 zero",
    ),
    "unsigned": (
        lambda m: set_constant(m, "sum.zero_point", np.array(0, np.uint8)),
        "symmetric.*uint8",
    ),
    "zero scale": (
        lambda m: set_constant(m, "sum.scale", np.array(0, np.float32)),
        "scale must be finite and positive",
    ),
    "negative scale": (
        lambda m: set_constant(m, "sum.scale", np.array(-1, np.float32)),
        "scale must be finite and positive",
    ),
    "scale that is no number": (
        lambda m: set_constant(m, "sum.scale", np.array(np.nan, np.float32)),
        "scale must be finite and positive",
    ),
    "infinite scale of one channel": (
        lambda m: set_constant(
            m, "stem.weight.scale", np.where(np.arange(16) == 4, np.inf, 1).astype(np.float32)
        ),
        "^stem.weight.dequantised: its scale must be finite",
    ),
    "scale that is computed": (
        lambda m: drop_constant(m, "sum.scale"),
        r"^sum\.(de)?quantised: its scale or zero point is not a constant",
    ),
    "zero point that is computed": (
        lambda m: drop_constant(m, "sum.zero_point"),
        r"its scale or zero point is not a constant",
    ),
    "pair between a convolution and its PReLU": (
        lambda m: add_pair(m, "stem", ("stem_prelu",)),
        "^stem_prelu: a Q/DQ pair stands between",
    ),
    "pair between a convolution and its bounded ReLU": (
        lambda m: add_pair(m, "depthwise", ("bounded",)),
        "^bounded: a Q/DQ pair stands between",
    ),
    "both inputs of a sum": (
        lambda m: add_pair(m, "project", ("sum",)),
        "^sum: exactly its skip must be quantised",
    ),
    "no input of a sum": (
        lambda m: rewire(m, "sum", 0, "stem_prelu"),
        "^sum: exactly its skip must be quantised",
    ),
    "weights by input channel": (
        lambda m: set_axis(m, "down.weight.dequantised", 1),
        "^down: its weight must be quantised by output channel, axis 0",
    ),
    "weights by the default axis, which is 1": (
        lambda m: set_axis(m, "down.weight.dequantised", None),
        "^down: its weight must be quantised by output channel, axis 0",
    ),
    "quantised bias": (quantised_bias, "^stem: its bias is quantised"),
    "float input, quantised weight": (
        lambda m: rewire(m, "down", 0, "sum"),
        "^down: only one of its input and its weight is quantised",
    ),
    "foreign operators": (
        lambda m: m.opset_import.append(helper.make_opsetid("com.microsoft", 1)),
        "domain 'com.microsoft'",
    ),
}


def test_the_graph_that_the_violations_are_made_of_is_clean() -> None:
    assert lint(clean()) == []


@pytest.mark.parametrize(("breaking", "said"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_lint_names_what_is_wrong(breaking: Breaking, said: str) -> None:
    import re

    model = clean()
    breaking(model)
    found = lint(model)
    assert found
    assert all(re.search(said, sentence) for sentence in found), found


def test_lint_names_a_weight_with_one_scale_for_all_channels() -> None:
    model = clean()
    set_constant(model, "down.weight.scale", np.array(0.01, np.float32))
    set_constant(model, "down.weight.zero_point", np.array(0, np.int8))
    (sentence,) = lint(model)
    assert sentence.startswith(
        "down: its weight must have one scale for each of 24 output channels"
    )


def test_lint_names_a_sum_whose_branch_is_quantised_instead_of_its_skip() -> None:
    model = clean()
    add_pair(model, "project", ("sum",))
    rewire(model, "sum", 0, "stem_prelu")
    assert lint(model) == ["sum: its branch is quantised in place of its skip"]


def test_lint_names_an_int32_dequantisation_without_a_zero_point() -> None:
    model = clean()
    rewire(model, "sum.dequantised", 0, "integers")
    model.graph.initializer.append(
        numpy_helper.from_array(np.zeros((1, 16, 8, 6), np.int32), "integers")
    )
    node = node_named(model, "sum.dequantised")
    del node.input[2:]
    assert any(sentence.startswith("sum.dequantised: it has no zero") for sentence in lint(model))


def test_a_graph_that_breaks_a_rule_is_never_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeface_export import quantise as package

    network = small_network()
    monkeypatch.setattr(package, "lint", lambda model: ["a: wrong", "b: wrong"])
    with pytest.raises(GateFailedError, match="a: wrong; b: wrong"):
        quantise(network, None, QuantiseOptions())
