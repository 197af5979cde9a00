"""``edgeface engine``: TensorRT engines of this device."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeface.bundle import Bundle
from edgeface.cli.console import note, print_json, print_line, progress, table
from edgeface.cli.needs import need_export
from edgeface.cli.shared_options import JsonOption

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeface.backends.engine_cache import CacheEntry
    from edgeface_export.engine import Candidate, EngineReport

__all__ = ["engine_app"]

engine_app = typer.Typer(help="TensorRT engines of this device.", no_args_is_help=True)


@engine_app.command("build")
def build(
    bundle: Annotated[Path, typer.Argument(help="Bundle to build engines of.")],
    *,
    max_batch: Annotated[int, typer.Option(min=1, help="Largest batch of faces.")] = 8,
    tuned_batch: Annotated[int, typer.Option(min=1, help="Batch to be fastest at.")] = 1,
    device: Annotated[int, typer.Option(min=0, help="Number of the GPU.")] = 0,
    workspace_mib: Annotated[int, typer.Option(min=1, help="Scratch memory of layers.")] = 1024,
    level: Annotated[
        int, typer.Option(min=0, max=5, help="TensorRT's optimisation level: higher builds longer.")
    ] = 3,
    as_json: JsonOption = False,
) -> None:
    """Build INT8 and FP16 engines on this GPU, verify and time them, and keep the fastest.

    They go into the user's cache, from which --backend tensorrt takes them. Exit code 1 when none
    computes what its graph says.
    """
    need_export()
    from edgeface.backends.engine_cache import BatchProfile
    from edgeface.backends.trt_engine import TensorRtOptions
    from edgeface_export.engine import build_engines

    options = TensorRtOptions(
        device=device,
        profile=BatchProfile(1, tuned_batch, max_batch),
        workspace_mib=workspace_mib,
        optimisation_level=level,
    )
    report = build_engines(Bundle.open(bundle), options, progress=_bar)
    if as_json:
        print_json(asdict(report))
    else:
        print_line(render(report))


@engine_app.command("list")
def list_engines(*, as_json: JsonOption = False) -> None:
    """List the engines in the cache, and those in it that are not believed."""
    from edgeface.backends.engine_cache import EngineCache

    cache = EngineCache()
    entries = cache.entries()
    if as_json:
        print_json({"folder": str(cache.folder), "engines": [_as_dict(each) for each in entries]})
        return
    note(f"engines in {cache.folder}")
    print_line(
        table(_HEADER, [_row(each) for each in entries]) if entries else "no engine is built"
    )


@engine_app.command("clear")
def clear_engines(*, as_json: JsonOption = False) -> None:
    """Delete every engine in the cache; they are built again when they are asked for."""
    from edgeface.backends.engine_cache import EngineCache

    count = EngineCache().clear()
    if as_json:
        print_json({"deleted": count})
    else:
        print_line(f"deleted {count} files")


_HEADER = ["engine", "precision", "artefact", "tensorrt", "gpu", "batches", "ms", "bytes", "state"]


def _bar(label: str, items: Iterable[Any]) -> Iterable[Any]:
    with progress(label, items) as bar:
        yield from bar


def _as_dict(entry: CacheEntry) -> dict[str, Any]:
    return {
        "file": entry.path.name,
        "size_bytes": entry.size_bytes,
        "key": entry.key,
        "figures": entry.figures,
        "problem": entry.reason,
    }


def _row(entry: CacheEntry) -> list[str]:
    name, size = entry.path.name[:12], f"{entry.size_bytes:,}"
    if entry.key is None:
        return [name, *["-"] * 6, size, f"not believed: {entry.reason}"]
    key = entry.key
    batches = f"{key['profile']['smallest']}-{key['profile']['largest']}"
    latency = entry.figures.get("latency_ms")
    return [
        name,
        key["precision"],
        key["artefact_sha256"][:12],
        key["tensorrt"],
        key["gpu"],
        batches,
        "-" if latency is None else f"{latency:.2f}",
        size,
        "sealed",
    ]


def render(report: EngineReport) -> str:
    """Return what was built, as lines for people."""
    best = report.fastest
    rows = [_candidate_row(each) for each in report.candidates]
    problems = [f"{each.precision}: {each.problem}" for each in report.candidates if each.problem]
    return "\n".join(
        [
            f"TensorRT {report.tensorrt} on {report.gpu}",
            table(["precision", "ms", "ms, largest batch", "cosine", "worst", "bytes", ""], rows),
            *problems,
            f"fastest: {best.precision} ({best.artefact}); run it with --backend tensorrt "
            f"--artefact {best.artefact}",
        ]
    )


def _candidate_row(each: Candidate) -> list[str]:
    if each.problem:
        return [each.precision, *["-"] * 5, "failed"]
    figures = each.figures
    return [
        each.precision,
        f"{figures['latency_ms']:.2f}",
        f"{figures['batch_latency_ms']:.2f}",
        f"{figures['cosine_mean']:.5f}",
        f"{figures['cosine_worst']:.5f}",
        f"{each.size_bytes:,}",
        "kept" if each.kept else "slower",
    ]
