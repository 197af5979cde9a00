"""PyTorch modules whose state dicts are the public layouts of GhostNet for faces, at any width.

Written for the tests from the key names of each project and table 1 of the paper
(arXiv:1911.11907).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.reference.families import Chain

Activation = Callable[[int], nn.Module]

# kernel, hidden channels, channels, excited, stride, by stage.
TABLE = (
    ((3, 16, 16, False, 1),),
    ((3, 48, 24, False, 2),),
    ((3, 72, 24, False, 1),),
    ((5, 72, 40, True, 2),),
    ((5, 120, 40, True, 1),),
    ((3, 240, 80, False, 2),),
    (
        (3, 200, 80, False, 1),
        (3, 184, 80, False, 1),
        (3, 184, 80, False, 1),
        (3, 480, 112, True, 1),
        (3, 672, 112, True, 1),
    ),
    ((5, 672, 160, True, 2),),
    (
        (5, 960, 160, False, 1),
        (5, 960, 160, True, 1),
        (5, 960, 160, False, 1),
        (5, 960, 160, True, 1),
    ),
)


def own_slopes(width: int) -> nn.Module:
    return nn.PReLU(width)


def one_slope(width: int) -> nn.Module:
    del width
    return nn.PReLU()


def relu(width: int) -> nn.Module:
    del width
    return nn.ReLU()


def divisible(value: float, by: int = 4) -> int:
    """The multiple of ``by`` next to ``value``, not more than a tenth below it."""
    rounded = max(by, int(value + by / 2) // by * by)
    return rounded + by * (rounded < 0.9 * value)


def conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


class GhostModule(nn.Module):
    def __init__(self, inputs: int, outputs: int, activation: Activation | None) -> None:
        super().__init__()
        half = outputs // 2
        self.primary_conv = nn.Sequential(conv(inputs, half), nn.BatchNorm2d(half))
        self.cheap_operation = nn.Sequential(conv(half, half, 3, 1, half), nn.BatchNorm2d(half))
        if activation is not None:
            self.primary_conv.append(activation(half))
            self.cheap_operation.append(activation(half))

    def forward(self, x: Tensor) -> Tensor:
        x = self.primary_conv(x)
        return torch.cat([x, self.cheap_operation(x)], 1)


class Excitation(nn.Module):
    def __init__(self, width: int, activation: Activation) -> None:
        super().__init__()
        narrow = divisible(width / 4)
        self.conv_reduce = nn.Conv2d(width, narrow, 1)
        self.act1 = activation(narrow)
        self.conv_expand = nn.Conv2d(narrow, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3), keepdim=True)
        return x * functional.hardsigmoid(self.conv_expand(self.act1(self.conv_reduce(means))))


class Bottleneck(nn.Module):
    def __init__(
        self,
        inputs: int,
        row: tuple[int, int, int, bool, int],
        activation: Activation,
        squeezed: Activation,
    ) -> None:
        super().__init__()
        kernel, hidden, outputs, excited, stride = row
        self.ghost1 = GhostModule(inputs, hidden, activation)
        self.conv_dw = self.bn_dw = self.se = self.shortcut = None
        if stride > 1:
            self.conv_dw = conv(hidden, hidden, kernel, stride, hidden)
            self.bn_dw = nn.BatchNorm2d(hidden)
        if excited:
            self.se = Excitation(hidden, squeezed)
        self.ghost2 = GhostModule(hidden, outputs, None)
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                conv(inputs, inputs, kernel, stride, inputs),
                nn.BatchNorm2d(inputs),
                conv(inputs, outputs),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.ghost1(x)
        if self.conv_dw is not None and self.bn_dw is not None:
            y = self.bn_dw(self.conv_dw(y))
        if self.se is not None:
            y = self.se(y)
        skip = x if self.shortcut is None else self.shortcut(x)
        return self.ghost2(y) + skip


class GhostTrunk(nn.Module):
    """Everything up to the end; ``last`` is how many channels the last convolution makes."""

    def __init__(
        self,
        stem_stride: int,
        activation: Activation,
        *,
        width: float = 0.3,
        squeezed: Activation = relu,
        last: int = 960,
    ) -> None:
        super().__init__()
        inputs = divisible(16 * width)
        self.conv_stem = conv(3, inputs, 3, stem_stride)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.act1 = activation(inputs)
        stages = []
        for rows in TABLE:
            blocks = []
            for kernel, hidden, outputs, excited, stride in rows:
                scaled = divisible(hidden * width), divisible(outputs * width)
                row = (kernel, *scaled, excited, stride)
                blocks.append(Bottleneck(inputs, row, activation, squeezed))
                inputs = scaled[1]
            stages.append(nn.Sequential(*blocks))
        self.wide = divisible(last * width)
        end = Chain(
            conv=conv(inputs, self.wide), bn1=nn.BatchNorm2d(self.wide), act1=activation(self.wide)
        )
        self.blocks = nn.Sequential(*stages, nn.Sequential(end))

    def map(self, x: Tensor) -> Tensor:
        return self.blocks(self.act1(self.bn1(self.conv_stem(x))))


class GhostFaceNetV1(GhostTrunk):
    """``GhostFaceNetsV1`` of ellzaf_ml: one slope for all channels, a stem of stride 2."""

    def __init__(
        self, *, width: float = 0.3, size: int = 16, side: int | tuple[int, int] = 4
    ) -> None:
        super().__init__(2, one_slope, width=width, squeezed=one_slope)
        wide = self.wide
        self.classifier = Chain(
            conv_dw=nn.Conv2d(wide, wide, side, groups=wide, bias=False),
            bn1=nn.BatchNorm2d(wide),
            conv=nn.Conv2d(wide, size, 1, bias=False),
            flatten=nn.Flatten(),
            bn2=nn.BatchNorm1d(size),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.map(x))


class CavafaceGhostNet(GhostTrunk):
    """``GhostNet`` of cavaface; its last convolution is narrower."""

    def __init__(self, *, width: float = 0.3, size: int = 16) -> None:
        super().__init__(1, own_slopes, width=width, last=512)
        wide = self.wide
        whole = nn.Conv2d(wide, wide, 7, groups=wide, bias=False)
        self.output_layer = Chain(
            conv_6_dw=Chain(conv=whole, bn=nn.BatchNorm2d(wide)),
            flatten=nn.Flatten(),
            linear=nn.Linear(wide, size, bias=False),
            bn=nn.BatchNorm1d(size),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.output_layer(self.map(x))


class EvolveGhostNet(GhostTrunk):
    """``GhostNet`` of FaceX-Zoo, and of face.evoLVe, which took it over."""

    def __init__(self, *, width: float = 0.3, size: int = 16, positions: int = 49) -> None:
        super().__init__(1, relu, width=width)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(self.wide),
            nn.Dropout(0.2),
            nn.Flatten(),
            nn.Linear(self.wide * positions, size),
            nn.BatchNorm1d(size),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.output_layer(self.map(x))


class FaceXZooGhostNet(nn.Module):
    """What FaceX-Zoo saves: the network and the head beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = EvolveGhostNet()
        self.head = Chain(weight_of=nn.Linear(16, 100, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.backbone(x)


GHOSTNETS: dict[str, Callable[[], nn.Module]] = {
    "ghostfacenet-v1-ellzaf": GhostFaceNetV1,
    "ghostnet-cavaface": CavafaceGhostNet,
    "ghostnet-face-evolve": EvolveGhostNet,
    "ghostnet-facex-zoo": FaceXZooGhostNet,
}
"""The reference of each layout, by its name."""

Published = partial(GhostFaceNetV1, width=1.0, size=512)
"""GhostFaceNet at the width of the paper."""
