"""Images with the people in them, and their embeddings: what thresholds are found from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeface.backends import open_backend
from edgeface.bundle import Bundle
from edgeface.embedding import FaceEmbedder
from edgeface.errors import GateFailedError, InvalidInputError
from edgeface.types import FloatArray, ImageArray
from edgeface_calibration.crops import CropSource
from edgeface_calibration.identification import LabelledRows
from edgeface_calibration.pairs import PairProtocol, image_files
from edgeface_calibration.progress import Progress, silent

__all__ = ["LabelledImage", "embed_people", "gallery_people", "images_of_folder", "images_of_pairs"]

# Crops in memory at once: 5 MB at 112x112.
_BATCH = 128


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """A picture of ``person``; ``folder`` is the one that landmarks are written relative to."""

    path: Path
    person: str
    folder: Path


def images_of_folder(folder: str | os.PathLike[str]) -> list[LabelledImage]:
    """Return the pictures of a labelled folder: one sub-folder for each person.

    Raises:
        InvalidInputError: There is no such folder, or no picture in a sub-folder.
    """
    top = Path(folder)
    found = [
        LabelledImage(path, path.relative_to(top).parts[0], top)
        for path in image_files(top)
        if len(path.relative_to(top).parts) > 1
    ]
    if not found:
        raise InvalidInputError(
            f"{top} must have a sub-folder of pictures for each person, there is none"
        )
    return found


def images_of_pairs(protocol: PairProtocol) -> list[LabelledImage]:
    """Return the pictures that the pairs of ``protocol`` name.

    Raises:
        InvalidInputError: The list of pairs does not say who is in the pictures: two pictures that
            no pair joins may be of one person.
    """
    if protocol.subjects is None:
        raise InvalidInputError(
            f"{protocol.name} says which pictures are of one person, not who everyone is, so that "
            "nobody knows who is a stranger to whom; give a labelled folder, or LFW's format"
        )
    return [
        LabelledImage(protocol.images / name, protocol.subjects[name], protocol.images)
        for name in protocol.image_names
    ]


def embed_people(
    bundle: Bundle,
    images: Sequence[LabelledImage],
    sources: Callable[[Path], CropSource],
    *,
    artefacts: Sequence[str] | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> tuple[dict[str, LabelledRows], tuple[str, ...]]:
    """Return the embeddings by artefact, and the pictures in which no face was found.

    A picture is cropped once and given to every artefact.

    Args:
        bundle: The bundle.
        images: The pictures.
        sources: Gives the source of crops for a folder of :class:`LabelledImage`.
        artefacts: Which artefacts; None: all.
        threads: Threads of the engine.
        progress: Shows how far it is.

    Raises:
        BundleFormatError: The bundle has no such artefact.
        BackendError: An artefact cannot be loaded or run.
        CameraError: A picture cannot be read.
        GateFailedError: An artefact gives no usable embedding.
    """
    names = list(dict.fromkeys(artefacts or [entry.name for entry in bundle.manifest.artefacts]))
    missing: list[str] = []
    people: list[str] = []
    rows: dict[str, list[FloatArray]] = {name: [] for name in names}
    with ExitStack() as stack:
        embedders = [_opened(stack, bundle, name, threads) for name in names]
        for crops, of in _crops(images, sources, missing, progress):
            people += of
            for name, embedder in zip(names, embedders, strict=True):
                rows[name].append(embedder.embed_arrays(crops))
    empty = np.empty((0, bundle.manifest.embedding_size), np.float32)
    labelled = {
        name: LabelledRows.of(np.concatenate([empty, *parts]), people)
        for name, parts in rows.items()
    }
    for name, entry in labelled.items():
        if people and not len(entry.rows):
            raise GateFailedError(
                f"artefact {name!r} gives no usable embedding of {len(people)} faces; export the "
                "model again"
            )
    return labelled, tuple(missing)


def gallery_people(templates: Iterable[tuple[str, Sequence[FloatArray]]]) -> LabelledRows:
    """Return the templates of a gallery as faces: each person with their (d,) vectors.

    Enrolled faces were chosen to be good, and those of one person were often taken at once: rates
    of missing somebody that are found from them are better than those of the door.

    Raises:
        InvalidInputError: There is no template.
    """
    names: list[str] = []
    rows: list[FloatArray] = []
    for name, vectors in templates:
        names += [name] * len(vectors)
        rows += vectors
    if not rows:
        raise InvalidInputError("the gallery holds no template; enrol people first")
    return LabelledRows.of(np.stack(rows), names)


def _opened(stack: ExitStack, bundle: Bundle, name: str, threads: int | None) -> FaceEmbedder:
    backend = stack.enter_context(closing(open_backend(bundle, artefact=name, threads=threads)))
    return FaceEmbedder(backend, bundle.manifest)


def _crops(
    images: Sequence[LabelledImage],
    sources: Callable[[Path], CropSource],
    missing: list[str],
    progress: Progress,
) -> Iterable[tuple[list[ImageArray], list[str]]]:
    """Give crops and the people in them, in batches; pictures without a face go to ``missing``."""
    crops: list[ImageArray] = []
    people: list[str] = []
    for image in progress("embedding", images):
        face = sources(image.folder).crop(image.path)
        if face is None:
            missing.append(str(image.path.relative_to(image.folder)))
            continue
        crops.append(face.pixels)
        people.append(image.person)
        if len(crops) == _BATCH:
            yield crops, people
            crops, people = [], []
    if crops:
        yield crops, people
