"""How much TAR one artefact loses against another, with an interval of its own."""

from __future__ import annotations

import numpy as np
import pytest

from edgeface_calibration.bootstrap import LabelledScores, tar_at_fmr, tar_losses

SUBJECTS = 60


def scores(shift: float, *, seed: int = 0, n: int = 600, noise: float = 0.0) -> LabelledScores:
    """Scores of the same comparisons; mated ones lower by ``shift``, all moved by ``noise``."""
    rng = np.random.default_rng(seed)
    mated, non_mated = rng.normal(0.6, 0.15, n), rng.normal(0.0, 0.15, n)
    moved = np.random.default_rng(seed + 1)
    return LabelledScores(
        mated - shift + moved.normal(0, noise, n),
        non_mated + moved.normal(0, noise, n),
        rng.integers(0, SUBJECTS, n),
        rng.integers(0, SUBJECTS, (n, 2)),
    )


def test_equal_scores_lose_nothing_and_leave_no_doubt() -> None:
    (found,) = tar_losses(scores(0.0), scores(0.0), [1e-2])
    assert (found.target_fmr, found.loss) == (1e-2, 0.0)
    assert (found.interval.low, found.interval.high) == (0.0, 0.0)


def test_the_loss_is_the_difference_of_both_rates() -> None:
    before, after = scores(0.0), scores(0.2)
    (found,) = tar_losses(before, after, [1e-2])
    rates = [tar_at_fmr(each, [1e-2])[0].tar for each in (before, after)]
    assert None not in rates
    assert found.loss == pytest.approx((rates[0] or 0.0) - (rates[1] or 0.0))
    assert 0.1 < found.interval.low < found.loss < found.interval.high < 0.9


def test_the_interval_is_narrower_than_that_of_either_rate() -> None:
    before, after = scores(0.0), scores(0.0, noise=0.01)
    (found,) = tar_losses(before, after, [1e-2])
    span = tar_at_fmr(before, [1e-2])[0].interval
    assert span is not None
    assert found.interval.high - found.interval.low < 0.8 * (span.high - span.low)


def test_a_gain_is_a_negative_loss() -> None:
    (found,) = tar_losses(scores(0.2), scores(0.0), [1e-2])
    assert found.loss < 0


def test_a_target_that_the_data_cannot_resolve_is_left_out() -> None:
    assert tar_losses(scores(0.0), scores(0.0), [1e-3]) == ()
    found = tar_losses(scores(0.0), scores(0.0), [1e-3, 1e-2])
    assert [entry.target_fmr for entry in found] == [1e-2]


def test_resampling_is_the_same_every_time() -> None:
    pair = scores(0.0), scores(0.1)
    assert tar_losses(*pair, [1e-2]) == tar_losses(*pair, [1e-2])
