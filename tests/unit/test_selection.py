from __future__ import annotations

import json
import logging
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeface import backends
from edgeface.backends import choose_backend, open_backend, selection
from edgeface.backends.base import Backend
from edgeface.backends.selection import Choice, choose, probe_crops
from edgeface.bundle import Bundle
from edgeface.errors import (
    BackendError,
    BundleFormatError,
    InvalidInputError,
    MissingDependencyError,
)
from edgeface.testing import FakeBackend
from edgeface.types import FloatArray, ImageArray
from tests.builders import make_bundle

ALL = ("fp32", "cpu-fp32", "int8", "cpu-int8")


class SlowBackend(FakeBackend):
    """Takes as long as it is told, and fails when that is None."""

    def __init__(self, artefact: str, delay_s: float | None) -> None:
        super().__init__(artefact=artefact)
        self._delay_s = delay_s

    def run(self, crops: ImageArray) -> FloatArray:
        if self._delay_s is None:
            raise BackendError("the engine gave up")
        time.sleep(self._delay_s)
        return np.zeros((len(crops), 16), np.float32)


class Engines:
    """Opens backends as fast as ``delays_ms`` says; pairs that it lacks cannot be opened."""

    def __init__(self, delays_ms: dict[str, float | None]) -> None:
        self.delays_ms = delays_ms
        self.opened: list[str] = []
        self.backends: list[SlowBackend] = []

    def __call__(self, bundle: Bundle, backend: str, artefact: str, threads: int | None) -> Backend:
        name = f"{backend}/{artefact}"
        self.opened.append(name)
        if name not in self.delays_ms:
            raise BackendError("cannot load it")
        delay_ms = self.delays_ms[name]
        opened = SlowBackend(artefact, None if delay_ms is None else delay_ms / 1e3)
        self.backends.append(opened)
        return opened


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("EDGEFACE_CACHE", str(folder))
    monkeypatch.setattr(selection, "_BUDGET_S", 0.0)
    monkeypatch.setattr(selection, "_WARM_UP_ROUNDS", 0)
    monkeypatch.setattr(selection, "_MIN_ROUNDS", 3)
    monkeypatch.setattr(selection, "_is_installed", lambda package: True)
    return folder / "choices"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.open(make_bundle(tmp_path, artefacts=ALL))


def fast_openvino() -> Engines:
    return Engines(
        {
            "ort/fp32": 20,
            "ort/cpu-fp32": 20,
            "ort/int8": 20,
            "ort/cpu-int8": 8,
            "openvino/fp32": 20,
            "openvino/int8": 0.1,
        }
    )


def test_the_fastest_pair_is_taken_and_every_figure_is_told(bundle: Bundle) -> None:
    engines = fast_openvino()
    choice = choose(bundle, open_one=engines)
    assert (choice.backend, choice.artefact) == ("openvino", "int8")
    assert sorted(choice.latency_ms) == sorted(engines.delays_ms)
    assert sorted(engines.opened) == sorted(engines.delays_ms)
    assert all(backend.closed for backend in engines.backends)
    assert not choice.remembered
    text = str(choice)
    assert text.startswith("openvino/int8: the fastest of those measured here; openvino/int8 ")
    assert "ort/cpu-int8" in text


def test_engines_take_turns(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    class Recorder(FakeBackend):
        def run(self, crops: ImageArray) -> FloatArray:
            order.append(self.artefact)
            return super().run(crops)

    choose(bundle, open_one=lambda b, e, a, t: Recorder(artefact=f"{e}/{a}"))
    assert len(order) % 6 == 0
    assert order[:6] * (len(order) // 6) == order


def test_a_choice_is_remembered(bundle: Bundle, cache: Path) -> None:
    first = choose(bundle, open_one=fast_openvino())
    engines = fast_openvino()
    second = choose(bundle, open_one=engines)
    assert engines.opened == []
    assert second.remembered
    assert second.latency_ms == first.latency_ms
    assert (second.backend, second.artefact) == (first.backend, first.artefact)
    assert "before" in second.reason
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("change", ["threads", "version", "processor", "model", "artefact", "name"])
def test_whatever_it_depends_on_has_its_own_choice(
    bundle: Bundle, change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(bundle, open_one=fast_openvino(), threads=1)
    threads, backend = 1, "auto"
    if change == "threads":
        threads = 2
    elif change == "version":
        monkeypatch.setattr(selection, "_engine_version", lambda engine: "99")
    elif change == "processor":
        monkeypatch.setattr(selection, "_processor", lambda: "another")
    elif change == "model":
        bundle.manifest = replace(bundle.manifest, model_id="0" * 64)
    elif change == "artefact":
        entries = tuple(replace(entry, sha256="0" * 64) for entry in bundle.manifest.artefacts)
        bundle.manifest = replace(bundle.manifest, artefacts=entries)
    else:
        backend = "ort"
    engines = fast_openvino()
    assert not choose(bundle, open_one=engines, threads=threads, backend=backend).remembered
    assert engines.opened


NONSENSE = [
    b"",
    b"\xff\xfe",
    b"[]",
    b"{}",
    b"null",
    b'{"backend": "ort", "artefact": "fp32", "latency_ms": [], "left_out": {}}',
    b'{"backend": "ort", "artefact": "fp32", "latency_ms": {"ort/fp32": "x"}, "left_out": {}}',
    b'{"backend": "ort", "artefact": "fp32", "latency_ms": {}, "left_out": {}}',
    b'{"backend": ["a"], "artefact": {}, "latency_ms": {"x": 1}, "left_out": {}}',
    b'{"backend": "evil", "artefact": "fp32", "latency_ms": {"evil/fp32": 1}, "left_out": {}}',
    b'{"backend": "ort", "artefact": "fp32", "latency_ms": {"ort/fp32": NaN}, "left_out": {}}',
    b'{"backend": "ort", "artefact": "fp32", "latency_ms": {"ort/fp32": 0}, "left_out": {}}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("content", NONSENSE, ids=lambda content: repr(content[:60]))
def test_damaged_memory_is_measured_again_and_written_anew(
    bundle: Bundle, cache: Path, content: bytes
) -> None:
    choose(bundle, open_one=fast_openvino())
    file = next(cache.iterdir())
    file.write_bytes(content)
    choice = choose(bundle, open_one=fast_openvino())
    assert (choice.backend, choice.artefact, choice.remembered) == ("openvino", "int8", False)
    assert json.loads(file.read_text())["backend"] == "openvino"


def test_cache_that_cannot_be_written_measures_each_time(bundle: Bundle, cache: Path) -> None:
    cache.parent.write_text("a file where the folder should be")
    for _ in range(2):
        choice = choose(bundle, open_one=fast_openvino())
        assert (choice.artefact, choice.remembered) == ("int8", False)


def test_int8_takes_part_only_where_the_verdict_passed(bundle: Bundle) -> None:
    bundle.manifest = replace(
        bundle.manifest, verdict=replace(bundle.manifest.verdict, status="failed")
    )
    engines = fast_openvino()
    choice = choose(bundle, open_one=engines)
    assert choice.artefact in ("fp32", "cpu-fp32")
    assert sorted(engines.opened) == ["openvino/fp32", "ort/cpu-fp32", "ort/fp32"]


@pytest.mark.parametrize(
    ("backend", "artefact", "opened"),
    [
        ("ort", "auto", ["ort/cpu-fp32", "ort/cpu-int8", "ort/fp32", "ort/int8"]),
        ("openvino", "auto", ["openvino/fp32", "openvino/int8"]),
        ("auto", "fp32", ["openvino/fp32", "ort/fp32"]),
        ("auto", "cpu-int8", []),
        ("ort", "int8", []),
    ],
)
def test_what_is_named_is_kept_to(
    bundle: Bundle, backend: str, artefact: str, opened: list[str]
) -> None:
    engines = fast_openvino()
    choice = choose(bundle, open_one=engines, backend=backend, artefact=artefact)
    assert sorted(engines.opened) == opened
    assert backend in ("auto", choice.backend)
    assert artefact in ("auto", choice.artefact)


def test_an_engine_that_fails_is_left_out_and_told(bundle: Bundle) -> None:
    engines = fast_openvino()
    engines.delays_ms["openvino/int8"] = None
    del engines.delays_ms["openvino/fp32"]
    choice = choose(bundle, open_one=engines)
    assert (choice.backend, choice.artefact) == ("ort", "cpu-int8")
    assert choice.left_out == {
        "openvino/fp32": "cannot load it",
        "openvino/int8": "the engine gave up",
    }
    assert "left out: openvino/fp32: cannot load it; openvino/int8" in str(choice)


def test_where_every_engine_fails_all_reasons_are_told(bundle: Bundle) -> None:
    with pytest.raises(BackendError, match=r"no engine here runs it: ort/fp32: cannot load it; "):
        choose(bundle, open_one=Engines({}))


def test_engine_that_is_not_installed_does_not_take_part(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "_is_installed", lambda package: package == "onnxruntime")
    choice = choose(bundle, open_one=fast_openvino())
    assert (choice.backend, choice.artefact) == ("ort", "cpu-int8")


def test_no_engine_at_all_names_the_one_to_install(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "_is_installed", lambda package: False)
    with pytest.raises(MissingDependencyError, match=r"edgeface\[cpu\]"):
        choose(bundle, open_one=fast_openvino())


def test_a_pair_that_makes_no_sense_is_refused(bundle: Bundle) -> None:
    with pytest.raises(InvalidInputError, match="'openvino' runs none of cpu-int8"):
        choose(bundle, open_one=fast_openvino(), backend="openvino", artefact="cpu-int8")
    with pytest.raises(BundleFormatError, match="choose one of fp32"):
        choose(bundle, open_one=fast_openvino(), artefact="fp16")


def test_artefact_of_no_table_goes_to_onnx_runtime(tmp_path: Path) -> None:
    bundle = Bundle.open(make_bundle(tmp_path, artefacts=("fp32", "fp16")))
    choice = choose(bundle, open_one=Engines({}), artefact="fp16")
    assert (choice.backend, choice.reason) == ("ort", "the only one that can be run")


def test_probe_is_the_same_noise_each_time_in_the_size_of_the_bundle(bundle: Bundle) -> None:
    crops = probe_crops(bundle, 2)
    assert crops.shape == (2, 112, 112, 3)
    assert crops.dtype == np.uint8
    assert (crops == probe_crops(bundle, 2)).all()


# --- through the door that users take ---


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Engines:
    engines = fast_openvino()
    monkeypatch.setattr(backends, "_open", engines)
    return engines


def test_opening_by_auto_logs_what_was_taken(
    bundle: Bundle, opened: Engines, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="edgeface.backends"):
        backend = open_backend(bundle)
    assert backend.artefact == "int8"
    assert "tiny.edgeface runs on openvino/int8: the fastest of those measured" in caplog.text


@pytest.mark.parametrize("failure", ["missing", "fails"])
def test_named_engine_never_falls_back(bundle: Bundle, opened: Engines, failure: str) -> None:
    del opened.delays_ms["openvino/int8"]
    with pytest.raises(BackendError, match="cannot load it"):
        open_backend(bundle, backend="openvino", artefact="int8")
    assert opened.opened == ["openvino/int8"]


def test_named_engine_whose_artefacts_all_fail_is_an_error(bundle: Bundle, opened: Engines) -> None:
    opened.delays_ms = {"ort/fp32": 1}
    with pytest.raises(BackendError, match="no engine here runs it: openvino/fp32"):
        open_backend(bundle, backend="openvino")
    assert not any(name.startswith("ort") for name in opened.opened)


def test_choice_can_be_asked_for_alone(bundle: Bundle, opened: Engines) -> None:
    choice = choose_backend(bundle, threads=1)
    assert isinstance(choice, Choice)
    assert (choice.backend, choice.artefact) == ("openvino", "int8")
    with pytest.raises(InvalidInputError, match="threads"):
        choose_backend(bundle, threads=0)


def test_unknown_engine_is_refused_with_those_that_exist(bundle: Bundle) -> None:
    with pytest.raises(InvalidInputError, match=r"'quick', choose one of auto, .*ort"):
        open_backend(bundle, backend="quick")
