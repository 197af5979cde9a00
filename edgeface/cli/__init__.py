"""The command line: every command parses, calls, prints and exits.

Exit codes: 0 done, 1 the outcome is "no" (a gate failed, nobody was recognised), 2 the user's
mistake. Commands live in one module each and import what they need when they run, so that
``edgeface --help`` works with the base install alone.
"""

from __future__ import annotations

import sys

import typer

from edgeface.cli.commands import register
from edgeface.cli.console import print_error
from edgeface.errors import EdgefaceError

__all__ = ["app", "main"]

app = typer.Typer(
    name="edgeface",
    help="On-device face recognition: export a trained model with proof, and run it on cameras.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
register(app)


def main() -> None:
    """Run the command line; errors made on purpose become one line and an exit code."""
    try:
        app()
    except EdgefaceError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of a pipe went away (`edgeface watch --json | head`); that is not our error.
        sys.stderr.close()
        sys.exit(0)
