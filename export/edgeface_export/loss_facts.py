"""What the loss of a training says about its embeddings: how they are compared, and their lengths.

Every artefact gives rows of unit length compared by cosine. On those the Euclidean distance d and
the score s tell the same, d * d = 2 - 2 * s, so a network trained by distances of unit rows loses
nothing. Where the trainer's distances were of rows of any length, the length is given up, and the
facts say so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgeface.errors import InvalidInputError
from edgeface.manifest import Training
from edgeface_export.architectures.recognition import Recognition
from edgeface_export.checkpoints import Checkpoint

__all__ = ["LOSSES", "LossFacts", "known_training", "loss_named", "sentences_of", "training_of"]

_COSINE, _EUCLIDEAN = "cosine", "euclidean"
_NONE, _SUM, _CONCAT = "none", "sum", "concatenate"


@dataclass(frozen=True, slots=True)
class LossFacts:
    """One loss: what its paper compares by, on which rows, and the features it reports.

    ``metric`` is ``cosine`` or ``euclidean``; ``unit_rows`` tells whether the trainer compares
    rows of unit length. ``flip`` is what the paper does with the mirrored crop when it tests:
    ``none``, ``sum`` or ``concatenate`` of both embeddings. ``length_is_quality``: the length of
    a row before it is cut to 1 tells the quality of the picture.
    """

    name: str
    spellings: str
    metric: str = _COSINE
    unit_rows: bool = True
    flip: str = _NONE
    length_is_quality: bool = False


# The first whose spelling fits is taken: what contains another's name comes before it.
LOSSES: tuple[LossFacts, ...] = (
    LossFacts("sub-center ArcFace", r"sub.?cent(er|re).?arc|arc.*sub.?cent(er|re)", flip=_SUM),
    LossFacts("MagFace", r"magface|mag.?(loss|linear)", flip=_NONE, length_is_quality=True),
    LossFacts("AdaFace", r"adaface", flip=_SUM, length_is_quality=True),
    LossFacts("ArcFace", r"arc.?(face|margin|loss)", flip=_SUM),
    LossFacts("CosFace", r"cosface|am.?softmax|lmcl|additive.?margin", flip=_CONCAT),
    LossFacts("SphereFace", r"sphereface|a.?softmax|angle.?(loss|linear)", flip=_CONCAT),
    LossFacts("L-Softmax", r"l.?softmax|large.?margin"),
    LossFacts("NormFace", r"normface", flip=_SUM),
    LossFacts("margin-based", r"margin.?based|distance.?weighted", metric=_EUCLIDEAN),
    LossFacts("triplet", r"triplet", metric=_EUCLIDEAN),
    LossFacts("contrastive", r"contrastive|deepid|siamese", metric=_EUCLIDEAN, unit_rows=False),
    LossFacts("softmax + center loss", r"cent(er|re).?loss|with.?cent", flip=_CONCAT),
    LossFacts("softmax", r"softmax|cross.?entropy|^ce$"),
)
"""What the papers state, which examples/train_with_any_loss cites one by one."""

# Names under which training programs keep the name of their loss.
_SCALAR = re.compile(r"(^|\.)(loss\w*|head\w*|criterion|metric\w*|margin_type)$", re.IGNORECASE)
_MARKS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(^|\.)batch_mean$"), "AdaFace"),
    (re.compile(r"(^|\.)cent(er|re)s$"), "softmax + center loss"),
    (re.compile(r"(^|\.)beta$"), "margin-based"),
)


def loss_named(text: str) -> LossFacts | None:
    """Return the loss that ``text`` names, None where it names none that is known."""
    lowered = text.strip().lower()
    return next((facts for facts in LOSSES if re.search(facts.spellings, lowered)), None)


def known_training(
    checkpoint: Checkpoint, recognition: Recognition, said: str | None = None
) -> Training:
    """Return what is known of the training behind ``checkpoint``, with the loss ``said`` if any.

    Raises:
        InvalidInputError: The user names a loss that is not known.
    """
    beside = [name for entry in recognition.dropped for name in entry.names]
    return training_of(said, checkpoint.scalars, beside, recognition.layout.loss)


def training_of(
    said: str | None,
    scalars: Mapping[str, object],
    beside: Iterable[str],
    layout_loss: str,
) -> Training:
    """Return what is known of the training's loss, and from where.

    ``said`` is what the user says, then come the checkpoint's ``scalars``, the names of tensors
    ``beside`` the network, and the loss that the recognised trainer uses.

    Raises:
        InvalidInputError: The user names a loss that is not known.
    """
    if said is not None:
        facts = loss_named(said)
        if facts is None:
            known = ", ".join(entry.name for entry in LOSSES)
            raise InvalidInputError(f"no known loss is called {said[:60]!r}, choose of {known}")
        return _training(facts, "said by the user")
    for name, value in scalars.items():
        if isinstance(value, str) and _SCALAR.search(name):
            facts = loss_named(value)
            if facts is not None:
                return _training(facts, "stated in the checkpoint")
    for name in beside:
        marked = next((loss for mark, loss in _MARKS if mark.search(name)), None)
        if marked is not None:
            return _training(_by_name(marked), "told by tensors beside the network")
    facts = loss_named(layout_loss)
    return Training() if facts is None else _training(facts, "that of the recognised trainer")


def sentences_of(training: Training) -> tuple[str, ...]:
    """Return what the facts mean for whoever uses the bundle."""
    found = []
    if training.metric == _EUCLIDEAN and training.unit_rows:
        found.append(
            f"trained with {training.loss} by Euclidean distance of unit rows: the score s tells "
            "the same, d * d = 2 - 2 * s"
        )
    elif training.metric == _EUCLIDEAN:
        found.append(
            f"trained with {training.loss} by Euclidean distance of rows of any length; the "
            "bundle compares directions alone"
        )
    if training.length_is_quality:
        found.append(
            f"{training.loss} makes the length of an embedding tell the quality of the picture; "
            "the artefacts give unit rows, so that the length is not seen"
        )
    return tuple(found)


def _by_name(name: str) -> LossFacts:
    return next(facts for facts in LOSSES if facts.name == name)


def _training(facts: LossFacts, known_from: str) -> Training:
    return Training(
        loss=facts.name,
        known_from=known_from,
        metric=facts.metric,
        unit_rows=facts.unit_rows,
        flip=facts.flip,
        length_is_quality=facts.length_is_quality,
    )
