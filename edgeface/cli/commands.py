"""The table of commands: one line each; the function lives in the module named."""

from __future__ import annotations

from collections.abc import Callable

import typer

from edgeface.cli.activation_set_command import activation_set_app
from edgeface.cli.assets import assets_app
from edgeface.cli.audit_command import audit_app
from edgeface.cli.bench_command import bench
from edgeface.cli.calibrate_command import calibrate
from edgeface.cli.demo_command import demo
from edgeface.cli.discover_command import discover
from edgeface.cli.doctor_command import doctor
from edgeface.cli.engine_command import engine_app
from edgeface.cli.export_command import export
from edgeface.cli.gallery_command import gallery_app
from edgeface.cli.inspect_command import inspect
from edgeface.cli.pad_command import pad_app
from edgeface.cli.recognise import enrol, identify
from edgeface.cli.replay_command import replay
from edgeface.cli.sign_command import keygen, sign
from edgeface.cli.verify import verify
from edgeface.cli.watch import watch

__all__ = ["register"]


_COMMANDS: tuple[Callable[..., None], ...] = (
    export,
    inspect,
    discover,
    verify,
    calibrate,
    enrol,
    identify,
    watch,
    replay,
    bench,
    demo,
    doctor,
    keygen,
    sign,
)


def register(app: typer.Typer) -> None:
    """Add every command to ``app``."""
    for command in _COMMANDS:
        app.command()(command)
    app.command("enroll", hidden=True)(enrol)
    app.add_typer(assets_app, name="assets")
    app.add_typer(gallery_app, name="gallery")
    app.add_typer(engine_app, name="engine")
    app.add_typer(pad_app, name="pad")
    app.add_typer(audit_app, name="audit")
    app.add_typer(activation_set_app, name="activation-set")
