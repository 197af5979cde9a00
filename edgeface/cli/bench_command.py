"""``edgeface bench``: how fast a bundle is on this machine."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeface.bundle import Bundle
from edgeface.cli.console import note, print_json, print_line, table
from edgeface.cli.needs import need_cpu
from edgeface.cli.shared_options import JsonOption, open_recognizer
from edgeface.pipeline import RecognizerOptions

if TYPE_CHECKING:
    from edgeface.benchmark import EngineFigures, PathFigures, StartFigures

__all__ = ["bench"]


def bench(
    bundle: Annotated[Path, typer.Argument(help="Bundle to measure.")],
    *,
    clip: Annotated[
        str | None,
        typer.Option(help="Clip for the whole path [the demo's clip]; 'none' leaves it out."),
    ] = None,
    threads: Annotated[list[int] | None, typer.Option(help="Thread counts [1 and 2].")] = None,
    batch: Annotated[list[int] | None, typer.Option(help="Batch sizes [1 and 8].")] = None,
    rounds: Annotated[int, typer.Option(min=5, help="Rounds that the artefacts take turns.")] = 30,
    as_json: JsonOption = False,
) -> None:
    """Measure each artefact, the whole path by stage, cold start and memory."""
    need_cpu()
    from edgeface.benchmark import bench_engines, bench_start

    opened = Bundle.open(bundle)
    note("measuring the artefacts in turns; keep the machine quiet")
    engines = bench_engines(
        opened, threads=threads or (1, 2), batches=batch or (1, 8), rounds=rounds
    )
    starts = bench_start(opened)
    path = None if clip == "none" else _path(bundle, clip)
    if as_json:
        print_json(
            {
                "engines": [asdict(entry) for entry in engines],
                "start": [asdict(entry) for entry in starts],
                "path": None if path is None else asdict(path),
            }
        )
    else:
        print_line(render(engines, starts, path))


def _path(bundle: Path, clip: str | None) -> PathFigures:
    from edgeface.benchmark import bench_path

    with (
        tempfile.TemporaryDirectory() as folder,
        open_recognizer(bundle, None, RecognizerOptions(threads=1, target_fmr=1e-2)) as recognizer,
    ):
        if clip is None:
            from edgeface.demo import write_clip

            made = Path(folder) / "clip.mp4"
            write_clip(made)
            return bench_path(recognizer, made)
        return bench_path(recognizer, clip)


def render(
    engines: list[EngineFigures], starts: list[StartFigures], path: PathFigures | None
) -> str:
    """Return the figures as tables; the last column is the speed against the first artefact."""
    parts = [table(*_engine_table(engines)), table(*_start_table(starts))]
    if path is not None:
        parts.append(
            f"whole path, {path.frames} frames with {path.faces} faces: p50 {path.p50_ms:.1f} ms, "
            f"p95 {path.p95_ms:.1f} ms, {path.cpu_ms_per_frame:.1f} ms of processor time a frame"
        )
        rows = [[stage, f"{ms:.2f}"] for stage, ms in path.stages_mean_ms.items()]
        parts.append(table(["stage", "mean ms a frame"], rows))
    return "\n\n".join(parts)


def _engine_table(engines: list[EngineFigures]) -> tuple[list[str], list[list[str]]]:
    header = ["artefact", "engine", "threads", "batch", "p50 ms", "p95 ms", "faces/s", "speed"]
    first: dict[tuple[int, int], float] = {}
    rows: list[list[str]] = []
    for entry in engines:
        base = first.setdefault((entry.threads, entry.batch), entry.p50_ms)
        figures = [entry.p50_ms, entry.p95_ms]
        rows.append(
            [
                entry.artefact,
                entry.backend,
                str(entry.threads),
                str(entry.batch),
                *(f"{ms:.2f}" for ms in figures),
                f"{entry.embeddings_per_s:.0f}",
                f"{base / entry.p50_ms:.2f}x",
            ]
        )
    return header, rows


def _start_table(starts: list[StartFigures]) -> tuple[list[str], list[list[Any]]]:
    rows = [
        [entry.artefact, f"{entry.first_embedding_s:.2f}", f"{entry.peak_memory_mb:.0f}"]
        for entry in starts
    ]
    return ["artefact", "first embedding s", "peak memory MB"], rows
