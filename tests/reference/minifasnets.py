"""PyTorch forwards of MiniFASNet with and without excitation, written from their key names."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class _Unit(nn.Module):
    """conv, bn and, unless linear, prelu."""

    def __init__(self, state: dict[str, Tensor], prefix: str, *, stride: int = 1) -> None:
        super().__init__()
        outputs, per_group, kernel, _ = state[f"{prefix}.conv.weight"].shape
        # A kernel of 5 is the global one, which covers the whole map.
        groups = outputs if per_group == 1 else 1
        inputs, padding = per_group * groups, 1 if kernel == 3 else 0
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        if f"{prefix}.prelu.weight" in state:
            self.prelu = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return self.prelu(x) if hasattr(self, "prelu") else x


class _SqueezeExcite(nn.Module):
    def __init__(self, state: dict[str, Tensor], prefix: str) -> None:
        super().__init__()
        narrow, wide = state[f"{prefix}.fc1.weight"].shape[:2]
        self.fc1, self.bn1 = nn.Conv2d(wide, narrow, 1, bias=False), nn.BatchNorm2d(narrow)
        self.fc2, self.bn2 = nn.Conv2d(narrow, wide, 1, bias=False), nn.BatchNorm2d(wide)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.bn1(self.fc1(x.mean((2, 3), keepdim=True))).relu()
        return x * self.bn2(self.fc2(weights)).sigmoid()


class _Block(nn.Module):
    def __init__(self, state: dict[str, Tensor], prefix: str, *, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.conv = _Unit(state, f"{prefix}.conv")
        self.conv_dw = _Unit(state, f"{prefix}.conv_dw", stride=1 if residual else 2)
        self.project = _Unit(state, f"{prefix}.project")
        if f"{prefix}.se_module.fc1.weight" in state:
            self.se_module = _SqueezeExcite(state, f"{prefix}.se_module")

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.conv_dw(self.conv(x)))
        if hasattr(self, "se_module"):
            y = self.se_module(y)
        return x + y if self.residual else y


class _Stage(nn.Module):
    def __init__(self, state: dict[str, Tensor], prefix: str, count: int) -> None:
        super().__init__()
        self.model = nn.Sequential(
            *(_Block(state, f"{prefix}.model.{k}", residual=True) for k in range(count))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class MiniFasNet(nn.Module):
    """The network whose state dict, without prefix, is ``state``."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.conv1 = _Unit(state, "conv1", stride=2)
        self.conv2_dw = _Unit(state, "conv2_dw")
        self.conv_23 = _Block(state, "conv_23", residual=False)
        self.conv_3 = _Stage(state, "conv_3", 4)
        self.conv_34 = _Block(state, "conv_34", residual=False)
        self.conv_4 = _Stage(state, "conv_4", 6)
        self.conv_45 = _Block(state, "conv_45", residual=False)
        self.conv_5 = _Stage(state, "conv_5", 2)
        self.conv_6_sep = _Unit(state, "conv_6_sep")
        self.conv_6_dw = _Unit(state, "conv_6_dw")
        size, inputs = state["linear.weight"].shape
        self.linear, self.bn = nn.Linear(inputs, size, bias=False), nn.BatchNorm1d(size)
        self.prob = nn.Linear(size, state["prob.weight"].shape[0], bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, classes) probabilities for (n, 3, 80, 80) BGR pictures on the 0..255 scale."""
        for stage in (
            self.conv1,
            self.conv2_dw,
            self.conv_23,
            self.conv_3,
            self.conv_34,
            self.conv_4,
            self.conv_45,
            self.conv_5,
            self.conv_6_sep,
            self.conv_6_dw,
        ):
            x = stage(x)
        return torch.softmax(self.prob(self.bn(self.linear(x.flatten(1)))), dim=1)
