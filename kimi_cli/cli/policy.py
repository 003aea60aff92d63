"""`kimi policy`: explain what becomes of a command; show, add and remove rules."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from kimi_cli.cli.here import working_directory
from kimi_cli.settings import (
    Loaded,
    SettingsError,
    drop_rule,
    is_trusted,
    keep_rule,
    kept_rules,
    kimi_home,
    load_settings,
    user_home,
)
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
    from kimi_cli.agent.guarding import rules_in_force
    from kimi_cli.safety.explain import explain as explained
    from kimi_cli.safety.shell_policy import Place

    root = project_root(working_directory())
    try:
        loaded = _load(root)
        rules = rules_in_force(loaded, _home(), root)
    except SettingsError as error:
        _fail(error)
    mode = sandbox or loaded.settings.sandbox.mode
    folders = (root, *map(Path, loaded.settings.workspace.add_dirs))
    found = explained(
        command,
        rules,
        confined=mode != "off",
        yolo=yolo,
        mode=mode,
        place=Place(folders, working_directory(), user_home(os.environ)),
    )
    print(json.dumps(found.as_json(), indent=2, ensure_ascii=False) if as_json else found)


@app.command("list")
def show(as_json: AsJson = False) -> None:
    """Show the rules that hold here, with where each comes from."""
    root = project_root(working_directory())
    try:
        loaded = _load(root)
        kept = kept_rules(_home(), root)
    except SettingsError as error:
        _fail(error)
    rows = [
        {"verdict": verdict, "rule": rule, "source": str(source)}
        for verdict, rule, source in loaded.rules
    ]
    rows += [
        {
            "verdict": one.verdict,
            "rule": one.rule,
            "source": f"kept for {one.project}" if one.project else "kept, everywhere",
        }
        for one in kept
    ]
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for row in sorted(rows, key=lambda row: ("deny", "ask", "allow").index(row["verdict"])):
        print(f"{row['verdict']:5}  {row['rule']}  # {row['source']}")
    if not rows:
        print("no rules: the sandbox decides, and what wants out of it is asked", file=sys.stderr)


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
    from kimi_cli.safety.rules import RuleSet

    try:
        rules = RuleSet.of(**{verdict: [(text, "")]})
    except ValueError as error:
        _fail(error)
    [rule] = getattr(rules, verdict)
    return str(rule)


def _load(root: Path) -> Loaded:
    loaded = load_settings(
        env=os.environ, project_root=root, flags={}, trusted=is_trusted(_home(), root)
    )
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return loaded


def _home() -> Path:
    return kimi_home(os.environ)


def _fail(error: object, code: int = 2) -> NoReturn:
    print(f"kimi: {error}", file=sys.stderr)
    raise typer.Exit(code)
