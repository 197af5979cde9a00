"""Train the student to give the teacher's embeddings; stop and go on at any time.

Usage: python -m examples.train_default.train POOL RUN --images 3000000 [--evaluation PAIRS.npz]

``RUN`` gets ``last.pt`` (to go on from), ``student.pt`` (moving average of the weights: the one to
export), ``log.csv`` and ``curves.png``. Shards may be added to the pool while this runs; the least
seen shard is taken next.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from examples.train_default import evaluation
from examples.train_default.student import Student

COLUMNS = ("images", "seconds", "loss", "cosine", "learning_rate", "accuracy", "tar_1e2")


@dataclass(frozen=True)
class Options:
    """How to train. The rate warms up, stays, and falls to zero over the last ``cool_down``."""

    images: int
    batch: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warm_up: int = 20_000
    cool_down: float = 0.25
    relation: float = 20.0
    averaging: float = 0.9995
    seed: int = 0


class Run:
    """The state of a training run, saved after every shard."""

    def __init__(self, pool: Path, folder: Path, options: Options) -> None:
        self._pool, self._folder, self._options = pool, folder, options
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(options.seed)
        self.model = Student().to(memory_format=torch.channels_last)
        self.average = Student().to(memory_format=torch.channels_last).eval()
        self.average.load_state_dict(self.model.state_dict())
        self._optimiser = torch.optim.AdamW(_groups(self.model, options.weight_decay))
        self.images = 0
        self.seconds = 0.0
        self._seen: dict[str, int] = {}
        if (folder / "last.pt").exists():
            self._restore()

    def _restore(self) -> None:
        state: dict[str, Any] = torch.load(self._folder / "last.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.images, self.seconds, self._seen = state["images"], state["seconds"], state["seen"]

    def save(self) -> None:
        """Write ``last.pt`` and ``student.pt``; a run that dies meanwhile keeps the old ones."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "images": self.images,
            "seconds": self.seconds,
            "seen": self._seen,
        }
        _write(state, self._folder / "last.pt")
        _write({"state_dict": self.average.state_dict()}, self._folder / "student.pt")

    def rate(self) -> float:
        """Return the learning rate at this point of the run."""
        options = self._options
        left = (options.images - self.images) / (options.cool_down * options.images)
        return options.learning_rate * max(0.0, min(1.0, self.images / options.warm_up, left))

    def train_shard(self) -> tuple[float, float]:
        """Train on the least seen shard; return the means of loss and of cosine to the teacher."""
        started = time.monotonic()
        name = self._next_shard()
        rng = np.random.default_rng([self._options.seed, self._seen.get(name, 0), int(name)])
        losses, cosines = [], []
        for pictures, labels in _batches(self._pool, name, self._options.batch, rng):
            loss, cosine = self._step(pictures, labels)
            losses.append(loss)
            cosines.append(cosine)
        self._seen[name] = self._seen.get(name, 0) + 1
        self.seconds += time.monotonic() - started
        return float(np.mean(losses)), float(np.mean(cosines))

    def _next_shard(self) -> str:
        names = sorted(path.name.split(".")[0] for path in self._pool.glob("*.pictures.npy"))
        if not names:
            raise SystemExit(f"no shards in {self._pool}: make some with pool.py")
        return min(names, key=lambda name: (self._seen.get(name, 0), name))

    def _step(self, pictures: Tensor, labels: Tensor) -> tuple[float, float]:
        self.model.train()
        for group in self._optimiser.param_groups:
            group["lr"] = self.rate()
        with torch.autocast("cpu", torch.bfloat16):
            rows = self.model(pictures)
        rows = functional.normalize(rows.float())
        cosine = (rows * labels).sum(dim=1).mean()
        # Relational distillation (Park et al. 2019): what counts later is scores between pictures.
        between = functional.mse_loss(rows @ rows.T, labels @ labels.T)
        loss = 1 - cosine + self._options.relation * between
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._optimiser.step()
        self.images += len(pictures)
        self._average()
        return float(loss.detach()), float(cosine.detach())

    @torch.no_grad()
    def _average(self) -> None:
        steps = self.images / self._options.batch
        keep = min(self._options.averaging, (1 + steps) / (10 + steps))
        for mean, now in zip(
            self.average.state_dict().values(), self.model.state_dict().values(), strict=True
        ):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - keep)
            else:
                mean.copy_(now)


def _groups(model: torch.nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weight decay is for matrices and kernels; scales and offsets go without."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def _batches(
    pool: Path, name: str, size: int, rng: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    pictures = np.load(pool / f"{name}.pictures.npy")
    labels = np.load(pool / f"{name}.labels.npy").astype(np.float32)
    order = rng.permutation(len(pictures))
    for start in range(0, len(order) - size + 1, size):
        chosen = order[start : start + size]
        batch = pictures[chosen]
        mirrored = rng.random(size) < 0.5
        batch[mirrored] = batch[mirrored, :, ::-1]
        yield to_input(batch), torch.from_numpy(labels[chosen])


def to_input(pictures: npt.NDArray[np.uint8]) -> Tensor:
    """Return (n, 3, h, w) float32 in -1..1, channels last in memory, of (n, h, w, 3) uint8 RGB."""
    return (torch.from_numpy(pictures).permute(0, 3, 1, 2).float() - 127.5) / 127.5


@torch.no_grad()
def embed(model: torch.nn.Module, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return rows of length 1 in float32, one for each crop."""
    rows = [
        functional.normalize(model(to_input(crops[k : k + 64]))) for k in range(0, len(crops), 64)
    ]
    return np.asarray(torch.cat(rows).numpy(), np.float32)


def _write(state: dict[str, Any], path: Path) -> None:
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def _log(path: Path, row: tuple[float, ...]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(COLUMNS)
        writer.writerow([f"{value:.6g}" for value in row])


def draw(log: Path, picture: Path) -> None:
    """Draw the curves of ``log.csv``."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    table = np.atleast_1d(np.genfromtxt(log, delimiter=",", names=True))
    panels = (
        ("cosine", "cosine to the teacher"),
        ("accuracy", "accuracy"),
        ("tar_1e2", "TAR at FMR 1e-2"),
    )
    figure, axes = plt.subplots(1, len(panels), figsize=(12, 3.6), constrained_layout=True)
    for axis, (column, title) in zip(axes, panels, strict=True):
        seen = np.isfinite(table[column])
        axis.plot(table["images"][seen] / 1e3, table[column][seen], color="#2a6f97")
        axis.set(title=title, xlabel="thousand pictures")
        axis.grid(alpha=0.3)
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pool", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=int, default=3_000_000)
    parser.add_argument("--evaluation", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--learning-rate", type=float, default=Options.learning_rate)
    parser.add_argument("--relation", type=float, default=Options.relation)
    parser.add_argument("--batch", type=int, default=Options.batch)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    options = Options(
        args.images, batch=args.batch, learning_rate=args.learning_rate, relation=args.relation,
        seed=args.seed,
    )  # fmt: skip
    run = Run(args.pool, args.run, options)
    pairs = evaluation.load(args.evaluation) if args.evaluation else None
    while run.images < options.images:
        loss, cosine = run.train_shard()
        run.save()
        figures = (float("nan"), float("nan"))
        if pairs is not None:
            figures = evaluation.judge(embed(run.average, pairs.crops), pairs.pairs)
        row = (run.images, run.seconds, loss, cosine, run.rate(), *figures)
        _log(args.run / "log.csv", row)
        print(" ".join(f"{c}={v:.5g}" for c, v in zip(COLUMNS, row, strict=True)), flush=True)
    draw(args.run / "log.csv", args.run / "curves.png")


if __name__ == "__main__":
    main()
