"""MiniFASNet as Minivision's Silent-Face-Anti-Spoofing stores it, with and without excitation.

Pictures go in as OpenCV reads them: BGR, 0 to 255, neither centred nor scaled (its ``to_tensor``
has the division by 255 taken out). Class 1 is the live face; its test program takes every other
class for an attack, and nothing in the project names them.
"""

from __future__ import annotations

from dataclasses import replace

from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.layouts import mobilefacenet_insightface_pytorch
from edgeface_export.architectures.minifasnet import BONA_FIDE, MiniFasNetLayout
from edgeface_export.architectures.network import Preprocessing

__all__ = ["EXCITED", "PLAIN"]

_TRAINER = "Silent-Face-Anti-Spoofing (Minivision)"
_LOSS = "softmax with a Fourier spectrum"
_CLASSES = ("attack-0", BONA_FIDE, "attack-2")

_TRUNK = replace(
    mobilefacenet_insightface_pytorch.LAYOUT,
    name="minifasnet-trunk",
    trainer=_TRAINER,
    loss=_LOSS,
    preprocessing=Preprocessing.uniform("BGR", 0.0, 1.0),
)
_LAST_OF_STAGE = ("conv_3.model.3.", "conv_4.model.5.", "conv_5.model.1.")

PLAIN = MiniFasNetLayout(
    name="minifasnet-silent-face",
    variant="MiniFASNet",
    trainer=_TRAINER,
    loss=_LOSS,
    trunk=_TRUNK,
    classifier="prob",
    classes=_CLASSES,
)
EXCITED = replace(
    PLAIN,
    name="minifasnet-se-silent-face",
    variant="MiniFASNet-SE",
    trunk=replace(
        _TRUNK,
        blocks=tuple(
            replace(block, excited=block.prefix in _LAST_OF_STAGE) for block in _TRUNK.blocks
        ),
        squeeze=Unit("se_module.fc1", "se_module.bn1", plain="relu"),
        excite=Unit("se_module.fc2", "se_module.bn2"),
    ),
)
