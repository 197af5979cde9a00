"""Train the small student with any loss of the literature, and save it as its community does.

Usage: python -m examples.train_with_any_loss.train --loss arcface --images DIR --out arcface.pt

``DIR`` has a sub-folder of photos for each person. ``--start`` goes on from weights, such as
examples/train_default/edgeface-default.safetensors; without it a narrower student begins anew.
The same arguments give the same weights on the same machine with one thread.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from examples.train_default.student import Stage, Student
from examples.train_default.train import to_input
from examples.train_with_any_loss.faces import Faces, batches, read_faces
from examples.train_with_any_loss.recipes import RECIPES, Recipe
from examples.train_with_any_loss.save_formats import Trained

NARROW = (Stage(24, 2), Stage(40, 4), Stage(56, 2))
_AVERAGING = 0.9


@dataclass(frozen=True)
class Options:
    """How long to train, and from where; ``learning_rate`` 0 takes the recipe's."""

    steps: int = 60
    batch: int = 32
    learning_rate: float = 0.0
    seed: int = 0


def new_student(start: Path | None, seed: int) -> Student:
    """Return a narrow student with fresh weights, or the default's with those of ``start``."""
    torch.manual_seed(seed)
    if start is None:
        return Student(NARROW, stem=12, last=128, size=128)
    from safetensors.torch import load_file

    student = Student()
    student.load_state_dict(load_file(start), strict=False)
    return student


def train(
    name: str,
    faces: Faces,
    *,
    start: Path | None = None,
    options: Options | None = None,
    say: Callable[[str], None] | None = None,
) -> Trained:
    """Return what the loss called ``name`` makes of ``faces``, trained deterministically."""
    options, recipe = options or Options(), RECIPES[name]
    model = new_student(start, options.seed)
    average = deepcopy(model)
    loss = recipe.loss(model.embedding.weight.shape[0], faces.count, **recipe.settings)
    optimiser = _optimiser(model, loss, recipe, options)
    drawn = batches(faces, options.batch, of_each=recipe.of_each, seed=options.seed)
    model.train()
    loss.train()
    history = []
    for step in range(options.steps):
        crops, people = next(drawn)
        value = loss(model(to_input(crops)), torch.from_numpy(people))
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        _average(average, model)
        history.append(float(value.detach()))
        if say is not None and step % 10 == 9:
            say(f"step {step + 1}: {name} {history[-1]:.4f}")
    return Trained(name, model.eval(), average.eval(), loss.eval(), optimiser, tuple(history))


def _optimiser(
    model: nn.Module, loss: nn.Module, recipe: Recipe, options: Options
) -> torch.optim.Optimizer:
    rate = options.learning_rate or recipe.learning_rate
    groups = [{"params": list(model.parameters()), "lr": rate}]
    # A new head has all to learn, the backbone goes on from somewhere.
    own = [parameter for parameter in loss.parameters() if parameter.requires_grad]
    if own:
        groups.append({"params": own, "lr": 30 * rate})
    return torch.optim.AdamW(groups, weight_decay=1e-4)


@torch.no_grad()
def _average(average: nn.Module, model: nn.Module) -> None:
    """Move ``average`` a tenth of the way to ``model``; counters are copied."""
    for mean, now in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(now, 1 - _AVERAGING)
        else:
            mean.copy_(now)


def save(trained: Trained, path: Path) -> Path:
    """Write ``trained`` to ``path`` in the format of its loss's community, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    RECIPES[trained.name].save(trained, path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loss", choices=sorted(RECIPES), required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--landmarks", type=Path, help="five points for each image")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="safetensors of a student to go on from")
    parser.add_argument("--steps", type=int, default=Options.steps)
    parser.add_argument("--batch", type=int, default=Options.batch)
    parser.add_argument("--learning-rate", type=float, default=Options.learning_rate)
    parser.add_argument("--faces", type=int, default=2000, help="at most so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(mode=True)
    faces = read_faces(args.images, args.landmarks, most=args.faces)
    print(f"{len(faces.crops)} faces of {faces.count} people", flush=True)
    options = Options(args.steps, args.batch, args.learning_rate, args.seed)
    trained = train(args.loss, faces, start=args.start, options=options, say=print)
    print(f"saved {save(trained, args.out)}: export it with `edgeface export {args.out} --int8`")


if __name__ == "__main__":
    main()
