"""The door as a program: its setup, its watchdog, its start and its end."""

from __future__ import annotations

import functools
import io
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from edgeface.access import (
    AccessController,
    AccessKeys,
    AccessPolicy,
    FactorStore,
    ScryptCost,
    edit_factors,
    read_records,
    verify_audit,
)
from edgeface.errors import AccessStateError, InvalidInputError
from examples.door_unlock import app_in_60_lines, setup_door
from examples.door_unlock.__main__ import main as door_main
from examples.door_unlock.watchdog import Watchdog
from tests.door.doors import (
    DURESS_PIN,
    PIN,
    POLICY,
    facts,
)

pytest.importorskip("cryptography")


# ---------------------------------------------------------------------------- watchdog


def _heard(manager: socket.socket) -> bytes:
    try:
        return manager.recv(64)
    except TimeoutError:
        return b""


def test_the_watchdog_speaks_while_the_door_works_and_is_silent_when_it_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(tmp_path / "notify")
    alive = [True]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(10.0)
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        watchdog = Watchdog(lambda: alive[0], address)
        watchdog.start()
        assert manager.recv(64) == b"READY=1"
        assert manager.recv(64) == b"WATCHDOG=1"
        alive[0] = False
        manager.settimeout(0.5)
        heard = [b"WATCHDOG=1"]
        while heard[-1]:  # one may be on its way
            heard.append(_heard(manager))
        assert len(heard) <= 3
        manager.settimeout(10.0)
        watchdog.stop()
        assert manager.recv(64) == b"STOPPING=1"


def test_without_a_service_manager_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    watchdog = Watchdog(lambda: True)
    watchdog.start()
    watchdog.stop()
    Watchdog(lambda: True, "/nowhere/notify").notify("READY=1")


# ---------------------------------------------------------------------------- setup


def test_a_new_door_is_made_once_and_a_lost_state_is_no_new_door(tmp_path: Path) -> None:
    state = tmp_path / "door"
    setup_door.init(state, POLICY)
    keys = AccessKeys.open(state)
    AccessController.open(POLICY, state, keys, facts).close()
    with pytest.raises(AccessStateError):
        setup_door.init(state, POLICY)
    (state / "state.sealed").unlink()
    with pytest.raises(AccessStateError):
        AccessController.open(POLICY, state, keys, facts)
    assert verify_audit(state / "audit.log", keys).count > 0


def answering(*answers: str) -> Callable[[str], str]:
    given = iter(answers)
    return lambda _text: next(given)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a new door, whose PINs are stretched quickly."""
    quick = functools.partial(edit_factors, cost=ScryptCost(log2=1, block=1, lanes=1))
    monkeypatch.setattr(setup_door, "edit_factors", quick)
    folder = tmp_path / "door"
    setup_door.init(folder, POLICY)
    return folder


def test_a_pin_is_asked_for_twice(state: Path) -> None:
    with pytest.raises(InvalidInputError, match="not repeated"):
        setup_door.set_pin(state, "alice", answering(PIN, "271829"))

    def no_terminal(_text: str) -> str:
        raise EOFError

    with pytest.raises(InvalidInputError, match="at a terminal"):
        setup_door.set_pin(state, "alice", no_terminal)
    line = setup_door.set_pin(state, "alice", answering(PIN, PIN, DURESS_PIN), alarm_is_heard=True)
    assert PIN not in line
    assert "calls for help" in line
    assert FactorStore(state, AccessKeys.open(state)).subjects() == ("alice",)
    pytest.importorskip("pyotp")
    assert setup_door.add_totp(state, "alice").startswith("otpauth://totp/")


def test_a_pin_that_calls_for_help_is_not_offered_where_nobody_hears(state: Path) -> None:
    # A third question would find no answer.
    line = setup_door.set_pin(state, "alice", answering(PIN, PIN))
    assert "nobody would hear" in line


def test_changes_of_second_factors_are_in_the_log(state: Path) -> None:
    setup_door.set_pin(state, "alice", answering(PIN, PIN))
    setup_door.remove_factor(state, "alice")
    with pytest.raises(InvalidInputError, match="no second factor"):
        setup_door.remove_factor(state, "alice")
    keys = AccessKeys.open(state)
    assert FactorStore(state, keys).subjects() == ()
    records = read_records(state / "audit.log", keys)
    assert [one["kind"] for one in records].count("factors") == 2
    assert "alice" not in str(records)


def test_a_clock_is_said_to_be_right_when_the_door_is_off(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "for right" in setup_door.trust_clock(state, POLICY)
    keys = AccessKeys.open(state)
    assert "clock" in [one["kind"] for one in read_records(state / "audit.log", keys)]
    with (
        AccessController.open(POLICY, state, keys, facts),
        pytest.raises(AccessStateError, match="signal USR1"),
    ):
        setup_door.trust_clock(state, POLICY)


def test_the_key_of_a_far_lock_is_the_doors_and_private(tmp_path: Path) -> None:
    state, file = tmp_path / "door", tmp_path / "lease.key"
    setup_door.init(state, POLICY)
    setup_door.export_lease_key(state, file)
    assert setup_door.read_lease_key(file) == AccessKeys.open(state).lease
    with pytest.raises(InvalidInputError, match="cannot be written"):
        setup_door.export_lease_key(state, file)
    file.chmod(0o644)
    with pytest.raises(InvalidInputError, match="open to others"):
        setup_door.read_lease_key(file)


def policy_file(repository: Path, folder: Path, name: str = "demo-policy.toml") -> Path:
    """A copy of an example's policy that nobody else may write, as a checkout may not be."""
    text = (repository / "examples" / "door_unlock" / name).read_text(encoding="utf-8")
    file = folder / name
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    return file


@pytest.mark.parametrize("name", ["policy.toml", "demo-policy.toml"])
def test_the_policies_that_come_with_the_example_are_valid(
    repository: Path, tmp_path: Path, name: str
) -> None:
    policy = AccessPolicy.from_toml(policy_file(repository, tmp_path, name))
    assert policy.demonstration == name.startswith("demo")
    strict = policy.require_pad and policy.factors.second_factor == "required"
    assert strict != policy.demonstration


# ---------------------------------------------------------------------------- the whole program


def program(*arguments: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "examples.door_unlock", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | more,
    )


def _wait_for_the_camera(app: subprocess.Popen[str]) -> None:
    assert app.stdout is not None
    too_late = threading.Timer(90.0, app.kill)
    too_late.start()
    said = ""
    while line := app.stdout.readline():
        said += line
        if "camera: usable True" in line:
            break
    too_late.cancel()
    if "camera: usable True" not in said:
        if "edgeface assets fetch" in said:
            pytest.skip("the model files of detection are not at hand")
        pytest.fail(said)


@pytest.mark.integration
@pytest.mark.parametrize(
    "ending", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)]
)
def test_the_program_starts_with_a_camera_and_ends_on_a_signal(
    tmp_path: Path, repository: Path, ending: signal.Signals
) -> None:
    pytest.importorskip("mediapipe")
    policy = policy_file(repository, tmp_path)
    state = tmp_path / "door"
    setup_door.init(state, AccessPolicy.from_toml(policy))
    options = {
        "--source": "test:",
        "--policy": str(policy),
        "--state": str(state),
        "--gallery": str(tmp_path / "people.db"),
        "--threads": "1",
    }
    arguments = [text for pair in options.items() for text in pair]
    more = {
        "PYTHONPATH": str(repository),
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "1000000",
    }
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(more["NOTIFY_SOCKET"])
    manager.settimeout(20.0)
    with manager, program(*arguments, "--no-panel", **more) as app:
        assert app.stdout is not None
        _wait_for_the_camera(app)
        assert _heard(manager) == b"READY=1"
        assert _heard(manager) == b"WATCHDOG=1"
        app.send_signal(signal.SIGUSR1)
        # Stopped, it says nothing, and systemd would end it; going on, it speaks again.
        app.send_signal(signal.SIGSTOP)
        manager.settimeout(1.5)
        while _heard(manager):
            pass
        app.send_signal(signal.SIGCONT)
        manager.settimeout(20.0)
        assert _heard(manager) == b"WATCHDOG=1"
        app.send_signal(ending)
        assert app.wait(20.0) == (0 if ending is signal.SIGTERM else -signal.SIGKILL)
        rest = app.stdout.read()
        assert ("the door is locked" in rest) == (ending is signal.SIGTERM)
        # A kill may come before it is said.
        assert ending is signal.SIGKILL or "UTC is taken for right" in rest
    # Whatever ended it, the log is whole and the door can be opened again.
    keys = AccessKeys.open(state)
    assert verify_audit(state / "audit.log", keys).problem == ""
    AccessController.open(replace(POLICY), state, keys, facts).close()


def test_the_short_app_is_short_and_its_lock_is_a_toy_only_when_asked(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (repository / "examples/door_unlock/app_in_60_lines.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    asked: list[bool] = []

    class EndedError(Exception):
        pass

    def verifier(_door: str, _key: bytes, *, demonstration: bool = False) -> object:
        asked.append(demonstration)
        raise EndedError

    monkeypatch.setattr(app_in_60_lines, "LeaseVerifier", verifier)
    monkeypatch.setattr(AccessKeys, "open", lambda _folder: AccessKeys.of_secret(b"k" * 32))
    policy = str(policy_file(repository, tmp_path))
    for more in ((), ("toy",)):
        with pytest.raises(EndedError):
            app_in_60_lines.main("0", policy, "people.db", *more)
    assert asked == [False, True]


@pytest.mark.parametrize(
    ("policy", "options", "wanted"),
    [
        ({}, ["--lock", "gpio"], "nobody would hear of attacks"),
        ({"anti_passback": "hard"}, [], "nothing here tells who went out"),
    ],
)
def test_a_door_that_nobody_hears_does_not_start(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    policy: dict[str, str],
    options: list[str],
    wanted: str,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    file = tmp_path / "policy.toml"
    lines = ["schema = 1", 'door = "d"', *(f'{name} = "{text}"' for name, text in policy.items())]
    file.write_text("\n".join(lines))
    file.chmod(0o600)
    assert door_main(["--policy", str(file), "--state", str(tmp_path / "no"), *options]) == 2
    assert wanted in capsys.readouterr().err


def test_a_trusted_key_that_others_may_write_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state, file, key = tmp_path / "door", tmp_path / "policy.toml", tmp_path / "maker.pub"
    file.write_text('schema = 1\ndoor = "d"\n')
    file.chmod(0o600)
    key.write_bytes(b"a key")
    key.chmod(0o666)
    setup_door.init(state, AccessPolicy.from_toml(file))
    arguments = ["--policy", str(file), "--state", str(state), "--trusted-key", str(key)]
    assert door_main([*arguments, "--no-panel"]) != 0
    assert "trusted key" in capsys.readouterr().err


def test_a_mistake_is_one_line_and_exit_code_two(tmp_path: Path, repository: Path) -> None:
    with program("--state", str(tmp_path / "no"), PYTHONPATH=str(repository)) as app:
        assert app.stdout is not None
        assert (
            app.stdout.read() == "door: a door needs its rules: give --policy FILE (policy.toml)\n"
        )
        assert app.wait(20.0) == 2


# ---------------------------------------------------------------------------- passphrases


def _typed(folder: Path, arguments: list[str], answers: list[str]) -> tuple[int, str]:
    """Run the program at a terminal of its own, answering each question; return what it said."""
    pty = pytest.importorskip("pty")
    outer, inner = pty.openpty()
    hidden = {"EDGEFACE_INSECURE_KEY_FILE", "CREDENTIALS_DIRECTORY"}
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    env |= {"HOME": str(folder), "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
    command = [sys.executable, "-m", "examples.door_unlock", *arguments, "--state", str(folder)]
    with subprocess.Popen(
        command, stdin=inner, stdout=inner, stderr=inner, env=env, start_new_session=True
    ) as program:
        os.close(inner)
        said, left = b"", list(answers)
        # At the end of the program a terminal gives an error, or nothing.
        with suppress(OSError):
            while got := os.read(outer, 4096):
                said += got
                if left and got.rstrip().endswith(b":"):
                    os.write(outer, left.pop(0).encode() + b"\n")
        os.close(outer)
        code = program.wait(60)
    return code, said.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal of POSIX")
def test_a_doors_key_may_be_a_passphrase(tmp_path: Path, repository: Path) -> None:
    folder, policy = tmp_path / "door", str(policy_file(repository, tmp_path))
    folder.mkdir(mode=0o700)
    words = "four plain words here"
    code, said = _typed(folder, ["--init", "--policy", policy], [words, words])
    assert (code, "made the door" in said) == (0, True), said
    code, said = _typed(folder, ["--add-totp", "alice"], ["other words"])
    assert (code, "otpauth" in said) == (2, False), said
    code, said = _typed(folder, ["--add-totp", "alice"], [words])
    assert (code, "otpauth" in said) == (0, True), said
    assert words not in said
