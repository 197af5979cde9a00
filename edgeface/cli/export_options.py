"""The options of ``edgeface export``; what the limits of its gates bound is in their help."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

__all__ = [
    "ActivationSetOption",
    "DataFreeOption",
    "DiscoverImagesOption",
    "DiscoverLandmarksOption",
    "DiscoverOption",
    "FileArgument",
    "FlipOption",
    "FoldsOption",
    "ForceOption",
    "ImagesOption",
    "Int8OnlyOption",
    "Int8Option",
    "LandmarksOption",
    "LossOption",
    "MaxColourRatio",
    "MaxFirstLayerDistance",
    "MaxMeanScore",
    "MaxMeanScoreRise",
    "MaxPairChange",
    "MaxParityDifference",
    "MaxStatisticsDistance",
    "MaxTarLoss",
    "MinCosineMean",
    "MinCosineP1",
    "MinEffectiveDimension",
    "OutputOption",
    "PairsOption",
    "PreprocessingOption",
    "RangesOption",
    "ReportOption",
    "given",
]

_PANEL = "Gates"
_FACTS = "Facts about the model"
_PAIRS = "Labelled pairs"

FileArgument: TypeAlias = Annotated[
    Path, typer.Argument(help="Checkpoint of a trained face backbone.")
]
Int8Option: TypeAlias = Annotated[bool, typer.Option("--int8", help="Add an INT8 artefact.")]
Int8OnlyOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--int8-only",
        help="With --int8: leave the float artefacts out, for a bundle of a quarter of the size.",
    ),
]
ActivationSetOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Collected set, or folder of photos of at least 100 faces, that sets the INT8 ranges "
        "[your own collected set]."
    ),
]
DataFreeOption: TypeAlias = Annotated[
    bool, typer.Option("--data-free", help="Leave your own set out; take synthetic faces.")
]
OutputOption: TypeAlias = Annotated[
    Path | None, typer.Option("--output", "-o", help="Bundle to write [FILE's name.edgeface].")
]
RangesOption: TypeAlias = Annotated[
    str,
    typer.Option(
        help="How pictures set ranges: minmax, percentile, mse, entropy, or of these the best for "
        "each tensor, auto."
    ),
]
ReportOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="PAGE.html",
        help="Where the report of a failed export goes, and JSON beside it "
        "[NAME.failed-report.html beside the bundle].",
    ),
]
ForceOption: TypeAlias = Annotated[bool, typer.Option("--force", help="Replace a bundle there.")]

PreprocessingOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="ORDER:MEAN/SCALE",
        help="What the trainer did to a crop, such as rgb:127.5/128, bgr:imagenet or rgb:0/255 "
        "[that of the recognised trainer].",
        rich_help_panel=_FACTS,
    ),
]
LossOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Loss of the training, such as arcface or triplet [what the checkpoint tells].",
        rich_help_panel=_FACTS,
    ),
]
FlipOption: TypeAlias = Annotated[
    str,
    typer.Option(
        help="Embed the mirrored crop too, in the graph: none, sum, or concatenate. Takes twice "
        "the time.",
        rich_help_panel=_FACTS,
    ),
]
DiscoverOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Find the preprocessing out by measurement: a folder of photos for each person, or a "
        "list of pairs; 200 faces or more.",
        rich_help_panel=_FACTS,
    ),
]
DiscoverImagesOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Folder that the images of a list of pairs given to --discover are in [the list's].",
        rich_help_panel=_FACTS,
    ),
]
DiscoverLandmarksOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Five points for each image of --discover. Without it faces are detected.",
        rich_help_panel=_FACTS,
    ),
]

PairsOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="LFW pairs.txt, or CSV image_a,image_b,same, to measure every artefact on and to fit "
        "the operating points to. Without it each sub-folder of --images is one person.",
        rich_help_panel=_PAIRS,
    ),
]
ImagesOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="Folder of the images that the pairs name.", rich_help_panel=_PAIRS),
]
LandmarksOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Five points for each image: name and ten numbers. Without it faces are detected.",
        rich_help_panel=_PAIRS,
    ),
]
FoldsOption: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Folds of pairs.txt, such as 1-5; all by default.", rich_help_panel=_PAIRS),
]

# Defaults are those of edgeface_export.gate_limits, which a test compares with these words.
MaxParityDifference: TypeAlias = Annotated[
    float | None,
    typer.Option(
        help="Largest difference of a value of an embedding to the checkpoint [1e-05].",
        rich_help_panel=_PANEL,
    ),
]
MaxStatisticsDistance: TypeAlias = Annotated[
    float | None,
    typer.Option(
        help="Largest distance of the activation set to what the model was trained on, in nats "
        "[0.3].",
        rich_help_panel=_PANEL,
    ),
]
MaxFirstLayerDistance: TypeAlias = Annotated[
    float | None,
    typer.Option(
        help="The same of the first layer, where a wrong preprocessing shows [0.5].",
        rich_help_panel=_PANEL,
    ),
]
MaxColourRatio: TypeAlias = Annotated[
    float | None,
    typer.Option(
        help="How much worse than with red and blue exchanged the colours may fit [2].",
        rich_help_panel=_PANEL,
    ),
]
MinCosineMean: TypeAlias = Annotated[
    float | None,
    typer.Option(
        help="Least mean cosine of INT8 to float embeddings [0.99; data-free 0.993].",
        rich_help_panel=_PANEL,
    ),
]
MinCosineP1: TypeAlias = Annotated[
    float | None,
    typer.Option(
        help="The same of the worst hundredth of the crops [0.98; data-free 0.983].",
        rich_help_panel=_PANEL,
    ),
]
MaxPairChange: TypeAlias = Annotated[
    float | None,
    typer.Option(
        help="Largest change of a pair's score by INT8, for 99 % of the pairs [0.08].",
        rich_help_panel=_PANEL,
    ),
]
MaxMeanScore: TypeAlias = Annotated[
    float | None,
    typer.Option(help="Largest mean score of different faces [0.9].", rich_help_panel=_PANEL),
]
MaxMeanScoreRise: TypeAlias = Annotated[
    float | None,
    typer.Option(help="Largest rise of that score by INT8 [0.05].", rich_help_panel=_PANEL),
]
MinEffectiveDimension: TypeAlias = Annotated[
    float | None,
    typer.Option(
        help="Fewest directions that embeddings of different faces make use of [4].",
        rich_help_panel=_PANEL,
    ),
]
MaxTarLoss: TypeAlias = Annotated[
    float | None,
    typer.Option(
        help="Largest loss of TAR by INT8 at FMR 1e-2 and 1e-3, on --pairs [0.02].",
        rich_help_panel=_PANEL,
    ),
]


# The limit that each option sets, by the option's name.
_LIMITS = {
    "max_parity_difference": "max_parity_difference",
    "max_statistics_distance": "max_statistics_distance",
    "max_first_layer_distance": "max_first_layer_distance",
    "max_colour_ratio": "max_colour_ratio",
    "min_cosine_mean": "min_cosine_mean",
    "min_cosine_p1": "min_cosine_p1",
    "max_pair_change": "max_pair_change_p99",
    "max_mean_score": "max_mean_score",
    "max_mean_score_rise": "max_mean_score_rise",
    "min_effective_dimension": "min_effective_dimension",
    "max_tar_loss": "max_tar_loss",
}


def given(options: Mapping[str, Any]) -> dict[str, float]:
    """Return the limits that were typed, by name, out of all options of the command."""
    return {
        limit: float(options[name]) for name, limit in _LIMITS.items() if options[name] is not None
    }
