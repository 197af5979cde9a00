"""Each loss of the literature: its module, how batches are drawn for it, and how it is saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from examples.train_with_any_loss import save_formats as save
from examples.train_with_any_loss.losses import (
    adaface,
    arcface,
    center,
    contrastive,
    cosface,
    l_softmax,
    magface,
    margin_based,
    normface,
    softmax,
    sphereface,
    triplet,
)

MakeLoss = Callable[..., nn.Module]


@dataclass(frozen=True)
class Recipe:
    """How to train with one loss.

    ``of_each`` faces of a person stand in one batch, 1 for losses that classify. ``settings`` are
    for a run of minutes on a few hundred people where the paper's are for days on millions.
    ``save`` writes the checkpoint as the loss's community does; ``averaged`` tells whether that
    holds a moving average, which is then what counts.
    """

    loss: MakeLoss
    save: save.Save
    of_each: int = 1
    averaged: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    learning_rate: float = 1e-4
    suffix: str = ".pt"


RECIPES: dict[str, Recipe] = {
    "softmax": Recipe(softmax.Softmax, save.data_parallel, suffix=".pth.tar"),
    "center": Recipe(center.SoftmaxWithCenters, save.centres_inside),
    "contrastive": Recipe(contrastive.Contrastive, save.head_in_the_module, of_each=4),
    "triplet": Recipe(triplet.SemiHardTriplet, save.epoch_dictionary, of_each=4),
    "triplet-batch-hard": Recipe(
        triplet.BatchHardTriplet, save.ema_beside, of_each=4, averaged=True
    ),
    "margin-based": Recipe(margin_based.MarginBased, save.lightning, of_each=4, suffix=".ckpt"),
    "l-softmax": Recipe(l_softmax.LSoftmax, save.model_and_head),
    "sphereface": Recipe(sphereface.SphereFace, save.head_in_the_module, suffix=".pth"),
    "normface": Recipe(normface.NormFace, save.whole_safetensors, suffix=".safetensors"),
    "cosface": Recipe(cosface.CosFace, save.head_in_its_own_file, suffix=".pth"),
    "am-softmax": Recipe(cosface.AMSoftmax, save.shadow_beside, averaged=True),
    "arcface": Recipe(arcface.ArcFace, save.arcface_torch),
    "sub-center-arcface": Recipe(arcface.SubCenterArcFace, save.average_beside, averaged=True),
    "adaface": Recipe(adaface.AdaFace, save.lightning_kernel, suffix=".ckpt"),
    "magface": Recipe(magface.MagFace, save.magface, suffix=".pth"),
}
