"""PyTorch modules whose state dicts are the public layouts of MobileNets for faces, at any width.

Written for the tests from the key names of each project and the tables of the papers
(arXiv:1704.04861, 1801.04381, 1905.02244).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.reference.families import Chain
from tests.reference.ghostnets import divisible

Activation = Callable[[int], nn.Module]

V2_CAVAFACE = ((1, 16, 1, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2))
V2_YAKHYO = ((1, 16, 1, 1), (6, 24, 2, 2), *V2_CAVAFACE[1:])
# kernel, hidden, outputs, excited, hard swish, stride.
V3_LARGE = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)
V3_SMALL = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)


def conv_of(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, whole: bool, bias: bool
) -> nn.Conv2d:
    groups = 1 if whole else inputs
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)


def active(
    inputs: int,
    outputs: int,
    kernel: int = 1,
    stride: int = 1,
    *,
    activation: Activation | None = nn.PReLU,
    depthwise: bool = False,
    bias: bool = False,
) -> nn.Sequential:
    """Convolution, BatchNorm, activation."""
    conv = conv_of(inputs, outputs, kernel, stride, whole=not depthwise, bias=bias)
    end = [activation(outputs)] if activation else []
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *end)


class Block(nn.Module):
    """Modules under ``name``, whose result the input is added to where it has its form."""

    def __init__(self, name: str, parts: list[nn.Module], *, residual: bool) -> None:
        super().__init__()
        self.name, self.residual = name, residual
        self.add_module(name, nn.Sequential(*parts))

    def forward(self, x: Tensor) -> Tensor:
        y = getattr(self, self.name)(x)
        return x + y if self.residual else y


def v2_trunk(
    rows: tuple[tuple[int, int, int, int], ...],
    stem_stride: int,
    *,
    width: float,
    bias: bool,
    last: int = 512,
) -> tuple[nn.Sequential, int]:
    inputs = divisible(32 * width, 8)
    parts: list[nn.Module] = [active(3, inputs, 3, stem_stride, bias=bias)]
    for factor, channels, count, stride in (*rows, (6, 320, 1, 1)):
        outputs = divisible(channels * width, 8)
        for k in range(count):
            hidden, step = inputs * factor, 1 if k else stride
            layers: list[nn.Module] = [active(inputs, hidden, bias=bias)] if factor > 1 else []
            layers.append(active(hidden, hidden, 3, step, depthwise=True, bias=bias))
            project = conv_of(hidden, outputs, whole=True, bias=False)
            layers += [project, nn.BatchNorm2d(outputs)]
            parts.append(Block("conv", layers, residual=step == 1 and inputs == outputs))
            inputs = outputs
    return nn.Sequential(*parts, active(inputs, last, bias=bias)), last


def cavaface_end(channels: int, size: int) -> Chain:
    whole = nn.Conv2d(channels, channels, 7, groups=channels, bias=False)
    return Chain(
        conv_6_dw=Chain(conv=whole, bn=nn.BatchNorm2d(channels)),
        flatten=nn.Flatten(),
        linear=nn.Linear(channels, size, bias=False),
        bn=nn.BatchNorm1d(size),
    )


class Layers(nn.Module):
    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def yakhyo_end(channels: int, size: int) -> Chain:
    whole = nn.Conv2d(channels, channels, 7, groups=channels, bias=False)
    return Chain(
        features=nn.Sequential(Layers(whole, nn.BatchNorm2d(channels)), nn.Flatten()),
        fc=nn.Sequential(nn.Linear(channels, size, bias=False), nn.BatchNorm1d(size)),
    )


class CavafaceV2(nn.Module):
    """``MobileNetV2`` of cavaface."""

    def __init__(self, *, width: float = 0.25, size: int = 16, last: int = 64) -> None:
        super().__init__()
        self.features, wide = v2_trunk(V2_CAVAFACE, 2, width=width, bias=False, last=last)
        self.output_layer = cavaface_end(wide, size)

    def forward(self, x: Tensor) -> Tensor:
        return self.output_layer(self.features(x))


class MatrixExcitation(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        narrow = divisible(width // 4, 8)
        self.fc = nn.Sequential(
            nn.Linear(width, narrow), nn.ReLU(), nn.Linear(narrow, width), nn.Hardsigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


class CavafaceV3(nn.Module):
    """``MobileNetV3`` of cavaface, which is the large one."""

    def __init__(self, *, width: float = 0.25, size: int = 16, last: int = 64) -> None:
        super().__init__()
        inputs = divisible(16 * width, 8)
        parts: list[nn.Module] = [active(3, inputs, 3)]
        factors = (1, 4, 3, 3, 3, 3, 6, 2.5, 2.3, 2.3, 6, 6, 6, 6, 6)
        for factor, (kernel, _, channels, excited, _, stride) in zip(
            factors, V3_LARGE, strict=True
        ):
            hidden, outputs = divisible(inputs * factor, 8), divisible(channels * width, 8)
            dw = conv_of(hidden, hidden, kernel, stride, whole=False, bias=False)
            layers: list[nn.Module] = [dw, nn.BatchNorm2d(hidden)]
            gate = MatrixExcitation(hidden) if excited else nn.Identity()
            if hidden == inputs:
                layers += [nn.PReLU(hidden), gate]
            else:
                layers = [*active(inputs, hidden), *layers, gate, nn.PReLU(hidden)]
            layers += [conv_of(hidden, outputs, whole=True, bias=False), nn.BatchNorm2d(outputs)]
            parts.append(Block("conv", layers, residual=stride == 1 and inputs == outputs))
            inputs = outputs
        self.features = nn.Sequential(*parts)
        self.conv = active(inputs, last)
        self.output_layer = cavaface_end(last, size)

    def forward(self, x: Tensor) -> Tensor:
        return self.output_layer(self.conv(self.features(x)))


class YakhyoV1(nn.Module):
    """``MobileNetV1`` of face-recognition; it is published at a width of 0.25."""

    def __init__(self, *, width: float = 0.25, size: int = 16, bias: bool = True) -> None:
        super().__init__()
        of = [divisible(channels * width, 8) for channels in (32, 64, 128, 256, 512, 1024)]
        pair = partial(self._pair, bias=bias)
        self.stage1 = nn.Sequential(
            active(3, of[0], 3, bias=bias),
            pair(of[0], of[1], 1),
            pair(of[1], of[2], 2),
            pair(of[2], of[2], 1),
            pair(of[2], of[3], 2),
            pair(of[3], of[3], 1),
        )
        same = (pair(of[4], of[4], 1) for _ in range(5))
        self.stage2 = nn.Sequential(pair(of[3], of[4], 2), *same)
        self.stage3 = nn.Sequential(pair(of[4], of[5], 2), pair(of[5], of[5], 1))
        self.output_layer = yakhyo_end(of[5], size)

    @staticmethod
    def _pair(inputs: int, outputs: int, stride: int, *, bias: bool) -> nn.Sequential:
        return nn.Sequential(
            active(inputs, inputs, 3, stride, depthwise=True, bias=bias),
            active(inputs, outputs, bias=bias),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.output_layer(self.stage3(self.stage2(self.stage1(x))))


class YakhyoV2(nn.Module):
    """``MobileNetV2`` of face-recognition."""

    def __init__(
        self, *, width: float = 0.25, size: int = 16, last: int = 64, bias: bool = True
    ) -> None:
        super().__init__()
        self.features, wide = v2_trunk(V2_YAKHYO, 1, width=width, bias=bias, last=last)
        self.output_layer = yakhyo_end(wide, size)

    def forward(self, x: Tensor) -> Tensor:
        return self.output_layer(self.features(x))


class ConvExcitation(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        narrow = divisible(width // 4, 8)
        self.fc1, self.fc2 = nn.Conv2d(width, narrow, 1), nn.Conv2d(narrow, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.fc2(torch.relu(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * functional.hardsigmoid(gate)


def hard(width: int) -> nn.Module:
    del width
    return nn.Hardswish()


class YakhyoV3(nn.Module):
    """``MobileNetV3`` of face-recognition, large and small."""

    def __init__(
        self,
        rows: tuple[tuple[int, int, int, bool, bool, int], ...],
        *,
        width: float = 0.25,
        size: int = 16,
        bias: bool = True,
    ) -> None:
        super().__init__()
        inputs = divisible(16 * width, 8)
        parts: list[nn.Module] = [active(3, inputs, 3, activation=hard, bias=bias)]
        for kernel, middle, channels, excited, swish, stride in rows:
            hidden, outputs = divisible(middle * width, 8), divisible(channels * width, 8)
            act: Activation = hard if swish else nn.PReLU
            layers: list[nn.Module] = []
            if len(parts) > 1:
                layers.append(active(inputs, hidden, activation=act, bias=bias))
            dw = active(hidden, hidden, kernel, stride, activation=act, depthwise=True, bias=bias)
            layers += [dw, ConvExcitation(hidden)] if excited else [dw]
            layers.append(active(hidden, outputs, activation=None, bias=bias))
            parts.append(Block("block", layers, residual=stride == 1 and inputs == outputs))
            inputs = outputs
        parts.append(active(inputs, 6 * inputs, activation=hard, bias=bias))
        self.features = nn.Sequential(*parts)
        self.output_layer = yakhyo_end(6 * inputs, size)

    def forward(self, x: Tensor) -> Tensor:
        return self.output_layer(self.features(x))


MOBILENETS: dict[str, Callable[..., nn.Module]] = {
    "mobilenet-v2-cavaface": CavafaceV2,
    "mobilenet-v3-cavaface": CavafaceV3,
    "mobilenet-v1-yakhyo": YakhyoV1,
    "mobilenet-v2-yakhyo": YakhyoV2,
    "mobilenet-v3-large-yakhyo": partial(YakhyoV3, V3_LARGE),
    "mobilenet-v3-small-yakhyo": partial(YakhyoV3, V3_SMALL),
}
"""The reference of each layout, by its name."""
