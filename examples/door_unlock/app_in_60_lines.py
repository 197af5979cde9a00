"""A door in 60 lines: a face, a PIN and the Enter key open a lock that says so.

edgeface enrol alice photos/*.jpg --gallery people.db
python -m examples.door_unlock --init --policy examples/door_unlock/demo-policy.toml
python -m examples.door_unlock --set-pin alice
python examples/door_unlock/app_in_60_lines.py 0 examples/door_unlock/demo-policy.toml people.db toy
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from edgeface import Recognizer, RecognizerOptions
from edgeface.access import AccessController, AccessKeys, AccessPolicy, LeaseVerifier
from edgeface.access import recognizer_facts as facts_of
from edgeface.camera import LiveSource, SourceOptions, open_source
from edgeface.default_model import default_bundle_path
from edgeface.errors import LeaseError
from edgeface.pipeline import StreamOptions


def listen(controller: AccessController) -> None:
    for line in sys.stdin:
        if code := line.strip():
            answer = controller.present_factor(code)
            print("code accepted" if answer.accepted else answer.reason)
        else:
            controller.press()


def main(source: str, policy_file: str, gallery: str, lock_kind: str = "real") -> None:
    # Ten comparisons a second: the policy wants five of seven frames over 0.4 s.
    options = RecognizerOptions(stream=StreamOptions.door())
    policy, folder = AccessPolicy.from_toml(policy_file), Path("door-state")
    keys = AccessKeys.open(folder)
    # The lock's own side. It takes no lease of a demonstration, unless it is a toy.
    lock = LeaseVerifier(policy.door, keys.lease, demonstration=lock_kind == "toy")
    with (
        Recognizer.open(default_bundle_path(), gallery, options=options) as recognizer,
        AccessController.open(policy, folder, keys, facts_of(recognizer)) as controller,
        open_source(source, options=SourceOptions(real_time=True)) as frames,
    ):
        threading.Thread(target=listen, args=(controller,), daemon=True).start()
        stream = recognizer.stream(frames)
        for frame in frames:
            health = frames.health() if isinstance(frames, LiveSource) else None
            controller.observe(frame, stream.process(frame).observations, health)
            answer = controller.decide(lock.challenge)
            if answer.lease is not None:
                try:
                    print(f"open for {lock.verify(answer.lease).life_s:.0f} s", flush=True)
                except LeaseError as refused:
                    controller.note_not_opened(answer.lease)
                    print(f"locked: {refused}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:5])
