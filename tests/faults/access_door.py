"""A door's controller in a process of its own, as an app would run it, for tests that kill it.

Reads a configuration from its arguments; asks the lock on stdin and stdout: it writes ``?`` for a
nonce and reads one line, writes ``! TOKEN`` for a lease, ``- REASON`` when what keeps the door
closed changes, and ``= FAILURES`` when a failed attempt was counted. What "recognises" is a script:
a mated face, or a stranger, stands before the camera all the time.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeface.access import AccessController, AccessKeys, ControllerOptions, FactorStore
from edgeface.camera import LiveSource, SourceOptions
from edgeface.camera.captures import CaptureSpec
from edgeface.errors import EdgefaceError
from edgeface.types import Frame
from tests.access_cases import CAMERA, CHEAP, FACTS, PIN, POLICY, seen

__all__ = ["App", "main"]


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def ask_nonce() -> str:
    say("?")
    return sys.stdin.readline().strip()


class App:
    """Feeds the controller with whatever the camera gives."""

    def __init__(self, controller: AccessController, *, stranger: bool) -> None:
        self.controller = controller
        self.face = seen(None) if stranger else seen()
        self.said = ""
        self.factor_s = -1e9
        self.failures = controller.status().failures

    def step(self, frame: Frame | None, health: Any) -> None:
        controller = self.controller
        controller.observe(frame, (self.face,) if frame is not None else (), health)
        controller.press()
        unmet = {condition.what for condition in controller.explain().unmet}
        if unmet == {"second factor"} and time.monotonic() - self.factor_s > 0.1:
            self.factor_s = time.monotonic()
            controller.present_factor(PIN)
        answer = controller.decide(ask_nonce)
        if answer.lease is not None:
            say(f"! {answer.lease.token}")
        reason = answer.decision.reason.split(":")[0]
        if reason != self.said:
            self.said = reason
            say(f"- {reason}")
        failures = controller.status().failures
        if failures != self.failures:
            self.failures = failures
            say(f"= {failures}")


def without_camera(app: App) -> None:
    pixels = np.zeros((48, 64, 3), np.uint8)
    parent = os.getppid()
    while os.getppid() == parent:
        app.step(Frame(pixels, time.monotonic()), CAMERA)
        time.sleep(0.06)


def with_camera(app: App, source: LiveSource) -> None:
    parent = os.getppid()
    while os.getppid() == parent:
        frame = source.read(0.1)
        app.step(frame, source.health())


def main() -> None:
    """Run until somebody ends it; exit 2 with one line for an error of ours."""
    given = json.loads(sys.argv[1])
    folder = Path(given["folder"])
    keys = AccessKeys.of_secret(bytes.fromhex(given["secret"]))
    try:
        factors = FactorStore(folder, keys, cost=CHEAP)
        if not factors.subjects():
            factors.set_pin("Ada", PIN)
        controller = AccessController.open(
            replace(POLICY, anti_passback="off"),
            folder,
            keys,
            lambda _policy: FACTS,
            factors=factors,
            options=ControllerOptions(create=given["create"], anchor_folder=folder / "anchors"),
        )
    except EdgefaceError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from error
    app = App(controller, stranger=given["stranger"])
    say("ready")
    if given["camera"] is None:
        without_camera(app)
        return
    spec = CaptureSpec(**given["camera"])
    with LiveSource("webcam 0", spec, SourceOptions(must_open=False)) as source:
        with_camera(app, source)


if __name__ == "__main__":
    main()
