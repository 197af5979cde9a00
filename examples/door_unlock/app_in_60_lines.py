"""A door in 60 lines: a face, a PIN and the Enter key open a simulated lock.

edgeface enrol alice photos/*.jpg --gallery people.db
python -m examples.door_unlock --init --policy policy.toml
python -m examples.door_unlock --set-pin alice
python examples/door_unlock/app_in_60_lines.py 0 policy.toml people.db
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
from edgeface.pipeline import StreamOptions

# Ten comparisons a second: the policy wants five of seven frames over 0.4 s.
OPTIONS = RecognizerOptions(stream=StreamOptions.door())


def listen(controller: AccessController) -> None:
    for line in sys.stdin:
        if code := line.strip():
            answer = controller.present_factor(code)
            print("code accepted" if answer.accepted else answer.reason)
        else:
            controller.press()


def main(source: str, policy_file: str, gallery: str) -> None:
    policy, folder = AccessPolicy.from_toml(policy_file), Path("door-state")
    keys = AccessKeys.open(folder)
    # The lock's own side: it gives a nonce and opens once for the lease that comes back.
    lock = LeaseVerifier(policy.door, keys.lease, demonstration=True)
    with (
        Recognizer.open(default_bundle_path(), gallery, options=OPTIONS) as recognizer,
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
                print(f"open for {lock.verify(answer.lease).life_s:.0f} s", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:4])
