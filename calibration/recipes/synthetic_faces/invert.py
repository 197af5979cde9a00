"""Makes pictures of faces that do not exist, out of a recogniser's BatchNorm statistics.

DeepInversion (Yin et al., "Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion",
CVPR 2020) for face embeddings: starting from a drawn oval, pictures are moved by gradient descent
until the statistics that they cause at every BatchNorm are those that the layer kept while it was
trained. No face image is read, and no class weight: the result is nobody.

    python invert.py CHECKPOINT --output DIR [--count 256] [--steps 40] [--seed 0]

An interrupted run goes on where it stopped when it is started again with the same arguments.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import struct
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch  # noqa: TID253 - the recipe is a script of its own, nothing imports it
import torch.nn.functional as functional  # noqa: TID253
from invertible import InvertibleNetwork
from torch import Tensor  # noqa: TID253

from edgeface_export.architectures.recognition import recognise
from edgeface_export.checkpoints import read_checkpoint

Pictures = npt.NDArray[np.uint8]
LEVELS_PX = (7, 14, 28, 56, 112)
"""Sides of the pyramid whose sum is a picture: coarse levels move whole regions at once, which
gives the falling spectrum of natural images that single pixels never find."""
COLOUR_LEVELS_PX = (7, 14, 28)
"""The same for colour, which is smooth in faces, and which free pixels would use to cheat."""
_FREE_LIKENESS = 1.3
"""Mean square cosine that costs nothing, in units of that of random directions; faces of different
people have about this, and to be more unlike than people are would be wrong as well."""
_COLOURS = 0.35 * torch.tensor([[0.0, -0.344, 1.772], [1.402, -0.714, 0.0]])
"""What blue and red difference (BT.601) add to red, green and blue; the factor slows them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InversionOptions:
    """How pictures are made.

    ``chunk`` pictures are optimised together, and their common statistics are compared.
    ``step_size`` is Adam's, falling to zero along a cosine. Weights are relative to the mean
    divergence of a BatchNorm, which is 0.19 for the drawings, 0.04 at the end and 0.01 for photos:
    ``variation`` bounds the differences of neighbouring pixels, ``distance`` the way from the drawn
    start, ``symmetry`` the difference of left and right at a quarter of the resolution, ``spread``
    the likeness of different pictures' embeddings.
    """

    count: int = 256
    chunk: int = 32
    steps: int = 40
    step_size: float = 0.015
    variation: float = 0.001
    distance: float = 0.0005
    symmetry: float = 0.0005
    spread: float = 0.5
    seed: int = 0


def drawn_faces(count: int, generator: torch.Generator) -> Tensor:
    """Return (count, 3, 112, 112) drawings of 0..1: an oval with eyes, brows, nose and mouth.

    The features lie where the alignment template has them. Colours, light and sizes are random.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *(shape or (1, 1, 1)), generator=generator)

    y, x = torch.meshgrid(torch.arange(112.0), torch.arange(112.0), indexing="ij")

    def spot(centre: tuple[float, float], radius: tuple[float, float], power: int = 2) -> Tensor:
        across = ((x - centre[0] - shift[:, 0]) / (radius[0] * width)).abs() ** power
        down = ((y - centre[1] - shift[:, 1]) / (radius[1] * width)).abs() ** power
        return torch.exp(-(across + down))

    shift = torch.randn(count, 2, 1, 1, 1, generator=generator) * 1.5
    width = uniform(0.9, 1.1)
    tone = uniform(0.25, 0.85)
    skin = tone * torch.cat([uniform(1.0, 1.1), uniform(0.75, 0.85), uniform(0.6, 0.75)], 1)
    behind = uniform(0.05, 0.8, 3, 1, 1) * 0.3 + uniform(0.05, 0.8) * 0.7
    noise = torch.randn(count, 1, 6, 6, generator=generator) * 0.15
    picture = behind + functional.interpolate(noise, (112, 112), mode="bicubic")
    hair = uniform(0.02, 0.45) * torch.cat(
        [uniform(1.0, 1.1), uniform(0.75, 0.9), uniform(0.5, 0.8)], 1
    )
    picture = torch.lerp(picture, hair.expand_as(picture), spot((56, 38), (50, 56), 6))
    face = spot((56, 66), (43, 58), 6)
    light = 1 + uniform(-0.25, 0.25) * (x - 56) / 56 + uniform(-0.15, 0.15) * (y - 56) / 56
    picture = torch.lerp(picture, skin * light, face)
    for eye_x, eye_y in ((38.3, 51.7), (73.5, 51.5)):
        picture = picture * (1 - 0.6 * spot((eye_x, eye_y), (6, 3.5)))
        picture = picture * (1 - uniform(0.1, 0.5) * spot((eye_x, eye_y - 10), (11, 3), 4))
    picture = picture * (1 - 0.3 * spot((56, 76), (8, 3)))
    mouth = uniform(0.1, 0.4) * spot((56, 92.3), (14, 4), 4)
    picture = picture * (1 - mouth * torch.tensor([0.4, 1.0, 0.9]).reshape(1, 3, 1, 1))
    return picture.clamp(0.02, 0.98)


class Chunk:
    """Pictures that are optimised together: a drawn start plus a pyramid of changes, as logits."""

    def __init__(self, index: int, options: InversionOptions) -> None:
        self.options = options
        self.seed = options.seed * 100_003 + index
        generator = torch.Generator().manual_seed(self.seed)
        count = min(options.chunk, options.count - index * options.chunk)
        self.start = torch.logit(drawn_faces(count, generator))
        shapes = [(1, side) for side in LEVELS_PX] + [(2, side) for side in COLOUR_LEVELS_PX]
        self.levels = [
            (torch.randn(count, planes, side, side, generator=generator) * 0.05).requires_grad_()
            for planes, side in shapes
        ]
        self.optimiser = torch.optim.Adam(self.levels, lr=options.step_size, betas=(0.8, 0.99))
        self.step = 0

    def logits(self) -> Tensor:
        """Return (n, 3, 112, 112) unbounded values whose sigmoid is the picture."""
        light = _whole(self.levels[: len(LEVELS_PX)])
        colour = _whole(self.levels[len(LEVELS_PX) :])
        return self.start + light + torch.einsum("pc,nphw->nchw", _COLOURS, colour)

    def pictures(self) -> Pictures:
        """Return the pictures as (n, 112, 112, 3) uint8 RGB."""
        with torch.no_grad():
            values = (torch.sigmoid(self.logits()) * 255).round().to(torch.uint8)
        return np.ascontiguousarray(values.permute(0, 2, 3, 1).numpy())

    def advance(self, network: InvertibleNetwork) -> dict[str, float]:
        """Move the pictures one step and return the terms of the loss before it."""
        along = 0.5 * (1 + math.cos(math.pi * self.step / self.options.steps))
        self.optimiser.param_groups[0]["lr"] = self.options.step_size * along
        self.optimiser.zero_grad()
        terms = self._terms(network)
        total = torch.stack(list(terms.values())).sum()
        total.backward()
        self.optimiser.step()
        self.step += 1
        return {"loss": total.item(), **{name: term.item() for name, term in terms.items()}}

    def _terms(self, network: InvertibleNetwork) -> dict[str, Tensor]:
        options = self.options
        logits = self.logits()
        values = torch.sigmoid(logits)
        small = functional.avg_pool2d(values, 4)
        features, divergence = network(self._jittered(values) * 255)
        likeness = _likeness(functional.normalize(features))
        return {
            "divergence": divergence,
            "spread": options.spread * (likeness - _FREE_LIKENESS / features.shape[1]).relu(),
            "variation": options.variation * _variation(values * 255),
            "distance": options.distance * (logits - self.start).square().mean(),
            "symmetry": options.symmetry * (small - small.flip(3)).square().mean() * 100,
        }

    def _jittered(self, values: Tensor) -> Tensor:
        """Return the pictures mirrored every other time and shifted by at most one pixel."""
        generator = np.random.default_rng((self.seed, self.step))
        rows, columns = generator.integers(-1, 2, 2)
        values = values.flip(3) if generator.random() < 0.5 else values
        return torch.roll(values, (int(rows), int(columns)), (2, 3))

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {
            "levels": [level.detach() for level in self.levels],
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Take up the state of an interrupted run."""
        with torch.no_grad():
            for level, saved in zip(self.levels, state["levels"], strict=True):
                level.copy_(saved)
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]


def _whole(levels: Sequence[Tensor]) -> Tensor:
    """Return the sum of pyramid levels at full size."""
    total = levels[0]
    for level in levels[1:]:
        total = level + functional.interpolate(total, level.shape[2:], mode="bilinear")
    return functional.interpolate(total, (112, 112), mode="bilinear")


def _variation(values: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbouring pixels, on the 0..255 scale."""
    across = (values[..., 1:] - values[..., :-1]).abs().mean()
    return across + (values[..., 1:, :] - values[..., :-1, :]).abs().mean()


def _likeness(unit: Tensor) -> Tensor:
    """Return the mean square of the cosine of different rows: 1/size for random directions."""
    cosines = unit @ unit.T
    others = cosines.numel() - len(unit)
    return (cosines.square().sum() - len(unit)) / max(others, 1)


class Run:
    """A folder that a run writes and goes on from: finished chunks, the state of one, a log."""

    def __init__(self, folder: Path, options: InversionOptions, source: Mapping[str, str]) -> None:
        self.folder, self.options, self.source = folder, options, source
        self._state = folder / "state.pt"
        self._settings = {"source": dict(source), "options": asdict(options)}
        folder.mkdir(parents=True, exist_ok=True)
        settings = folder / "settings.json"
        text = json.dumps(self._settings, indent=2) + "\n"
        if settings.exists() and settings.read_text() != text:
            raise SystemExit(f"{settings} is of a run with other settings: choose another folder")
        settings.write_text(text)

    def chunk(self, index: int, network: InvertibleNetwork) -> Pictures:
        """Return the pictures of one chunk, read if they are there already."""
        finished = self.folder / f"chunk-{index:03d}.npy"
        if finished.exists():
            return np.asarray(np.load(finished, allow_pickle=False))
        chunk = Chunk(index, self.options)
        if self._state.exists():
            chunk.resume(torch.load(self._state, weights_only=True))
        while chunk.step < self.options.steps:
            started = time.monotonic()
            terms = chunk.advance(network)
            self._log(index, chunk.step, terms, time.monotonic() - started)
            if chunk.step % 10 == 0:
                torch.save(chunk.state(), self._state)
        np.save(finished, chunk.pictures())
        self._state.unlink(missing_ok=True)
        return chunk.pictures()

    def _log(self, index: int, step: int, terms: Mapping[str, float], seconds: float) -> None:
        log = self.folder / "log.csv"
        new = not log.exists()
        with log.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["chunk", "step", *terms, "seconds"])
            writer.writerow(
                [index, step, *(f"{value:.5f}" for value in (*terms.values(), seconds))]
            )
        sys.stderr.write(f"\rchunk {index} step {step} loss {terms['loss']:.4f} {seconds:.2f} s  ")


def write_contact_sheet(path: Path, pictures: Pictures, columns: int = 16) -> None:
    """Write the pictures side by side as a PNG."""
    missing = -len(pictures) % columns
    padded = np.concatenate([pictures, np.zeros((missing, *pictures.shape[1:]), np.uint8)])
    rows = padded.reshape(-1, columns, *pictures.shape[1:])
    sheet = rows.transpose(0, 2, 1, 3, 4).reshape(rows.shape[0] * rows.shape[2], -1, 3)
    lines = b"".join(b"\0" + line.tobytes() for line in sheet)
    size = struct.pack(">IIBBBBB", sheet.shape[1], sheet.shape[0], 8, 2, 0, 0, 0)
    parts = [(b"IHDR", size), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in parts
        )
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    defaults = InversionOptions()
    for name, value in asdict(defaults).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    return parser.parse_args()


def main() -> int:
    """Run, and return 0."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    options = InversionOptions(
        **{name: getattr(arguments, name) for name in asdict(InversionOptions())}
    )
    checkpoint = read_checkpoint(arguments.checkpoint)
    found = recognise({name: tensor.array for name, tensor in checkpoint.tensors.items()})
    network = InvertibleNetwork(found.network)
    source = {"file": checkpoint.path.name, "sha256": checkpoint.sha256}
    run = Run(arguments.output, options, source)
    chunks = -(-options.count // options.chunk)
    pictures = np.concatenate([run.chunk(index, network) for index in range(chunks)])
    np.save(run.folder / "pictures.npy", pictures)
    write_contact_sheet(run.folder / "contact_sheet.png", pictures)
    sys.stderr.write(f"\n{len(pictures)} pictures in {run.folder}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
