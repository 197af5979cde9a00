"""The one place where the stages are put together."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

import numpy as np

from edgeface.backends import open_backend
from edgeface.bundle import Bundle, Manifest
from edgeface.camera import FrameSource, SourceOptions, open_source, read_image, to_rgb
from edgeface.decision import DecisionOptions
from edgeface.detection import AutoRangeDetector, MediaPipeLandmarkFinder
from edgeface.embedding import FaceEmbedder
from edgeface.errors import EnrolmentError, SubjectNotFoundError
from edgeface.gallery import (
    Consent,
    EnrolmentRecord,
    Gallery,
    InMemoryGallery,
    KeyOptions,
    SqliteGallery,
)
from edgeface.pipeline.comparing import Comparer
from edgeface.pipeline.enrolment import EnrolmentReport, RejectedImage, require_one_person
from edgeface.pipeline.finding import FaceFinder, StageTimer
from edgeface.pipeline.group import StreamGroup
from edgeface.pipeline.interest import ComparisonBudget
from edgeface.pipeline.references import Reference, cut_reference, require_same_as_stored
from edgeface.pipeline.stream import FrameResult, Stream, StreamOptions, StreamParts
from edgeface.pipeline.visits import VisitBook
from edgeface.quality import QualityGateOptions
from edgeface.types import (
    Event,
    Frame,
    ImageArray,
    Observation,
    OperatingPoint,
    RejectionReason,
    Template,
)

__all__ = ["Image", "Recognizer", "RecognizerOptions"]

Image: TypeAlias = "str | os.PathLike[str] | ImageArray | Frame"
"""A picture: a file, an (height, width, 3) uint8 RGB array, or a frame."""

Source: TypeAlias = "int | str | os.PathLike[str] | FrameSource"
"""A webcam number, an address, a video file, a picture, a folder, or an opened source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognizerOptions:
    """How to recognise.

    ``backend`` and ``artefact`` are names or ``auto``; ``threads`` bounds the engine's threads.
    ``target_fmr`` picks the operating point: 1e-4, one false match in 10,000 comparisons, is the
    most that NIST SP 800-63B-4 allows. ``watch_quality`` gates faces of streams and probes,
    ``enrol_quality`` those of references. ``stream`` says how often a stream is searched and its
    faces compared; ``StreamOptions.every_frame()`` spares nothing. ``gallery_keys`` says where the
    key of a gallery file may be kept.
    """

    backend: str = "auto"
    artefact: str = "auto"
    threads: int | None = None
    target_fmr: float = 1e-4
    max_faces: int = 20
    watch_quality: QualityGateOptions = field(default_factory=QualityGateOptions.watch)
    enrol_quality: QualityGateOptions = field(default_factory=QualityGateOptions.enrolment)
    decision: DecisionOptions = field(default_factory=DecisionOptions)
    camera: SourceOptions = field(default_factory=SourceOptions)
    stream: StreamOptions = field(default_factory=StreamOptions)
    gallery_keys: KeyOptions = field(default_factory=KeyOptions)


class Recognizer:
    """Enrols people and identifies them in pictures and streams.

    Made by :meth:`open`; the constructor takes the parts, for tests and for other detectors,
    engines or galleries. Not for use from several threads at once.
    """

    def __init__(
        self,
        *,
        manifest: Manifest,
        finder: FaceFinder,
        embedder: FaceEmbedder,
        gallery: Gallery,
        operating_point: OperatingPoint,
        options: RecognizerOptions | None = None,
    ) -> None:
        self.manifest = manifest
        self.gallery = gallery
        self.operating_point = operating_point
        self._finder = finder
        self._embedder = embedder
        self._options = options or RecognizerOptions()
        margin = self._options.decision.margin
        self._comparer = Comparer(embedder, gallery, operating_point, margin)

    @classmethod
    def open(
        cls,
        bundle: str | os.PathLike[str],
        gallery: str | os.PathLike[str] | None = None,
        *,
        options: RecognizerOptions | None = None,
    ) -> Recognizer:
        """Return a recogniser for the bundle and the gallery file at these paths.

        The gallery is made when it does not exist; without one, people are kept in memory only.

        Raises:
            BundleError: The bundle is damaged or not one.
            GalleryError: The gallery is damaged, not one, or belongs to another model; or its key
                is not at hand.
            OperatingPointError: The bundle has no operating point as strict as asked.
            AssetError: A model of the detector is not at hand; ``edgeface assets fetch`` gets it.
            MissingDependencyError: An engine or MediaPipe is not installed.
        """
        options = options or RecognizerOptions()
        opened = Bundle.open(bundle)
        manifest = opened.manifest
        backend = open_backend(
            opened, backend=options.backend, artefact=options.artefact, threads=options.threads
        )
        point = opened.operating_point(backend.artefact, target_fmr=options.target_fmr)
        people = _open_gallery(gallery, manifest, options.gallery_keys)
        detector = AutoRangeDetector()
        finder = FaceFinder(
            detector,
            MediaPipeLandmarkFinder(),
            template=manifest.alignment_template,
            max_faces=options.max_faces,
            scanner=detector.scanner,
        )
        return cls(
            manifest=manifest,
            finder=finder,
            embedder=FaceEmbedder(backend, manifest),
            gallery=people,
            operating_point=point,
            options=options,
        )

    @property
    def description(self) -> str:
        """One line about the model, the engine and the operating point, for people and logs."""
        point, backend = self.operating_point, self._embedder.backend
        kind = "provisional " if point.provisional else ""
        return (
            f"{self.manifest.name} ({backend.artefact} on {backend.name}), "
            f"{kind}threshold {point.threshold:.3f} for FMR {point.target_fmr:g}"
        )

    def identify(self, image: Image) -> list[Observation]:
        """Return every face of ``image``, the largest first: who it is, or why that is not said.

        Raises:
            CameraError: The file cannot be read as a picture.
            InvalidInputError: The array is no picture.
        """
        timer = StageTimer()
        faces = self._finder.find(_as_frame(image), self._options.watch_quality, timer=timer)
        return [
            Observation(face.detection, comparison.result, face.quality, face.landmarks)
            for face, comparison in zip(faces, self._comparer.compare(faces, timer), strict=True)
        ]

    def enrol(
        self,
        subject: str,
        images: Sequence[Image],
        *,
        extend: bool = False,
        allow_duplicate: bool = False,
        consent: Consent | None = None,
    ) -> EnrolmentReport:
        """Store ``subject`` from ``images``, each showing that one person; return what was taken.

        An image with no face, several faces, or a face of poor quality is left out and reported.
        ``extend`` adds to a subject enrolled before. ``allow_duplicate`` stores a person who is
        already enrolled under another name. ``consent`` is kept with the person, and decides
        whether the faces are kept for later models.

        Raises:
            EnrolmentError: No image is usable, they show different people, or the person is
                enrolled under another name. Nothing is stored then.
            GalleryError: The gallery refuses the name or the templates.
        """
        names: list[str] = []
        references: list[Reference] = []
        rejected: list[RejectedImage] = []
        for number, image in enumerate(images, start=1):
            name = str(image) if isinstance(image, str | os.PathLike) else f"image {number}"
            found = self._reference(image)
            if isinstance(found, Reference):
                names.append(name)
                references.append(found)
            else:
                rejected.append(RejectedImage(name, found))
        templates = [reference.template for reference in references]
        if not templates:
            sentences = tuple(entry.sentence for entry in rejected)
            detail = "; ".join(sentences) or "no image was given"
            raise EnrolmentError(f"no usable image of {subject}: {detail}", reasons=sentences)
        require_one_person(names, templates, self.operating_point)
        if extend:
            self._require_same_as_stored(subject, names, templates)
        if not allow_duplicate:
            self._refuse_duplicate(subject, templates)
        keep = consent is not None and consent.keep_crops
        record = EnrolmentRecord(
            consent=consent,
            artefact=self._embedder.backend.artefact,
            crops=[reference.crop for reference in references] if keep else (),
        )
        self.gallery.add(subject, templates, extend=extend, record=record)
        return EnrolmentReport(subject, tuple(names), tuple(rejected))

    def stream(self, source: FrameSource) -> Stream:
        """Return the state of one run over ``source``, to be given its frames one by one."""
        options = self._options.stream
        return self._stream(source, ComparisonBudget(options.comparison), VisitBook(options.visits))

    def group(self, sources: Sequence[Source]) -> StreamGroup:
        """Return the run over several sources together; close it, or use it in a ``with``.

        They share this recogniser, the budget for comparisons and the visits: a subject whom two
        cameras see has arrived once.

        Raises:
            CameraError: A source cannot be opened; none is left open then.
        """
        options = self._options.stream
        budget, visits = ComparisonBudget(options.comparison), VisitBook(options.visits)
        opened: list[FrameSource] = []
        try:
            opened.extend(_as_source(source, self._options.camera) for source in sources)
        except BaseException:
            for source in opened:
                source.close()
            raise
        streams = [self._stream(source, budget, visits) for source in opened]
        return StreamGroup(opened, streams, self._comparer)

    def observe(self, source: Source) -> Iterator[FrameResult]:
        """Yield every frame of ``source`` with what was seen in it.

        Raises:
            CameraError: The source cannot be opened, or fails for good.
        """
        with _as_source(source, self._options.camera) as frames:
            stream = self.stream(frames)
            for frame in frames:
                yield stream.process(frame)

    def watch(self, source: Source) -> Iterator[Event]:
        """Yield what happens in ``source``: somebody appears, is identified, leaves.

        Raises:
            CameraError: The source cannot be opened, or fails for good.
        """
        with _as_source(source, self._options.camera) as frames:
            stream = self.stream(frames)
            for frame in frames:
                yield from stream.process(frame).events
            yield from stream.finish()

    def watch_many(self, sources: Sequence[Source]) -> Iterator[Event]:
        """Yield what happens in any of ``sources``; ``Event.source`` says in which.

        A source that fails ends alone; the others go on.

        Raises:
            CameraError: A source cannot be opened, or all of them failed.
        """
        with self.group(sources) as group:
            for result in group:
                yield from result.events
            yield from group.finish()

    def close(self) -> None:
        """Free the models and the gallery; may be called twice."""
        self._finder.close()
        self._embedder.backend.close()
        self.gallery.close()

    def __enter__(self) -> Recognizer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _stream(self, source: FrameSource, budget: ComparisonBudget, visits: VisitBook) -> Stream:
        stills = source.fps is None and not source.is_live
        finder, options = self._finder, self._options
        parts = StreamParts(
            finder=finder,
            comparer=self._comparer,
            scanner=finder.whole_scanner() if stills else finder.scanner(options.stream.scan),
            quality=options.watch_quality,
            budget=budget,
            visits=visits,
        )
        return Stream(parts, options.stream, options.decision, stills=stills)

    def _reference(self, image: Image) -> Reference | tuple[RejectionReason, ...]:
        frame = _as_frame(image)
        faces = self._finder.find(frame, self._options.enrol_quality)
        if not faces:
            return (RejectionReason.NO_FACE,)
        if len(faces) > 1:
            return (RejectionReason.SEVERAL_FACES,)
        (template,) = self._comparer.templates(faces)
        landmarks = faces[0].landmarks
        if template is None or landmarks is None:
            return faces[0].reasons or (RejectionReason.EMBEDDING_INVALID,)
        return Reference(template, cut_reference(frame, landmarks.points_px))

    def _require_same_as_stored(
        self, subject: str, names: Sequence[str], templates: Sequence[Template]
    ) -> None:
        try:
            stored = self.gallery.templates(subject)
        except SubjectNotFoundError:
            return
        require_same_as_stored(names, templates, stored, self.operating_point)

    def _refuse_duplicate(self, subject: str, templates: Sequence[Template]) -> None:
        for candidates in self.gallery.search_many(templates):
            for entry in candidates:
                if entry.subject != subject and self.operating_point.accepts(entry.score):
                    raise EnrolmentError(
                        f"this person is already enrolled as {entry.subject} (similarity "
                        f"{entry.score:.2f}); add the images there, or allow a duplicate"
                    )


def _open_gallery(
    path: str | os.PathLike[str] | None, manifest: Manifest, keys: KeyOptions
) -> Gallery:
    model_id, size = manifest.model_id, manifest.embedding_size
    if path is None:
        return InMemoryGallery(model_id=model_id, embedding_size=size)
    return SqliteGallery.open(Path(path), model_id=model_id, embedding_size=size, keys=keys)


def _as_frame(image: Image) -> Frame:
    if isinstance(image, Frame):
        return image
    if isinstance(image, np.ndarray):
        return Frame(to_rgb(image))
    return read_image(image)


def _as_source(source: Source, options: SourceOptions) -> FrameSource:
    if isinstance(source, int | str | os.PathLike):
        return open_source(source, options=options)
    return source
