"""The commands beside the main one: their flags. Each loads what it does when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kimi_cli.cli.completion import session_ids

SessionOption = Annotated[
    str | None,
    typer.Option(
        "--session",
        help="A session's id or its start; this project's last when left out.",
        metavar="ID",
        autocompletion=session_ids,
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Also where files were edited since, which is lost then.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]


def add_commands(app: typer.Typer) -> None:
    """Add all of them to the command line."""
    for command in (
        *(login, logout, doctor),
        *(undo, redo, rewind, context, compact, replay, models, trust, demo),
    ):
        app.command()(command)


def login(
    base_url: Annotated[
        str | None,
        typer.Option(help="Keep the key for this endpoint; it is read from stdin.", metavar="URL"),
    ] = None,
    model: Annotated[
        str | None, typer.Option("-m", "--model", help="The model to use there.", metavar="NAME")
    ] = None,
    no_test: Annotated[
        bool, typer.Option("--no-test", help="Keep it without trying it out.")
    ] = False,
) -> None:
    """Set up an endpoint, a model and an API key; without flags you are asked for all of it."""
    from kimi_cli.cli.login import login as log_in

    raise typer.Exit(log_in(base_url, model, not no_test))


def logout(
    base_url: Annotated[
        str | None, typer.Option(help="Only the key for this endpoint.", metavar="URL")
    ] = None,
) -> None:
    """Remove the API keys that `kimi login` keeps."""
    from kimi_cli.cli.login import logout as log_out

    raise typer.Exit(log_out(base_url))


def doctor(json_output: JsonOption = False) -> None:
    """Check settings, key, endpoint, model, sandbox and terminal, and say what to do."""
    from kimi_cli.cli.doctor import examine_all

    raise typer.Exit(examine_all(json_output))


def undo(
    session: SessionOption = None,
    yes: YesOption = False,
    force: ForceOption = False,
    json_output: JsonOption = False,
) -> None:
    """Take back a session's last turn: the files it changed, and the conversation."""
    from kimi_cli.cli.undo import Manner, undo_turn

    raise typer.Exit(undo_turn(session, Manner(yes, force, json_output)))


def redo(
    session: SessionOption = None,
    yes: YesOption = False,
    force: ForceOption = False,
    json_output: JsonOption = False,
) -> None:
    """Bring back what was taken back last."""
    from kimi_cli.cli.undo import Manner, redo_turn

    raise typer.Exit(redo_turn(session, Manner(yes, force, json_output)))


def rewind(
    turn: Annotated[
        int | None, typer.Argument(help="The turn to go back to before; lists them when left out.")
    ] = None,
    files: Annotated[bool, typer.Option("--files", help="The files only.")] = False,
    conversation: Annotated[
        bool, typer.Option("--conversation", help="The conversation only.")
    ] = False,
    both: Annotated[bool, typer.Option("--both", help="Files and conversation (default).")] = False,
    session: SessionOption = None,
    yes: YesOption = False,
    force: ForceOption = False,
    json_output: JsonOption = False,
) -> None:
    """Go back to before a turn of a session, or list its turns."""
    from kimi_cli.cli.undo import Manner, rewind_to

    both = both or files == conversation
    code = rewind_to(
        session,
        turn,
        Manner(yes, force, json_output),
        files=files or both,
        conversation=conversation or both,
    )
    raise typer.Exit(code)


def models(
    base_url: Annotated[str | None, typer.Option(metavar="URL")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List what the endpoint has, joined with what is known of each model."""
    from kimi_cli.cli.models import show_models

    raise typer.Exit(show_models(base_url, json_output))


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Keep the temporary project.")] = False,
    fast: Annotated[bool, typer.Option("--fast", help="Don't pace the replies.")] = False,
) -> None:
    """Show a live run without a key: recorded replies of a model, everything else real."""
    from kimi_cli.cli.demo import run_demo

    raise typer.Exit(run_demo(keep=keep, pace=not fast))


def trust(
    action: Annotated[
        Literal["add", "remove", "list"], typer.Argument(help="What to do with the folder.")
    ] = "list",
    folder: Annotated[
        Path | None, typer.Argument(help="The folder; the project you are in when left out.")
    ] = None,
) -> None:
    """Say which folders' project settings take effect."""
    from kimi_cli.cli.trust import change_trust

    raise typer.Exit(change_trust(action, folder))


def context(
    session: Annotated[
        str | None,
        typer.Argument(help="A session's id or its start; this project's last when left out."),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show what fills a session's context window, and what compactions kept and dropped."""
    from kimi_cli.cli.context import show_context

    raise typer.Exit(show_context(session, json_output))


def compact(
    session: Annotated[
        str | None,
        typer.Argument(help="A session's id or its start; this project's last when left out."),
    ] = None,
    focus: Annotated[
        str, typer.Option(help="What the model should keep above all.", metavar="TEXT")
    ] = "",
    base_url: Annotated[str | None, typer.Option(metavar="URL")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Compact a session's context now: the model writes a hand-off note for itself."""
    from kimi_cli.cli.compact import compact_session

    raise typer.Exit(compact_session(session, focus, base_url=base_url, as_json=json_output))


def replay(
    session: Annotated[str, typer.Argument(help="A session's id, its start, or its file.")],
    speed: Annotated[
        float | None,
        typer.Option(
            help="How many times faster than it was, 4 by default; 0, and into a pipe: at once.",
            min=0,
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Run it again offline: recorded model, real tools; compare."),
    ] = False,
    project: Annotated[
        Path | None,
        typer.Option(
            help="The project as it was at the beginning, copied first; default: where you are.",
            metavar="DIR",
        ),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the copy.")] = False,
    verbose: Annotated[
        bool,
        typer.Option("-v", "--verbose", help="List every call, not only those that differ."),
    ] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="The outcome of the check as JSON.")
    ] = False,
) -> None:
    """Show a session as it was, or check that its tool calls still give the same results."""
    from kimi_cli.cli.replay import Checking, replay_session

    checking = Checking(project=project, keep=keep, verbose=verbose, as_json=json_output)
    raise typer.Exit(replay_session(session, speed, check, checking))
