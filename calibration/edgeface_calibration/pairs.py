"""Pairs of images with the truth about them: LFW's list, a CSV file, or a labelled folder."""

from __future__ import annotations

import csv
import itertools
import os
import random
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeface.errors import InvalidInputError

__all__ = [
    "IMAGE_SUFFIXES",
    "Pair",
    "PairProtocol",
    "image_files",
    "parse_folds",
    "read_folder",
    "read_pairs",
]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
_CSV_HEADER = ["image_a", "image_b", "same"]
_TRUE, _FALSE = frozenset({"1", "true", "yes"}), frozenset({"0", "false", "no"})
# Where a list names no folds, pairs are dealt to ten in turn, as many as LFW has.
_DEALT_FOLDS = 10
_MAX_FOLDER_NON_MATED = 100_000


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images, relative to the folder of images with ``/``; ``same`` is true for one person."""

    image_a: str
    image_b: str
    same: bool


@dataclass(frozen=True, slots=True)
class PairProtocol:
    """Pairs to compare, and what is known about them.

    ``folds`` numbers the fold of each pair. ``subjects`` names the person in each image, and is
    None where the list does not say: images are then known to differ only where a pair says so.
    ``images`` is the folder that the names are relative to. ``n_repeated`` counts pairs that an
    official list holds more than once; they are kept, so that figures agree with others'.
    """

    name: str
    images: Path
    pairs: tuple[Pair, ...]
    folds: tuple[int, ...]
    subjects: Mapping[str, str] | None = None
    n_repeated: int = 0

    @property
    def image_names(self) -> tuple[str, ...]:
        """Every image that a pair names, once, in alphabetical order."""
        return tuple(sorted({name for p in self.pairs for name in (p.image_a, p.image_b)}))

    def subject_of(self) -> dict[str, str]:
        """Return a subject for every image.

        Where ``subjects`` is None, images joined by mated pairs form one subject.
        """
        if self.subjects is not None:
            return {name: self.subjects[name] for name in self.image_names}
        return _joined(self.pairs, self.image_names)


def read_pairs(
    path: str | os.PathLike[str],
    images: str | os.PathLike[str],
    folds: Sequence[int] | None = None,
) -> PairProtocol:
    """Return the pairs listed in the file ``path``, whose images lie under ``images``.

    Two formats are known. LFW's: a header of folds and mated pairs per fold (or of the latter
    alone), then tab-separated ``name i j`` for mated and ``name i other j`` for non-mated pairs.
    CSV: the header ``image_a,image_b,same``, then names relative to ``images`` and 1 or 0.

    Args:
        path: The list.
        images: The folder of images.
        folds: Numbers of LFW folds, from 1, to read; None reads all.

    Raises:
        InvalidInputError: The list cannot be read, a line is malformed (its number is given), a
            fold does not exist, images are missing, or a CSV file repeats or contradicts itself.
    """
    path, folder = Path(path), Path(images)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidInputError(f"the pairs file {path} cannot be read: {exc}") from exc
    if lines and [cell.strip() for cell in lines[0].split(",")] == _CSV_HEADER:
        if folds is not None:
            raise InvalidInputError(f"{path} is a CSV file, which has no folds to choose from")
        protocol = _read_csv(path, folder, lines)
    else:
        protocol = _read_lfw(path, folder, lines, folds)
    _require_images(protocol)
    return protocol


def read_folder(
    images: str | os.PathLike[str],
    *,
    max_non_mated: int = _MAX_FOLDER_NON_MATED,
    seed: int = 0,
) -> PairProtocol:
    """Return the pairs of a labelled folder: one sub-folder for each person.

    Every mated pair is taken, and every non-mated pair up to ``max_non_mated``, beyond which
    that many are drawn with ``seed``.

    Raises:
        InvalidInputError: There are not two people, or nobody has two images.
    """
    folder = Path(images)
    subjects = {
        path.relative_to(folder).as_posix(): path.relative_to(folder).parts[0]
        for path in image_files(folder)
        if len(path.relative_to(folder).parts) > 1
    }
    by_subject: dict[str, list[str]] = {}
    for name, subject in subjects.items():
        by_subject.setdefault(subject, []).append(name)
    mated = [
        Pair(first, second, same=True)
        for names in by_subject.values()
        for first, second in itertools.combinations(names, 2)
    ]
    if len(by_subject) < 2 or not mated:
        raise InvalidInputError(
            f"{folder} must have a sub-folder of images for each of at least two people, one of "
            f"them with two images; got {len(by_subject)} people and {len(subjects)} images"
        )
    non_mated = _cross_pairs(subjects, max_non_mated, random.Random(seed))
    return PairProtocol(
        name=f"labelled folder {folder.name}",
        images=folder,
        pairs=(*mated, *non_mated),
        folds=_dealt([*mated, *non_mated]),
        subjects=subjects,
    )


def image_files(folder: Path) -> list[Path]:
    """Return the JPEG and PNG files under ``folder``, at any depth, in alphabetical order.

    Raises:
        InvalidInputError: There is no such folder.
    """
    if not folder.is_dir():
        raise InvalidInputError(f"there is no folder of images at {folder}")
    found = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted((path for path in found if path.is_file()), key=lambda path: path.as_posix())


def parse_folds(text: str) -> tuple[int, ...]:
    """Return the fold numbers written as ``1-5``, ``3`` or ``1,2,7-9``.

    Raises:
        InvalidInputError: ``text`` is not such a list.
    """
    folds: list[int] = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        high = high if dash else low
        if not low.isdecimal() or not high.isdecimal():
            raise InvalidInputError(f"folds are written like 1-5 or 1,3, got {text!r}")
        folds += range(int(low), int(high) + 1)
    if not folds or len(set(folds)) != len(folds):
        raise InvalidInputError(f"folds are written like 1-5 or 1,3, each once, got {text!r}")
    return tuple(folds)


def _read_lfw(
    path: Path, folder: Path, lines: list[str], folds: Sequence[int] | None
) -> PairProtocol:
    n_folds, per_fold = _lfw_header(path, lines)
    chosen = tuple(folds) if folds is not None else tuple(range(1, n_folds + 1))
    unknown = [fold for fold in chosen if not 1 <= fold <= n_folds]
    if unknown or not chosen:
        raise InvalidInputError(f"{path} has folds 1 to {n_folds}, got {list(chosen)}")
    pairs, numbers = [], []
    subjects: dict[str, str] = {}
    for fold in chosen:
        for k in range(2 * per_fold):
            line = (fold - 1) * 2 * per_fold + k + 1
            pairs.append(_lfw_pair(f"{path}, line {line + 1}", lines[line], subjects))
            numbers.append(fold)
    n_repeated = len(pairs) - len({_key(pair) for pair in pairs})
    listed = "" if folds is None else f", folds {','.join(map(str, chosen))} of {n_folds}"
    return PairProtocol(
        name=f"{path.name}{listed}",
        images=folder,
        pairs=tuple(pairs),
        folds=tuple(numbers) if len(chosen) > 1 else _dealt(pairs),
        subjects=subjects,
        n_repeated=n_repeated,
    )


def _lfw_header(path: Path, lines: list[str]) -> tuple[int, int]:
    """Return the number of folds and of mated pairs in each."""
    while lines and not lines[-1].strip():
        lines.pop()
    words = lines[0].split() if lines else []
    if len(words) not in (1, 2) or not all(word.isdecimal() and int(word) for word in words):
        got = repr(lines[0][:80]) if lines else "an empty file"
        raise InvalidInputError(
            f"{path}, line 1: wanted the header of an LFW list (folds and pairs per fold) or "
            f"{','.join(_CSV_HEADER)!r}, got {got}"
        )
    n_folds = int(words[0]) if len(words) == 2 else 1
    wanted = n_folds * 2 * int(words[-1])
    if len(lines) - 1 != wanted:
        raise InvalidInputError(
            f"{path}: the header promises {wanted} pairs, got {len(lines) - 1}; the file is cut "
            "short or its header belongs to another list"
        )
    return n_folds, int(words[-1])


def _lfw_pair(where: str, line: str, subjects: dict[str, str]) -> Pair:
    """Return the pair of one line, and enter its images into ``subjects``."""
    words = line.strip().split("\t") if "\t" in line else line.split()
    if len(words) == 3:
        words = [words[0], words[1], words[0], words[2]]
    elif len(words) != 4 or words[0] == words[2]:
        raise InvalidInputError(
            f"{where}: wanted 'name i j' or 'name i other j' with tabs, got {line[:80]!r}"
        )
    names = []
    for person, number in (words[:2], words[2:]):
        if not number.isdecimal() or not person or {"/", "\\"} & set(person) or person == "..":
            raise InvalidInputError(f"{where}: {person!r} {number!r} names no image")
        names.append(f"{person}/{person}_{int(number):04d}.jpg")
        subjects[names[-1]] = person
    if names[0] == names[1]:
        raise InvalidInputError(f"{where}: an image is paired with itself: {names[0]}")
    return Pair(names[0], names[1], same=words[0] == words[2])


def _read_csv(path: Path, folder: Path, lines: list[str]) -> PairProtocol:
    pairs: list[Pair] = []
    line_of: dict[tuple[str, str], int] = {}
    for number, row in enumerate(csv.reader(lines[1:]), start=2):
        if not row:
            continue
        where = f"{path}, line {number}"
        pair = _csv_pair(where, row)
        first = line_of.setdefault(_key(pair), number)
        if first != number:
            raise InvalidInputError(f"{where}: the pair was listed on line {first} already")
        pairs.append(pair)
    if not pairs:
        raise InvalidInputError(f"{path} lists no pairs")
    joined = _joined(pairs, {name for pair in pairs for name in _key(pair)})
    for pair in pairs:
        if not pair.same and joined[pair.image_a] == joined[pair.image_b]:
            raise InvalidInputError(
                f"{path}, line {line_of[_key(pair)]}: other lines make these one person: "
                f"{pair.image_a}, {pair.image_b}"
            )
    return PairProtocol(path.name, folder, tuple(pairs), _dealt(pairs))


def _csv_pair(where: str, row: list[str]) -> Pair:
    cells = [cell.strip() for cell in row]
    if len(cells) != 3 or cells[2].lower() not in _TRUE | _FALSE:
        raise InvalidInputError(f"{where}: wanted image_a,image_b,1 or 0, got {','.join(row)!r}")
    for name in cells[:2]:
        parts = Path(name).parts
        if not name or Path(name).is_absolute() or ".." in parts or "\\" in name:
            raise InvalidInputError(
                f"{where}: {name!r} must be relative to the folder of images, with '/'"
            )
    if cells[0] == cells[1]:
        raise InvalidInputError(f"{where}: an image is paired with itself: {cells[0]}")
    return Pair(cells[0], cells[1], same=cells[2].lower() in _TRUE)


def _key(pair: Pair) -> tuple[str, str]:
    """Return the two images in an order that does not depend on how they were listed."""
    return min(pair.image_a, pair.image_b), max(pair.image_a, pair.image_b)


def _joined(pairs: Sequence[Pair], names: Collection[str]) -> dict[str, str]:
    """Return for every image the first image, by name, that mated pairs connect it with."""
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for pair in pairs:
        if pair.same:
            first, second = sorted((root(pair.image_a), root(pair.image_b)))
            parent[second] = first
    return {name: root(name) for name in names}


def _dealt(pairs: Sequence[Pair]) -> tuple[int, ...]:
    """Return a fold for each pair: mated and non-mated are each dealt to the folds in turn."""
    turns = {same: itertools.cycle(range(1, _DEALT_FOLDS + 1)) for same in (True, False)}
    return tuple(next(turns[pair.same]) for pair in pairs)


def _cross_pairs(subjects: Mapping[str, str], limit: int, rng: random.Random) -> list[Pair]:
    names = list(subjects)
    n_all = (len(names) ** 2 - sum(n**2 for n in Counter(subjects.values()).values())) // 2
    if n_all <= limit:
        return list(_all_cross_pairs(names, subjects))
    drawn: dict[tuple[str, str], None] = {}
    while len(drawn) < limit:
        first, second = sorted(rng.sample(names, 2))
        if subjects[first] != subjects[second]:
            drawn[first, second] = None
    return [Pair(first, second, same=False) for first, second in drawn]


def _all_cross_pairs(names: list[str], subjects: Mapping[str, str]) -> Iterator[Pair]:
    for first, second in itertools.combinations(names, 2):
        if subjects[first] != subjects[second]:
            yield Pair(first, second, same=False)


def _require_images(protocol: PairProtocol) -> None:
    missing = [name for name in protocol.image_names if not (protocol.images / name).is_file()]
    if missing:
        raise InvalidInputError(
            f"{len(missing)} of {len(protocol.image_names)} images are not under "
            f"{protocol.images}: {', '.join(missing[:3])}{', …' if len(missing) > 3 else ''}"
        )
