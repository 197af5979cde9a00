"""The real program in a process of its own, with clips as cameras, for tests in a browser."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
START_S, STOP_S = 90.0, 30.0


@dataclass
class Program:
    """A running office: its address, the token of the first login, what it printed."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Return the first match of ``pattern`` in what the program prints."""
        end_s = time.monotonic() + START_S
        while time.monotonic() < end_s:
            for line in list(self.lines):
                found = re.search(pattern, line)
                if found:
                    return found
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise AssertionError(f"no {pattern!r} in: {''.join(self.lines)[-3000:]}")

    @property
    def address(self) -> str:
        return self.wait_for(r"pages: (http://\S+)").group(1)

    @property
    def token(self) -> str:
        return self.wait_for(r"/set-up with (\S+)").group(1)


@contextmanager
def office(data: Path, camera: Path) -> Iterator[Program]:
    """Yield the program with ``camera`` as its only camera, and stop it in good order."""
    command = [
        *(sys.executable, "-m", "examples.attendance", "run", f"entrance={camera}"),
        *("--data", str(data), "--port", "0", "--threads", "1", "--insecure-key-file"),
    ]
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    program = Program(process)
    reader = threading.Thread(target=_read, args=(program,), daemon=True)
    reader.start()
    try:
        yield program
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_S) == 0, "".join(program.lines)[-3000:]
    finally:
        process.kill()
        process.wait()
        reader.join()
        if process.stdout is not None:
            process.stdout.close()


def film(source: Path, target: Path, *options: str, repeats: int = 0) -> Path:
    """Return ``target``, made by ffmpeg of ``source``, ``repeats`` times more."""
    ffmpeg = shutil.which("ffmpeg") or "ffmpeg"
    quiet = ("-hide_banner", "-loglevel", "error", "-y")
    again = ("-stream_loop", str(repeats))
    command = [ffmpeg, *quiet, *again, "-i", str(source), *options, str(target)]
    subprocess.run(command, check=True)
    return target


def _read(program: Program) -> None:
    assert program.process.stdout is not None
    for line in program.process.stdout:
        program.lines.append(line)
