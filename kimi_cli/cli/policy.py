"""`kimi policy`: explain what becomes of a command; show, add and remove rules."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from kimi_cli.cli.here import working_directory
from kimi_cli.frontends.policy_rules import (
    NO_RULES,
    explanation,
    load,
    rule_lines,
    rule_rows,
    rule_text,
)
from kimi_cli.settings import Loaded, SettingsError, drop_rule, keep_rule, kimi_home
from kimi_cli.workspace.roots import project_root

app = typer.Typer(
    name="policy",
    help="What the agent may do: explain it, show the rules, change them.",
    no_args_is_help=True,
    add_completion=False,
)

ARule = Annotated[str, typer.Argument(help="As in 'shell(git push)' or 'write(docs/**)'.")]
Everywhere = Annotated[
    bool, typer.Option("--everywhere", help="In all projects, not only in this one.")
]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


@app.command()
def explain(
    command: Annotated[str, typer.Argument(help="A shell command line, quoted as one word.")],
    sandbox: Annotated[
        Literal["read-only", "workspace-write", "off"] | None,
        typer.Option(help="As if kimi was started with it."),
    ] = None,
    yolo: Annotated[bool, typer.Option("--yolo", help="As if kimi was started with it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say whether a command would run, be asked about or denied, and why. Nothing is run."""
    root = project_root(working_directory())
    try:
        loaded = _load(root)
        found = explanation(
            command,
            loaded,
            env=os.environ,
            home=_home(),
            root=root,
            cwd=working_directory(),
            mode=sandbox or loaded.settings.sandbox.mode,
            yolo=yolo,
        )
    except SettingsError as error:
        _fail(error)
    print(json.dumps(found.as_json(), indent=2, ensure_ascii=False) if as_json else found)


@app.command("list")
def show(as_json: AsJson = False) -> None:
    """Show the rules that hold here, with where each comes from."""
    root = project_root(working_directory())
    try:
        loaded = _load(root)
        rows = rule_rows(loaded, _home(), root)
    except SettingsError as error:
        _fail(error)
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for line in rule_lines(rows):
        print(line)
    if not rows:
        print(NO_RULES, file=sys.stderr)


@app.command()
def allow(rule: ARule, everywhere: Everywhere = False) -> None:
    """Do what the rule means without asking; '+network' and the like let it out of the sandbox."""
    _add("allow", rule, everywhere)


@app.command()
def ask(rule: ARule, everywhere: Everywhere = False) -> None:
    """Ask before what the rule means."""
    _add("ask", rule, everywhere)


@app.command()
def deny(rule: ARule, everywhere: Everywhere = False) -> None:
    """Never do what the rule means, also with --yolo."""
    _add("deny", rule, everywhere)


@app.command()
def remove(rule: ARule, everywhere: Everywhere = False) -> None:
    """Take back a rule that was added here or by an answer."""
    root = project_root(working_directory())
    try:
        gone = drop_rule(_home(), _normal(rule), None if everywhere else root)
    except SettingsError as error:
        _fail(error)
    if not gone:
        where = "for all projects" if everywhere else f"for {root}"
        other = "try without --everywhere" if everywhere else "--everywhere means those of all"
        _fail(f"no such rule was added {where} ({other}; rules of config.toml are changed there)")
    for one in gone:
        print(f"removed: {one.verdict} {one.rule}")


def _add(verdict: Literal["allow", "ask", "deny"], text: str, everywhere: bool) -> None:
    root = project_root(working_directory())
    rule = _normal(text, verdict)
    try:
        new = keep_rule(_home(), verdict, rule, None if everywhere else root)
    except (OSError, SettingsError) as error:
        _fail(error, 74)
    where = "everywhere" if everywhere else f"in {root}"
    print(f"{verdict}: {rule}, {where}" + (" (it was there)" if not new else ""))


def _normal(text: str, verdict: Literal["allow", "ask", "deny"] = "allow") -> str:
    """The rule as it is written down. Ends with 2 for one that is none."""
    try:
        return rule_text(text, verdict)
    except ValueError as error:
        _fail(error)


def _load(root: Path) -> Loaded:
    loaded = load(os.environ, _home(), root)
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return loaded


def _home() -> Path:
    return kimi_home(os.environ)


def _fail(error: object, code: int = 2) -> NoReturn:
    print(f"kimi: {error}", file=sys.stderr)
    raise typer.Exit(code)
