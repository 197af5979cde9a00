"""Signatures of bundles: which are believed, which are refused, and what a signature covers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeface.bundle import MANIFEST_NAME, Bundle, sign_bundle
from edgeface.default_model import default_bundle_path
from edgeface.errors import (
    BundleError,
    BundleIntegrityError,
    BundleSignatureError,
    InvalidInputError,
)
from edgeface.signatures import SIGNATURE_NAME, PublicKey, SigningKey, read_signatures

pytest.importorskip("cryptography")


@pytest.fixture(scope="module")
def maker() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture(scope="module")
def stranger() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model.edgeface"
    shutil.copytree(default_bundle_path(), path)
    return path


@pytest.fixture
def signed(folder: Path, maker: SigningKey) -> Path:
    sign_bundle(folder, maker)
    return folder


def opened_by(folder: Path, *keys: SigningKey) -> Bundle:
    return Bundle.open(folder, trusted_keys=[key.public_key for key in keys])


def change_signatures(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads((folder / SIGNATURE_NAME).read_text())
    change(data)
    (folder / SIGNATURE_NAME).write_text(json.dumps(data))


def test_a_bundle_opens_with_the_key_that_signed_it(signed: Path, maker: SigningKey) -> None:
    assert opened_by(signed, maker).manifest == Bundle.open(signed).manifest


def test_an_unsigned_bundle_opens_unless_a_signature_is_asked_for(
    folder: Path, maker: SigningKey
) -> None:
    Bundle.open(folder)
    with pytest.raises(BundleSignatureError, match="is not signed"):
        opened_by(folder, maker)


def test_a_bundle_that_somebody_else_signed_is_refused(
    signed: Path, maker: SigningKey, stranger: SigningKey
) -> None:
    with pytest.raises(BundleSignatureError, match=maker.public_key.fingerprint[:16]):
        opened_by(signed, stranger)


def test_one_of_several_trusted_keys_is_enough(
    signed: Path, maker: SigningKey, stranger: SigningKey
) -> None:
    opened_by(signed, stranger, maker)


def test_two_signatures_stand_side_by_side(
    signed: Path, maker: SigningKey, stranger: SigningKey
) -> None:
    sign_bundle(signed, stranger)
    sign_bundle(signed, stranger)
    assert len(read_signatures(signed)) == 2
    for key in (maker, stranger):
        opened_by(signed, key)


def test_nobody_who_is_trusted_is_a_mistake_and_not_a_yes(signed: Path) -> None:
    with pytest.raises(InvalidInputError, match="one PublicKey or more"):
        Bundle.open(signed, trusted_keys=())
    with pytest.raises(InvalidInputError, match="one PublicKey or more"):
        Bundle.open(signed, trusted_keys=["0" * 64])  # type: ignore[list-item]


@pytest.mark.parametrize("change", [b" ", b"\n", b"\r\n"])
def test_a_manifest_that_reads_the_same_but_has_other_bytes_is_refused(
    signed: Path, maker: SigningKey, change: bytes
) -> None:
    path = signed / MANIFEST_NAME
    path.write_bytes(path.read_bytes() + change)
    Bundle.open(signed)
    with pytest.raises(BundleSignatureError, match="was changed since a trusted key"):
        opened_by(signed, maker)


def test_every_changed_byte_of_any_file_is_refused(signed: Path, maker: SigningKey) -> None:
    for path in sorted(signed.iterdir()):
        content = path.read_bytes()
        for position in (0, len(content) // 2, len(content) - 2):
            changed = bytearray(content)
            changed[position] ^= 1
            path.write_bytes(changed)
            with pytest.raises(BundleError):
                opened_by(signed, maker)
        path.write_bytes(content)
    opened_by(signed, maker)


def test_a_manifest_rewritten_for_another_model_needs_a_new_signature(
    signed: Path, maker: SigningKey
) -> None:
    """What somebody does who can write the folder: change a file and its hash too."""
    report = signed / "report.json"
    report.write_text("{}")
    manifest = signed / MANIFEST_NAME
    data = json.loads(manifest.read_text())
    import hashlib

    data["files"]["report.json"] = hashlib.sha256(b"{}").hexdigest()
    manifest.write_text(json.dumps(data))
    Bundle.open(signed)
    with pytest.raises(BundleSignatureError):
        opened_by(signed, maker)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(signatures=[]),
        lambda d: d.update(signatures=d["signatures"] * 17),
        lambda d: d.update(format=2),
        lambda d: d.update(algorithm="rsa"),
        lambda d: d["signatures"][0].update(signature="00" * 64),
        lambda d: d["signatures"][0].update(signature=""),
        lambda d: d["signatures"][0].update(signature="zz" * 64),
        lambda d: d["signatures"][0].update(public_key="00" * 32),
        lambda d: d["signatures"][0].update(manifest_sha256="00" * 32),
        lambda d: d["signatures"][0].update(more=1),
        lambda d: d["signatures"][0].pop("signature"),
        lambda d: d.update(signatures={"0": d["signatures"][0]}),
    ],
)
def test_a_changed_signature_file_is_refused(
    signed: Path, maker: SigningKey, change: Callable[[dict[str, Any]], object]
) -> None:
    change_signatures(signed, change)
    with pytest.raises(BundleSignatureError):
        opened_by(signed, maker)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b"x" * (1 << 17)]
)
def test_what_is_no_signature_file_is_refused(
    signed: Path, maker: SigningKey, content: bytes
) -> None:
    (signed / SIGNATURE_NAME).write_bytes(content)
    with pytest.raises(BundleSignatureError, match="sign the bundle again"):
        opened_by(signed, maker)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_signature_file_that_is_no_plain_file_is_refused(
    signed: Path, maker: SigningKey, tmp_path: Path, kind: str
) -> None:
    path = signed / SIGNATURE_NAME
    path.rename(tmp_path / "elsewhere")
    if kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(BundleSignatureError):
        opened_by(signed, maker)


def test_a_signature_of_another_bundle_does_not_count(
    signed: Path, maker: SigningKey, tmp_path: Path
) -> None:
    other = tmp_path / "other.edgeface"
    shutil.copytree(signed, other)
    manifest = json.loads((other / MANIFEST_NAME).read_text()) | {"name": "other"}
    (other / MANIFEST_NAME).write_text(json.dumps(manifest))
    with pytest.raises(BundleSignatureError):
        opened_by(other, maker)


def test_a_damaged_bundle_is_not_signed(folder: Path, maker: SigningKey) -> None:
    with (folder / "report.json").open("ab") as file:
        file.write(b" ")
    with pytest.raises(BundleIntegrityError, match="was changed"):
        sign_bundle(folder, maker)
    assert not (folder / SIGNATURE_NAME).exists()


def test_signing_again_after_a_change_drops_signatures_over_the_old_manifest(
    signed: Path, stranger: SigningKey
) -> None:
    path = signed / MANIFEST_NAME
    path.write_bytes(path.read_bytes() + b"\n")
    sign_bundle(signed, stranger)
    assert [entry.fingerprint for entry in read_signatures(signed)] == [
        stranger.public_key.fingerprint
    ]


def test_the_signature_is_over_words_that_no_other_use_signs(signed: Path) -> None:
    """A key that signs bare hashes for something else makes no signature of a bundle."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    entry = read_signatures(signed)[0]
    bare = key.sign(bytes.fromhex(entry.manifest_sha256))
    raw = key.public_key().public_bytes_raw()
    change_signatures(
        signed,
        lambda data: data["signatures"][0].update(public_key=raw.hex(), signature=bare.hex()),
    )
    with pytest.raises(BundleSignatureError):
        Bundle.open(signed, trusted_keys=[PublicKey(raw)])


# ---------------------------------------------------------------------------- keys


def test_keys_come_back_from_their_files(tmp_path: Path, maker: SigningKey) -> None:
    maker.write(tmp_path / "key")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert SigningKey.read(tmp_path / "key").public_key == maker.public_key
    assert PublicKey.read(tmp_path / "key.pub") == maker.public_key


def test_a_key_is_never_overwritten(tmp_path: Path, maker: SigningKey) -> None:
    for name in ("key", "key.pub"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(InvalidInputError, match="exists"):
            maker.write(tmp_path / "key")
        assert (tmp_path / name).read_text() == "mine"
        for left in tmp_path.iterdir():
            left.unlink()


def test_a_key_that_others_may_read_does_not_sign(tmp_path: Path, maker: SigningKey) -> None:
    maker.write(tmp_path / "key")
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(InvalidInputError, match="other users may read"):
        SigningKey.read(tmp_path / "key")


def test_an_encrypted_key_wants_its_passphrase(tmp_path: Path, maker: SigningKey) -> None:
    maker.write(tmp_path / "key", "correct horse")
    assert SigningKey.is_encrypted(tmp_path / "key")
    assert SigningKey.read(tmp_path / "key", "correct horse").public_key == maker.public_key
    for wrong in (None, "", "battery"):
        with pytest.raises(InvalidInputError, match="passphrase"):
            SigningKey.read(tmp_path / "key", wrong)


def test_a_file_that_holds_no_such_key_is_refused(tmp_path: Path, maker: SigningKey) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    maker.write(tmp_path / "key")
    other = X25519PrivateKey.generate().public_key()
    pem = other.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (tmp_path / "other.pub").write_bytes(pem)
    (tmp_path / "empty").write_bytes(b"")
    for name in ("other.pub", "empty", "key", "absent"):
        with pytest.raises(InvalidInputError):
            PublicKey.read(tmp_path / name)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_agrees_with_the_signature(signed: Path, maker: SigningKey, tmp_path: Path) -> None:
    entry = read_signatures(signed)[0]
    message = b"edgeface bundle signature 1\0" + bytes.fromhex(entry.manifest_sha256)
    (tmp_path / "message").write_bytes(message)
    (tmp_path / "sig").write_bytes(bytes.fromhex(entry.signature))
    (tmp_path / "key.pub").write_bytes(maker.public_key.to_pem())
    command = "openssl pkeyutl -verify -pubin -inkey key.pub -rawin -in message -sigfile sig"
    done = subprocess.run(
        command.split(),
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# ---------------------------------------------------------------------------- command line


def run(*arguments: str | Path) -> tuple[int, str]:
    from typer.testing import CliRunner

    from edgeface.cli import app

    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return (done.exit_code if done.exception is None else 2), done.output


def test_keygen_and_sign_and_check(folder: Path, tmp_path: Path) -> None:
    key, other = tmp_path / "key", tmp_path / "other"
    assert run("keygen", key, "--no-passphrase")[0] == 0
    assert run("keygen", other, "--no-passphrase")[0] == 0
    assert run("sign", folder, "--check", f"{key}.pub")[0] != 0
    assert run("sign", folder, "--key", key)[0] == 0
    code, output = run("sign", folder, "--check", f"{key}.pub", "--json")
    assert code == 0
    assert json.loads(output)["trusted"] == [PublicKey.read(f"{key}.pub").fingerprint]
    assert "PRIVATE" not in output
    assert run("sign", folder, "--check", f"{other}.pub")[0] != 0
    Bundle.open(folder, trusted_keys=[PublicKey.read(f"{key}.pub")])
