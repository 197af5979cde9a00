"""What BatchNorm's running statistics say about a preprocessing, and whether they were kept."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from edgeface.types import Size
from edgeface_export.architectures.network import (
    INPUT,
    BatchNorm,
    Conv,
    Flatten,
    Layer,
    Linear,
    Network,
    Preprocessing,
)
from edgeface_export.discovery.norm_fit import NormState, fit_of, norm_state

Doubles = npt.NDArray[np.float64]
MEAN, VARIANCE = np.array([1.0, -2.0]), np.array([4.0, 0.25])


def norm(mean: Doubles, variance: Doubles) -> BatchNorm:
    ones = np.ones(2, np.float32)
    return BatchNorm(
        "bn", "conv", ones, 0 * ones, mean.astype(np.float32), variance.astype(np.float32)
    )


def network(*norms: BatchNorm) -> Network:
    weight = np.ones((2, 3, 1, 1), np.float32)
    last = norms[-1].name if norms else "conv"
    layers: tuple[Layer, ...] = (
        Conv("conv", INPUT, weight),
        *norms,
        Flatten("flat", last),
        Linear("linear", "flat", np.ones((4, 8), np.float32)),
    )
    return Network(layers, Size(2, 2), "", Preprocessing.uniform("RGB", 0, 1))


def moments(mean: Doubles, variance: Doubles, crops: int = 5) -> Doubles:
    return np.repeat(np.stack([mean, variance + mean**2])[None], crops, axis=0)


def test_statistics_as_they_begin_were_never_trained() -> None:
    assert norm_state(network(norm(np.zeros(2), np.ones(2)))) is NormState.NEVER_TRAINED


def test_statistics_that_moved_were_kept() -> None:
    assert norm_state(network(norm(MEAN, VARIANCE))) is NormState.KEPT


def test_a_counter_at_zero_is_believed_only_where_no_mean_moved() -> None:
    counter = {"bn.num_batches_tracked": np.array(0)}
    still = norm(np.zeros(2), VARIANCE)
    assert norm_state(network(still), counter) is NormState.NEVER_TRAINED
    assert norm_state(network(still), {"bn.num_batches_tracked": np.array(9)}) is NormState.KEPT
    assert norm_state(network(norm(MEAN, VARIANCE)), counter) is NormState.KEPT


def test_a_network_without_batch_norm_says_nothing() -> None:
    assert norm_state(network()) is NormState.NONE


def test_crops_that_cause_the_trained_moments_are_at_no_distance() -> None:
    # What is watched is the folded output: its trained mean is beta, its deviation gamma.
    fit = fit_of([norm(MEAN, VARIANCE)], [moments(np.zeros(2), np.ones(2))])
    assert fit.distance == pytest.approx(0, abs=1e-12)
    assert np.abs(fit.draws).max() < 1e-12


def test_the_distance_is_that_of_two_gaussians() -> None:
    fit = fit_of([norm(MEAN, VARIANCE)], [moments(np.array([0.5, 0.0]), np.array([2.0, 1.0]))])
    wanted = np.mean([0.5 * (2 + 0.25 - 1 - np.log(2)), 0.0])
    assert fit.first == pytest.approx(wanted)


@pytest.mark.parametrize("ruin", [np.nan, np.inf, 1e200])
def test_activations_that_are_no_numbers_are_far_away(ruin: float) -> None:
    ruined = np.full((3, 2, 2), ruin)
    assert fit_of([norm(MEAN, VARIANCE)], [ruined]).distance == 50


def test_a_channel_that_is_switched_off_does_not_count() -> None:
    silent = norm(MEAN, VARIANCE)
    silent.gamma[1] = 1e-9
    wild = moments(np.array([0.0, 7e5]), np.ones(2))
    assert fit_of([silent], [wild]).distance == pytest.approx(0, abs=1e-9)
