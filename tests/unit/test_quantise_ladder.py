"""The ladder that returns layers to float."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgeface.errors import GateFailedError
from edgeface_export.quantise.ladder import Attempt, climb
from edgeface_export.quantise.sensitivity import LayerSensitivity

Try = Callable[[frozenset[str]], Attempt[int]]

WORST_FIRST = [
    LayerSensitivity("a", 0.5, 1),
    LayerSensitivity("b", 0.3, 2),
    LayerSensitivity("c", 0.2, 3),
    LayerSensitivity("d", 0.1, 50),
]


def passes_with(*needed: str) -> tuple[Try, list[frozenset[str]]]:
    """An attempt that passes once the layers ``needed`` are float, and what it was asked."""
    asked: list[frozenset[str]] = []

    def attempt(kept: frozenset[str]) -> Attempt[int]:
        asked.append(kept)
        return Attempt(len(kept), () if kept >= set(needed) else ("cosine 0.5 (at least 0.9)",))

    return attempt, asked


def never() -> list[LayerSensitivity]:
    raise AssertionError("the order must not be measured when the first attempt passes")


def test_first_attempt_that_passes_keeps_nothing_in_float() -> None:
    attempt, asked = passes_with()
    done = climb(attempt, never, 100)
    assert (done.result, done.kept_float, asked) == (0, frozenset(), [frozenset()])


def test_worst_layers_return_to_float_until_the_gates_pass() -> None:
    attempt, asked = passes_with("b")
    done = climb(attempt, lambda: WORST_FIRST, 100)
    assert done.kept_float == {"a", "b"}
    assert [len(names) for names in asked] == [0, 1, 2]
    assert done.steps[-1].endswith("passed")
    assert "cosine 0.5" in done.steps[0]


def test_too_much_float_is_an_honest_failure_that_says_what_was_tried() -> None:
    attempt, asked = passes_with("d")
    with pytest.raises(GateFailedError, match="at most 10%") as caught:
        climb(attempt, lambda: WORST_FIRST, 100)
    assert "3 layer(s) in float, 6.0%" in str(caught.value)
    assert max(len(names) for names in asked) == 3


def test_network_with_few_layers_ends_the_ladder() -> None:
    attempt, asked = passes_with("nothing")
    with pytest.raises(GateFailedError):
        climb(attempt, lambda: WORST_FIRST[:2], 1000)
    assert [len(names) for names in asked] == [0, 1, 2]


def test_what_is_float_anyway_counts_towards_the_largest_share() -> None:
    def attempt(kept: frozenset[str]) -> Attempt[int]:
        return Attempt(len(kept), ("cosine 0.5 (at least 0.9)",), float_cost=8)

    with pytest.raises(GateFailedError) as caught:
        climb(attempt, lambda: WORST_FIRST, 100)
    assert "0 layer(s) in float, 8.0%" in str(caught.value)
    assert "1 layer(s) in float, 9.0%" in str(caught.value)
    assert "2 layer(s)" not in str(caught.value)
