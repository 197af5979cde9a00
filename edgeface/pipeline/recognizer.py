"""The one place where the stages are put together."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from types import TracebackType

from edgeface.backends import open_backend
from edgeface.bundle import Bundle, Manifest
from edgeface.camera import FrameSource, LiveSource
from edgeface.decision import DecisionOptions
from edgeface.detection import AutoRangeDetector, MediaPipeLandmarkFinder
from edgeface.embedding import FaceEmbedder
from edgeface.errors import EnrolmentError, SubjectNotFoundError
from edgeface.gallery import (
    Consent,
    EnrolmentRecord,
    Gallery,
)
from edgeface.operating_points import chosen_for_gallery, outgrown
from edgeface.pipeline.comparing import Comparer, Comparison
from edgeface.pipeline.enrolment import EnrolmentReport, RejectedImage, require_one_person
from edgeface.pipeline.finding import FaceFinder, FoundFace, StageTimer
from edgeface.pipeline.group import StreamGroup
from edgeface.pipeline.interest import ComparisonBudget
from edgeface.pipeline.opening import (
    Image,
    RecognizerOptions,
    Source,
    as_frame,
    as_source,
    open_gallery,
    open_pad,
    operating_point_for,
)
from edgeface.pipeline.pad_gate import PadGate, gated
from edgeface.pipeline.references import (
    Reference,
    cut_reference,
    reference_template,
    require_same_as_stored,
)
from edgeface.pipeline.stream import FrameResult, Stream, StreamParts
from edgeface.pipeline.visits import VisitBook
from edgeface.types import (
    Event,
    Frame,
    Observation,
    OperatingPoint,
    Outcome,
    RejectionReason,
    Template,
)

__all__ = ["Image", "Recognizer", "RecognizerOptions"]


class Recognizer:
    """Enrols people and identifies them in pictures and streams.

    Made by :meth:`open`; the constructor takes the parts, for tests and for other detectors,
    engines or galleries. Not for use from several threads at once.
    """

    def __init__(  # noqa: PLR0913 - the parts, one each
        self,
        *,
        manifest: Manifest,
        finder: FaceFinder,
        embedder: FaceEmbedder,
        gallery: Gallery,
        operating_point: OperatingPoint,
        options: RecognizerOptions | None = None,
        pad: PadGate | None = None,
    ) -> None:
        self.manifest = manifest
        self.gallery = gallery
        self.operating_point = operating_point
        self._finder = finder
        self._embedder = embedder
        self._pad = pad
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
            OperatingPointError: The bundle has no operating point as strict as asked, or none that
                covers so many enrolled people.
            AssetError: A model of the detector is not at hand; ``edgeface assets fetch`` gets it.
            MissingDependencyError: An engine or MediaPipe is not installed.
        """
        options = options or RecognizerOptions()
        opened = Bundle.open(bundle, trusted_keys=options.trusted_keys)
        manifest = opened.manifest
        backend = open_backend(
            opened, backend=options.backend, artefact=options.artefact, threads=options.threads
        )
        people = open_gallery(gallery, manifest, options.gallery_keys, options.search)
        point = operating_point_for(opened, backend.artefact, people, options)
        detector = AutoRangeDetector()
        landmark_finder = MediaPipeLandmarkFinder()
        finder = FaceFinder(
            detector,
            landmark_finder,
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
            pad=open_pad(options, landmark_finder),
        )

    @property
    def decision_options(self) -> DecisionOptions:
        """How much evidence a track needs."""
        return self._options.decision

    @property
    def operating_point_limits(self) -> str | None:
        """Why the operating point does not hold for as many people as are enrolled, in words.

        None where it does.
        """
        return outgrown(self.operating_point, self.gallery.subject_count)

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
        self._refit()
        timer, frame = StageTimer(), as_frame(image)
        faces = self._finder.find(frame, self._options.watch_quality, timer=timer)
        comparisons = self._comparer.compare(faces, timer)
        return [
            self._observed(frame, face, comparison)
            for face, comparison in zip(faces, comparisons, strict=True)
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

        An image with no face, several faces, or a face of poor quality is left out and reported;
        so is one that shows another person than the rest, where at least three others agree.
        ``extend`` adds to a subject enrolled before. ``allow_duplicate`` stores a person who is
        already enrolled under another name. ``consent`` is kept with the person, and decides
        whether the faces are kept for later models.

        Raises:
            EnrolmentError: No image is usable, they show different people, or the person is
                enrolled under another name. Nothing is stored then.
            GalleryError: The gallery refuses the name or the templates.
            OperatingPointError: No operating point keeps ``target_fpir`` with one person more.
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
        for k in reversed(require_one_person(names, templates, self.operating_point)):
            # One stray picture must not cost the enrolment; the report names it.
            odd = RejectedImage(names.pop(k), (RejectionReason.NOT_LIKE_THE_OTHERS,))
            rejected.append(odd)
            del references[k], templates[k]
        stored = self._stored(subject)
        if extend:
            require_same_as_stored(names, templates, stored, self.operating_point)
        # Before anything is stored: a gallery must not outgrow its thresholds.
        self._fitted(self.gallery.subject_count + (not stored))
        if not allow_duplicate:
            self._refuse_duplicate(subject, templates)
        keep = consent is not None and consent.keep_crops
        record = EnrolmentRecord(
            consent=consent,
            artefact=self._embedder.backend.artefact,
            crops=[reference.crop for reference in references] if keep else (),
        )
        self.gallery.add(subject, templates, extend=extend, record=record)
        self._refit()
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
            opened.extend(as_source(source, self._options.camera) for source in sources)
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
        with as_source(source, self._options.camera) as frames:
            stream = self.stream(frames)
            for frame in frames:
                yield stream.process(frame)

    def watch(self, source: Source) -> Iterator[Event]:
        """Yield what happens in ``source``: somebody appears, is identified, leaves.

        Raises:
            CameraError: The source cannot be opened, or fails for good.
        """
        with as_source(source, self._options.camera) as frames:
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
        if self._pad is not None:
            self._pad.close()

    def __enter__(self) -> Recognizer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _refit(self) -> None:
        """Take the operating point that covers as many people as are enrolled now."""
        if self._options.target_fpir is not None:
            point = self._fitted(self.gallery.subject_count)
            self.operating_point = self._comparer.point = point

    def _fitted(self, gallery_size: int) -> OperatingPoint:
        """Return the operating point for so many people."""
        target = self._options.target_fpir
        if target is None:
            return self.operating_point
        points, artefact = self.manifest.operating_points, self._embedder.backend.artefact
        return chosen_for_gallery(points, artefact, target_fpir=target, gallery_size=gallery_size)

    def _stream(self, source: FrameSource, budget: ComparisonBudget, visits: VisitBook) -> Stream:
        self._refit()
        stills = source.fps is None and not source.is_live
        finder, options = self._finder, self._options
        parts = StreamParts(
            finder=finder,
            comparer=self._comparer,
            scanner=finder.whole_scanner() if stills else finder.scanner(options.stream.scan),
            quality=options.watch_quality,
            budget=budget,
            visits=visits,
            pad=self._pad,
            is_usable=partial(_is_usable, source) if isinstance(source, LiveSource) else None,
            pad_budget=None if self._pad is None else self._pad.budget(),
        )
        return Stream(parts, options.stream, options.decision, stills=stills)

    def _observed(self, frame: Frame, face: FoundFace, comparison: Comparison) -> Observation:
        """Return what a picture that stands alone shows of one face."""
        result, pad = comparison.result, None
        if self._pad is not None and result.outcome in (Outcome.KNOWN, Outcome.AMBIGUOUS):
            pad = self._pad.judge(frame, face.detection)
            result = gated(result, pad)
        return Observation(face.detection, result, face.quality, face.landmarks, pad=pad)

    def _reference(self, image: Image) -> Reference | tuple[RejectionReason, ...]:
        frame = as_frame(image)
        faces = self._finder.find(frame, self._options.enrol_quality)
        if not faces:
            return (RejectionReason.NO_FACE,)
        if len(faces) > 1:
            return (RejectionReason.SEVERAL_FACES,)
        template = reference_template(self._comparer, faces[0])
        landmarks = faces[0].landmarks
        if template is None or landmarks is None:
            return faces[0].reasons or (RejectionReason.EMBEDDING_INVALID,)
        return Reference(template, cut_reference(frame, landmarks.points_px))

    def _stored(self, subject: str) -> list[Template]:
        try:
            return self.gallery.templates(subject)
        except SubjectNotFoundError:
            return []

    def _refuse_duplicate(self, subject: str, templates: Sequence[Template]) -> None:
        for candidates in self.gallery.search_many(templates):
            for entry in candidates:
                if entry.subject != subject and self.operating_point.accepts(entry.score):
                    raise EnrolmentError(
                        f"this person is already enrolled as {entry.subject} (similarity "
                        f"{entry.score:.2f}); add the images there, or allow a duplicate"
                    )


def _is_usable(source: LiveSource) -> bool:
    return source.health().is_usable
