"""Finds out which known network a set of named tensors is, and says why."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from edgeface.errors import ArchitectureError
from edgeface.types import FloatArray
from edgeface_export.architectures import LAYOUTS
from edgeface_export.architectures.beside import (
    HEAD,
    OTHER,
    kinds_beside,
    preference,
    said_of_copies,
)
from edgeface_export.architectures.layout import Layout
from edgeface_export.architectures.nearest import keys_under, left_over, nearest
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
_OPTIMISER = re.compile(r"(^|[._])(optimi[sz]er\w*|exp_avg\w*|momentum_buffer|param_groups)(\.|$)")
_PACKED = "._packed_params._packed_params"
_QUANTISED = "scales of quantised layers"
_QUANTISER = re.compile(r"(^|\.)(scale|zero_point)$")
_COUNTER = re.compile(r"(^|\.)(num_batches_tracked|n_averaged)$")
_CENTRES = re.compile(r"(^|\.)(\w*cent(er|re)s?\w*)(\.|$)", re.IGNORECASE)
# Key names that betray a family that this release cannot emit yet.
_FAMILIES: tuple[tuple[str, re.Pattern[str]], ...] = (
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
    of a training program rather than names of modules. ``assumed`` tells that nothing in the file
    says how crops are prepared, so that the network's preprocessing is a guess.
    """

    layout: Layout
    network: Network
    prefix: str
    wrappers: tuple[str, ...]
    reasons: tuple[str, ...]
    dropped: tuple[Dropped, ...]
    assumed: bool = False


def recognise(
    tensors: Mapping[str, FloatArray], *, layouts: tuple[Layout, ...] = LAYOUTS
) -> Recognition:
    """Return the network that ``tensors`` are.

    Raises:
        ArchitectureError: None of ``layouts`` fits, or one fits by name but not by shape.
    """
    tensors = with_unpacked_names(tensors)
    for layout in layouts:
        prefixes = _prefixes(tensors, layout)
        if prefixes:
            return _recognition(tensors, layout, prefixes)
    raise ArchitectureError(describe_unknown(tensors, layouts=layouts))


def with_unpacked_names(tensors: Mapping[str, FloatArray]) -> Mapping[str, FloatArray]:
    """Return ``tensors`` with weight and bias of torch's dynamically quantised matrices so named.

    torch packs both into ``NAME._packed_params._packed_params``.
    """
    ends = {f"{_PACKED}.0": ".weight", f"{_PACKED}.1": ".bias"}
    renamed = {}
    for name, array in tensors.items():
        end = next((end for end in ends if name.endswith(end)), "")
        renamed[name.removesuffix(end) + ends[end] if end else name] = array
    return renamed


def _prefixes(tensors: Mapping[str, FloatArray], layout: Layout) -> list[str]:
    """Return every prefix under which all keys of ``layout`` are there, averaged ones first."""
    wanted = len(set(layout.tensor_names()))
    counts = keys_under(tensors, layout)
    complete = [prefix for prefix, count in counts.items() if count == wanted]
    return sorted(complete, key=preference)


def _recognition(
    tensors: Mapping[str, FloatArray], layout: Layout, prefixes: list[str]
) -> Recognition:
    prefix, keys = prefixes[0], layout.tensor_names()
    _require_nothing_left_over(tensors, layout, prefix)
    network = layout.build({key: tensors[prefix + key] for key in keys})
    reasons = [
        f"all {len(keys)} tensors of layout {layout.name} are there, and their shapes fit together",
        f"crops of {network.crop_size.height_px}x{network.crop_size.width_px} (height x width)",
        f"the last layer has {network.embedding_size} outputs",
    ]
    reasons += said_of_copies(prefixes)
    used = {prefix + key for key in keys}
    wrappers = tuple(part for part in prefix.rstrip(".").split(".") if part in _WRAPPERS)
    rest = [name for name in tensors if name not in used]
    dropped = _classify(rest, tensors, network.embedding_size, prefixes)
    return Recognition(layout, network, prefix, wrappers, tuple(reasons), dropped)


def _require_nothing_left_over(
    tensors: Mapping[str, FloatArray], layout: Layout, prefix: str
) -> None:
    """Refuse weights of the backbone's own modules that the layout would leave out of it."""
    more = left_over(tensors, layout.tensor_names(), prefix)
    if more:
        raise ArchitectureError(
            f"all tensors of layout {layout.name} are there, but its modules have {len(more)} that "
            f"it does not know, first {more[0]} {tensors[more[0]].shape}: it is another network, "
            "and leaving them out would change what it computes"
        )


def _classify(
    names: list[str],
    tensors: Mapping[str, FloatArray],
    embedding_size: int,
    prefixes: list[str],
) -> tuple[Dropped, ...]:
    kinds = {name: _kind(name, tensors[name], embedding_size) for name in names}
    kinds |= {name: _QUANTISED for name in names if _is_of_quantiser(name, tensors)}
    groups: dict[str, list[str]] = {}
    for name, kind in kinds_beside(kinds, tensors, prefixes).items():
        groups.setdefault(kind, []).append(name)
    return tuple(Dropped(kind, tuple(members)) for kind, members in sorted(groups.items()))


def _is_of_quantiser(name: str, tensors: Mapping[str, FloatArray]) -> bool:
    """Return whether ``name`` is the scale or the zero point of a quantised layer's output."""
    found = _QUANTISER.search(name)
    return found is not None and f"{name[: found.start()]}.weight" in tensors


def _kind(name: str, array: FloatArray, embedding_size: int) -> str:
    if _OPTIMISER.search(name):
        return "optimiser state"
    if _COUNTER.search(name):
        return "batch counters"
    if _CENTRES.search(name):
        return "class centres"
    if array.ndim == 2 and embedding_size in array.shape:
        return HEAD
    return OTHER


# Of key names: a network this near to a known one is better told what differs.
_NEAR = 0.5


def describe_unknown(
    tensors: Mapping[str, FloatArray], *, layouts: tuple[Layout, ...] = LAYOUTS
) -> str:
    """Return in one paragraph what ``tensors`` seem to be and why they cannot be exported."""
    family = next(
        (label for label, pattern in _FAMILIES if any(pattern.search(name) for name in tensors)), ""
    )
    share, near = nearest(tensors, layouts)
    if family and share < _NEAR:
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
    return f"{said} ({near})"


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
