"""Drawing what was found on a picture, for people to look at."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType, ModuleType
from typing import TypeAlias

import numpy as np

from edgeface.errors import InvalidInputError, MissingDependencyError
from edgeface.types import (
    BoundingBox,
    Frame,
    IdentificationResult,
    ImageArray,
    Observation,
    Outcome,
    RejectionReason,
    Size,
)

__all__ = ["REASON_TEXT", "contact_sheet", "draw", "drawable_text"]

REASON_TEXT: Mapping[RejectionReason, str] = MappingProxyType(
    {
        RejectionReason.NO_FACE: "no face",
        RejectionReason.SEVERAL_FACES: "several faces",
        RejectionReason.LANDMARKS_NOT_FOUND: "face not clear",
        RejectionReason.LANDMARKS_IMPLAUSIBLE: "face not clear",
        RejectionReason.DETECTION_UNSURE: "maybe not a face",
        RejectionReason.TOO_SMALL: "too far away",
        RejectionReason.TOO_BLURRED: "blurred",
        RejectionReason.TOO_DARK: "too dark",
        RejectionReason.TOO_BRIGHT: "too bright",
        RejectionReason.TURNED_AWAY: "turned away",
        RejectionReason.TILTED: "head tilted",
        RejectionReason.OUTSIDE_FRAME: "partly outside",
        RejectionReason.TOO_CLOSE: "too close",
        RejectionReason.EYES_CLOSED: "eyes closed",
        RejectionReason.MOUTH_OPEN: "mouth open",
        RejectionReason.UNEVEN_LIGHT: "uneven light",
        RejectionReason.LOW_CONTRAST: "low contrast",
        RejectionReason.UNNATURAL_COLOUR: "odd colours",
        RejectionReason.LOW_QUALITY: "poor picture",
        RejectionReason.EMBEDDING_INVALID: "no usable result",
        RejectionReason.NOT_LIKE_THE_OTHERS: "not like the other pictures",
        RejectionReason.NOT_COMPARED: "...",
        RejectionReason.PRESENTATION_ATTACK: "not in person",
        RejectionReason.LIVENESS_UNDECIDED: "look here, move a little",
    }
)
"""What a picture says for each reason; pass another mapping to :func:`draw` to change it."""

_Colour: TypeAlias = tuple[int, int, int]

# RGB. Green, amber and purple differ in brightness too, for those who do not tell them apart.
_COLOURS: Mapping[Outcome, _Colour] = MappingProxyType(
    {
        Outcome.KNOWN: (46, 213, 115),
        Outcome.UNKNOWN: (255, 177, 32),
        Outcome.AMBIGUOUS: (170, 96, 250),
        Outcome.REJECTED: (178, 183, 190),
    }
)
_WAITING_TEXT = "..."
_PANEL_COLOUR: _Colour = (18, 20, 24)
_PANEL_OPACITY = 0.68
_BAR_COLOUR: _Colour = (84, 88, 94)
_TEXT_COLOUR: _Colour = (250, 250, 250)
_DIM_COLOUR: _Colour = (190, 194, 200)
_SHEET_COLOUR: _Colour = (28, 30, 34)

# 3 % of the height is 14 px at 480p and 32 px at 1080p; below 11 px the font is not readable.
_TEXT_HEIGHT_SHARE = 0.03
_MIN_TEXT_PX = 11
_MAX_TITLE_PX = 14
# Capitals of the Hershey fonts are 22 px high at scale 1.
_FONT_UNIT_PX = 22.0
_MAX_TITLE_LENGTH = 28
_MAX_REASONS = 2
# Letters that Unicode does not decompose.
_TRANSLITERATION = str.maketrans(
    {
        "ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O",
        "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th",
        "\u0131": "i", "\u2018": "'", "\u2019": "'", "\u2013": "-", "\u2014": "-",
    }
)  # fmt: skip


def draw(
    frame: Frame,
    observations: Sequence[Observation],
    *,
    reason_text: Mapping[RejectionReason, str] = REASON_TEXT,
    status: str = "",
) -> ImageArray:
    """Return a new (height, width, 3) uint8 RGB picture of ``frame`` with the observations on it.

    Known is green, unknown amber, ambiguous purple, rejected grey; a track on which nothing is
    said yet is grey, too. The bar is the score from 0 to 1. What a track says goes before what
    the frame says. Names are drawn as :func:`drawable_text` spells them. ``status`` is a line at
    the foot of the picture: how the camera is, what a frame takes.

    Raises:
        MissingDependencyError: OpenCV is not installed.
    """
    canvas = _Canvas(frame.pixels.copy(), _opencv())
    # The largest face is the nearest: its label is drawn last, on top.
    for observation in sorted(observations, key=lambda one: one.detection.box.area_px):
        box = canvas.clip(observation.detection.box)
        if box is not None:
            label = _label(observation, reason_text)
            _draw_box(canvas, box, label.colour)
            _draw_label(canvas, box, label)
    if status:
        _draw_status(canvas, drawable_text(status))
    return canvas.pixels


def contact_sheet(
    crops: Sequence[ImageArray], titles: Sequence[str], columns: int, *, cell_px: int = 160
) -> ImageArray:
    """Return one RGB picture of all ``crops``, row by row, each with its title below.

    Crops are (height, width, 3) uint8 RGB of any size; each is scaled into a cell that is
    ``cell_px`` wide, and as high as the highest of them needs, at most a square.

    Raises:
        InvalidInputError: No crop, not one title for each, or a size below 1.
        MissingDependencyError: OpenCV is not installed.
    """
    if not crops or len(crops) != len(titles) or columns < 1 or cell_px < 1:
        raise InvalidInputError(
            "a contact sheet needs crops, a title for each, and columns and cell_px of at least "
            f"1; got {len(crops)} crops, {len(titles)} titles, {columns} and {cell_px}"
        )
    columns = min(columns, len(crops))
    text_px = max(_MIN_TEXT_PX, min(cell_px // 12, _MAX_TITLE_PX))
    tallest = max(crop.shape[0] / crop.shape[1] for crop in crops)
    cell_height_px = max(1, round(cell_px * min(1.0, tallest)))
    gap, rows = text_px // 2, -(-len(crops) // columns)
    step_x, step_y = cell_px + gap, cell_height_px + 2 * text_px + gap
    sheet = np.empty((rows * step_y + gap, columns * step_x + gap, 3), np.uint8)
    sheet[:] = _SHEET_COLOUR
    canvas = _Canvas(sheet, _opencv())
    for index, (crop, title) in enumerate(zip(crops, titles, strict=True)):
        left, top = gap + index % columns * step_x, gap + index // columns * step_y
        canvas.paste(Frame(crop).pixels, left, top, Size(cell_px, cell_height_px))
        text = canvas.fit(drawable_text(title), text_px, cell_px)
        canvas.text(text, left, top + cell_height_px + round(1.4 * text_px), text_px, _TEXT_COLOUR)
    return canvas.pixels


def drawable_text(text: str) -> str:
    """Return ``text`` in the characters that can be drawn: ASCII.

    The fonts that every OpenCV has know no others. Accents are dropped ("José" becomes "Jose"),
    and a character that has no Latin form becomes "?".
    """
    decomposed = unicodedata.normalize("NFKD", text.translate(_TRANSLITERATION))
    kept = (char for char in decomposed if not unicodedata.combining(char))
    return "".join(char if " " <= char <= "~" else "?" for char in kept)


@dataclass(frozen=True, slots=True)
class _Label:
    """What is written at a face; ``score`` is None where there is no bar."""

    colour: _Colour
    lines: tuple[str, ...]
    tag: str
    score: float | None


@dataclass(frozen=True, slots=True)
class _Box:
    """Whole pixels; ``right`` and ``bottom`` are the first ones outside."""

    left: int
    top: int
    right: int
    bottom: int


def _label(observation: Observation, reason_text: Mapping[RejectionReason, str]) -> _Label:
    tag = "" if observation.track_id is None else f"#{observation.track_id}"
    result = observation.track_result
    is_waiting = result is None and observation.track_id is not None
    result = result or observation.result
    if is_waiting and result.outcome is not Outcome.REJECTED:
        return _Label(_COLOURS[Outcome.REJECTED], (_WAITING_TEXT,), tag, None)
    colour = _COLOURS[result.outcome]
    if result.outcome is Outcome.REJECTED:
        reasons = (drawable_text(reason_text.get(one, one.value)) for one in result.reasons)
        return _Label(colour, tuple(dict.fromkeys(reasons))[:_MAX_REASONS], tag, None)
    has_score = result.score is not None and math.isfinite(result.score)
    return _Label(colour, (_title(result),), tag, result.score if has_score else None)


def _title(result: IdentificationResult) -> str:
    name = result.outcome.value if result.subject is None else drawable_text(result.subject)
    return name if len(name) <= _MAX_TITLE_LENGTH else f"{name[: _MAX_TITLE_LENGTH - 2]}.."


class _Canvas:
    """A picture that is drawn on; what lies outside is cut off."""

    def __init__(self, pixels: ImageArray, cv2: ModuleType) -> None:
        self.pixels = pixels
        self.height, self.width = int(pixels.shape[0]), int(pixels.shape[1])
        self._cv2 = cv2
        self.text_px = max(_MIN_TEXT_PX, round(_TEXT_HEIGHT_SHARE * self.height))
        self.line_px = max(1, round(self.height / 270))

    def clip(self, box: BoundingBox) -> _Box | None:
        """Return the part of ``box`` inside the picture, None when there is none."""
        left, right = np.clip([box.left_px, box.right_px], 0, self.width)
        top, bottom = np.clip([box.top_px, box.bottom_px], 0, self.height)
        clipped = _Box(int(left), int(top), int(np.ceil(right)), int(np.ceil(bottom)))
        return clipped if clipped.left < clipped.right and clipped.top < clipped.bottom else None

    def fill(self, box: _Box, colour: _Colour, opacity: float = 1.0) -> None:
        """Lay ``colour`` over ``box``."""
        left, top = max(0, box.left), max(0, box.top)
        part = self.pixels[top : max(top, box.bottom), left : max(left, box.right)]
        part[:] = part * (1.0 - opacity) + np.asarray(colour) * opacity

    def text(self, text: str, left: int, baseline: int, text_px: int, colour: _Colour) -> None:
        """Write ``text`` with its lower left corner at (left, baseline)."""
        cv2 = self._cv2
        scale, thickness = text_px / _FONT_UNIT_PX, max(1, round(text_px / 24))
        font = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(
            self.pixels, text, (left, baseline), font, scale, colour, thickness, cv2.LINE_AA
        )

    def text_width(self, text: str, text_px: int) -> int:
        """Return the width of ``text`` in pixels."""
        cv2 = self._cv2
        scale, thickness = text_px / _FONT_UNIT_PX, max(1, round(text_px / 24))
        size, _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
        return int(size[0])

    def fit(self, text: str, text_px: int, width: int) -> str:
        """Return ``text``, cut so that it is at most ``width`` wide."""
        while text and self.text_width(text, text_px) > width:
            text = text.removesuffix("..")[:-1].rstrip() + ".." if len(text) > 3 else text[:-1]
        return text

    def paste(self, picture: ImageArray, left: int, top: int, cell: Size) -> None:
        """Draw ``picture``, scaled to fit, in the middle of a cell."""
        height, width = picture.shape[:2]
        scale = min(cell.width_px / width, cell.height_px / height)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        method = self._cv2.INTER_AREA if scale < 1 else self._cv2.INTER_LINEAR
        scaled = self._cv2.resize(picture, size, interpolation=method)
        x, y = left + (cell.width_px - size[0]) // 2, top + (cell.height_px - size[1]) // 2
        self.pixels[y : y + size[1], x : x + size[0]] = scaled


def _draw_box(canvas: _Canvas, box: _Box, colour: _Colour) -> None:
    """Draw a faint frame with strong corners."""
    width, height = box.right - box.left, box.bottom - box.top
    corner = max(canvas.line_px, round(0.2 * min(width, height)))
    _draw_edges(canvas, box, colour, reach=(width, height), thickness=1, opacity=0.4)
    _draw_edges(canvas, box, colour, reach=(corner, corner), thickness=canvas.line_px, opacity=1.0)


def _draw_edges(
    canvas: _Canvas,
    box: _Box,
    colour: _Colour,
    *,
    reach: tuple[int, int],
    thickness: int,
    opacity: float,
) -> None:
    """Draw each side of ``box``, ``reach`` (x, y) pixels from both of its ends."""
    right, bottom = box.right - thickness, box.bottom - thickness
    spans_x = {(box.left, box.left + reach[0]), (box.right - reach[0], box.right)}
    spans_y = {(box.top, box.top + reach[1]), (box.bottom - reach[1], box.bottom)}
    for y in (box.top, bottom):
        for start, end in spans_x:
            canvas.fill(_Box(start, y, end, y + thickness), colour, opacity)
    for x in (box.left, right):
        for start, end in spans_y:
            canvas.fill(_Box(x, start, x + thickness, end), colour, opacity)


def _draw_label(canvas: _Canvas, box: _Box, label: _Label) -> None:
    """Draw the panel above the box; below it, or inside, where there is no room."""
    small_px = max(_MIN_TEXT_PX - 1, round(0.75 * canvas.text_px))
    # A reason is less than a name, and there are many of them in a crowd.
    text_px = canvas.text_px if label.score is not None else small_px + 1
    pad, step = max(3, text_px // 2), round(1.6 * text_px)
    score_px = 0 if label.score is None else round(1.6 * small_px)
    width = _panel_width(canvas, label, text_px, small_px) + 3 * pad
    height = text_px + step * (len(label.lines) - 1) + score_px + 2 * pad
    left = max(0, min(box.left, canvas.width - width))
    top = _panel_top(canvas, box, height)
    panel = _Box(left, top, left + width, top + height)
    canvas.fill(panel, _PANEL_COLOUR, _PANEL_OPACITY)
    canvas.fill(_Box(left, top, left + max(2, pad // 2), panel.bottom), label.colour)
    x, y = left + round(1.5 * pad), top + pad + text_px
    for index, line in enumerate(label.lines):
        canvas.text(line, x, y + index * step, text_px, label.colour)
    tag_x = panel.right - pad - canvas.text_width(label.tag, small_px)
    canvas.text(label.tag, tag_x, y, small_px, _DIM_COLOUR)
    if label.score is not None:
        row = _Box(x, panel.bottom - pad - small_px, panel.right - pad, panel.bottom - pad)
        _draw_score(canvas, row, label, small_px)


def _draw_status(canvas: _Canvas, text: str) -> None:
    """Draw a line in the lower left corner."""
    text_px = max(_MIN_TEXT_PX, round(0.8 * canvas.text_px))
    pad = max(3, text_px // 2)
    text = canvas.fit(text, text_px, canvas.width - 2 * pad)
    top, width = canvas.height - text_px - 2 * pad, canvas.text_width(text, text_px) + 2 * pad
    canvas.fill(_Box(0, top, width, canvas.height), _PANEL_COLOUR, _PANEL_OPACITY)
    canvas.text(text, pad, canvas.height - pad - max(1, pad // 3), text_px, _DIM_COLOUR)


def _panel_width(canvas: _Canvas, label: _Label, text_px: int, small_px: int) -> int:
    """Return the width of the widest line; the first one has the tag beside it."""
    tag_px = canvas.text_width(label.tag, small_px) + text_px if label.tag else 0
    widths = [canvas.text_width(line, text_px) for line in label.lines]
    least_px = 0 if label.score is None else 6 * text_px
    return max(widths[0] + tag_px, least_px, *widths)


def _panel_top(canvas: _Canvas, box: _Box, height: int) -> int:
    gap = canvas.line_px
    if box.top - gap - height >= 0:
        return box.top - gap - height
    fits_below = box.bottom + gap + height <= canvas.height
    return box.bottom + gap if fits_below else box.top


def _draw_score(canvas: _Canvas, row: _Box, label: _Label, text_px: int) -> None:
    """Draw the number, and a bar of the score between 0 and 1."""
    score = label.score or 0.0
    number = f"{score:.2f}"
    canvas.text(number, row.left, row.bottom, text_px, _TEXT_COLOUR)
    left = row.left + canvas.text_width("-0.00", text_px) + text_px // 2
    middle, half = (row.top + row.bottom) // 2, max(1, text_px // 5)
    filled = left + round((row.right - left) * min(1.0, max(0.0, score)))
    canvas.fill(_Box(left, middle - half, row.right, middle + half), _BAR_COLOUR, 0.9)
    canvas.fill(_Box(left, middle - half, filled, middle + half), label.colour)


def _opencv() -> ModuleType:
    try:
        import cv2
    except ImportError as exc:
        raise MissingDependencyError("opencv-contrib-python", extra="cpu") from exc
    module: ModuleType = cv2
    return module
