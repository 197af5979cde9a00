"""The report of `edgeface doctor` holds nothing that tells whose machine it is."""

from __future__ import annotations

import getpass
import json
import socket
from pathlib import Path

import pytest

from edgeface.doctor import DoctorOptions, Redaction, as_markdown, as_text
from edgeface.doctor.findings import fault, ok

SECRETS = {
    "/home/quist/people.db": "<path>",
    "/root/.config/edgeface/keys/1f.key": "<path>",
    "C:\\Users\\Quist\\people.db": "<path>",
    "~/galleries/board": "<path>",
    "'/a folder/with spaces/x.db'": "<path>",
    "rtsp://bob:secret@camera.lan:554/live?token=9": "<address>",
    "192.168.178.21": "<address>",
    "fe80:0:0:0:1:2:3:4": "<address>",
    "2001:db8:1:2:3:4:5:6": "<address>",
    "00:1A:2b:3c:4d:5e": "<hardware address>",
    "GPU-5f1c9a52-0d0c-1f2e-8a3b-0123456789ab": "<serial>",
    "5f1c9a52-0d0c-1f2e-8a3b-0123456789ab": "<serial>",
    "serial: 1423019": "<serial>",
    "bob@example.org": "<address>",
    "f86ce243c2c64a54": "<hash>",
}
# What stays of a text that quotes somebody, or has a path with spaces in it.
QUOTED = {
    "/home/ada lovelace/people.db gone": "<path> gone",
    "cannot open /data/my people.db: no": "cannot open <path>: no",
    "C:\\Users\\Ada B\\x.db": "<path>",
    "webcam 3 is a program's ('Ada Lovelace iPhone')": "webcam 3 is a program's (<text>)",
    "subject 'Pat O'Brien' has 3 templates": "subject <text> has 3 templates",
    "user 'admin' password \"hunter2\"": "user <text> password <text>",
    "ADA at home": "<name> at home",
    "pi-door.example.org": "<name>",
    "camera at fritz.box": "camera at <address>",
    "fe80::1%wlan0": "<address>",
}
KEPT = (
    "No module named 'mediapipe.tasks'",
    "pip install 'edgeface[cpu]'",
    "libGL.so.1: cannot open shared object file",
    "edgeface.doctor.probes.camera()",
    "640x480, 25.0 frames/s, newest 40 ms old",
    "OpenCV 5.0.0, GStreamer no",
    "FPIR 0.001 up to 1,000",
    "and/or",
    "2026-11-22 (UTC)",
    "mode 0600",
    "CUDAExecutionProvider",
)


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("around", ["{}", "cannot open {}: no", "got ({}), wanted", "at {}."])
def test_what_tells_whose_machine_it_is_is_left_out(secret: str, around: str) -> None:
    text = Redaction([])(around.format(secret))
    assert SECRETS[secret] in text
    for piece in ("quist", "bob", "secret", "camera.lan", "people.db", "192", "5f1c", "1423019"):
        assert piece not in text.lower()


@pytest.mark.parametrize("text", KEPT)
def test_what_helps_is_kept(text: str) -> None:
    assert Redaction([])(text) == text


@pytest.mark.parametrize("text", QUOTED)
def test_what_is_quoted_and_the_rest_of_a_path_are_left_out(text: str) -> None:
    assert Redaction(["ada", "/home/ada", "pi-door"])(text) == QUOTED[text]


def test_the_names_of_user_and_host_and_of_what_was_given_are_left_out() -> None:
    options = DoctorOptions(
        source="front-door-cam", gallery=Path("zebulon.db"), bundle=Path("quist.edgeface")
    )
    redact = Redaction.of(options)
    words = [getpass.getuser(), socket.gethostname(), "front-door-cam", "zebulon.db", "quist"]
    for word in words:
        if word not in ("root", "localhost"):
            assert word not in redact(f"it is {word} here")


def test_a_report_is_a_table_that_no_finding_can_break() -> None:
    findings = [
        ok("a", "versions", "opencv-contrib-python 4.11.0.86"),
        fault("b", "x|y", "one | two\nthree `four`", wanted="no\nlines", fix="a fix"),
    ]
    text = as_markdown(findings, Redaction([]))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 4
    assert all(row.count("|") == 5 for row in rows)
    assert "4.11.0.86" in text
    assert "fault" in text.splitlines()[0]


def test_a_fault_is_told_with_its_cure() -> None:
    text = as_text(fault("keys", "key", "open to others", wanted="mode 0600", fix="chmod 600 k"))
    assert text.splitlines()[1:] == ["        wanted: mode 0600", "        fix: chmod 600 k"]


def test_the_command_says_all_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The whole command, with probes that answer at once."""
    from typer.testing import CliRunner

    from edgeface.cli import app

    canary = tmp_path / "canary-gallery.db"
    monkeypatch.setattr(
        "edgeface.doctor.examination.run_probe",
        lambda name, arguments, *, timeout_s: [ok(name, "ran", json.dumps(dict(arguments)))],
    )
    done = CliRunner().invoke(app, ["doctor", "--report", "--gallery", str(canary)])
    assert done.exit_code in (0, 1), done.output
    assert done.output.startswith("### edgeface doctor")
    for word in ("canary", str(Path.home()), str(tmp_path)):
        assert word not in done.output
    done = CliRunner().invoke(app, ["doctor", "--json"])
    found = json.loads(done.stdout)
    assert {"state", "findings"} == set(found)
    assert {entry["name"] for entry in found["findings"]} >= {"python", "bundle", "clock", "disk"}
    assert done.exit_code == (1 if found["state"] == "fault" else 0)
