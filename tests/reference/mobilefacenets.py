"""PyTorch forwards of the four MobileFaceNet layouts, written for the tests from their key names.

They load a state dict with ``strict=True``, so a key that the exporter overlooks is noticed here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def _conv(
    inputs: int, outputs: int, kernel: int | tuple[int, int] = 1, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    padding = 1 if kernel == 3 else 0
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)


class ConvBnPrelu(nn.Module):
    """conv, bn, prelu, under those names."""

    def __init__(self, conv: nn.Conv2d, *, prelu: bool = True) -> None:
        super().__init__()
        self.conv = conv
        self.bn = nn.BatchNorm2d(conv.out_channels)
        if prelu:
            self.prelu = nn.PReLU(conv.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return self.prelu(x) if hasattr(self, "prelu") else x


class _SequentialBottleneck(nn.Module):
    def __init__(self, inputs: int, hidden: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            _conv(inputs, hidden),
            nn.BatchNorm2d(hidden),
            nn.PReLU(hidden),
            _conv(hidden, hidden, 3, stride, hidden),
            nn.BatchNorm2d(hidden),
            nn.PReLU(hidden),
            _conv(hidden, outputs),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class Xiaoccer(nn.Module):
    """Layout mobilefacenet-xiaoccer, for any widths found in ``state``."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        stem = state["conv1.conv.weight"].shape[0]
        self.conv1 = ConvBnPrelu(_conv(3, stem, 3, 2))
        self.dw_conv1 = ConvBnPrelu(_conv(stem, stem, 3, 1, stem))
        blocks = []
        for k in range(15):
            hidden, inputs = state[f"blocks.{k}.conv.0.weight"].shape[:2]
            outputs = state[f"blocks.{k}.conv.6.weight"].shape[0]
            stride = 2 if k in (0, 5, 12) else 1
            blocks.append(_SequentialBottleneck(inputs, hidden, outputs, stride))
        self.blocks = nn.Sequential(*blocks)
        last, inputs = state["conv2.conv.weight"].shape[:2]
        kernel = tuple(state["linear7.conv.weight"].shape[2:])
        size = state["linear1.conv.weight"].shape[0]
        self.conv2 = ConvBnPrelu(_conv(inputs, last))
        self.linear7 = ConvBnPrelu(_conv(last, last, kernel, 1, last), prelu=False)
        self.linear1 = ConvBnPrelu(_conv(last, size), prelu=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.dw_conv1(self.conv1(x)))
        return self.linear1(self.linear7(self.conv2(x))).flatten(1)


class DepthWise(nn.Module):
    """conv, conv_dw, project, under those names."""

    def __init__(
        self, inputs: int, hidden: int, outputs: int, stride: int, *, residual: bool
    ) -> None:
        super().__init__()
        self.residual = residual
        self.conv = ConvBnPrelu(_conv(inputs, hidden))
        self.conv_dw = ConvBnPrelu(_conv(hidden, hidden, 3, stride, hidden))
        self.project = ConvBnPrelu(_conv(hidden, outputs), prelu=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.conv_dw(self.conv(x)))
        return x + y if self.residual else y


class _Residual(nn.Module):
    def __init__(self, blocks: Sequence[DepthWise]) -> None:
        super().__init__()
        self.model = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class _StagedTrunk(nn.Module):
    """The stages conv1 … conv_5 that two layouts share."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        stem = state["conv1.conv.weight"].shape[0]
        self.conv1 = ConvBnPrelu(_conv(3, stem, 3, 2))
        self.conv2_dw = ConvBnPrelu(_conv(stem, stem, 3, 1, stem))
        for name in ("conv_23", "conv_34", "conv_45"):
            self.add_module(name, self._block(state, f"{name}.", 2, residual=False))
        for name, count in (("conv_3", 4), ("conv_4", 6), ("conv_5", 2)):
            blocks = [
                self._block(state, f"{name}.model.{k}.", 1, residual=True) for k in range(count)
            ]
            self.add_module(name, _Residual(blocks))

    @staticmethod
    def _block(state: dict[str, Tensor], prefix: str, stride: int, *, residual: bool) -> DepthWise:
        hidden, inputs = state[f"{prefix}conv.conv.weight"].shape[:2]
        outputs = state[f"{prefix}project.conv.weight"].shape[0]
        return DepthWise(inputs, hidden, outputs, stride, residual=residual)

    def trunk(self, x: Tensor) -> Tensor:
        stages = (
            "conv1",
            "conv2_dw",
            "conv_23",
            "conv_3",
            "conv_34",
            "conv_4",
            "conv_45",
            "conv_5",
        )
        for name in stages:
            x = getattr(self, name)(x)
        return x


class InsightFacePytorch(_StagedTrunk):
    """Layout mobilefacenet-insightface-pytorch, pruned or not."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__(state)
        last, inputs = state["conv_6_sep.conv.weight"].shape[:2]
        size = state["linear.weight"].shape[0]
        self.conv_6_sep = ConvBnPrelu(_conv(inputs, last))
        self.conv_6_dw = ConvBnPrelu(_conv(last, last, 7, 1, last), prelu=False)
        self.linear = nn.Linear(last, size, bias=False)
        self.bn = nn.BatchNorm1d(size)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_6_dw(self.conv_6_sep(self.trunk(x)))
        return self.bn(self.linear(x.flatten(1)))


class Cavaface(_StagedTrunk):
    """Layout mobilefacenet-cavaface."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__(state)
        last, inputs = state["conv_6_sep.conv.weight"].shape[:2]
        size = state["output_layer.linear.weight"].shape[0]
        self.conv_6_sep = ConvBnPrelu(_conv(inputs, last))
        self.output_layer = nn.ModuleDict(
            {
                "conv_6_dw": ConvBnPrelu(_conv(last, last, 7, 1, last), prelu=False),
                "linear": nn.Linear(last, size, bias=False),
                "bn": nn.BatchNorm1d(size),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        end = self.output_layer
        x = end["conv_6_dw"](self.conv_6_sep(self.trunk(x)))
        return end["bn"](end["linear"](x.flatten(1)))


class Bubbliiiing(_StagedTrunk):
    """Layout mobilefacenet-bubbliiiing."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__(state)
        last, inputs = state["sep.weight"].shape[:2]
        size = state["features.weight"].shape[0]
        self.sep = _conv(inputs, last)
        self.sep_bn = nn.BatchNorm2d(last)
        self.prelu = nn.PReLU(last)
        self.GDC_dw = _conv(last, last, 7, 1, last)
        self.GDC_bn = nn.BatchNorm2d(last)
        self.features = _conv(last, size)
        self.last_bn = nn.BatchNorm2d(size)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.sep_bn(self.sep(self.trunk(x))))
        return self.last_bn(self.features(self.GDC_bn(self.GDC_dw(x)))).flatten(1)


def _conv_bn_relu6(conv: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU6())


class _Relu6Bottleneck(nn.Module):
    def __init__(self, inputs: int, hidden: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            _conv_bn_relu6(_conv(inputs, hidden)),
            _conv_bn_relu6(_conv(hidden, hidden, 3, stride, hidden)),
            _conv(hidden, outputs),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class _Separable(nn.Module):
    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.depthwise = _conv(width, width, 3, 1, width)
        self.pointwise = _conv(width, outputs)
        self.bn1 = nn.BatchNorm2d(width)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.depthwise(x)))
        return torch.relu(self.bn2(self.pointwise(x)))


class _GlobalDepthwise(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = _conv(width, width, 7, 1, width)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.depthwise(x))


class Foamliu(nn.Module):
    """Layout mobilefacenet-foamliu."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        stem = state["conv1.0.weight"].shape[0]
        self.conv1 = _conv_bn_relu6(_conv(3, stem, 3, 2))
        self.dw_conv = _Separable(stem, state["dw_conv.pointwise.weight"].shape[0])
        blocks = []
        for k in range(15):
            hidden, inputs = state[f"features.{k}.conv.0.0.weight"].shape[:2]
            outputs = state[f"features.{k}.conv.2.weight"].shape[0]
            stride = 2 if k in (0, 5, 12) else 1
            blocks.append(_Relu6Bottleneck(inputs, hidden, outputs, stride))
        self.features = nn.Sequential(*blocks)
        last, inputs = state["conv2.0.weight"].shape[:2]
        size = state["conv3.weight"].shape[0]
        self.conv2 = _conv_bn_relu6(_conv(inputs, last))
        self.gdconv = _GlobalDepthwise(last)
        self.conv3 = nn.Conv2d(last, size, 1)
        self.bn = nn.BatchNorm2d(size)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(self.features(self.dw_conv(self.conv1(x))))
        return self.bn(self.conv3(self.gdconv(x))).flatten(1)


class _Layers(nn.Module):
    """Modules under ``layers``, one after the other."""

    def __init__(self, *parts: nn.Module, residual: bool = False) -> None:
        super().__init__()
        self.residual = residual
        self.layers = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


def _layers_unit(conv: nn.Conv2d, *, prelu: bool = True) -> _Layers:
    width = conv.out_channels
    return _Layers(conv, nn.BatchNorm2d(width), *([nn.PReLU(width)] if prelu else []))


class ArcFaceTorchMbf(nn.Module):
    """Layout mobilefacenet-arcface-torch; its second layer has groups of any size."""

    blocks = (0, 4, 6, 2)

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        stem = state["layers.0.layers.0.weight"].shape[0]
        parts: list[nn.Module] = [_layers_unit(_conv(3, stem, 3, 2))]
        first, *others = self.blocks
        if not first:
            per_group = state["layers.1.layers.0.weight"].shape[1]
            parts.append(_layers_unit(_conv(stem, stem, 3, 1, stem // per_group)))
        stages = [n for count in others for n in (0, count)]
        for k, count in enumerate([first, *stages] if first else stages, start=len(parts)):
            if count:
                at = [f"layers.{k}.layers.{n}." for n in range(count)]
                parts.append(_Layers(*(self._block(state, one, 1) for one in at)))
            else:
                parts.append(self._block(state, f"layers.{k}.", 2))
        self.layers = nn.ModuleList(parts)
        last, inputs = state["conv_sep.layers.0.weight"].shape[:2]
        kernel = tuple(state["features.layers.0.layers.0.weight"].shape[2:])
        size = state["features.layers.2.weight"].shape[0]
        self.conv_sep = _layers_unit(_conv(inputs, last))
        self.features = _Layers(
            _layers_unit(_conv(last, last, kernel, 1, last), prelu=False),
            nn.Flatten(),
            nn.Linear(last, size, bias=False),
            nn.BatchNorm1d(size),
        )

    @staticmethod
    def _block(state: dict[str, Tensor], at: str, stride: int) -> _Layers:
        hidden, inputs = state[f"{at}layers.0.layers.0.weight"].shape[:2]
        outputs = state[f"{at}layers.2.layers.0.weight"].shape[0]
        return _Layers(
            _layers_unit(_conv(inputs, hidden)),
            _layers_unit(_conv(hidden, hidden, 3, stride, hidden)),
            _layers_unit(_conv(hidden, outputs), prelu=False),
            residual=stride == 1,
        )

    def forward(self, x: Tensor) -> Tensor:
        for part in self.layers:
            x = part(x)
        return self.features(self.conv_sep(x))


class ArcFaceTorchMbfLarge(ArcFaceTorchMbf):
    """Layout mobilefacenet-large-arcface-torch."""

    blocks = (2, 8, 12, 4)


REFERENCES: dict[str, type[nn.Module]] = {
    "mobilefacenet-arcface-torch": ArcFaceTorchMbf,
    "mobilefacenet-large-arcface-torch": ArcFaceTorchMbfLarge,
    "mobilefacenet-xiaoccer": Xiaoccer,
    "mobilefacenet-foamliu": Foamliu,
    "mobilefacenet-bubbliiiing": Bubbliiiing,
    "mobilefacenet-cavaface": Cavaface,
    "mobilefacenet-insightface-pytorch": InsightFacePytorch,
}
