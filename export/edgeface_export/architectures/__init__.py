"""The table of known layouts. A new backbone is one file in ``layouts`` and one line here.

The first that fits is taken: a layout whose keys are all keys of another comes after it.
"""

from __future__ import annotations

from edgeface_export.architectures.layout import Layout
from edgeface_export.architectures.layouts import (
    edgeface,
    ghostnet,
    inception_resnet_facenet_pytorch,
    ir_adaface,
    ir_face_evolve,
    iresnet_arcface_torch,
    minifasnet_silent_face,
    mobilefacenet_arcface_torch,
    mobilefacenet_bubbliiiing,
    mobilefacenet_cavaface,
    mobilefacenet_foamliu,
    mobilefacenet_insightface_pytorch,
    mobilefacenet_xiaoccer,
    mobilenet_bubbliiiing,
    mobilenet_cavaface,
    mobilenet_yakhyo,
    residual_edgeface,
    sphereface_clcarwin,
    sphereface_cosface_pytorch,
)

__all__ = ["LAYOUTS"]

LAYOUTS: tuple[Layout, ...] = (
    minifasnet_silent_face.EXCITED,
    minifasnet_silent_face.PLAIN,
    mobilefacenet_xiaoccer.LAYOUT,
    mobilefacenet_foamliu.LAYOUT,
    mobilefacenet_bubbliiiing.LAYOUT,
    mobilefacenet_insightface_pytorch.LAYOUT,
    mobilefacenet_cavaface.LAYOUT,
    residual_edgeface.LAYOUT,
    mobilefacenet_arcface_torch.LARGE,
    mobilefacenet_arcface_torch.LAYOUT,
    *edgeface.LAYOUTS,
    *ghostnet.LAYOUTS,
    mobilenet_bubbliiiing.LAYOUT,
    *mobilenet_cavaface.LAYOUTS,
    *mobilenet_yakhyo.LAYOUTS,
    *iresnet_arcface_torch.LAYOUTS,
    *ir_adaface.LAYOUTS,
    *ir_face_evolve.LAYOUTS,
    sphereface_clcarwin.LAYOUT,
    *sphereface_cosface_pytorch.LAYOUTS,
    inception_resnet_facenet_pytorch.LAYOUT,
)
