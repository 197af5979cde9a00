"""Each stage run once, for real; every function is called in a process of its own.

Arguments and results are JSON values and findings: see :mod:`edgeface.doctor.child`.
"""

from __future__ import annotations

import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeface.doctor.findings import Finding, fault, ok, skipped, warning
from edgeface.errors import AssetError, BackendError, CameraError, MissingDependencyError
from edgeface.types import FloatArray, Frame, ImageArray, Size

if TYPE_CHECKING:
    from edgeface.bundle import Bundle
    from edgeface.camera import FrameSource, LiveSource

__all__ = ["camera", "detector", "engines", "imports", "synthetic_picture"]

# The synthetic face that the detector is surest of, in a grey picture of VGA size.
_FACE_NUMBER, _FACE_PX, _PICTURE = 18, 224, Size(640, 480)
_GREY = 128
_CAMERA_SECONDS, _MAX_FRAMES = 3.0, 60
# As the quality gates of enrolment want at least 40 px between the eyes: a face at 1.5 m has them
# from 640 x 480 on.
_SMALL = Size(640, 480)
_LEAST_FPS = 5.0
_TIMED_RUNS = 5
# Two engines that compute the same graph differ by rounding; INT8 artefacts stay above 0.9 on
# faces and lower on noise, so that they are not compared here.
_ALIKE = 0.99


def imports() -> list[Finding]:
    """Return whether OpenCV, MediaPipe and ONNX Runtime load, with what they say of themselves."""
    return [_opencv(), _mediapipe(), _onnxruntime()]


def _opencv() -> Finding:
    try:
        import cv2
    except ImportError as exc:
        return _absent("opencv", exc)
    build = cv2.getBuildInformation()
    gstreamer = any("GStreamer" in line and "YES" in line for line in build.splitlines())
    return ok(
        "opencv",
        "loads",
        f"OpenCV {cv2.__version__}, GStreamer {'yes' if gstreamer else 'no'}, from {cv2.__file__}",
    )


def _mediapipe() -> Finding:
    try:
        import mediapipe
        from mediapipe.tasks.python import vision
    except ImportError as exc:
        return _absent("mediapipe", exc)
    named = getattr(mediapipe, "__version__", "of no named version")
    if not hasattr(vision, "FaceLandmarker"):
        return fault(
            "mediapipe",
            "loads",
            f"MediaPipe {named} without FaceLandmarker",
            wanted="the Tasks interface",
            fix="pip install --upgrade mediapipe",
        )
    return ok("mediapipe", "loads", f"MediaPipe {named} with its Tasks")


def _onnxruntime() -> Finding:
    try:
        import onnxruntime
    except ImportError as exc:
        return _absent("onnxruntime", exc)
    providers = ", ".join(onnxruntime.get_available_providers())
    return ok("onnxruntime", "loads", f"ONNX Runtime {onnxruntime.__version__}: {providers}")


def _absent(package: str, error: ImportError) -> Finding:
    return fault(
        package,
        "loads",
        str(error),
        wanted="a package that can be imported",
        fix="pip install 'edgeface[cpu]'",
    )


def synthetic_picture() -> ImageArray:
    """Return (480, 640, 3) uint8 RGB: one face of nobody on grey, which every detector must find.

    The faces ship with the exporter; they were made from drawn ovals.
    """
    from edgeface.camera.base import load_opencv
    from edgeface_export.synthetic_faces import load_synthetic_faces

    face = load_synthetic_faces(Size(112, 112))[_FACE_NUMBER]
    picture = np.full((_PICTURE.height_px, _PICTURE.width_px, 3), _GREY, np.uint8)
    top, left = (_PICTURE.height_px - _FACE_PX) // 2, (_PICTURE.width_px - _FACE_PX) // 2
    large = load_opencv().resize(face, (_FACE_PX, _FACE_PX))
    picture[top : top + _FACE_PX, left : left + _FACE_PX] = large
    return picture


def detector() -> list[Finding]:
    """Return whether the detector and the landmarker find the face of a synthetic picture."""
    from edgeface.detection import AutoRangeDetector, MediaPipeLandmarkFinder

    frame = Frame(synthetic_picture())
    try:
        finder, marks = AutoRangeDetector(), MediaPipeLandmarkFinder()
    except AssetError as exc:
        return [skipped("detector", "synthetic picture", str(exc))]
    try:
        started_s = time.perf_counter()
        faces = finder.detect(frame)
        took_ms = (time.perf_counter() - started_s) * 1e3
        landmarks = marks.find(frame, faces[0]) if faces else None
    finally:
        finder.close()
        marks.close()
    if len(faces) != 1 or landmarks is None:
        return [
            fault(
                "detector",
                "synthetic picture",
                f"{len(faces)} faces, landmarks {'found' if landmarks else 'not found'}",
                wanted="one face with its landmarks",
                fix="run `edgeface assets fetch`, and reinstall mediapipe",
            )
        ]
    return [
        ok(
            "detector",
            "synthetic picture",
            f"MediaPipe on the CPU found the face (score {faces[0].score:.2f}) and its landmarks; "
            f"first detection {took_ms:.0f} ms",
        )
    ]


def camera(source: str) -> list[Finding]:
    """Return what ``source`` gives within a few seconds."""
    from edgeface.camera import open_source

    try:
        opened_s = time.perf_counter()
        with open_source(source) as frames:
            return _watched(frames, opened_s)
    except CameraError as exc:
        return [
            fault(
                "camera",
                "opens",
                str(exc),
                wanted="a camera that gives frames",
                fix="check cable, number or address, that no other program has it, and that this "
                "user is in the group video",
            )
        ]


def _watched(frames: FrameSource, opened_s: float) -> list[Finding]:
    from edgeface.camera import LiveSource

    first_s, until_s, taken = 0.0, time.perf_counter() + _CAMERA_SECONDS, 0
    size = None
    for frame in frames:
        first_s = first_s or time.perf_counter() - opened_s
        taken, size = taken + 1, frame.size
        if taken >= _MAX_FRAMES or time.perf_counter() > until_s:
            break
    if size is None:
        return [
            fault(
                "camera",
                "frames",
                "none",
                wanted="frames",
                fix="try the source in another program; check that it is no empty file",
            )
        ]
    kind = "live" if frames.is_live else "recording"
    rate = f", {frames.fps:.0f} frames/s announced" if frames.fps else ""
    got = f"{kind}, {size.width_px}x{size.height_px}{rate}, {taken} frames read, "
    findings = [ok("camera", "frames", f"{got}the first after {first_s:.1f} s")]
    if size.width_px < _SMALL.width_px or size.height_px < _SMALL.height_px:
        findings.append(
            warning(
                "camera",
                "size",
                f"{size.width_px}x{size.height_px}",
                wanted=f"{_SMALL.width_px}x{_SMALL.height_px} or larger",
                fix="set the camera to a larger picture: faces further than an arm's length are "
                "too small",
            )
        )
    if isinstance(frames, LiveSource):
        findings.append(_health(frames))
    return findings


def _health(source: LiveSource) -> Finding:
    health = source.health()
    words = ", ".join(sorted(one.value for one in health.conditions)) or "no condition"
    age = "unknown" if health.age_s is None else f"{health.age_s * 1e3:.0f} ms"
    got = f"{health.state.value}, {health.fps:.1f} frames/s, newest {age} old, {words}"
    if not health.is_usable:
        return fault(
            "camera",
            "health",
            got,
            wanted="a picture that can be decided on",
            fix="take the cover off, give light, or connect the camera again",
        )
    if health.fps < _LEAST_FPS:
        return warning(
            "camera",
            "health",
            got,
            wanted=f"{_LEAST_FPS:.0f} frames/s or more",
            fix="use another USB port, a smaller picture or more light",
        )
    return ok("camera", "health", got)


def engines(bundle: str) -> list[Finding]:
    """Return which engine really runs the model of ``bundle`` here, and what the others do."""
    from edgeface.backends import choose_backend
    from edgeface.bundle import Bundle

    opened = Bundle.open(bundle)
    choice = choose_backend(opened)
    findings, reference = _ran(opened, choice.backend, choice.artefact, "recognition", None)
    for name, artefact in _others(opened, choice.backend):
        more, _ = _ran(opened, name, artefact, f"engine {name}", reference)
        findings += more
    return findings


def _others(bundle: Bundle, chosen: str) -> list[tuple[str, str]]:
    """Return the other engines, each with the artefact that all engines compute alike."""
    from edgeface.backends import BACKENDS

    names = [entry.name for entry in bundle.manifest.artefacts]
    artefact = "fp32" if "fp32" in names else names[0]
    return [(name, artefact) for name in BACKENDS if name != chosen]


def _ran(
    bundle: Bundle, name: str, artefact: str, what: str, reference: FloatArray | None
) -> tuple[list[Finding], FloatArray | None]:
    from edgeface.backends import open_backend
    from edgeface.backends.selection import probe_crops

    package = _GPU_PACKAGES.get(name)
    if package is not None and not _is_installed(package):
        return [skipped("engines", what, f"{package} is not installed")], None
    crops = probe_crops(bundle)
    try:
        backend = open_backend(bundle, backend=name, artefact=artefact)
    except MissingDependencyError as exc:
        return [skipped("engines", what, f"{exc.package} is not installed")], None
    except BackendError as exc:
        return [_unusable(what, str(exc))], None
    try:
        times, rows = [], backend.run(crops)
        for _ in range(_TIMED_RUNS):
            started_s = time.perf_counter()
            rows = backend.run(crops)
            times.append(time.perf_counter() - started_s)
    except BackendError as exc:
        return [_unusable(what, str(exc))], None
    finally:
        backend.close()
    got = f"{backend.artefact} on {backend.name}, {np.median(times) * 1e3:.1f} ms a face"
    if not _is_unit(rows):
        return [_unusable(what, f"{got}, and its embedding is not of length 1")], None
    if reference is not None and reference.shape == rows.shape:
        got += f", cosine {float((reference[0] * rows[0]).sum()):.4f} to the one chosen"
    return [ok("engines", what, got)], rows


# The engines for GPUs look for the driver before their own package.
_GPU_PACKAGES = {
    "tensorrt": "tensorrt",
    "rtx": "onnxruntime-ep-nv-tensorrt-rtx-cu13",
    "cuda": "onnxruntime-gpu",
}


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def _is_unit(rows: FloatArray) -> bool:
    length = float(np.linalg.norm(np.asarray(rows, np.float64)))
    # Said so that NaN fails.
    return abs(length - 1.0) <= 1e-3


def _unusable(what: str, got: str) -> Finding:
    is_chosen = what == "recognition"
    make = fault if is_chosen else warning
    return make(
        "engines",
        what,
        got,
        wanted="an engine that runs the model",
        fix="export the bundle again, or install 'edgeface[cpu]'"
        if is_chosen
        else "nothing, unless you want this engine: then reinstall its package",
    )


def gallery(path: str, bundle: str | None) -> list[Finding]:
    """Return whether the gallery at ``path`` opens, and fits ``bundle``."""
    from edgeface.doctor.trust import check_gallery

    return check_gallery(Path(path), None if bundle is None else Path(bundle))
