"""What a bundle says of the training behind it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Training"]


@dataclass(frozen=True, slots=True)
class Training:
    """What the loss of the training says about embeddings; empty texts where it is not known.

    ``metric`` is what the trainer compared by, ``cosine`` or ``euclidean``, ``unit_rows`` whether
    on rows of unit length, where the two are equivalent: d * d = 2 - 2 * s. ``flip`` is how its
    paper uses the mirrored crop in tests: ``none``, ``sum`` or ``concatenate``; ``flip_in_graph``
    what the artefacts do. ``length_is_quality``: before it was cut to 1, the length of a row told
    the quality of the picture. ``known_from`` says how the loss is known.
    """

    loss: str = ""
    known_from: str = ""
    metric: str = "cosine"
    unit_rows: bool = True
    flip: str = "none"
    flip_in_graph: str = "none"
    length_is_quality: bool = False
