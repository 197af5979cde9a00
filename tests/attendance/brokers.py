"""A real Mosquitto, plain or with TLS, that can be stopped and started again."""

from __future__ import annotations

import datetime
import getpass
import ipaddress
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def mosquitto() -> str:
    """Return the broker's program, or skip."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("mosquitto is not installed")
    return found


class Broker:
    def __init__(self, folder: Path, *, tls: bool = False) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.folder = folder
        lines = [f"listener {self.port} 127.0.0.1", "allow_anonymous true"]
        lines += ["persistence false", "log_type error", "max_queued_messages 0"]
        # Started by root it would become another user, who may not read the test's files.
        lines += [f"user {getpass.getuser()}"]
        if tls:
            write_certificates(folder)
            lines += [f"certfile {folder}/server.pem", f"keyfile {folder}/server.key"]
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [mosquitto(), "-c", str(self.folder / "mosquitto.conf")]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        end_s = time.monotonic() + 20
        while time.monotonic() < end_s:
            if self._answers():
                return
            time.sleep(0.02)
        raise AssertionError("mosquitto did not start")

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 0.2).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None


@contextmanager
def running_broker(folder: Path, *, tls: bool = False) -> Iterator[Broker]:
    mosquitto()
    broker = Broker(folder, tls=tls)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def write_certificates(folder: Path) -> None:
    """Write ca.pem, and server.pem and server.key for 127.0.0.1, good for a day."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    def builder(subject: str, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder(name("test authority"), name(subject), public)
        made = made.serial_number(x509.random_serial_number())
        return made.not_valid_before(now - day).not_valid_after(now + day)

    ca = builder("test authority", ca_key.public_key())
    ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    ca = ca.add_extension(identifier, critical=False)
    server = builder("broker", key.public_key()).add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
    )
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    (folder / "server.pem").write_bytes(server.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    secret = key.private_bytes(
        pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    (folder / "server.key").write_bytes(secret)
