"""Enrol one person and say who is on a clip: the whole interface in ten lines.

Usage: python examples/minimal.py BUNDLE PHOTO VIDEO
"""

from __future__ import annotations

import sys

import edgeface


def main(bundle: str, photo: str, video: str) -> None:
    with edgeface.Recognizer.open(bundle) as recognizer:
        recognizer.enrol("alice", [photo])
        for event in recognizer.watch(video):
            print(
                f"{event.timestamp_s:.2f} s", event.kind.value, event.subject, event.outcome.value
            )


if __name__ == "__main__":
    main(*sys.argv[1:4])
