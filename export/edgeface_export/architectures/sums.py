"""Which of the two things that a residual sum adds is its branch, and which its skip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgeface_export.architectures.network import Add, BatchNorm, Conv, Layer

__all__ = ["with_convolutions_as_branches"]


def with_convolutions_as_branches(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return ``layers`` with a convolution as the branch of each sum that has one.

    Engines take a sum into the convolution that is not quantised on its way there, and only the
    skip is quantised. Where the computed branch ends in something else, as in excitation, and the
    skip is a convolution, they change places; the sum is the same.
    """
    by_name = {layer.name: layer for layer in layers}

    def ends_in_convolution(name: str) -> bool:
        layer = by_name.get(name)
        if isinstance(layer, BatchNorm):
            layer = by_name.get(layer.input)
        return isinstance(layer, Conv)

    return tuple(
        replace(layer, input=layer.skip, skip=layer.input)
        if isinstance(layer, Add)
        and ends_in_convolution(layer.skip)
        and not ends_in_convolution(layer.input)
        else layer
        for layer in layers
    )
