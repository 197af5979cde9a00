"""A program for tests to kill: it does what its standard input says, on a clock that is told.

Each line is JSON: the time, what to do, and with whom. The answer is a line, when it is done.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from examples.attendance.book import Book
from examples.attendance.interface import PinAction, Settings
from examples.attendance.store import Store
from tests.attendance.scripted_day import ABSENCE_S, BLIND_S, CAMERAS
from tests.attendance.simulation import SimulatedClocks


def main() -> None:
    path, start_ms = Path(sys.argv[1]), int(sys.argv[2])
    clocks = SimulatedClocks(start_ms, float(sys.argv[3]))
    settings = Settings(absence_s=ABSENCE_S, blind_s=BLIND_S)
    book = Book(Store.open(path), settings, clocks=clocks, sinks=("sink",))
    for camera in CAMERAS:
        book.camera(camera, usable=True)
    say_done()
    for line in sys.stdin:
        now_s, what, *details = json.loads(line)
        clocks.now_s = max(clocks.now_s, now_s)
        if what == "see":
            book.see(details[0], [details[1]])
        elif what == "sign":
            book.sign(details[0], PinAction(details[1]))
        else:
            book.tick()
            book.beat()
        say_done()
    book.close()
    book.store.close()


def say_done() -> None:
    sys.stdout.write("done\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
