"""Averaged copies, heads and the state of a loss, as training programs keep them."""

from __future__ import annotations

import numpy as np
import pytest

from edgeface.errors import ArchitectureError
from edgeface_export.architectures.beside import (
    AVERAGED_COPY,
    HEAD,
    OTHER,
    QUANTISED,
    RAW_COPY,
    is_averaged,
    kinds_beside,
    preference,
    said_of_copies,
)
from edgeface_export.architectures.recognition import recognise
from tests.builders_export import MOBILEFACENETS, random_state


@pytest.mark.parametrize(
    "prefix",
    [
        "ema.", "ema_state_dict.", "state_dict_ema.", "model_ema.", "model_ema.module.",
        "ema.shadow.", "shadow.", "avg_model.module.", "swa_model.", "averaged.", "EMA.",
        "average_weights.",
    ],
)  # fmt: skip
def test_a_moving_average_is_known_by_its_name(prefix: str) -> None:
    assert is_averaged(prefix)


@pytest.mark.parametrize(
    "prefix",
    ["", "state_dict.", "module.", "net.", "avgpool.", "schema.", "emanet.", "model.backbone."],
)
def test_other_names_are_no_moving_average(prefix: str) -> None:
    assert not is_averaged(prefix)


def test_averaged_weights_come_first_then_the_shortest_name() -> None:
    prefixes = ["module.", "", "model_ema.module.", "ema."]
    assert sorted(prefixes, key=preference) == ["ema.", "model_ema.module.", "", "module."]


def test_which_copy_was_taken_is_said() -> None:
    assert said_of_copies(["module."]) == []
    assert said_of_copies(["ema."]) == ["the weights are a moving average"]
    assert said_of_copies(["net.", "old."])[0].endswith("'net.' was taken")
    assert "'ema.', the moving average, was taken" in said_of_copies(["ema.", "net."])[0]


def test_copies_and_parts_of_a_loss_are_named() -> None:
    rows, one = np.ones((10, 4), np.float32), np.ones(1, np.float32)
    tensors = {
        "net.conv.weight": np.ones((4, 3, 1, 1), np.float32),
        "net.embedding.weight": np.ones((4, 4), np.float32),
        "head.weight": rows,
        "head.bias": np.ones(10, np.float32),
        "head.scale": one,
        "criterion.beta": one,
        "notes": one,
        "layer.scale": one,
        "layer.zero_point": one,
    }
    kinds = dict.fromkeys(tensors, OTHER)
    kinds |= {"head.weight": HEAD, "net.embedding.weight": HEAD, "head.scale": QUANTISED}
    kinds |= {"layer.scale": QUANTISED, "layer.zero_point": QUANTISED}
    found = kinds_beside(kinds, tensors, ["ema.", "net."])
    assert found == {
        "net.conv.weight": RAW_COPY,
        "net.embedding.weight": RAW_COPY,
        "head.weight": HEAD,
        "head.bias": HEAD,
        "head.scale": "state of the loss",
        "criterion.beta": "state of the loss",
        "notes": OTHER,
        "layer.scale": QUANTISED,
        "layer.zero_point": QUANTISED,
    }


def test_a_network_that_kept_no_statistics_is_named() -> None:
    state = random_state(MOBILEFACENETS["mobilefacenet-xiaoccer"])
    without = {name: array for name, array in state.items() if "running_" not in name}
    with pytest.raises(ArchitectureError, match="statistics of each batch alone"):
        recognise(without)


def test_a_second_average_is_called_one() -> None:
    tensors = {"swa.conv.weight": np.ones((1, 1, 1, 1), np.float32)}
    kinds = {"swa.conv.weight": OTHER}
    assert set(kinds_beside(kinds, tensors, ["ema.", "swa."]).values()) == {AVERAGED_COPY}
