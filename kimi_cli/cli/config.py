"""`kimi config`: show the settings in force, say where they are kept, change one."""

import json
import os
import sys
from typing import Annotated, NoReturn

import typer

from kimi_cli.cli.here import working_directory
from kimi_cli.settings import SettingsError, is_trusted, kimi_home, load_settings
from kimi_cli.settings.files import project_file, user_file
from kimi_cli.workspace.roots import project_root

app = typer.Typer(
    name="config", help="Show and change the settings.", no_args_is_help=True, add_completion=False
)


@app.command()
def show(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show every setting with where its value comes from. Keys are masked."""
    root = project_root(working_directory())
    trusted = is_trusted(kimi_home(os.environ), root)
    try:
        loaded = load_settings(env=os.environ, project_root=root, flags={}, trusted=trusted)
    except SettingsError as error:
        _fail(error)
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    from kimi_cli.frontends.settings_list import setting_lines, setting_rows

    rows = setting_rows(loaded)
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for line in setting_lines(rows):
        print(line)


@app.command()
def path() -> None:
    """Print where the settings files are, or would be."""
    print(user_file(os.environ))
    project = project_file(os.environ, project_root(working_directory()))
    if project is not None:
        print(project)


@app.command("set")
def set_one(
    key: Annotated[str, typer.Argument(help="Dotted, as in budget.max_steps.")],
    value: Annotated[str, typer.Argument(help="A TOML value, or plain text.")],
    project: Annotated[
        bool, typer.Option("--project", help="Write .kimi/config.toml of this project.")
    ] = False,
) -> None:
    """Set one value; the rest of the file stays as it is."""
    from kimi_cli.settings.edit import set_value

    root = project_root(working_directory()) if project else None
    try:
        file, missing = set_value(os.environ, root, key, value)
    except SettingsError as error:
        from kimi_cli.frontends.setting_words import value_problem

        _fail(value_problem(key, value) or error)
    print(f"{key} is set in {file}")
    for other in missing:
        print(f"warning: {other} is missing: set it too", file=sys.stderr)
    if root is not None and not is_trusted(kimi_home(os.environ), root):
        print(
            "warning: this folder is not trusted: only harmless settings in it have an effect",
            file=sys.stderr,
        )


def _fail(error: SettingsError | str) -> NoReturn:
    print(f"kimi: {error}", file=sys.stderr)
    raise typer.Exit(2)
