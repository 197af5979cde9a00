"""Says which known layout a set of tensors comes nearest to, and what differs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from edgeface.types import FloatArray
from edgeface_export.architectures.layout import Layout

__all__ = ["keys_under", "left_over", "nearest"]

# Below this share of its key names the nearest layout is another network, and what differs from
# it is everything.
_NEAR = 0.2
# Lines of each kind of difference; with the first line and two that count the rest they are 8.
_SHOWN = 2
_STATISTICS = (".running_mean", ".running_var")
_NO_WEIGHT = re.compile(r"num_batches_tracked$|(^|\.)(scale|zero_point)$")


def keys_under(tensors: Mapping[str, FloatArray], layout: Layout) -> Counter[str]:
    """Return how many keys of ``layout`` are there by prefix; one ends at a dot or is empty."""
    keys = frozenset(layout.tensor_names())
    counts: Counter[str] = Counter()
    for name in tensors:
        starts = [0, *(k + 1 for k, letter in enumerate(name) if letter == ".")]
        counts.update(name[:start] for start in starts if name[start:] in keys)
    return counts


def nearest(tensors: Mapping[str, FloatArray], layouts: Sequence[Layout]) -> tuple[float, str]:
    """Return the share of keys of the nearest layout, and what differs from it in up to 8 lines."""
    if not layouts:
        return 0.0, "no layout is known"
    found = []
    for layout in layouts:
        prefix, count = max(
            keys_under(tensors, layout).items(), key=lambda entry: entry[1], default=("", 0)
        )
        # Of two layouts with as large a share the one that leaves fewer tensors over.
        found.append((count / len(layout.tensor_names()), count, prefix, layout))
    share, _, prefix, layout = max(found, key=lambda entry: entry[:2])
    keys = layout.tensor_names()
    missing = [key for key in keys if prefix + key not in tensors]
    if missing and missing == [key for key in keys if key.endswith(_STATISTICS)]:
        return share, (
            f"all of layout {layout.name} is there but BatchNorm's running statistics: the "
            "network works with the statistics of each batch alone, and cannot embed one face. "
            "Run it over training pictures with track_running_stats=True and save it again"
        )
    more = left_over(tensors, keys, prefix)
    first = missing[0] if missing else "none"
    head = (
        f"nearest: {layout.name}, {share:.0%} of its key names; {len(missing)} missing, "
        f"first {first}; {len(more)} in its modules that it has not"
    )
    if share < _NEAR:
        return share, "\n".join(_own_keys(tensors, f"{layout.name}, {share:.0%} of its key names"))
    unexpected = [f"{name} {tensors[name].shape}" for name in more]
    lines = [head, *_lines("missing", missing), *_lines("not in it", unexpected)]
    return share, "\n".join(lines)


def _own_keys(tensors: Mapping[str, FloatArray], nearest_one: str) -> Iterator[str]:
    names = [name for name in tensors if not _NO_WEIGHT.search(name)]
    yield f"no known layout is near (nearest: {nearest_one}); the file has {len(names)} tensors:"
    shown = names if len(names) <= 2 * _SHOWN else [*names[:_SHOWN], "…", *names[-_SHOWN:]]
    for name in shown:
        yield f"  {name} {tensors[name].shape}" if name in tensors else f"  {name}"
    yield "  see docs/adding-a-backbone.md: --arch PACKAGE.MODULE:FACTORY, or a layout of your own"


def _lines(kind: str, names: Sequence[str]) -> Iterator[str]:
    for name in names[:_SHOWN]:
        yield f"  {kind:<10}{name}"
    if len(names) > _SHOWN:
        yield f"  {kind:<10}… and {len(names) - _SHOWN} more"


def left_over(tensors: Mapping[str, FloatArray], keys: Sequence[str], prefix: str) -> list[str]:
    """Return the names of tensors under ``prefix`` that belong to modules of ``keys``, not to them.

    The module is the first part of a key; what has no other part stands alone.
    """
    known = frozenset(keys)
    modules = {key.partition(".")[0] for key in keys if "." in key}
    return [
        name
        for name in tensors
        if name.startswith(prefix)
        and (key := name[len(prefix) :]) not in known
        and key.partition(".")[0] in modules
        and not _NO_WEIGHT.search(key)
    ]
