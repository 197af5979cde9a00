"""PyTorch modules whose state dicts are the public layouts of face backbones, at any width.

Written for the tests from the key names of each project, so that a layout of the exporter is
tested against names, shapes and arithmetic that were written down apart from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

DEPTHS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 14, 3),
    100: (3, 13, 30, 3),
    152: (3, 8, 36, 3),
    200: (6, 26, 60, 6),
}
WIDTHS = (8, 8, 12, 16, 24)
"""Of the stem and the four stages. The public networks are 64, 64, 128, 256, 512."""


def conv3(inputs: int, outputs: int, stride: int = 1, *, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=bias)


class Chain(nn.Module):
    """Modules under names of their own, one after the other."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        for part in self.children():
            x = part(x)
        return x


class ArcFaceTorchBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = conv3(inputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = conv3(outputs, outputs, stride)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride > 1:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        y = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(y)) + skip


class ArcFaceTorch(nn.Module):
    """``iresnet`` of arcface_torch."""

    def __init__(
        self, depth: int, *, widths: Sequence[int] = WIDTHS, side: int = 7, size: int = 16
    ) -> None:
        super().__init__()
        self.conv1 = conv3(3, widths[0])
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.prelu = nn.PReLU(widths[0])
        for stage, count in enumerate(DEPTHS[depth], start=1):
            of = [widths[stage - 1]] + [widths[stage]] * count
            blocks = [ArcFaceTorchBlock(of[k], of[k + 1], 1 if k else 2) for k in range(count)]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.bn2 = nn.BatchNorm2d(widths[4])
        self.fc = nn.Linear(widths[4] * 7 * side, size)
        self.features = nn.BatchNorm1d(size)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(x)))
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return self.features(self.fc(self.bn2(x).flatten(1)))


class MagFace(nn.Module):
    """arcface_torch's network in a DataParallel called ``features``, and its head."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.features = Chain(module=ArcFaceTorch(depth))
        self.fc = nn.Linear(16, 100)

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)


class Excitation(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, max(1, channels // 4), 1, bias=False)
        self.fc2 = nn.Conv2d(max(1, channels // 4), channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(means))))


class IrBlock(nn.Module):
    def __init__(
        self, inputs: int, outputs: int, stride: int, *, middle: bool, se: bool, first: bool
    ) -> None:
        super().__init__()
        self.stride = stride
        self.shortcut_layer = None
        if inputs != outputs or (stride > 1 and not first):
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut_layer = nn.Sequential(projection, nn.BatchNorm2d(outputs))
        parts: list[nn.Module] = [nn.BatchNorm2d(inputs), conv3(inputs, outputs)]
        parts += [nn.BatchNorm2d(outputs)] if middle else []
        parts += [nn.PReLU(outputs), conv3(outputs, outputs, stride), nn.BatchNorm2d(outputs)]
        parts += [Excitation(outputs)] if se else []
        self.res_layer = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        if self.shortcut_layer is None:
            skip = functional.max_pool2d(x, 1, self.stride)
        else:
            skip = self.shortcut_layer(x)
        return self.res_layer(x) + skip


class Ir(nn.Module):
    """``Backbone`` of face.evoLVe and of AdaFace (``middle``)."""

    def __init__(
        self,
        depth: int,
        *,
        widths: Sequence[int] = WIDTHS,
        middle: bool = False,
        se: bool = False,
        plain_end: bool = False,
    ) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(
            conv3(3, widths[0]), nn.BatchNorm2d(widths[0]), nn.PReLU(widths[0])
        )
        blocks, inputs = [], widths[0]
        for stage, count in enumerate(DEPTHS[depth], start=1):
            for k in range(count):
                kind = {"middle": middle, "se": se, "first": stage == 1}
                made = IrBlock(inputs, widths[stage], 1 if k else 2, **kind)
                blocks.append(made)
                inputs = widths[stage]
        self.body = nn.Sequential(*blocks)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Dropout(0.4),
            nn.Flatten(),
            nn.Linear(inputs * 49, 16),
            nn.BatchNorm1d(16, affine=not plain_end),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.output_layer(self.body(self.input_layer(x)))


class SphereFaceClcarwin(nn.Module):
    """``sphere20a`` of sphereface_pytorch, for crops of 112x96."""

    def __init__(self) -> None:
        super().__init__()
        inputs = 3
        for stage, blocks in enumerate((1, 2, 4, 1), start=1):
            for number in range(1, 2 * blocks + 2):
                width = WIDTHS[stage]
                stride = 2 if number == 1 else 1
                self.add_module(f"conv{stage}_{number}", conv3(inputs, width, stride, bias=True))
                self.add_module(f"relu{stage}_{number}", nn.PReLU(width))
                inputs = width
        self.fc5 = nn.Linear(inputs * 42, 16)

    def _one(self, x: Tensor, stage: int, number: int) -> Tensor:
        x = getattr(self, f"conv{stage}_{number}")(x)
        return getattr(self, f"relu{stage}_{number}")(x)

    def forward(self, x: Tensor) -> Tensor:
        for stage, blocks in enumerate((1, 2, 4, 1), start=1):
            x = self._one(x, stage, 1)
            for k in range(blocks):
                x = x + self._one(self._one(x, stage, 2 * k + 2), stage, 2 * k + 3)
        return self.fc5(x.flatten(1))


class CosFaceBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.prelu1 = conv3(width, width), nn.PReLU(width)
        self.conv2, self.prelu2 = conv3(width, width), nn.PReLU(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.prelu2(self.conv2(self.prelu1(self.conv1(x))))


class CosFacePytorch(nn.Module):
    """``sphere`` of CosFace_pytorch, for crops of 112x96."""

    def __init__(self, counts: Sequence[int]) -> None:
        super().__init__()
        inputs = 3
        for stage, count in enumerate(counts, start=1):
            width = WIDTHS[stage]
            blocks = [CosFaceBlock(width) for _ in range(count)]
            down = conv3(inputs, width, 2, bias=True)
            self.add_module(f"layer{stage}", nn.Sequential(down, nn.PReLU(width), *blocks))
            inputs = width
        self.fc = nn.Linear(inputs * 42, 16)

    def forward(self, x: Tensor) -> Tensor:
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(x.flatten(1))


def basic(
    inputs: int,
    outputs: int,
    kernel: int | tuple[int, int],
    stride: int = 1,
    padding: int | tuple[int, int] = 0,
) -> Chain:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    return Chain(conv=conv, bn=nn.BatchNorm2d(outputs, eps=1e-3), relu=nn.ReLU())


class Branches(nn.Module):
    """Branches side by side; a sum with what came in where there is a ``scale``."""

    def __init__(
        self, branches: Sequence[nn.Module], inputs: int, joined: int, scale: float, last: bool
    ) -> None:
        super().__init__()
        self.count, self.scale, self.last = len(branches), scale, last
        for k, branch in enumerate(branches):
            self.add_module(f"branch{k}", branch)
        if scale:
            self.conv2d = nn.Conv2d(joined, inputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = [getattr(self, f"branch{k}")(x) for k in range(self.count)]
        y = torch.cat(parts, 1)
        if not self.scale:
            return y
        y = self.conv2d(y) * self.scale + x
        return y if self.last else torch.relu(y)


def _block35(width: int, w: int) -> Branches:
    three = partial(basic, w, w, 3, 1, 1)
    branches = (
        basic(width, w, 1),
        nn.Sequential(basic(width, w, 1), three()),
        nn.Sequential(basic(width, w, 1), three(), three()),
    )
    return Branches(branches, width, 3 * w, 0.17, False)


def _crossed(width: int, w: int, side: int, scale: float, last: bool = False) -> Branches:
    pad = side // 2
    long = nn.Sequential(
        basic(width, w, 1),
        basic(w, w, (1, side), 1, (0, pad)),
        basic(w, w, (side, 1), 1, (pad, 0)),
    )
    return Branches((basic(width, w, 1), long), width, 2 * w, scale, last)


class FacenetPytorch(nn.Module):
    """``InceptionResnetV1`` of facenet-pytorch at a small width."""

    def __init__(self, w: int = 4) -> None:
        super().__init__()
        self.conv2d_1a = basic(3, w, 3, 2)
        self.conv2d_2a = basic(w, w, 3)
        self.conv2d_2b = basic(w, w, 3, 1, 1)
        self.conv2d_3b = basic(w, w, 1)
        self.conv2d_4a = basic(w, 2 * w, 3)
        self.conv2d_4b = basic(2 * w, 4 * w, 3, 2)
        self.repeat_1 = nn.Sequential(*(_block35(4 * w, w) for _ in range(5)))
        pool = nn.MaxPool2d(3, 2)
        second = nn.Sequential(basic(4 * w, w, 1), basic(w, w, 3, 1, 1), basic(w, 2 * w, 3, 2))
        self.mixed_6a = Branches((basic(4 * w, 2 * w, 3, 2), second, pool), 0, 0, 0.0, False)
        wide = 8 * w
        self.repeat_2 = nn.Sequential(*(_crossed(wide, w, 7, 0.10) for _ in range(10)))
        branches = (
            nn.Sequential(basic(wide, w, 1), basic(w, w, 3, 2)),
            nn.Sequential(basic(wide, w, 1), basic(w, w, 3, 2)),
            nn.Sequential(basic(wide, w, 1), basic(w, w, 3, 1, 1), basic(w, w, 3, 2)),
            nn.MaxPool2d(3, 2),
        )
        self.mixed_7a = Branches(branches, 0, 0, 0.0, False)
        last = wide + 3 * w
        self.repeat_3 = nn.Sequential(*(_crossed(last, w, 3, 0.20) for _ in range(5)))
        self.block8 = _crossed(last, w, 3, 1.0, last=True)
        self.last_linear = nn.Linear(last, 16, bias=False)
        self.last_bn = nn.BatchNorm1d(16, eps=1e-3)
        self.logits = nn.Linear(16, 100)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x)))
        x = self.conv2d_3b(functional.max_pool2d(x, 3, 2))
        x = self.repeat_1(self.conv2d_4b(self.conv2d_4a(x)))
        x = self.mixed_7a(self.repeat_2(self.mixed_6a(x)))
        x = self.block8(self.repeat_3(x))
        return self.last_bn(self.last_linear(x.mean((2, 3))))


def separable(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    depthwise = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
    pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
    first = (depthwise, nn.BatchNorm2d(inputs), nn.ReLU6())
    return nn.Sequential(*first, pointwise, nn.BatchNorm2d(outputs), nn.ReLU6())


class FacenetBubbliiiing(nn.Module):
    """``Facenet`` of bubbliiiing's facenet-pytorch with MobileNetV1, at a small width."""

    def __init__(self, w: int = 4) -> None:
        super().__init__()
        stem = nn.Sequential(conv3(3, w, 2), nn.BatchNorm2d(w), nn.ReLU6())
        stages = Chain(
            stage1=nn.Sequential(
                stem,
                separable(w, 2 * w),
                separable(2 * w, 4 * w, 2),
                separable(4 * w, 4 * w),
                separable(4 * w, 8 * w, 2),
                separable(8 * w, 8 * w),
            ),
            stage2=nn.Sequential(
                separable(8 * w, 16 * w, 2), *(separable(16 * w, 16 * w) for _ in range(5))
            ),
            stage3=nn.Sequential(separable(16 * w, 32 * w, 2), separable(32 * w, 32 * w)),
        )
        self.backbone = Chain(model=stages)
        self.Bottleneck = nn.Linear(32 * w, 16, bias=False)
        self.last_bn = nn.BatchNorm1d(16, eps=1e-3)
        self.classifier = nn.Linear(16, 100)

    def forward(self, x: Tensor) -> Tensor:
        return self.last_bn(self.Bottleneck(self.backbone(x).mean((2, 3))))


class LowRank(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        rank = max(2, min(inputs, outputs) // 2)
        self.linear1 = nn.Linear(inputs, rank, bias=False)
        self.linear2 = nn.Linear(rank, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.linear1(x))


class Mlp(nn.Module):
    def __init__(self, width: int, matrix: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.fc1, self.fc2 = matrix(width, 4 * width), matrix(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


def last_axis(module: nn.Module, x: Tensor) -> Tensor:
    """Apply ``module`` with the channels as the last axis."""
    return module(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class EdgeConvBlock(nn.Module):
    def __init__(self, width: int, kernel: int, matrix: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.gamma = nn.Parameter(0.5 + torch.rand(width))
        self.conv_dw = nn.Conv2d(width, width, kernel, 1, kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, matrix)

    def forward(self, x: Tensor) -> Tensor:
        mixed = nn.Sequential(self.norm, self.mlp)
        return x + self.gamma[:, None, None] * last_axis(mixed, self.conv_dw(x))


class Attention(nn.Module):
    def __init__(self, width: int, matrix: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.temperature = nn.Parameter(0.5 + torch.rand(4, 1, 1))
        self.qkv, self.proj = matrix(width, 3 * width), matrix(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        n, count, width = tokens.shape
        heads = self.qkv(tokens).reshape(n, count, 3, 4, width // 4)
        q, k, v = heads.permute(2, 0, 3, 4, 1)
        q, k = functional.normalize(q, dim=-1), functional.normalize(k, dim=-1)
        shares = torch.softmax(q @ k.transpose(-2, -1) * self.temperature, -1)
        return self.proj((shares @ v).permute(0, 3, 1, 2).reshape(n, count, width))


def fourier(side: int) -> Tensor:
    """(64, side, side), position by position as the paper's code defines them."""
    found = torch.zeros(64, side, side)
    for axis in (0, 1):
        for k in range(32):
            for place in range(side):
                angle = (place + 1) / (side + 1e-6) * 2 * math.pi / 10000 ** (2 * (k // 2) / 32)
                value = math.sin(angle) if k % 2 == 0 else math.cos(angle)
                where = (32 * axis + k, place) if axis == 0 else (32 + k, slice(None), place)
                found[where] = value
    return found


class EdgeSplitBlock(nn.Module):
    def __init__(
        self, width: int, scales: int, encoded: bool, matrix: Callable[[int, int], nn.Module]
    ) -> None:
        super().__init__()
        self.gamma_xca = nn.Parameter(0.5 + torch.rand(width))
        self.gamma = nn.Parameter(0.5 + torch.rand(width))
        self.part = math.ceil(width / scales)
        self.convs = nn.ModuleList(
            nn.Conv2d(self.part, self.part, 3, 1, 1, groups=self.part)
            for _ in range(max(1, scales - 1))
        )
        self.pos_embd = Chain(token_projection=nn.Conv2d(64, width, 1)) if encoded else None
        self.norm_xca = nn.LayerNorm(width, eps=1e-6)
        self.xca = Attention(width, matrix)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, matrix)

    def forward(self, x: Tensor) -> Tensor:
        parts = x.chunk(len(self.convs) + 1, 1)
        made = [self.convs[0](parts[0])]
        for k in range(1, len(self.convs)):
            made.append(self.convs[k](made[-1] + parts[k]))
        y = torch.cat([*made, parts[-1]], 1)
        if self.pos_embd is not None:
            y = y + self.pos_embd(fourier(x.shape[2])[None])
        tokens = y.flatten(2).transpose(1, 2)
        tokens = tokens + self.gamma_xca * self.xca(self.norm_xca(tokens))
        tokens = self.gamma * self.mlp(self.norm(tokens))
        return x + tokens.transpose(1, 2).reshape(x.shape)


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return last_axis(partial(super().forward), x)


class EdgeFace(nn.Module):
    """EdgeNeXt of timm as EdgeFace's wrapper has it, without the wrapper's ``model.``."""

    def __init__(
        self,
        depths: Sequence[int],
        *,
        low_rank: bool,
        widths: Sequence[int] = (8, 12, 20, 28),
        size: int = 16,
    ) -> None:
        super().__init__()
        matrix = LowRank if low_rank else nn.Linear
        kernels = (3, 5, 7, 9)
        norm = partial(LayerNorm2d, eps=1e-6)
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], 4, 4), norm(widths[0]))
        stages = []
        for stage, depth in enumerate(depths):
            parts: dict[str, nn.Module] = {}
            if stage:
                halve = nn.Conv2d(widths[stage - 1], widths[stage], 2, 2)
                parts["downsample"] = nn.Sequential(norm(widths[stage - 1]), halve)
            blocks: list[nn.Module] = [
                EdgeConvBlock(widths[stage], kernels[stage], matrix)
                for _ in range(depth - (stage > 0))
            ]
            if stage:
                scales = (2, 2, 3, 4)[stage]
                blocks.append(EdgeSplitBlock(widths[stage], scales, stage == 1, matrix))
            stages.append(Chain(**parts, blocks=nn.Sequential(*blocks)))
        self.stages = nn.Sequential(*stages)
        last = matrix(widths[3], size)
        self.head = Chain(norm=norm(widths[3]), flatten=nn.Flatten(), fc=last)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(self.stem(x))
        return self.head(x.mean((2, 3), keepdim=True))


EdgeFaceXxs = partial(EdgeFace, (2, 2, 6, 2), low_rank=False, widths=(24, 48, 88, 168), size=512)
"""EdgeFace-XXS as it was published."""


def settled(
    module: nn.Module, side: tuple[int, int], *, seed: int = 3, calm: float = 0.0
) -> nn.Module:
    """``module`` in inference, its BatchNorms having seen noise, their gamma and beta drawn.

    Deep networks of random filters amplify what rounding does from layer to layer, which trained
    ones do not. Depthwise filters that mostly average, and activations that are mostly positive,
    make them ``calm``.
    """
    torch.manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.Conv2d) and part.groups > 1:
            part.weight.data += calm / part.weight[0].numel()
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.momentum = 1.0
            if part.affine:
                nn.init.uniform_(part.weight, 0.6, 1.4)
                nn.init.normal_(part.bias, calm, 0.2)
        elif isinstance(part, nn.PReLU):
            nn.init.uniform_(part.weight, -0.2, 0.6)
    module.train()
    with torch.no_grad():
        module(torch.randn(6, 3, *side))
    return module.eval()
