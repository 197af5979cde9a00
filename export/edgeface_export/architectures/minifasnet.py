"""MiniFASNet (Minivision's Silent-Face-Anti-Spoofing, 2020) from any layout of keys.

It tells bona fide faces from presentation attacks: a MobileFaceNet, pruned, for crops of 80x80,
with one fully connected layer more that gives the classes. Widths are read from the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeface.errors import ArchitectureError
from edgeface.types import FloatArray
from edgeface_export.architectures.mobilefacenet import MobileFaceNetLayout
from edgeface_export.architectures.network import Linear, Network, Output

__all__ = ["BONA_FIDE", "MiniFasNetLayout"]

BONA_FIDE = "bona-fide"
"""The class of a face that is there in person; every other class is an attack."""


@dataclass(frozen=True, slots=True)
class MiniFasNetLayout:
    """Where a trainer keeps the parts of a MiniFASNet.

    ``trunk`` leads to the embedding, ``classifier`` is the key of the matrix that makes
    ``classes`` of it, named in its order.
    """

    name: str
    variant: str
    trainer: str
    loss: str
    trunk: MobileFaceNetLayout
    classifier: str
    classes: tuple[str, ...]

    @property
    def architecture(self) -> str:
        """Name of the architecture."""
        return self.variant

    def tensor_names(self) -> tuple[str, ...]:
        """Return the names of the tensors that must be there, in the network's order."""
        return (*self.trunk.tensor_names(), f"{self.classifier}.weight")

    def build(self, tensors: Mapping[str, FloatArray]) -> Network:
        """Return the network made of ``tensors``.

        Raises:
            ArchitectureError: A tensor has a shape that does not fit, or there are other classes.
        """
        layers = self.trunk.layers(tensors)
        weight = tensors[f"{self.classifier}.weight"]
        if weight.ndim != 2 or weight.shape[0] != len(self.classes):
            raise ArchitectureError(
                f"{self.classifier}.weight must have {len(self.classes)} rows, one for each of "
                f"{', '.join(self.classes)}, got shape {weight.shape}"
            )
        layers.append(Linear(self.classifier, layers[-1].name, weight))
        return Network(
            tuple(layers),
            self.trunk.crop_size(tensors),
            "",
            self.trunk.preprocessing,
            Output.CLASS_SCORES,
        )
