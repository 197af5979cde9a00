"""Random faults of cameras, one after the other: noticed within 2 s, over within 5 s, no leak.

The cameras are real processes: the test source with faults inside its reader, an RTSP server, and
an HTTP server, which are killed, stopped, and made to send what is wrong. A cycle is: good
picture, a fault, until it is noticed; the fault is taken away, until a good frame is read.
"""

from __future__ import annotations

import gc
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from edgeface.camera import CameraEventKind, LiveSource, SourceOptions, open_source
from edgeface.testing import CameraFault, FaultyCamera
from tests.faults.camera_servers import ServerCamera, mjpeg_camera, rtsp_camera

pytest.importorskip("cv2")
pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="needs Linux: signals and /proc"
)

NOTICED_S = 2.0
BACK_S = 5.0
_LIMIT_S = 30.0
_WRONG = (CameraEventKind.LOST, CameraEventKind.BEGAN, CameraEventKind.FAILED)


@dataclass
class Fault:
    """A fault, how it is made, and how it is taken away."""

    name: str
    make: Callable[[], None]
    heal: Callable[[], None]


@dataclass
class Figures:
    """How long it took, by the name of the fault."""

    noticed_s: list[tuple[float, str]] = field(default_factory=list)
    back_s: list[tuple[float, str]] = field(default_factory=list)

    def __str__(self) -> str:
        parts = []
        for name, pairs in (("noticed", self.noticed_s), ("back", self.back_s)):
            values = sorted(pairs)
            middle, (worst, fault) = values[len(values) // 2][0], values[-1]
            parts.append(f"{name} p50 {middle:.2f} s, p100 {worst:.2f} s ({fault})")
        return "; ".join(parts)


def nothing() -> None:
    pass


def faults_of_pattern(camera: FaultyCamera) -> list[Fault]:
    def setter(fault: CameraFault) -> Callable[[], None]:
        return lambda: setattr(camera, "fault", fault)

    # LATE begins only with the next stall of its own, up to two seconds after it is set.
    chosen = [fault for fault in CameraFault if fault not in (CameraFault.NONE, CameraFault.LATE)]
    return [Fault(fault.value, setter(fault), setter(CameraFault.NONE)) for fault in chosen]


def faults_of_server(camera: ServerCamera, pictures: list[str], sizes: list[str]) -> list[Fault]:
    def say(word: str) -> Callable[[], None]:
        return lambda: camera.tell(word)

    def restart_smaller() -> None:
        camera.kill()
        sizes.append(sizes.pop(0))
        camera.start(sizes[0], sizes[0], *camera.arguments[2:])

    return [
        Fault("killed", camera.kill, camera.start),
        Fault(
            "stopped",
            lambda: camera.signal(signal.SIGSTOP),
            lambda: camera.signal(signal.SIGCONT),
        ),
        Fault("kicked", say("kick"), nothing),
        Fault("another size", restart_smaller, nothing),
        *(Fault(word, say(word), say("good")) for word in pictures),
    ]


@contextmanager
def camera_with_faults(kind: str) -> Iterator[tuple[LiveSource, list[Fault]]]:
    # As in a busy place: a picture may stand still for a while, and come at 2 per second.
    options = SourceOptions()
    if kind == "pattern":
        with FaultyCamera() as faulty, faulty.open(options) as source:
            yield source, faults_of_pattern(faulty)
        return
    server = rtsp_camera() if kind == "rtsp" else mjpeg_camera()
    pictures = ["black", "frozen", "grey"]
    pictures += ["block", "empty", "rubbish"] if kind == "http" else []
    with server, open_source(server.address, options=options) as source:
        assert isinstance(source, LiveSource)
        yield source, faults_of_server(server, pictures, ["240", "320"])


def wait_until(happened: Callable[[], bool], what: str) -> float:
    """Return how long it took."""
    started_s = time.monotonic()
    while not happened():
        assert time.monotonic() - started_s < _LIMIT_S, f"{what}: not within {_LIMIT_S} s"
        time.sleep(0.002)
    return time.monotonic() - started_s


def is_good(source: LiveSource) -> bool:
    """Whether a frame came just now and nothing is said against it."""
    health = source.health()
    return source.read(0.0) is not None and health.is_usable and not health.conditions


def run_cycle(source: LiveSource, fault: Fault, stays_s: float, figures: Figures) -> None:
    wait_until(lambda: is_good(source), f"before {fault.name}")
    source.take_events()
    fault.make()
    noticed_s = wait_until(
        lambda: any(event.kind in _WRONG for event in source.take_events()), fault.name
    )
    time.sleep(stays_s)
    fault.heal()
    back_s = wait_until(lambda: is_good(source), f"after {fault.name}")
    figures.noticed_s.append((noticed_s, fault.name))
    figures.back_s.append((back_s, fault.name))


@dataclass(frozen=True)
class Use:
    """What this process holds on to."""

    threads: int
    descriptors: int
    children: int
    rss_kb: int


def use_now() -> Use:
    gc.collect()
    process = psutil.Process()
    return Use(
        threading.active_count(),
        process.num_fds(),
        len(process.children(recursive=True)),
        process.memory_info().rss // 1024,
    )


def run_cycles(kind: str, count: int, seed: int) -> tuple[Figures, Use, Use]:
    rng, figures = random.Random(seed), Figures()
    with camera_with_faults(kind) as (source, faults):
        # Each fault once before any fault twice.
        order = [fault for _ in range(-(-count // len(faults))) for fault in shuffled(faults, rng)]
        wait_until(lambda: is_good(source), "at first")
        before = use_now()
        for fault in order[:count]:
            run_cycle(source, fault, rng.uniform(0.0, 1.0), figures)
        after = use_now()
    return figures, before, after


def shuffled(faults: list[Fault], rng: random.Random) -> list[Fault]:
    return rng.sample(faults, len(faults))


@pytest.mark.parametrize("kind", ["pattern", "rtsp", "http"])
def test_random_faults_are_noticed_and_get_over(kind: str) -> None:
    """Four cycles of each kind; what they take depends on the machine, and is not judged here."""
    before = use_now()
    figures, _, _ = run_cycles(kind, 4, seed=7)
    assert len(figures.back_s) == 4
    after = use_now()
    assert (after.threads, after.children) == (before.threads, before.children)
    assert after.descriptors <= before.descriptors


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_two_hundred_random_faults_are_noticed_in_time_and_leave_nothing_behind(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for kind, count in (("pattern", 80), ("rtsp", 60), ("http", 60)):
        figures, before, after = run_cycles(kind, count, seed=20)
        with capsys.disabled():
            report = f"\n{kind}: {count} cycles; {figures}\n  before {before}\n  after  {after}\n"
            sys.stdout.write(report)
        assert max(figures.noticed_s)[0] <= NOTICED_S, max(figures.noticed_s)
        assert max(figures.back_s)[0] <= BACK_S, max(figures.back_s)
        assert after.threads == before.threads
        assert after.children == before.children
        assert after.descriptors == before.descriptors
        assert after.rss_kb - before.rss_kb < 4096
