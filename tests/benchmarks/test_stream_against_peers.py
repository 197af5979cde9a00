"""The whole path over clips beside a peer's: processor time of one run, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from edgeface.bundle import Bundle
from edgeface.types import Frame
from edgeface_export import ExportOptions, export_checkpoint
from tests.benchmarks.peer_pipeline import PeerPipeline
from tests.benchmarks.streams import Clip, cpu_s, open_recognizer

pytest.importorskip("onnxruntime")
pytest.importorskip("cv2")
pytest.importorskip("mediapipe")
pytestmark = [pytest.mark.slow, pytest.mark.integration]

BLOCK = 15
"""Frames that one takes before it is the other's turn: a load of the machine meets both."""


@pytest.fixture(scope="module")
def bundle(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = checkpoints / "arcface-mobilefacenet-112x96-xiaoccer.ckpt"
    target = tmp_path_factory.mktemp("bundle") / "m.edgeface"
    return export_checkpoint(source, target, options=ExportOptions(int8=True)).bundle.path


@dataclass
class Figures:
    cpu_s: float = 0.0
    wall_ms: list[float] = field(default_factory=list)
    faces: int = 0

    @property
    def cpu_ms(self) -> float:
        return self.cpu_s * 1e3 / len(self.wall_ms)

    def row(self, name: str) -> str:
        p50, p95 = np.percentile(self.wall_ms, [50, 95])
        return (
            f"  {name:<10}{self.cpu_ms:9.2f}{p50:9.2f}{p95:9.2f}"
            f"{self.faces / len(self.wall_ms):9.2f}"
        )


def measure(frames: list[Frame], run: Callable[[Frame], int], into: Figures) -> None:
    for frame in frames:
        cpu, wall = cpu_s(), time.perf_counter()
        into.faces += run(frame)
        into.cpu_s += cpu_s() - cpu
        into.wall_ms.append((time.perf_counter() - wall) * 1e3)


def blocks(frames: list[Frame]) -> Iterator[list[Frame]]:
    for start in range(0, len(frames), BLOCK):
        yield frames[start : start + BLOCK]


@pytest.mark.parametrize(
    ("clip", "most"),
    [
        ("sathya-pramodh__slownod.mp4", 1 / 3),
        ("ageitgey__short_hamilton_clip.mp4", 1 / 2),
        ("timesler__video.mp4", 1.0),
    ],
)
def test_processor_time_beside_a_peer_that_does_everything_in_every_frame(
    clip: str, most: float, bundle: Path, test_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = Clip(test_data / "data" / "video" / clip)
    opened = Bundle.open(bundle)
    peer = PeerPipeline(
        test_data / "models" / "peers" / "scrfd-det_500m.onnx",
        bundle / "model.fp32.onnx",
        opened.manifest.alignment_template,
    )
    ours, theirs, stages = Figures(), Figures(), dict[str, float]()
    with open_recognizer(bundle) as recognizer:
        stream = recognizer.stream(recording.source())

        def watch(frame: Frame) -> int:
            result = stream.process(frame)
            for stage, ms in result.times_ms.items():
                stages[stage] = stages.get(stage, 0.0) + ms
            return len(result.observations)

        peer.process(recording.frames()[0])
        for block in blocks(recording.frames()):
            measure(block, lambda frame: len(peer.process(frame)), theirs)
            measure(block, watch, ours)
    ratio = ours.cpu_s / theirs.cpu_s
    with capsys.disabled():
        print(f"\n{clip}, {len(ours.wall_ms)} frames, one thread")  # noqa: T201
        print("             CPU ms   p50 ms   p95 ms    faces  (a frame)")  # noqa: T201
        print(theirs.row("peer"), ours.row("edgeface"), sep="\n")  # noqa: T201
        print(f"  edgeface / peer: {ratio:.3f} of the processor time, at most {most:.2f}")  # noqa: T201
        means = {stage: round(ms / len(ours.wall_ms), 2) for stage, ms in stages.items()}
        print(f"  wall clock by stage, ms a frame: {means}")  # noqa: T201
    assert ratio <= most
