"""Finds out which known network a set of named tensors is, and says why."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeface.errors import ArchitectureError
from edgeface.types import FloatArray
from edgeface_export.architectures import LAYOUTS
from edgeface_export.architectures.layout import Layout
from edgeface_export.architectures.network import Network

__all__ = ["Dropped", "Recognition", "describe_unknown", "recognise"]

# Names that training code gives to what wraps the weights; told to the user as wrapper keys.
_WRAPPERS = frozenset(
    {
        "state_dict",
        "net_state_dict",
        "model_state_dict",
        "model",
        "net",
        "network",
        "backbone",
        "ema",
    }
)
_OPTIMISER = re.compile(r"(^|\.)(optimi[sz]er\w*|exp_avg\w*|momentum_buffer|param_groups)(\.|$)")
_COUNTER = re.compile(r"num_batches_tracked$")
_CENTRES = re.compile(r"(^|\.)(\w*cent(er|re)s?\w*)(\.|$)", re.IGNORECASE)
# Key names that betray a family that this release cannot emit yet.
_FAMILIES: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "EdgeFace (EdgeNeXt)",
        re.compile(r"(^|\.)stages\.\d+\.blocks\.\d+\.(gamma|xca|conv_dw|pos_embd)"),
    ),
    ("IResNet", re.compile(r"(^|\.)layer[1-4]\.\d+\.prelu\.weight$")),
    ("IR-SE / IR (InsightFace_Pytorch)", re.compile(r"(^|\.)body\.\d+\.res_layer\.\d+")),
    ("Inception-ResNet-v1", re.compile(r"(^|\.)repeat_[123]\.\d+\.branch[01]")),
    ("GhostNet", re.compile(r"(^|\.)ghost\d?\.(primary_conv|cheap_operation)")),
    ("ResNet (torchvision)", re.compile(r"(^|\.)layer[1-4]\.\d+\.(conv[123]|downsample)")),
)


@dataclass(frozen=True, slots=True)
class Dropped:
    """Tensors of the checkpoint that are not part of the backbone, by ``kind``."""

    kind: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Recognition:
    """A network, the layout that fitted, and why.

    ``prefix`` was stripped from every key; ``wrappers`` are the parts of it that are containers
    of a training program rather than names of modules.
    """

    layout: Layout
    network: Network
    prefix: str
    wrappers: tuple[str, ...]
    reasons: tuple[str, ...]
    dropped: tuple[Dropped, ...]


def recognise(
    tensors: Mapping[str, FloatArray], *, layouts: tuple[Layout, ...] = LAYOUTS
) -> Recognition:
    """Return the network that ``tensors`` are.

    Raises:
        ArchitectureError: None of ``layouts`` fits, or one fits by name but not by shape.
    """
    for layout in layouts:
        prefixes = _prefixes(tensors, layout)
        if prefixes:
            return _recognition(tensors, layout, prefixes)
    raise ArchitectureError(describe_unknown(tensors, layouts=layouts))


def _prefixes(tensors: Mapping[str, FloatArray], layout: Layout) -> list[str]:
    """Return every prefix under which all keys of ``layout`` are there, shortest first."""
    wanted = len(set(layout.tensor_names()))
    counts = _keys_under(tensors, layout)
    complete = [prefix for prefix, count in counts.items() if count == wanted]
    return sorted(complete, key=lambda prefix: (len(prefix), prefix))


def _keys_under(tensors: Mapping[str, FloatArray], layout: Layout) -> Counter[str]:
    """Return how many keys of ``layout`` are there by prefix; one ends at a dot or is empty."""
    keys = frozenset(layout.tensor_names())
    counts: Counter[str] = Counter()
    for name in tensors:
        starts = [0, *(k + 1 for k, letter in enumerate(name) if letter == ".")]
        counts.update(name[:start] for start in starts if name[start:] in keys)
    return counts


def _recognition(
    tensors: Mapping[str, FloatArray], layout: Layout, prefixes: list[str]
) -> Recognition:
    prefix, keys = prefixes[0], layout.tensor_names()
    network = layout.build({key: tensors[prefix + key] for key in keys})
    reasons = [
        f"all {len(keys)} tensors of layout {layout.name} are there, and their shapes fit together",
        f"the global kernel means crops of {network.crop_size.height_px}x"
        f"{network.crop_size.width_px} (height x width)",
        f"the last layer has {network.embedding_size} outputs",
    ]
    if len(prefixes) > 1:
        others = ", ".join(repr(other) for other in prefixes[1:])
        reasons.append(f"the same network also stands under {others}; {prefix!r} was taken")
    used = {prefix + key for key in keys}
    wrappers = tuple(part for part in prefix.rstrip(".").split(".") if part in _WRAPPERS)
    rest = [name for name in tensors if name not in used]
    dropped = _classify(rest, tensors, network.embedding_size)
    return Recognition(layout, network, prefix, wrappers, tuple(reasons), dropped)


def _classify(
    names: list[str], tensors: Mapping[str, FloatArray], embedding_size: int
) -> tuple[Dropped, ...]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_kind(name, tensors[name], embedding_size), []).append(name)
    return tuple(Dropped(kind, tuple(members)) for kind, members in sorted(groups.items()))


def _kind(name: str, array: FloatArray, embedding_size: int) -> str:
    if _OPTIMISER.search(name):
        return "optimiser state"
    if _COUNTER.search(name):
        return "batch counters"
    if _CENTRES.search(name):
        return "class centres"
    if array.ndim == 2 and embedding_size in array.shape:
        return "classification head"
    return "other tensors"


def describe_unknown(
    tensors: Mapping[str, FloatArray], *, layouts: tuple[Layout, ...] = LAYOUTS
) -> str:
    """Return in one paragraph what ``tensors`` seem to be and why they cannot be exported."""
    family = next(
        (label for label, pattern in _FAMILIES if any(pattern.search(name) for name in tensors)), ""
    )
    if family:
        return f"the key names are those of {family}, which this release cannot export yet"
    convolutions = [array for array in tensors.values() if array.ndim == 4]
    matrices = [array for array in tensors.values() if array.ndim == 2]
    if not convolutions:
        if not matrices:
            return "there is no convolution and no matrix among the tensors: no network to export"
        sizes = " -> ".join(
            dict.fromkeys(
                str(size) for array in matrices for size in (array.shape[1], array.shape[0])
            )
        )
        return (
            f"there is no convolution: {len(matrices)} fully connected layer(s) on {sizes} values. "
            "This maps an embedding to another; it is not a backbone that reads pictures"
        )
    said = _no_rgb_input([array.shape for array in convolutions]) or "no known layout fits"
    return f"{said} ({_nearest(tensors, layouts)})"


def _no_rgb_input(shapes: list[tuple[int, ...]]) -> str:
    """Return why no convolution of ``shapes`` reads an RGB picture, or an empty string.

    The order of tensors in a file proves nothing, so the first one is not taken for the network's
    first. A weight of one input channel is that of a grey picture or of a depthwise convolution;
    networks that have depthwise ones have several.
    """
    if any(shape[1] == 3 for shape in shapes):
        return ""
    single = [shape for shape in shapes if shape[1] == 1]
    if single and len(single) in (1, len(shapes)):
        return "the first convolution reads 1 channel(s), so this is no RGB face backbone"
    least = min(shape[1] for shape in shapes if shape[1] != 1)
    return (
        f"none of its {len(shapes)} convolutions reads the 3 channels of an RGB picture "
        f"({len(single)} depthwise, the others {least} channels or more): either the first "
        "convolution is missing or this is no RGB face backbone"
    )


def _nearest(tensors: Mapping[str, FloatArray], layouts: tuple[Layout, ...]) -> str:
    """Return which layout shares most keys under one prefix, and which of them is missing first."""
    if not layouts:
        return "no layout is known"
    found = [
        max(_keys_under(tensors, each).items(), key=_count, default=("", 0)) for each in layouts
    ]
    shares = [
        count / len(each.tensor_names()) for (_, count), each in zip(found, layouts, strict=True)
    ]
    best = int(np.argmax(shares))
    prefix, keys = found[best][0], layouts[best].tensor_names()
    missing = [key for key in keys if prefix + key not in tensors]
    return (
        f"nearest: {layouts[best].name}, {shares[best]:.0%} of its key names; "
        f"{len(missing)} missing, first {missing[0] if missing else 'none'}"
    )


def _count(entry: tuple[str, int]) -> int:
    return entry[1]
