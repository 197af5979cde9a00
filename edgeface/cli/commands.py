"""The table of commands: one line each; the function lives in the module named."""

from __future__ import annotations

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add every command to ``app``."""
    del app
