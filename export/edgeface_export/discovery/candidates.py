"""What a trainer may have done to a crop before the network saw it: the hypotheses that are tried.

The normalisations are those that published trainers of face networks use: (x - 127.5) / 128
(SphereFace, CosFace, insightface), (x - 127.5) / 127.5 (``ToTensor`` and ``Normalize(0.5, 0.5)``),
ImageNet's mean and deviation (torchvision), 0..1 (``ToTensor`` alone) and no change at all (Caffe).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgeface.errors import InvalidInputError
from edgeface_export.architectures.network import Preprocessing

__all__ = ["NORMALISATIONS", "Candidate", "candidates", "parse_preprocessing"]

# As torchvision.models documents them, times 255; red, green, blue.
_IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
_IMAGENET_SCALE = (0.229 * 255, 0.224 * 255, 0.225 * 255)

NORMALISATIONS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "127.5/128": ((127.5,) * 3, (128.0,) * 3),
    "127.5/127.5": ((127.5,) * 3, (127.5,) * 3),
    "imagenet": (_IMAGENET_MEAN, _IMAGENET_SCALE),
    "0/255": ((0.0,) * 3, (255.0,) * 3),
    "0/1": ((0.0,) * 3, (1.0,) * 3),
}
"""Mean and scale per channel on the 0..255 scale, by the name that ``--preprocessing`` takes.

Values of ``imagenet`` are in the order red, green, blue; a BGR network has them turned round.
"""

_ORDERS = ("RGB", "BGR")
_NUMBER = r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"
_VALUES = rf"{_NUMBER}(?:,{_NUMBER},{_NUMBER})?"
_WRITTEN = re.compile(rf"({_VALUES})/({_VALUES})")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One preprocessing to try; ``name`` is how ``--preprocessing`` is given the same."""

    name: str
    preprocessing: Preprocessing


def candidates(implied: Preprocessing | None = None) -> tuple[Candidate, ...]:
    """Return every colour order with every normalisation.

    ``implied`` is what the recognised trainer does; it comes first, and is added where it is none
    of the known ones.
    """
    known = tuple(
        parse_preprocessing(f"{order.lower()}:{name}")
        for order in _ORDERS
        for name in NORMALISATIONS
    )
    if implied is None:
        return known
    own = [entry for entry in known if same(entry.preprocessing, implied)]
    if not own:
        own = [Candidate(written(implied), implied)]
    return (*own, *(entry for entry in known if entry not in own))


def parse_preprocessing(text: str) -> Candidate:
    """Return the preprocessing written as ``ORDER:NORMALISATION``.

    ``rgb:127.5/128``, ``bgr:imagenet`` or ``rgb:123.7,116.3,103.5/58.4,57.1,57.4``: the colour
    order, then a name of :data:`NORMALISATIONS` or mean and scale on the 0..255 scale, one number
    for all channels or three in the network's own order.

    Raises:
        InvalidInputError: It is written in another way, or no network can use the numbers.
    """
    order, _, said = text.strip().partition(":")
    order, said = order.strip().upper(), said.strip().lower()
    if order not in _ORDERS or not (said in NORMALISATIONS or _WRITTEN.fullmatch(said)):
        raise InvalidInputError(
            f"a preprocessing is written ORDER:MEAN/SCALE, such as rgb:127.5/128 or "
            f"bgr:{', bgr:'.join(NORMALISATIONS)}; got {text[:80]!r}"
        )
    if said in NORMALISATIONS:
        mean, scale = NORMALISATIONS[said]
        if order == "BGR":
            mean, scale = mean[::-1], scale[::-1]
    else:
        mean, scale = (_three(part) for part in said.split("/"))
    if min(scale) <= 0:
        raise InvalidInputError(f"the scale of a preprocessing must be above 0, got {text[:80]!r}")
    return Candidate(f"{order.lower()}:{said}", Preprocessing(order, mean, scale))


def same(first: Preprocessing, second: Preprocessing, *, tolerance: float = 1e-3) -> bool:
    """Return whether two preprocessings do the same, but for rounding of their numbers."""
    numbers = zip((*first.mean, *first.scale), (*second.mean, *second.scale), strict=True)
    close = all(abs(a - b) <= tolerance * max(1.0, abs(b)) for a, b in numbers)
    return first.colour_order == second.colour_order and close


def written(preprocessing: Preprocessing) -> str:
    """Return ``preprocessing`` as :func:`parse_preprocessing` reads it."""
    return (
        f"{preprocessing.colour_order.lower()}:{_listed(preprocessing.mean)}"
        f"/{_listed(preprocessing.scale)}"
    )


def _listed(values: Sequence[float]) -> str:
    shown = [f"{value:.6g}" for value in values]
    return shown[0] if len(set(shown)) == 1 else ",".join(shown)


def _three(text: str) -> tuple[float, float, float]:
    values = [float(part) for part in text.split(",")]
    if len(values) == 1:
        values *= 3
    return values[0], values[1], values[2]
