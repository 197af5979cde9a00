"""What a checkpoint holds beside the network: averaged copies, heads, and the state of a loss."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from edgeface.types import FloatArray

__all__ = [
    "AVERAGED_COPY",
    "HEAD",
    "OTHER",
    "QUANTISED",
    "RAW_COPY",
    "is_averaged",
    "kinds_beside",
    "preference",
    "said_of_copies",
]

HEAD, OTHER = "classification head", "other tensors"
QUANTISED = "scales of quantised layers"
RAW_COPY, AVERAGED_COPY = "weights before averaging", "averaged weights"
_COPY, _LOSS_STATE = "copy of the network", "state of the loss"
# timm's state_dict_ema and model_ema, Lightning's and ultralytics' ema, torch.optim.swa_utils'
# swa_model, the shadow of tensorflow's and torch_ema's averages, fastreid's avg_model.
_AVERAGED = re.compile(r"(^|.*_)(ema|avg|averaged?|shadow|swa)(_.*|$)")
_LOSS_PARTS = re.compile(
    r"(^|\.)(head|heads|loss|losses|criterion|margin|metric_fc|metric|classifier|arc_margin|"
    r"margin_softmax)\."
)


def is_averaged(prefix: str) -> bool:
    """Return whether tensors under ``prefix`` are a moving average, as its parts are named."""
    return any(_AVERAGED.match(part) for part in prefix.lower().split(".") if part)


def preference(prefix: str) -> tuple[bool, int, str]:
    """Return the key that sorts the prefixes of copies of one network, the best first.

    Averaged weights are what trainers evaluate and publish; among the rest the shortest name.
    """
    return not is_averaged(prefix), len(prefix), prefix


def said_of_copies(prefixes: Sequence[str]) -> list[str]:
    """Return the sentence on the copies of the network, of which the first was taken."""
    taken, others = prefixes[0], [repr(prefix) for prefix in prefixes[1:]]
    if not others:
        return ["the weights are a moving average"] if is_averaged(taken) else []
    why = ", the moving average," if is_averaged(taken) else ""
    return [f"the same network also stands under {', '.join(others)}; {taken!r}{why} was taken"]


def kinds_beside(
    kinds: Mapping[str, str], tensors: Mapping[str, FloatArray], prefixes: Sequence[str]
) -> dict[str, str]:
    """Return ``kinds`` (by tensor name) with copies of the network and parts of the loss named.

    ``prefixes`` are those of the network taken and of its copies.
    """
    taken, *copies = sorted(prefixes, key=preference)
    heads = {_parent(name): tensors[name] for name, kind in kinds.items() if kind == HEAD}
    found = {}
    for name, kind in _without_loss_scales(kinds).items():
        copy = _copy_of(name, copies)
        if copy is not None and kind in (OTHER, HEAD):
            found[name] = _named(copy, taken)
        elif kind == OTHER and tensors[name].ndim <= 1:
            found[name] = _small(name, tensors[name], heads)
        else:
            found[name] = kind
    return found


def _without_loss_scales(kinds: Mapping[str, str]) -> dict[str, str]:
    """Return ``kinds`` with a lone ``scale`` as nothing known: a quantised layer has its zero too.

    NormFace's learnt scale is one number of that name.
    """
    return {
        name: OTHER
        if kind == QUANTISED and f"{_parent(name)}.zero_point".lstrip(".") not in kinds
        else kind
        for name, kind in kinds.items()
    }


def _copy_of(name: str, copies: Iterable[str]) -> str | None:
    """Return the longest of ``copies`` that ``name`` begins with; an empty one holds no others."""
    fitting = [prefix for prefix in copies if prefix and name.startswith(prefix)]
    return max(fitting, key=len, default=None)


def _named(copy: str, taken: str) -> str:
    if is_averaged(taken) and not is_averaged(copy):
        return RAW_COPY
    return AVERAGED_COPY if is_averaged(copy) else _COPY


def _small(name: str, array: FloatArray, heads: Mapping[str, FloatArray]) -> str:
    """Return what a number or a row beside the network is: a head's bias, or of the loss."""
    head = heads.get(_parent(name))
    if head is not None and array.size in head.shape and array.ndim == 1:
        return HEAD
    return _LOSS_STATE if head is not None or _LOSS_PARTS.search(name) else OTHER


def _parent(name: str) -> str:
    return name.rpartition(".")[0]
