"""A short run over every target: the same mutations each time, and what was found before."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from edgeface.camera.image_header import image_size
from edgeface.errors import CameraError
from tests.fuzz.targets import TARGETS, InvariantError, seeds

pytest.importorskip("cv2")
pytest.importorskip("cryptography")

# Together a few seconds on a small machine; run_atheris.py is for the long runs.
ROUNDS = {
    "image": 5000,
    "bundle": 1500,
    "gallery": 200,
    "policy": 2000,
    "lease": 3000,
    "audit": 500,
}
BUDGET_S = 4.0
TOKENS = (b"\0", b"\xff" * 4, b'"', b"{", b"]]", b"=", b"nan", b"-1", b"1e999", b"../", b"\x80")


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Return ``content`` changed in one to four places: bits, cuts, copies, known tokens."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        kind = chance.randrange(6)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << chance.randrange(8)
        elif kind == 1 and data:
            data[at % len(data)] = chance.randrange(256)
        elif kind == 2:
            del data[at : at + chance.choice([1, 2, 8, 64, 4096])]
        elif kind == 3:
            data[at:at] = chance.choice(TOKENS)
        elif kind == 4:
            start = chance.randrange(len(data) + 1)
            data[at:at] = data[start : start + chance.choice([1, 8, 64])]
        else:
            del data[at:]
    return bytes(data)


@pytest.mark.parametrize("target", TARGETS)
def test_no_mutation_is_answered_in_a_way_that_must_not_be(target: str) -> None:
    chance = random.Random(f"edgeface {target}")
    started = seeds(target)
    assert started, "a target without seeds finds nothing"
    for content in started:
        TARGETS[target](content)
    until = time.monotonic() + BUDGET_S
    for _ in range(ROUNDS[target]):
        content = mutated(chance.choice(started), chance)
        try:
            TARGETS[target](content)
        except Exception as exc:
            raise AssertionError(f"{target}: {exc!r} for {content[:2000]!r}") from exc
        if time.monotonic() > until:
            break


@pytest.mark.parametrize("target", TARGETS)
def test_the_empty_input_and_plain_rubbish_are_answered(target: str) -> None:
    for content in (b"", b"\0", b"\xff" * 1000, bytes(range(256)) * 4, b"[" * 20_000, b"{" * 2000):
        TARGETS[target](content)


def test_a_bug_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness itself: a refusal that goes missing, an error that is not typed."""
    import tests.fuzz.targets as targets

    monkeypatch.setattr(targets, "require_trusted", lambda *_: None)
    with pytest.raises(InvariantError, match="nobody made"):
        TARGETS["bundle"](b"s{}")
    monkeypatch.setattr(targets, "parse_policy", lambda _text: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        TARGETS["policy"](b"")


def test_a_picture_whose_pixels_lie_behind_its_end_is_refused_before_it_is_decoded(
    repository: Path,
) -> None:
    """69 bytes that cost OpenCV 5.0.0 3.5 GB and seconds: found by fuzzing."""
    content = (repository / "tests/fuzz/corpus/image/pixels-behind-the-end.png").read_bytes()
    with pytest.raises(CameraError, match="damaged or incomplete"):
        image_size(content, where="it")


def test_the_corpus_stays_small(repository: Path) -> None:
    files = [path for path in (repository / "tests/fuzz/corpus").rglob("*") if path.is_file()]
    assert files
    assert sum(path.stat().st_size for path in files) < 100_000
