"""The verbs of the ``oneshot`` command, one file per group. Heavy modules are imported where they are used."""

import typer

from app.commands import classes, data, enrolling, galleries, keys, model, recognise


def register(cli: typer.Typer) -> None:
    """Add all verbs that work on classes and images."""
    for function in (enrolling.enroll, recognise.classify, recognise.verify):
        cli.command()(function)
    cli.add_typer(classes.cli, name="classes")
    cli.add_typer(galleries.cli, name="galleries")
    cli.add_typer(model.cli, name="model")
    for function in (data.backup, data.restore, data.export):
        cli.command()(function)
    cli.add_typer(keys.cli, name="keys")
