"""What the report page is tried with: a manifest, reports of real figures, and hostile text."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

from edgeface.manifest import Artefact, Manifest, ModelSource, Verdict
from edgeface.types import OperatingPoint, Size
from edgeface_export.html_report import render_report

# Measured on 225 crops of LFW with the MobileFaceNet of Xiaoccer, ranges from 375 others.
COSINES = [
    *(0.9910, 0.9933, 0.9943, 0.9947, 0.9951, 0.9952, 0.9953, 0.9954, 0.9955, 0.9956, 0.9957),
    *(0.9958, 0.9959, 0.9960, 0.9961, 0.9961, 0.9962, 0.9963, 0.9964, 0.9964, 0.9965, 0.9966),
    *(0.9967, 0.9967, 0.9968, 0.9969, 0.9970, 0.9970, 0.9971, 0.9972, 0.9972, 0.9973, 0.9973),
    *(0.9974, 0.9974, 0.9975, 0.9975, 0.9976, 0.9977, 0.9978, 0.9979, 0.9980, 0.9981, 0.9988),
]
BEFORE = [-0.363, -0.234, -0.125, -0.076, -0.014, 0.03, 0.093, 0.188, 0.356, 0.502, 0.715, 0.871]
AFTER = [-0.348, -0.234, -0.106, -0.068, -0.003, 0.043, 0.107, 0.185, 0.373, 0.492, 0.717, 0.864]
FP32_DET = [
    *([1.0, 0.0], [0.6707, 0.0007], [0.3433, 0.0013], [0.2367, 0.0033], [0.1127, 0.0053]),
    *([0.056, 0.0087], [0.0267, 0.0127], [0.014, 0.0193], [0.006, 0.0213], [0.0013, 0.0313]),
    *([0.0007, 0.04], [0.0, 0.0493], [0.0, 0.2173], [0.0, 1.0]),
]
INT8_DET = [
    *([1.0, 0.0], [0.6313, 0.0007], [0.34, 0.0013], [0.232, 0.0033], [0.124, 0.006]),
    *([0.0587, 0.0093], [0.0273, 0.0127], [0.0127, 0.0187], [0.0053, 0.0233], [0.0013, 0.034]),
    *([0.0007, 0.0407], [0.0, 0.046], [0.0, 0.2027], [0.0, 1.0]),
]
LAYERS = [
    ("conv1.conv", 0.000386, 4_644_864),
    ("dw_conv1.conv", 0.0005, 1_548_288),
    ("blocks.0.conv.0", 0.00053, 22_020_096),
    ("blocks.0.conv.3", 0.00035, 1_548_288),
    ("blocks.0.conv.6", 0.000635, 5_505_024),
    ("blocks.2.conv.0", 0.000358, 5_505_024),
    ("blocks.3.conv.3", 0.000334, 774_144),
    ("blocks.4.conv.6", 0.000381, 5_505_024),
    ("blocks.6.conv.0", 0.000329, 5_505_024),
    ("blocks.8.conv.6", 0.000366, 5_505_024),
    ("blocks.11.conv.3", 0.000338, 387_072),
    ("blocks.12.conv.6", 0.000489, 2_752_512),
    ("linear7.conv", 0.000752, 21_504),
    ("linear1.conv", 0.00043, 65_536),
]
FIGURES = {
    "parity_max_difference": 2.119e-7,
    "int8_cosine_mean": 0.9968,
    "int8_cosine_p1": 0.9939,
    "int8_pair_change_p99": 0.02978,
    "int8_pair_change_worst": 0.051,
    "int8_crops": 125.0,
    "int8_share": 1.0,
    "int8_speed_ratio": 0.7253,
    "multiply_adds": 189_408_256.0,
}
LIMITS = {"min_cosine_mean": 0.95, "min_cosine_p1": 0.92, "max_pair_change_p99": 0.08}
HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "' onmouseover='alert(1)",
    "</style></title></svg><iframe src=//evil.example>",
    "photo\u202egpj.exe\u2066",
    "a" * 10_000,
    "&lt;b&gt; &amp;",
    "lone \ud800 half, bell \x07, null \x00",
]


def manifest(**changes: Any) -> Manifest:
    whole = Manifest(
        model_id="7253ff4b" * 8,
        name="arcface-mobilefacenet-112x96",
        embedding_size=128,
        crop_size=Size(96, 112),
        alignment_template="arcface-112x96",
        source=ModelSource(
            file_name="mobilefacenet.ckpt",
            sha256="e839247c" * 8,
            format="legacy torch pickle",
            architecture="MobileFaceNet",
            trainer="MobileFaceNet_Pytorch (Xiaoccer)",
            loss="ArcFace",
        ),
        artefacts=(
            Artefact("fp32", "model.fp32.onnx", "ea4330fa" * 8, 3_977_484, "float32"),
            Artefact("int8", "model.int8.onnx", "fd8407c6" * 8, 1_144_128, "int8"),
        ),
        verdict=Verdict("passed", False, FIGURES, ("fit them with `edgeface verify --fit`",)),
        operating_points=(
            OperatingPoint(0.3, 0.01, "fp32", "LFW", 0.0041, 1500, 120_000),
            OperatingPoint(0.33, 0.01, "int8", "provisional", provisional=True),
        ),
        files={"report.json": "f72145e7" * 8},
        tools={"edgeface": "0.1.0", "onnxruntime": "1.31.1"},
    )
    return replace(whole, **changes)


def data_free() -> Manifest:
    notes = ("data-free: tried on 64 synthetic pictures. Check with `edgeface verify`.", "another")
    return manifest(verdict=Verdict("passed", True, FIGURES, notes))


def verified(accuracy: float, det: list[list[float]]) -> dict[str, Any]:
    return {
        "accuracy": accuracy,
        "accuracy_interval": {"low": accuracy - 0.005, "high": accuracy + 0.004},
        "tar": [
            {"target_fmr": 0.01, "tar": 0.98, "interval": {"low": 0.97, "high": 0.99}},
            {"target_fmr": 0.0001, "tar": None, "interval": None, "note": "too few pairs"},
        ],
        "eer": 0.0167,
        "det": det,
        "n_mated": 1500,
        "n_non_mated": 1500,
        "protocol": "LFW, folds 1-5",
        "notes": ["rests on 15 false matches; 30 make it firm"],
    }


def gate(name: str, figure: float, bound: str, limit: float, passed: bool = True) -> dict[str, Any]:
    said = f"{name} {figure:g} ({bound} {limit:g})"
    return {"gate": name, "figure": figure, "limit": limit, "passed": passed, "sentence": said}


def report_of_today() -> dict[str, Any]:
    return {
        "layout": "mobilefacenet-xiaoccer",
        "preprocessing": "RGB, (x - 127.5) / 128",
        "reasons": ["all 283 tensors are there", "the last layer has 128 outputs"],
        "dropped": {"batch counters": 50},
        "figures": dict(FIGURES),
        "gates": ["parity to the checkpoint 2.12e-07 (at most 1e-05)"],
        "limits": dict(LIMITS),
        "quantised": {"data_free": False, "int8_nodes": [], "kept_float": {"conv1": "asked for"}},
    }


def full_report() -> dict[str, Any]:
    times = (("fp32", 3.86), ("int8", 2.1), ("cpu-fp32", 2.84), ("cpu-int8", 1.34), ("odd", 9.0))
    return report_of_today() | {
        "cosines": list(COSINES),
        "pair_scores": {
            "before": list(BEFORE),
            "after": list(AFTER),
            "mated": [score > 0.3 for score in BEFORE],
        },
        "sensitivity": [
            {"layer": name, "error": error, "multiply_adds": n, "kept_float": name == "conv1.conv"}
            for name, error, n in LAYERS
        ],
        "speed": [
            {
                "engine": "ONNX Runtime 1.31.1",
                "artefact": artefact,
                "threads": 1,
                "batch": batch,
                "ms": ms * batch,
            }
            for batch in (1, 8)
            for artefact, ms in times
        ],
        "speed_conditions": "Medians of 25 rounds on two cores.",
        "gate_results": [
            gate("parity to the checkpoint", 2.119e-7, "at most", 1e-5),
            gate("INT8 cosine, mean", 0.9968, "at least", 0.95),
        ],
        "ladder": [
            {"step": "largest value", "cosine_mean": 0.961, "cosine_p1": 0.917, "passed": False},
            {"step": "percentile", "cosine_mean": 0.9968, "cosine_p1": 0.9939, "passed": True},
        ],
        "verification": {
            "fp32": verified(0.9853, FP32_DET),
            "int8": verified(0.984, INT8_DET),
        },
        "activation_set": {"pictures": 500, "near_duplicates": 12, "eye_px": {"p5": 38.2}},
        "exported_at": "2026-11-21T20:42:11+00:00",
        "discovery": {
            "name": "rgb:127.5/128",
            "faces": 400,
            "people": 104,
            "tried": [tried("rgb:127.5/128", "chosen"), tried("bgr:127.5/128", "dropped early")],
            "crops": [tried("rgb:127.5/128", "chosen")],
            "warnings": ["look at who trained it"],
        },
    }


def tried(name: str, outcome: str) -> dict[str, Any]:
    figures = {"d_prime": 4.94, "low": 4.54, "high": 5.37, "auc": 0.9984, "first_layer": 0.01}
    crop = "arcface-112x96"
    return {"name": name, "crop": crop, "outcome": outcome, "faces": 400, "seconds": 7.2} | figures


def plain(text: str) -> str:
    """Return ``text`` with single spaces, and with signs that a keyboard has."""
    return " ".join(text.split()).translate({0x2212: "-", 0x00D7: "x"})


class Page(HTMLParser):
    """The elements and the visible text of a page; fails where tags do not pair up."""

    VOID = frozenset({"meta", "link", "br", "img"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.said.append(data)

    @property
    def text(self) -> str:
        return plain(" ".join(self.said))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.elements if found == tag]


def page_of(report: dict[str, Any], of: Manifest | None = None) -> Page:
    return Page(render_report(report, of or manifest()))


def edited(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {key: edited(entry, change) for key, entry in value.items()}
    if isinstance(value, list):
        return [edited(entry, change) for entry in value]
    return change(value)


def soiled(text: str) -> tuple[dict[str, Any], Manifest]:
    """Return a report and a manifest with ``text`` in the place of every text, keys too."""
    report = edited(full_report(), lambda value: text if isinstance(value, str) else value)
    report["speed"] = full_report()["speed"]
    for row in report["speed"]:
        row["engine"] = text
    for key in ("dropped", "activation_set", "verification"):
        report[key] |= {text: copy.deepcopy(next(iter(report[key].values())))}
    report["quantised"]["kept_float"] = {text: text}
    source = ModelSource(text, text, text, text, text, text)
    return report, manifest(
        name=text,
        model_id=text,
        alignment_template=text,
        source=source,
        artefacts=(Artefact(text, text, text, 1, text), *manifest().artefacts),
        verdict=Verdict("passed", False, FIGURES, (text,)),
        operating_points=(OperatingPoint(0.3, 0.01, text, text),),
        files={text: text},
        tools={text: text, "edgeface": text},
    )
