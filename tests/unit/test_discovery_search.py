"""The search on a small network that was built for one preprocessing, and on useless ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgeface.alignment import ALIGNMENT_TEMPLATES
from edgeface.errors import GateFailedError
from edgeface.types import ImageArray, Size
from edgeface_export.architectures.network import (
    INPUT,
    BatchNorm,
    Conv,
    Flatten,
    GlobalAveragePool,
    Linear,
    Network,
    Preprocessing,
    Relu,
)
from edgeface_export.discovery import (
    Discovery,
    DiscoveryOptions,
    FacePatch,
    LabelledFaces,
    discover,
)
from edgeface_export.discovery.candidates import candidates
from edgeface_export.discovery.faces import crop_plans
from edgeface_export.discovery.network_probe import NetworkProbe
from edgeface_export.discovery.norm_fit import NormState
from edgeface_export.discovery.search import other_sizes
from edgeface_export.discovery.separation import difference, separate
from edgeface_export.discovery.trials import Trial, surely_worse

pytest.importorskip("cv2")
pytest.importorskip("onnxruntime")

SIZE = Size(14, 14)
TRUE = Preprocessing.uniform("RGB", 127.5, 127.5)
QUICK = DiscoveryOptions(crops=False, threads=1, budget_s=1e6)


def people_in_red(count: int = 60, of_each: int = 4, noise: float = 25.0) -> LabelledFaces:
    """Return faces whose red channel tells the person; green and blue are of the photo."""
    rng = np.random.default_rng(5)
    person = rng.uniform(60, 195, (count, 1, *SIZE.width_px * np.ones(2, int)))
    red = person + noise * rng.standard_normal((count, of_each, 14, 14))
    rest = rng.uniform(0, 255, (count, of_each, 14, 14, 2))
    pixels = np.concatenate([red[..., None], rest], axis=-1).clip(0, 255).astype(np.uint8)
    points = crop_plans(SIZE)[0].points_px.astype(np.float32)
    patches = tuple(FacePatch(picture, points) for picture in pixels.reshape(-1, 14, 14, 3))
    return LabelledFaces(patches, np.repeat(np.arange(count), of_each))


FACES = people_in_red()


def network(preprocessing: Preprocessing = TRUE, *, settled: bool = True) -> Network:
    """Return a net that reads the first channel and cuts off what lies outside of -0.5 to 0.5."""
    weight = np.zeros((2, 3, 1, 1), np.float32)
    weight[0, 0], weight[1, 0] = 1.0, -1.0
    mean = np.zeros(2, np.float32)
    variance = np.full(2, 0.1 if settled else 1.0, np.float32)
    gamma = np.sqrt(variance + 1e-5)
    norm = BatchNorm("bn", "conv", gamma, mean, mean, variance)
    rng = np.random.default_rng(1)
    last = rng.standard_normal((24, 2 * 14 * 14)).astype(np.float32)
    # The mean of what a face gives is taken away, so that different people score about 0.
    layers = (
        Conv("conv", INPUT, weight),
        norm,
        Relu("relu", "bn", ceiling=0.5),
        Flatten("flat", "relu"),
        Linear("linear", "flat", last, np.zeros(24, np.float32)),
    )
    return _centred(Network(layers, SIZE, "", preprocessing))


def _centred(raw: Network) -> Network:
    crops = FACES.crops(crop_plans(SIZE)[0])
    values = _features(raw, crops)
    last = raw.layers[-1]
    assert isinstance(last, Linear)
    centred = replace(last, bias=-values.mean(axis=0).astype(np.float32))
    return replace(raw, layers=(*raw.layers[:-1], centred))


def _features(raw: Network, crops: ImageArray) -> np.ndarray:
    order = crops if raw.preprocessing.colour_order == "RGB" else crops[..., ::-1]
    x = (order[..., 0].astype(float) - raw.preprocessing.mean[0]) / raw.preprocessing.scale[0]
    both = np.clip(np.stack([x, -x], axis=1), 0, 0.5).reshape(len(x), -1)
    last = raw.layers[-1]
    assert isinstance(last, Linear)
    return np.asarray(both @ last.weight.T.astype(float))


def search(found: Network, **options: Any) -> Discovery:
    return discover(found, FACES, options=QUICK, **options)


def test_the_probe_gives_what_the_network_gives_under_its_own_preprocessing() -> None:
    from edgeface_export.graph.reference import reference_embeddings

    crops = FACES.crops(crop_plans(SIZE)[0], range(6))
    for preprocessing in (TRUE, Preprocessing("BGR", (1.0, 2.0, 3.0), (50.0, 60.0, 70.0))):
        net = replace(network(), preprocessing=preprocessing)
        rows = NetworkProbe(net, threads=1).embed(crops, preprocessing)
        np.testing.assert_allclose(rows, reference_embeddings(net, crops), atol=1e-5)


def test_the_true_preprocessing_is_found_and_its_double_is_named() -> None:
    found = search(network())
    assert found.name == "rgb:127.5/127.5"
    assert found.agrees
    assert "rgb:127.5/128" in found.ambiguous
    assert not any(name.startswith("bgr") for name in found.ambiguous)
    assert any("cannot tell rgb:127.5/127.5 from" in note for note in found.notes)
    assert (found.faces, found.people, found.norms) == (240, 60, NormState.KEPT)


def test_what_the_recognised_trainer_does_wrongly_is_a_warning() -> None:
    wrong = Preprocessing.uniform("BGR", 127.5, 127.5)
    found = search(replace(network(), preprocessing=wrong))
    assert found.preprocessing.colour_order == "RGB"
    assert not found.agrees
    assert found.implied == "bgr:127.5/127.5"
    assert any("recognised trainer" in text for text in found.warnings)


def test_where_no_trainer_is_known_nothing_is_held_against_what_is_found() -> None:
    wrong = Preprocessing.uniform("BGR", 127.5, 127.5)
    found = search(replace(network(), preprocessing=wrong), assumed=True)
    assert (found.implied, found.agrees) == ("", True)
    assert found.preprocessing.colour_order == "RGB"
    assert not any("recognised trainer" in text for text in found.notes)


def test_every_candidate_has_a_row_and_the_best_come_first() -> None:
    found = search(network())
    assert len(found.tried) == 10
    full = [row.d_prime for row in found.tried if row.faces == found.faces]
    assert full == sorted(full, reverse=True)
    assert sum(row.outcome == "chosen" for row in found.tried) == 1
    assert all(row.low <= row.d_prime <= row.high for row in found.tried)
    assert found.to_dict()["tried"][0]["name"] == found.tried[0].name


def test_the_same_faces_give_the_same_answer() -> None:
    first, second = search(network()).to_dict(), search(network()).to_dict()
    for entry in (first, second):
        entry.pop("seconds")
        for row in (*entry["tried"], *entry["crops"]):
            row.pop("seconds")
    assert first == second


def test_a_network_that_gives_one_embedding_for_all_is_refused_as_collapsed() -> None:
    net = network()
    last = net.layers[-1]
    assert isinstance(last, Linear)
    same = replace(last, weight=last.weight * 0, bias=np.ones(24, np.float32))
    with pytest.raises(GateFailedError, match="collapsed"):
        search(replace(net, layers=(*net.layers[:-1], same)))


def test_a_network_that_does_not_look_at_the_person_is_refused() -> None:
    net = network()
    first = net.layers[0]
    assert isinstance(first, Conv)
    to_green = replace(first, weight=np.roll(first.weight, 1, axis=1))
    with pytest.raises(GateFailedError, match="does not tell people apart"):
        search(replace(net, layers=(to_green, *net.layers[1:])))


def test_batch_norms_that_never_trained_are_named_where_the_network_is_useless() -> None:
    net = network()
    first, norm = net.layers[0], net.layers[1]
    assert isinstance(first, Conv)
    assert isinstance(norm, BatchNorm)
    to_green = replace(first, weight=np.roll(first.weight, 1, axis=1))
    fresh = replace(norm, mean=norm.mean * 0, variance=norm.variance * 0 + 1)
    with pytest.raises(GateFailedError, match="stand as they begin"):
        search(replace(net, layers=(to_green, fresh, *net.layers[2:])))


def test_batch_norms_that_never_trained_are_named_where_the_network_works() -> None:
    net = network()
    norm = net.layers[1]
    assert isinstance(norm, BatchNorm)
    same_work = replace(
        norm,
        variance=np.ones_like(norm.variance),
        gamma=np.full_like(norm.gamma, np.sqrt(1 + 1e-5)),
    )
    found = search(replace(net, layers=(net.layers[0], same_work, *net.layers[2:])))
    assert found.norms is NormState.NEVER_TRAINED
    assert any("stand as they begin" in text for text in found.warnings)
    assert all(row.first_layer is None for row in found.tried)


def test_a_network_that_ends_in_a_mean_is_tried_with_templates_of_other_sizes() -> None:
    weight = np.ones((4, 3, 3, 3), np.float32)
    any_size = Network(
        (
            Conv("conv", INPUT, weight, stride=2),
            GlobalAveragePool("mean", "conv"),
            Flatten("flat", "mean"),
        ),
        Size(112, 112),
        "arcface-112x112",
        TRUE,
    )
    tried = {plan.size: plan.template for plan in other_sizes(any_size)}
    others = {size: name for name, size in ALIGNMENT_TEMPLATES.items() if size != Size(112, 112)}
    assert tried == others
    with_matrix = (*any_size.layers[:1], Flatten("flat", "conv"))
    matrix = Linear("linear", "flat", np.ones((8, 4 * 55 * 55), np.float32))
    assert other_sizes(replace(any_size, layers=(*with_matrix, matrix))) == []
    # It still fits on crops of 160x160, on more positions than one: that is no embedding.
    kernel = Conv("kernel", "conv", np.ones((8, 4, 55, 55), np.float32))
    with_kernel = (any_size.layers[0], kernel, Flatten("flat", "kernel"))
    assert other_sizes(replace(any_size, layers=with_kernel)) == []


def test_candidates_that_give_the_same_embeddings_are_never_surely_worse() -> None:
    people = np.repeat(np.arange(40), 3)
    random = np.random.default_rng(0)
    rows = random.standard_normal((40, 16))[people] + 0.8 * random.standard_normal((120, 16))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)

    def trial(rows: np.ndarray) -> Trial:
        made = Trial(candidates(None)[0], crop_plans(SIZE)[0])
        made.rows, made.faces = [rows.astype(np.float32)], len(rows)
        made.separation = separate(made.embeddings, people)
        return made

    def nearer(share: float) -> np.ndarray:
        """Rows that lie nearer to the mean of their person: they separate better."""
        means = np.stack([rows[people == one].mean(axis=0) for one in range(40)])[people]
        moved = rows + share * (means - rows)
        return np.asarray(moved / np.linalg.norm(moved, axis=1, keepdims=True))

    ours, hardly, clearly = trial(rows), trial(nearer(0.005)), trial(nearer(0.1))
    assert difference(ours.found, hardly.found)[1] < 0
    assert not surely_worse(ours, hardly)
    assert surely_worse(ours, clearly)
