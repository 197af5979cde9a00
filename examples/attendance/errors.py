"""The one error of the office that is its own."""

from __future__ import annotations

from edgeface.errors import EdgefaceError

__all__ = ["AttendanceError"]


class AttendanceError(EdgefaceError):
    """The office cannot do what was asked: an unknown person or visit, or an unusable value.

    The message is for people; it holds no name and may be shown on a page.
    """
