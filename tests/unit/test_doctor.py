"""The checks of `edgeface doctor`: what each finds, and that no check can end the others."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from edgeface.default_model import default_bundle_path
from edgeface.doctor import CheckState, DoctorOptions, DoctorReport, Finding
from edgeface.doctor.child import run_probe
from edgeface.doctor.door import check_door
from edgeface.doctor.findings import fault, ok, skipped, warning, worst
from edgeface.doctor.gpio import check_gpio
from edgeface.doctor.host import (
    check_clock,
    check_disk,
    check_processors,
    check_python,
    check_temperature,
    kernel_clock_is_synchronised,
)
from edgeface.doctor.packages import (
    check_owners,
    check_platform,
    check_requirements,
    check_versions,
)
from edgeface.doctor.trust import check_bundle, check_gallery, check_private
from edgeface.errors import InvalidInputError

GOOD = ok("a", "b", "c")
BAD = fault("a", "b", "c", wanted="d", fix="e")
SO_SO = warning("a", "b", "c", wanted="d", fix="e")


def states(findings: Sequence[Finding]) -> list[str]:
    return [finding.state.value for finding in findings]


# ---------------------------------------------------------------------------- findings


@pytest.mark.parametrize(
    ("findings", "state", "code", "strict"),
    [
        ((), "ok", 0, 0),
        ((GOOD,), "ok", 0, 0),
        ((GOOD, skipped("a", "b", "c")), "skipped", 0, 0),
        ((SO_SO, GOOD), "warning", 0, 1),
        ((SO_SO, BAD, GOOD), "fault", 1, 1),
    ],
)
def test_the_exit_code_is_that_of_the_worst_finding(
    findings: tuple[Finding, ...], state: str, code: int, strict: int
) -> None:
    report = DoctorReport(findings)
    assert worst(findings).value == report.state.value == state
    assert (report.exit_code(), report.exit_code(strict=True)) == (code, strict)


@pytest.mark.parametrize("state", [CheckState.FAULT, CheckState.WARNING])
def test_what_is_wrong_says_what_is_wanted_and_how_to_fix_it(state: CheckState) -> None:
    with pytest.raises(InvalidInputError, match="how to fix it"):
        Finding("a", "b", state, "c")


# ---------------------------------------------------------------------------- the machine


def test_the_python_that_runs_the_tests_is_good() -> None:
    assert check_python().state is CheckState.OK


@pytest.mark.parametrize(
    ("now_s", "state"),
    [
        (-1.0, "fault"),
        (0.0, "fault"),
        (1_600_000_000.0, "fault"),
        (1_790_000_000.0, "ok"),
        (5e9, "fault"),
        (float("nan"), "fault"),
        (float("inf"), "fault"),
    ],
)
def test_a_date_that_cannot_be_is_a_fault(now_s: float, state: str) -> None:
    assert check_clock(now_s, lambda: True)[0].state.value == state


@pytest.mark.parametrize(
    ("synchronised", "state"), [(True, "ok"), (False, "warning"), (None, "skipped")]
)
def test_a_clock_that_nothing_keeps_right_is_a_warning(
    synchronised: bool | None, state: str
) -> None:
    assert check_clock(1_790_000_000.0, lambda: synchronised)[1].state.value == state


def test_the_kernel_says_something_about_its_clock() -> None:
    assert kernel_clock_is_synchronised() in (True, False, None)


def test_a_full_disk_is_a_fault_and_a_low_one_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    for free, state in ((10 << 20, "fault"), (500 << 20, "warning"), (5 << 30, "ok")):
        monkeypatch.setattr("shutil.disk_usage", lambda _p, free=free: usage(0, 0, free))
        assert states(check_disk({"here": tmp_path / "not" / "there"})) == [state]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert states(check_disk({"here": tmp_path})) == ["warning"]


@pytest.mark.parametrize(
    ("zones", "state", "said"),
    [
        ({}, "skipped", "shows none"),
        ({"cpu": "45000"}, "ok", "45 °C"),
        ({"cpu": "45000", "gpu": "85123"}, "warning", "85 °C (gpu, the warmest of 2)"),
        ({"cpu": "101000"}, "fault", "101 °C"),
        ({"cpu": "-274000", "gpu": "junk"}, "skipped", "shows none"),
    ],
)
def test_the_warmest_zone_counts(
    tmp_path: Path, zones: Mapping[str, str], state: str, said: str
) -> None:
    for number, (name, milli) in enumerate(zones.items()):
        folder = tmp_path / f"thermal_zone{number}"
        folder.mkdir()
        (folder / "type").write_text(f"{name}\n")
        (folder / "temp").write_text(f"{milli}\n")
    found = check_temperature(tmp_path)
    assert (found.state.value, said in found.got) == (state, True), found


def test_the_processors_are_counted() -> None:
    assert check_processors()[0].state is CheckState.OK


# ---------------------------------------------------------------------------- packages


def test_the_versions_name_edgeface_itself() -> None:
    assert "edgeface " in check_versions().got


def test_opencv_of_two_packages_is_a_fault_with_the_cure() -> None:
    owners = {"cv2": ["opencv-python", "opencv-contrib-python"], "numpy": ["numpy"]}
    (found,) = check_owners(owners)
    assert found.state is CheckState.FAULT
    assert "opencv-contrib-python and opencv-python" in found.got
    assert found.fix.endswith("pip install opencv-contrib-python")


def test_one_package_for_each_module_is_well() -> None:
    owners = {"cv2": ["opencv-contrib-python", "opencv-contrib-python"], "google": ["a", "b"]}
    assert states(check_owners(owners)) == ["ok"]


@pytest.mark.parametrize(
    ("requirement", "state"),
    [
        ("numpy>=1.26", "ok"),
        ("numpy>=999", "fault"),
        ('numpy>=999; extra == "cpu"', "fault"),
        ("numpy>=1.0,<999", "ok"),
        ("not-installed>=3", "ok"),
        ("edgeface[cpu]", "ok"),
        ("", "ok"),
    ],
)
def test_an_installed_package_that_is_too_old_is_a_fault(requirement: str, state: str) -> None:
    assert states(check_requirements([requirement])) == [state]


def test_a_jetson_is_told_by_its_release_file(tmp_path: Path) -> None:
    release, board = tmp_path / "release", tmp_path / "model"
    release.write_text("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n")
    board.write_bytes(b"NVIDIA Jetson Orin Nano\0")
    jetpack = [one for one in check_platform(release, board) if one.what == "JetPack"]
    assert jetpack[0].got == "L4T 36.4.3 on NVIDIA Jetson Orin Nano"
    elsewhere = check_platform(tmp_path / "no", tmp_path / "no")
    assert elsewhere[-1].state is CheckState.SKIPPED


# ---------------------------------------------------------------------------- trust


def test_the_packages_own_bundle_is_whole_and_said_to_be_a_demonstration() -> None:
    found = check_bundle(default_bundle_path())
    assert states(found) == ["ok", "ok", "ok", "warning"]
    assert "demonstration" in found[-1].got


def test_a_changed_bundle_is_a_fault(tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "x.edgeface"
    shutil.copytree(default_bundle_path(), folder)
    assert states(check_bundle(folder)) == ["ok", "ok", "ok"]
    (folder / "report.json").write_bytes(b"{}")
    assert states(check_bundle(folder)) == ["fault"]
    assert states(check_bundle(tmp_path / "absent")) == ["fault"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of another kind")
@pytest.mark.parametrize(
    ("mode", "state"),
    [(0o600, "ok"), (0o400, "ok"), (0o640, "fault"), (0o604, "fault"), (0o666, "fault")],
)
def test_a_key_that_others_may_read_is_a_fault(tmp_path: Path, mode: int, state: str) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"k" * 32)
    key.chmod(mode)
    found = check_private("keys", "key", key)
    assert found.state.value == state
    assert state == "ok" or "chmod 600" in found.fix


def test_a_key_that_is_a_link_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "key").symlink_to(tmp_path / "elsewhere")
    assert check_private("keys", "key", tmp_path / "key").state is CheckState.FAULT


def test_a_gallery_is_opened_and_no_name_is_said(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    import numpy as np

    from edgeface.bundle import Bundle
    from edgeface.gallery import SqliteGallery
    from edgeface.types import Template

    manifest = Bundle.open(default_bundle_path()).manifest
    path = tmp_path / "people.db"
    with SqliteGallery.open(
        path, model_id=manifest.model_id, embedding_size=manifest.embedding_size
    ) as gallery:
        vector = np.zeros(manifest.embedding_size, np.float32)
        vector[0] = 1.0
        gallery.add("Zebulon Quist", [Template(vector, manifest.model_id)])
    found = check_gallery(path, default_bundle_path())
    assert "1 people" in json.dumps([one.got for one in found])
    assert "Zebulon" not in repr(found)
    # Its key lies in a plain file in tests.
    assert [one.name for one in found if one.state is CheckState.FAULT] == []
    path.chmod(0o644)
    assert check_gallery(path)[0].state is CheckState.FAULT


@pytest.mark.parametrize("content", [b"", b"junk", b"SQLite format 3\0" + b"\0" * 200])
def test_what_is_no_gallery_is_a_fault_and_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "people.db"
    path.write_bytes(content)
    path.chmod(0o600)
    assert worst(check_gallery(path)) is CheckState.FAULT
    assert path.read_bytes() == content
    assert states(check_gallery(tmp_path / "absent")) == ["fault"]


# ---------------------------------------------------------------------------- doors and pins


@pytest.fixture
def door(tmp_path: Path) -> Path:
    folder = tmp_path / "door"
    folder.mkdir(mode=0o700)
    for name in ("key.json", "state.sealed", "audit.log", "audit.log.head"):
        (folder / name).write_text('{"source": "tpm"}')
        (folder / name).chmod(0o600)
    return folder


def test_a_door_that_is_whole_and_private_is_well(door: Path) -> None:
    assert states(check_door(door)) == ["ok", "ok", "ok"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of another kind")
@pytest.mark.parametrize("name", ["", "key.json", "state.sealed", "audit.log"])
def test_what_is_open_to_others_in_the_folder_of_a_door_is_a_fault(door: Path, name: str) -> None:
    (door / name).chmod(0o755 if not name else 0o640)
    assert worst(check_door(door)) is CheckState.FAULT


@pytest.mark.parametrize("name", ["key.json", "state.sealed", "audit.log", "audit.log.head"])
def test_a_door_that_lost_a_part_is_a_fault(door: Path, name: str) -> None:
    (door / name).unlink()
    assert any(name in one.got for one in check_door(door) if one.state is CheckState.FAULT)
    assert states(check_door(door / "nowhere")) == ["fault"]


@pytest.mark.parametrize(
    ("content", "state"),
    [('{"source": "file"}', "warning"), ("{}", "fault"), ("[" * 9999, "fault"), ("", "fault")],
)
def test_the_key_of_a_door_in_a_plain_file_is_a_warning(
    door: Path, content: str, state: str
) -> None:
    from edgeface.gallery.key_sources import KeyFile

    (door / "key.json").write_text(content.replace('"file"', f'"{KeyFile.name}"'))
    assert states(check_door(door))[-1] == state


@pytest.mark.parametrize(
    ("files", "state"),
    [
        ({}, "warning"),
        ({"pinctrl_bcm2835/parameters/persist_gpio_outputs": "Y\n"}, "warning"),
        ({"pinctrl_bcm2835/parameters/persist_gpio_outputs": "N\n"}, "ok"),
        ({"pinctrl_bcm2835/parameters/strict_gpiod": "Y\n"}, "ok"),
        # The pins of a Raspberry Pi 5 are at the RP1.
        (
            {
                "pinctrl_bcm2835/parameters/persist_gpio_outputs": "N",
                "pinctrl_rp1/parameters/persist_gpio_outputs": "Y",
            },
            "warning",
        ),
        ({"cmdline": "quiet pinctrl_rp1.persist_gpio_outputs=n root=/dev/x"}, "ok"),
        ({"cmdline": "quiet pinctrl_rp1.persist_gpio_outputs=y root=/dev/x"}, "warning"),
    ],
)
def test_pins_that_stay_on_after_their_program_are_a_warning(
    tmp_path: Path, files: Mapping[str, str], state: str
) -> None:
    board, command_line = tmp_path / "model", tmp_path / "cmdline"
    board.write_bytes(b"Raspberry Pi 4 Model B Rev 1.4\0")
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    found = check_gpio(board, tmp_path, command_line)
    assert found.state.value == state
    assert (state == "ok") != ("dtparam=strict_gpiod" in found.fix)
    assert check_gpio(tmp_path / "no", tmp_path, command_line).state is CheckState.SKIPPED


# ---------------------------------------------------------------------------- probes


def test_a_probe_that_dies_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nkill -ILL $$\n")
    script.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(script))
    (found,) = run_probe("imports", {}, timeout_s=10.0)
    assert found.state is CheckState.FAULT
    assert "SIGILL" in found.got
    assert "instruction" in found.got


def test_a_probe_that_hangs_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexec sleep 30\n")
    script.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(script))
    (found,) = run_probe("imports", {}, timeout_s=0.2)
    assert "no answer" in found.got


def test_no_file_of_the_working_directory_is_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    for name in ("json", "onnxruntime", "numpy", "edgeface", "signal", "typer"):
        (tmp_path / f"{name}.py").write_text(f"open({str(mark)!r}, 'w').write(__name__)\n")
    monkeypatch.chdir(tmp_path)
    for path in ("", os.pathsep, f"{os.pathsep}{tmp_path}"):
        monkeypatch.setenv("PYTHONPATH", path)
        run_probe("engines", {"bundle": "/nowhere/x.edgeface"}, timeout_s=60.0)
    assert not mark.exists(), mark.read_text()


def test_an_error_of_a_probe_is_a_finding() -> None:
    (found,) = run_probe("engines", {"bundle": "/nowhere/x.edgeface"}, timeout_s=60.0)
    assert found.state is CheckState.FAULT
    assert "no bundle" in found.got
    (found,) = run_probe("no_such_probe", {}, timeout_s=60.0)
    assert "AttributeError" in found.got


def test_the_options_may_be_left_out() -> None:
    assert DoctorOptions() == DoctorOptions(source=None, bundle=None, gallery=None, door=None)
