"""Embedding speed beside the peers' models, all in turns in one run: ratios, not milliseconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeface.backends import open_backend
from edgeface.bundle import Bundle
from edgeface_export import ExportOptions, export_checkpoint

onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = [pytest.mark.slow, pytest.mark.integration]

ROUNDS = 60


def peer(path: Path) -> Callable[[], object]:
    """One run of a peer's ONNX model on noise of its own input shape, one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    wanted = session.get_inputs()[0]
    shape = [size if isinstance(size, int) and size > 0 else 1 for size in wanted.shape]
    noise = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    return lambda: session.run(None, {wanted.name: noise})


def medians_ms(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in runs}
    for k in range(ROUNDS + 5):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if k >= 5:
                times[name].append((time.perf_counter() - started) * 1e3)
    return {name: float(np.median(taken)) for name, taken in times.items()}


def test_embedding_beside_the_public_naive_int8(
    test_data: Path, checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = checkpoints / "arcface-mobilefacenet-112x96-xiaoccer.ckpt"
    result = export_checkpoint(source, tmp_path / "m.edgeface", options=ExportOptions(int8=True))
    bundle = Bundle.open(result.bundle.path)
    crop = np.random.default_rng(0).integers(0, 256, (1, 112, 96, 3), dtype=np.uint8)
    fp32, int8 = (
        open_backend(bundle, backend="ort", artefact=name, threads=1) for name in ("fp32", "int8")
    )
    naive = peer(test_data / "models" / "peers" / "naive-int8-mobilefacenet-112x96.onnx")
    ms = medians_ms(
        {
            "naive INT8 (peer)": naive,
            "fp32": lambda: fp32.run(crop),
            "int8 (Q/DQ)": lambda: int8.run(crop),
        }
    )
    base = ms["naive INT8 (peer)"]
    with capsys.disabled():
        print(f"\none thread, one crop, onnxruntime {onnxruntime.__version__}")  # noqa: T201
        for name, value in ms.items():
            print(f"  {name:<20}{value:7.2f} ms  {base / value:5.2f}x the peer's speed")  # noqa: T201
    # What `auto` runs on a CPU must not be slower than the peer; 0.9 leaves room for noise.
    assert base / ms["fp32"] > 0.9


def test_detection_beside_peers_detectors(
    test_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Times of one 1080p frame each; the peers' post-processing is not counted, ours is."""
    cv2 = pytest.importorskip("cv2")
    from edgeface.camera import open_source
    from edgeface.detection import MediaPipeFaceDetector

    with open_source(test_data / "data" / "video" / "timesler__video.mp4") as source:
        frame = next(iter(source))
    peers = test_data / "models" / "peers"
    small = cv2.resize(frame.pixels, (640, 384))
    yunet = cv2.FaceDetectorYN.create(str(peers / "yunet-2023mar.onnx"), "", (640, 384))
    bgr = np.ascontiguousarray(small[..., ::-1])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    scrfd = onnxruntime.InferenceSession(
        str(peers / "scrfd-det_500m.onnx"), options, providers=["CPUExecutionProvider"]
    )
    name = scrfd.get_inputs()[0].name
    letterbox = np.zeros((1, 3, 640, 640), np.float32)
    short, full = MediaPipeFaceDetector(), MediaPipeFaceDetector("full")
    ms = medians_ms(
        {
            "SCRFD-500M at 640": lambda: scrfd.run(None, {name: letterbox}),
            "YuNet at 640": lambda: yunet.detect(bgr),
            "BlazeFace short range": lambda: short.detect(frame),
            "BlazeFace full range": lambda: full.detect(frame),
        }
    )
    short.close()
    full.close()
    base = ms["SCRFD-500M at 640"]
    with capsys.disabled():
        print("\none 1080p frame")  # noqa: T201
        for label, value in ms.items():
            print(f"  {label:<24}{value:7.2f} ms  {base / value:5.2f}x SCRFD's speed")  # noqa: T201
    assert base / ms["BlazeFace short range"] > 1.0
