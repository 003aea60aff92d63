"""``kimi sessions``: list, show, rename, delete, export and fork what is stored."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, TextIO

import typer

from kimi_cli.cli.completion import session_ids
from kimi_cli.cli.here import working_directory
from kimi_cli.cli.output import json_line
from kimi_cli.frontends.plain import clean
from kimi_cli.frontends.sessions import fields, table
from kimi_cli.settings import kimi_home
from kimi_cli.store.errors import SessionBusy, SessionError, SessionNotFound, StoreError
from kimi_cli.store.summary import Summary, summaries, summary_of
from kimi_cli.workspace.roots import project_root

LISTED = 20
UNITS = {"h": 3600, "d": 86_400, "w": 7 * 86_400}

Id = Annotated[
    str | None,
    typer.Argument(
        help="A session's id or its start; this project's last when left out.",
        metavar="[ID]",
        autocompletion=session_ids,
        show_default=False,
    ),
]
AnId = Annotated[
    str,
    typer.Argument(help="A session's id or its start.", metavar="ID", autocompletion=session_ids),
]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]

app = typer.Typer(
    name="sessions",
    help="List, show, rename, export, fork and delete sessions.",
    add_completion=False,
)


@app.callback(invoke_without_command=True)
def main(context: typer.Context) -> None:
    """List, show, rename, export, fork and delete sessions."""
    if context.invoked_subcommand is None:
        list_sessions()


@app.command("list")
def list_sessions(
    everywhere: Annotated[
        bool, typer.Option("--all", help="Those of all projects, not of this one alone.")
    ] = False,
    as_json: AsJson = False,
    count: Annotated[
        int | None, typer.Option("-n", help="Only the newest N.", metavar="N", min=1)
    ] = None,
) -> None:
    """List this project's sessions, the newest first."""
    with _told():
        found = summaries(_home(), None if everywhere else _root())
    if as_json:
        print(json_line([fields(s) for s in found[:count]]))
        return
    if not found:
        where = "" if everywhere else f" of {_root()}; --all lists those of all projects"
        print(clean(f"kimi: there is no session{where}"), file=sys.stderr)
        return
    width = _width()
    count = count or (LISTED if width else len(found))
    print(*table(found[:count], width=width, now=time.time(), folders=everywhere), sep="\n")
    if width and len(found) > count:
        print(f"{len(found) - count} older ones: -n {len(found)}", file=sys.stderr)


@app.command()
def show(session: Id = None, as_json: AsJson = False) -> None:
    """Show a session with its turns, what they used and which files they changed."""
    from kimi_cli.frontends.session_details import all_fields, details
    from kimi_cli.store.events_file import read_events

    with _told():
        found = _one(session)
        events = read_events(found.path).events
    if as_json:
        print(json_line(all_fields(found, events)))
    else:
        print(*details(found, events, width=_width(), now=time.time()), sep="\n")


@app.command()
def rename(session: AnId, title: Annotated[str, typer.Argument()]) -> None:
    """Give a session a title of your own."""
    from kimi_cli.store import manage

    with _told():
        found = _one(session)
        manage.rename(_home(), found.id, title, _root())
        print(f"{found.id} · {_one(found.id).title}")


@app.command()
def fork(
    session: Id = None,
    at_turn: Annotated[
        int | None, typer.Option(help="Only with the first N turns.", metavar="N", min=1)
    ] = None,
) -> None:
    """Copy a session, to go on from there without changing it."""
    from kimi_cli.store import manage

    with _told():
        new = manage.fork(_home(), _one(session).id, _root(), upto_turn=at_turn)
    print(new)
    print(f'kimi -r {new} -p "..."', file=sys.stderr)


@app.command()
def export(
    session: Id = None,
    form: Annotated[
        Literal["md", "openai", "html"],
        typer.Option("--format", help="openai: the messages, as its API takes them."),
    ] = "md",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="A file, or a folder to put one in.", metavar="PATH"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    unmasked: Annotated[
        bool, typer.Option("--unmasked", help="Leave keys and tokens as they are.")
    ] = False,
) -> None:
    """Write a session as a document; to standard output without -o. Keys and tokens are masked."""
    from kimi_cli.frontends.export import FORMATS
    from kimi_cli.frontends.export import export as exported
    from kimi_cli.store.events_file import read_events

    with _told():
        found = _one(session)
        events, title = read_events(found.path).events, found.title
        if not unmasked:
            from kimi_cli.frontends.export.masked import masked
            from kimi_cli.frontends.export.saving import token_mask

            mask = token_mask(os.environ)
            events, title = masked(events, mask), mask(title)
        text = exported(events, form, title=title, session=found.id)
        if output is None:
            # UTF-8 wherever it goes, whatever the terminal's encoding.
            sys.stdout.buffer.write(text.encode())
            return
        if output.is_dir():
            output = output / f"kimi-{found.id}{FORMATS[form]}"
        from kimi_cli.frontends.export.saving import write_export

        write_export(output, text, force=force)
    print(output)


@app.command()
def delete(
    session: Annotated[
        list[str] | None,
        typer.Argument(
            help="Ids of sessions, or their starts.", metavar="[ID]...", autocompletion=session_ids
        ),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(help="All not used for so long: 30d, 12h, 2w.", metavar="AGE"),
    ] = None,
    everywhere: Annotated[
        bool, typer.Option("--all", help="With --older-than: of all projects.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
) -> None:
    """Delete sessions, with the outputs and former files that they keep."""
    with _told():
        if bool(session) == (older_than is not None):
            raise SessionError("say which sessions to delete: their ids, or --older-than 30d")
        if older_than is not None:
            before = time.time() - _age(older_than)
            known = summaries(_home(), None if everywhere else _root())
            doomed = [found for found in known if 0 < found.updated < before]
        else:
            doomed = list({found.id: found for found in map(_one, session or ())}.values())
        if not doomed:
            print("kimi: no session is that old", file=sys.stderr)
            return
        if not yes:
            _ask(doomed, everywhere)
        failed = [found.id for found in doomed if not _deleted(found)]
    if failed:
        raise typer.Exit(2)


def _deleted(session: Summary) -> bool:
    from kimi_cli.store import manage

    try:
        manage.delete(_home(), session.id, _root())
    except SessionBusy:
        print(f"kimi: {session.id} is open in another kimi process: kept", file=sys.stderr)
        return False
    except SessionNotFound:
        return True
    print(f"deleted: {session.id}")
    return True


def _ask(doomed: list[Summary], everywhere: bool) -> None:
    """Show what is to be deleted and return when the user wants that; else SessionError."""
    lines = table(doomed, width=_width(sys.stderr), now=time.time(), folders=everywhere)
    print("\n".join(lines), file=sys.stderr)
    what = "this session" if len(doomed) == 1 else f"these {len(doomed)} sessions"
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        raise SessionError(f"without a terminal to ask on, --yes deletes {what}")
    print(f"delete {what} for good? [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if answer.strip().lower() not in ("y", "yes"):
        print("\n" * (not answer), end="", file=sys.stderr)
        raise SessionError("nothing was deleted")


def _age(text: str) -> float:
    number, unit = text[:-1], text[-1:]
    if unit not in UNITS or not number.isdecimal() or len(number) > 6:
        raise SessionError(f"{text!r} is no age: give it in hours, days or weeks, as in 30d")
    return int(number) * UNITS[unit]


def _one(session: str | None) -> Summary:
    """The session meant. Raises SessionError, StoreError."""
    if session is not None:
        return summary_of(_home(), session, _root())
    found = summaries(_home(), _root())
    if not found:
        raise SessionNotFound(f"there is no session of {_root()}")
    return found[0]


def _home() -> Path:
    return kimi_home(os.environ)


def _root() -> Path:
    return project_root(working_directory())


def _width(stream: TextIO | None = None) -> int | None:
    """Columns of the terminal that the output goes to; None where it goes elsewhere."""
    stream = stream or sys.stdout
    if not stream.isatty():
        return None
    # 0 is what a terminal says that does not know.
    return os.get_terminal_size(stream.fileno()).columns or 80


@contextmanager
def _told() -> Iterator[None]:
    """Say what is wrong in one line, and end with its code."""
    try:
        yield
    except (SessionError, StoreError) as error:
        print(clean(f"kimi: {error}"), file=sys.stderr)
        raise typer.Exit(74 if isinstance(error, StoreError) else 2) from None
