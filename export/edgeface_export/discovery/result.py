"""What discovery found, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgeface.types import Size
from edgeface_export.architectures.network import Preprocessing
from edgeface_export.discovery.norm_fit import NormState

__all__ = ["Discovery", "Outcome", "Tried"]


class Outcome:
    """What became of a candidate."""

    CHOSEN = "chosen"
    TIED = "cannot be told from the chosen one"
    WORSE = "worse"
    DROPPED = "dropped early"
    CHOSEN_CROP = "the crop that was taken"
    BETTER = "better, but the runtime has no such template"


@dataclass(frozen=True, slots=True)
class Tried:
    """One candidate: what it was, what it gave, and what became of it (:class:`Outcome`).

    ``crop`` is the crop plan; ``faces`` how many it was compared on; ``d_prime`` its separation
    with the 95 % interval ``low`` to ``high`` over people, ``auc`` the area under the ROC curve.
    ``first_layer`` and ``all_layers`` are distances to BatchNorm's running statistics, in nats,
    None where those say nothing. ``agreement`` is the mean cosine of its embeddings to the chosen
    candidate's, of one crop, None for candidates dropped early.
    """

    name: str
    crop: str
    faces: int
    d_prime: float
    low: float
    high: float
    auc: float
    first_layer: float | None
    all_layers: float | None
    seconds: float
    outcome: str
    agreement: float | None = None


@dataclass(frozen=True, slots=True)
class Discovery:
    """The preprocessing that separates people best, and how sure that is.

    ``name`` is the preprocessing as ``--preprocessing`` takes it; ``implied`` that of the
    recognised trainer, empty where nobody is known; ``agrees`` tells whether it is the one found,
    which it is too where it cannot be told from a better one.
    ``ambiguous`` names the candidates that cannot be told from it. ``tried`` are the
    preprocessings, best first, then ``crops`` the crop plans under the one found. ``notes`` are
    sentences for the verdict, ``warnings`` those of them that ask for a person's attention.
    """

    name: str
    preprocessing: Preprocessing
    template: str
    crop_size: Size
    implied: str
    agrees: bool
    ambiguous: tuple[str, ...]
    tried: tuple[Tried, ...]
    crops: tuple[Tried, ...]
    faces: int
    people: int
    norms: NormState
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return {
            "name": self.name,
            "preprocessing": str(self.preprocessing),
            "template": self.template,
            "crop": f"{self.crop_size.height_px}x{self.crop_size.width_px}",
            "implied": self.implied,
            "agrees": self.agrees,
            "ambiguous": list(self.ambiguous),
            "tried": [asdict(entry) for entry in self.tried],
            "crops": [asdict(entry) for entry in self.crops],
            "faces": self.faces,
            "people": self.people,
            "batch_norm": self.norms.value,
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "seconds": round(self.seconds, 2),
        }
