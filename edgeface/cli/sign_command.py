"""``edgeface keygen`` and ``edgeface sign``: who vouches for a bundle."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from edgeface.bundle import (
    MANIFEST_NAME,
    BundleFolder,
    manifest_of_any_task,
    read_manifest_text,
    sign_bundle,
)
from edgeface.cli.console import note, print_json, print_line
from edgeface.cli.gallery_access import PassphraseFileOption
from edgeface.cli.shared_options import JsonOption
from edgeface.errors import InvalidInputError
from edgeface.signatures import PublicKey, SigningKey, read_signatures, trusted_signers

__all__ = ["keygen", "sign"]


def keygen(
    key: Annotated[Path, typer.Argument(help="File for the private key; KEY.pub gets the other.")],
    *,
    no_passphrase: Annotated[
        bool,
        typer.Option("--no-passphrase", help="Leave the private key unencrypted (mode 0600)."),
    ] = False,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an Ed25519 key pair to sign bundles with.

    Keep KEY on the machine that signs, and give KEY.pub to those that open bundles.
    """
    secret = None
    if not no_passphrase:
        secret = _passphrase(passphrase_file, new=True)
    made = SigningKey.generate()
    made.write(key, secret)
    public = f"{key}.pub"
    if as_json:
        print_json({"fingerprint": made.public_key.fingerprint, "public_key": public})
    else:
        print_line(f"{public}: fingerprint {made.public_key.fingerprint}")
        note(f"{key} is the private key: it stays here")


def sign(
    bundle: Annotated[Path, typer.Argument(help="Bundle to sign, or to check.")],
    *,
    key: Annotated[
        Path | None, typer.Option("--key", "-k", help="Private key of `edgeface keygen`.")
    ] = None,
    check: Annotated[
        list[Path] | None,
        typer.Option(
            "--check", metavar="KEY.pub", help="Sign nothing; say whether this key has signed it."
        ),
    ] = None,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a bundle, or say whether a trusted key has signed it.

    Every file is checked first. With --check, exit code 1 when none of the keys has signed it.
    """
    if (key is None) == (not check):
        raise InvalidInputError("give --key FILE to sign, or --check KEY.pub to check, not both")
    if key is None:
        _check(bundle, [PublicKey.read(path) for path in check or ()], as_json=as_json)
        return
    made = sign_bundle(bundle, _signing_key(key, passphrase_file))
    if as_json:
        print_json({"fingerprint": made.fingerprint, "manifest_sha256": made.manifest_sha256})
    else:
        print_line(f"signed {bundle} by {made.fingerprint}")


def _signing_key(path: Path, passphrase_file: Path | None) -> SigningKey:
    if passphrase_file is None and not SigningKey.is_encrypted(path):
        return SigningKey.read(path)
    return SigningKey.read(path, _passphrase(passphrase_file, new=False))


def _passphrase(file: Path | None, *, new: bool) -> str:
    if file is not None:
        return _first_line(file)
    if not sys.stdin.isatty():
        raise InvalidInputError(
            "the signing key wants a passphrase and there is no terminal to ask at; give "
            "--passphrase-file FILE" + (", or --no-passphrase" if new else "")
        )
    asked: str = typer.prompt(
        f"{'New passphrase' if new else 'Passphrase'} of the signing key",
        hide_input=True,
        confirmation_prompt=new,
        err=True,
    )
    return asked


def _first_line(file: Path) -> str:
    try:
        lines = (sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")).splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidInputError(f"the passphrase file {file} cannot be read: {exc}") from exc
    if not lines or not lines[0]:
        raise InvalidInputError(f"the passphrase file {file} is empty")
    return lines[0]


def _check(bundle: Path, keys: list[PublicKey], *, as_json: bool) -> None:
    text = read_manifest_text(bundle)
    manifest = manifest_of_any_task(text, where=str(bundle / MANIFEST_NAME))
    BundleFolder(bundle, manifest.artefacts, manifest.files).verify()
    found = [key.fingerprint for key in trusted_signers(bundle, text.encode("utf-8"), keys)]
    all_signers = [entry.fingerprint for entry in read_signatures(bundle)]
    if as_json:
        print_json({"trusted": found, "signed_by": all_signers})
    elif found:
        print_line(f"{bundle} is signed by {', '.join(found)}")
    else:
        print_line(
            f"{bundle} is not signed by these keys; signatures in it: "
            f"{', '.join(all_signers) or 'none'}"
        )
    if not found:
        raise typer.Exit(1)
