"""The activation set of ``edgeface export``: which one it is, and its crops."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgeface.cli.console import note, progress
from edgeface.cli.labelled_pairs import crop_source
from edgeface.cli.needs import need_cpu

if TYPE_CHECKING:
    from edgeface_calibration.activation_set import ActivationSet
    from edgeface_export.architectures.network import Network
    from edgeface_export.crop_sets import ActivationCrops, CropLoader

__all__ = ["chosen_activation_set"]


def chosen_activation_set(folder: Path | None, *, int8: bool, data_free: bool) -> CropLoader | None:
    """Return what loads ``folder``, or the user's own default set; None for no set.

    Which one was taken is printed.
    """
    if folder is not None and data_free:
        raise typer.BadParameter("leave out --activation-set or --data-free")
    if folder is not None and not int8:
        raise typer.BadParameter("an activation set is for --int8", param_hint="--activation-set")
    if not int8:
        return None
    if folder is None and not data_free:
        from edgeface_calibration.activation_set import default_activation_set

        folder = default_activation_set()
        if folder is not None:
            note(f"activation set: {folder}, your own; --data-free leaves it out")
    if folder is None:
        note(
            "activation set: none, INT8 ranges come from built-in synthetic faces, or for crops "
            "of other sizes from the network's own statistics"
        )
        return None
    need_cpu()
    return _loader(folder)


def _loader(folder: Path) -> CropLoader:
    """Return a function that loads the activation set by the runtime's own detection."""

    def load(network: Network) -> ActivationCrops:
        from edgeface_calibration.activation_set import load_activation_set
        from edgeface_export.crop_sets import ActivationCrops

        with crop_source(None, folder, network.alignment_template) as source:
            loaded = load_activation_set(folder, source, progress=_bar)
        for line in loaded.notes:
            note(line)
        return ActivationCrops(loaded.crops, _facts(folder, loaded))

    return load


def _facts(folder: Path, loaded: ActivationSet) -> dict[str, Any]:
    """Return what the report says of the set; neither a path nor a name of a source."""
    from edgeface_calibration.activation_set_coverage import cover
    from edgeface_calibration.activation_set_store import StoredActivationSet, is_activation_set

    refused = dict(loaded.refused)
    if not is_activation_set(folder):
        return {"taken_from": "a folder of photos", "images_left_out": refused}
    covered = cover(StoredActivationSet.open(folder))
    spread = {
        name: {"p10": round(of.p10, 3), "median": round(of.median, 3), "p90": round(of.p90, 3)}
        for name, of in covered.measures.items()
    }
    return {
        "taken_from": "a collected set",
        "sources": dict(covered.source_kinds),
        "images_left_out": refused,
        "near_duplicates": covered.near_duplicates,
        **spread,
        "verdict": covered.sentence,
        "thin": "; ".join(covered.thin),
    }


def _bar(label: str, items: Iterable[Any]) -> Iterable[Any]:
    with progress(label, items) as bar:
        yield from bar
