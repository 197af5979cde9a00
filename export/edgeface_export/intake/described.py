"""A recognition of a network that came with its own description."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeface.alignment import ALIGNMENT_TEMPLATES
from edgeface.errors import ArchitectureError
from edgeface.types import FloatArray, Size
from edgeface_export.architectures.network import Network
from edgeface_export.architectures.recognition import Dropped, Recognition

__all__ = ["DAMAGE", "DescribedLayout", "described", "require_padding_fits", "template_of"]

DAMAGE = (ArithmeticError, LookupError, TypeError, ValueError)
"""What a description that contradicts itself may raise: a stride of 0, a part that is not there."""


@dataclass(frozen=True, slots=True, eq=False)
class DescribedLayout:
    """The layout of one file: what it describes itself."""

    name: str
    architecture: str
    trainer: str
    loss: str
    network: Network

    def tensor_names(self) -> tuple[str, ...]:
        """Return the names of the layers, as no key names are wanted."""
        return tuple(layer.name for layer in self.network.layers)

    def build(self, tensors: Mapping[str, FloatArray]) -> Network:
        """Return the network of the file."""
        del tensors
        return self.network


def described(
    layout: DescribedLayout,
    *,
    reasons: tuple[str, ...],
    dropped: tuple[Dropped, ...] = (),
    assumed: bool = False,
) -> Recognition:
    """Return the recognition of what ``layout`` holds; ``assumed`` is its preprocessing."""
    size = layout.network.crop_size
    said = (
        *reasons,
        f"it reads crops of {size.height_px}x{size.width_px} (height x width)",
        f"the last layer has {layout.network.embedding_size} outputs",
    )
    return Recognition(layout, layout.network, "", (), said, dropped, assumed)


def require_padding_fits(name: str, pads: tuple[int, int], kernel: tuple[int, ...]) -> None:
    """Refuse padding beyond a kernel's size, which no network has and which may take all memory.

    Raises:
        ArchitectureError: It is so, or negative.
    """
    if min(pads) < 0 or any(pad > side for pad, side in zip(pads, kernel, strict=True)):
        raise ArchitectureError(f"{name}: padding {pads} of a kernel of {kernel}")


def template_of(size: Size) -> str:
    """Return the alignment template of crops of ``size``.

    Raises:
        ArchitectureError: There is none.
    """
    for name, of in ALIGNMENT_TEMPLATES.items():
        if of == size:
            return name
    known = ", ".join(f"{s.height_px}x{s.width_px}" for s in ALIGNMENT_TEMPLATES.values())
    raise ArchitectureError(
        f"it reads crops of {size.height_px}x{size.width_px} (height x width), for which there is "
        f"no alignment template; known are {known}"
    )
