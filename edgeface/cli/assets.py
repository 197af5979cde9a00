"""``edgeface assets``: the model files of the runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeface.assets import (
    ASSETS,
    DEFAULT_ASSETS,
    AssetFetcher,
    AssetState,
    FetchOptions,
    FetchSource,
    FoundAsset,
    asset_state,
    known_asset,
)
from edgeface.cli.console import note, print_json, print_line, table

__all__ = ["assets_app"]

assets_app = typer.Typer(help="Model files of the runtime.", no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SourceOption = Annotated[FetchSource, typer.Option(help="Where to fetch from.")]
NamesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]...", help="Assets; default: all needed.")
]
_GOOD = (AssetState.CACHED, AssetState.OFFLINE)


@assets_app.command("list")
def list_assets(*, as_json: JsonOption = False) -> None:
    """List the model files and where they are."""
    _print_states([asset_state(name) for name in ASSETS], as_json=as_json)


@assets_app.command("fetch")
def fetch_assets(
    names: NamesArgument = None,
    *,
    source: SourceOption = FetchSource.AUTO,
    as_json: JsonOption = False,
) -> None:
    """Bring model files onto this machine; the only command that uses the network for them.

    Without names, all that the runtime needs; an asset that cannot be had is then replaced by its
    stand-in, which is named.
    """
    wanted = [known_asset(name) for name in names or DEFAULT_ASSETS]
    with _progress() as progress:
        options = FetchOptions(source=source, progress=progress)
        with AssetFetcher(options) as fetcher:
            fetch = fetcher.fetch if names else fetcher.fetch_or_stand_in
            found = [fetch(asset) for asset in wanted]
    for asset, result in zip(wanted, found, strict=True):
        if result.asset is not asset:
            note(f"{asset.name} cannot be had; {result.asset.name} stands in for it")
    _print_states(found, as_json=as_json)


@assets_app.command("verify")
def verify_assets(*, as_json: JsonOption = False) -> None:
    """Check the SHA-256 of every model file; exit code 1 when one is damaged or missing."""
    found = [asset_state(name) for name in ASSETS]
    _print_states(found, as_json=as_json)
    damaged = any(asset.state is AssetState.DAMAGED for asset in found)
    if damaged or not all(_is_served(name) for name in DEFAULT_ASSETS):
        raise typer.Exit(1)


def _is_served(name: str) -> bool:
    """Return whether the asset or its stand-in is at hand."""
    stand_in = known_asset(name).stand_in
    names = (name, stand_in) if stand_in else (name,)
    return any(asset_state(each).state in _GOOD for each in names)


def _print_states(found: list[FoundAsset], *, as_json: bool) -> None:
    if as_json:
        print_json({"assets": [_as_json(each) for each in found]})
        return
    rows = [
        [each.asset.name, f"{each.asset.size_bytes:,}", each.state.value, each.asset.licence]
        for each in found
    ]
    print_line(table(["name", "bytes", "state", "licence"], rows))


def _as_json(found: FoundAsset) -> dict[str, Any]:
    return {
        "name": found.asset.name,
        "purpose": found.asset.purpose,
        "size_bytes": found.asset.size_bytes,
        "sha256": found.asset.sha256,
        "licence": found.asset.licence,
        "state": found.state.value,
        "path": _text(found.path),
    }


def _text(path: Path | None) -> str | None:
    return str(path) if path else None


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """Give what draws a bar on stderr, or None where stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("fetching")
        yield lambda done, total: bar.update(task, completed=done, total=total)
