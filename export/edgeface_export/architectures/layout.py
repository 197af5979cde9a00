"""What a layout says: where a trainer's checkpoint keeps the parts of a network.

A layout is data. :mod:`edgeface_export.architectures.mobilefacenet` turns it and a checkpoint's
tensors into a :class:`~edgeface_export.architectures.network.Network`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from edgeface.types import FloatArray
from edgeface_export.architectures.network import Network

__all__ = ["Layout", "Unit"]


@dataclass(frozen=True, slots=True)
class Unit:
    """Key names of a convolution, its BatchNorm, and its PReLU.

    ``activation`` is empty where the trainer's network has none, or one that keeps no numbers:
    then ``plain`` is ``relu``, ``relu6`` or ``hardswish``. ``bias`` tells that the convolution has
    a bias, ``matrix`` that the trainer keeps it, being 1x1, as a matrix. ``conv`` is empty for a
    BatchNorm of its own, ``norm`` for a convolution without one. ``epsilon`` is the BatchNorm's.
    """

    conv: str
    norm: str = ""
    activation: str = ""
    plain: str = ""
    bias: bool = False
    epsilon: float = 1e-5
    matrix: bool = False

    def under(self, prefix: str) -> Unit:
        """Return the unit with ``prefix`` put before every key."""
        keys = (self.conv, self.norm, self.activation)
        conv, norm, activation = (prefix + key if key else "" for key in keys)
        return replace(self, conv=conv, norm=norm, activation=activation)

    def tensor_names(self) -> list[str]:
        """Return the names of the tensors that must be there."""
        names = [f"{self.conv}.weight"] if self.conv else []
        names += [f"{self.conv}.bias"] if self.bias else []
        parts = ("weight", "bias", "running_mean", "running_var") if self.norm else ()
        names += [f"{self.norm}.{part}" for part in parts]
        return names + ([f"{self.activation}.weight"] if self.activation else [])


class Layout(Protocol):
    """One trainer's way to store one architecture; ``trainer`` and ``loss`` are for people."""

    @property
    def name(self) -> str:
        """Name of the layout, unique."""
        ...

    @property
    def architecture(self) -> str:
        """Name of the architecture, in the field's terms."""
        ...

    @property
    def trainer(self) -> str:
        """Whose training code writes this layout."""
        ...

    @property
    def loss(self) -> str:
        """The loss that trainer uses, or empty."""
        ...

    def tensor_names(self) -> tuple[str, ...]:
        """Return the names of the tensors that must be there, in the network's order."""
        ...

    def build(self, tensors: Mapping[str, FloatArray]) -> Network:
        """Return the network made of ``tensors``.

        Raises:
            ArchitectureError: A tensor has a shape that does not fit.
        """
        ...
