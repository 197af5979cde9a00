"""What a loss says of its embeddings, and how it is known."""

from __future__ import annotations

import numpy as np
import pytest

from edgeface.errors import InvalidInputError
from edgeface.manifest import Training
from edgeface_export.loss_facts import LOSSES, LossFacts, loss_named, sentences_of, training_of


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("arcface", "ArcFace"),
        ("ArcMarginProduct", "ArcFace"),
        ("sub_center_arcface", "sub-center ArcFace"),
        ("SubCenterArcFace", "sub-center ArcFace"),
        ("cosface", "CosFace"),
        ("am-softmax", "CosFace"),
        ("AM-Softmax", "CosFace"),
        ("A-Softmax", "SphereFace"),
        ("sphereface", "SphereFace"),
        ("L-Softmax", "L-Softmax"),
        ("l_softmax", "L-Softmax"),
        ("magface", "MagFace"),
        ("adaface", "AdaFace"),
        ("normface", "NormFace"),
        ("batch-hard triplet", "triplet"),
        ("TripletLoss", "triplet"),
        ("margin-based", "margin-based"),
        ("contrastive", "contrastive"),
        ("softmax + center loss", "softmax + center loss"),
        ("softmax", "softmax"),
        ("cross_entropy", "softmax"),
    ],
)
def test_a_loss_is_known_by_its_spellings(text: str, name: str) -> None:
    found = loss_named(text)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("text", ["", "function matching", "mse", "0.731", "face"])
def test_what_names_no_loss_is_none(text: str) -> None:
    assert loss_named(text) is None


@pytest.mark.parametrize("facts", LOSSES, ids=lambda facts: facts.name)
def test_every_loss_is_found_by_its_own_name(facts: LossFacts) -> None:
    assert loss_named(facts.name) is facts


def test_the_user_is_believed_before_the_checkpoint_and_that_before_the_trainer() -> None:
    scalars = {"hyper_parameters.head": "adaface", "epoch": 3, "loss": 0.25}
    assert training_of("triplet", scalars, [], "ArcFace").loss == "triplet"
    told = training_of(None, scalars, [], "ArcFace")
    assert (told.loss, told.known_from) == ("AdaFace", "stated in the checkpoint")
    beside = training_of(None, {"loss": 0.25}, ["centers"], "ArcFace")
    assert (beside.loss, beside.known_from) == (
        "softmax + center loss",
        "told by tensors beside the network",
    )
    assert training_of(None, {}, ["fc.weight"], "ArcFace").known_from.endswith("trainer")
    assert training_of(None, {}, [], "") == Training()


def test_an_unknown_loss_of_the_user_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidInputError, match="MagFace"):
        training_of("hinge", {}, [], "")


def test_euclidean_distance_on_unit_rows_and_cosine_order_alike() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((50, 8))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    scores = rows @ rows[0]
    np.testing.assert_allclose(
        np.linalg.norm(rows - rows[0], axis=1) ** 2, 2 - 2 * scores, atol=1e-12
    )
    said = sentences_of(training_of("triplet", {}, [], ""))
    assert "2 - 2 * s" in said[0]


def test_lengths_that_are_given_up_are_said() -> None:
    assert "directions alone" in sentences_of(training_of("contrastive", {}, [], ""))[0]
    magface = training_of("magface", {}, [], "")
    assert magface.length_is_quality
    assert "quality of the picture" in sentences_of(magface)[0]
    assert sentences_of(training_of("arcface", {}, [], "")) == ()
