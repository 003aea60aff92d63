"""``kimi undo``, ``redo`` and ``rewind``: turns of a stored session taken back and brought back."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kimi_cli.cli.exit_codes import EXIT_CODES
from kimi_cli.cli.here import working_directory
from kimi_cli.protocol.stops import StopReason

if TYPE_CHECKING:
    from kimi_cli.agent.rewinding import Done, Preview
    from kimi_cli.agent.stored_undo import Undoing
    from kimi_cli.agent.undo import Goal, History
    from kimi_cli.workspace.snapshots.model import Limits

NOT_DONE = EXIT_CODES[StopReason.CONFIGURATION]
NOT_WHOLE = 1
WIDTH = 100


@dataclass(frozen=True, slots=True)
class Manner:
    """How it is done: ``yes`` asks nothing, ``force`` writes over files that somebody else has
    changed since, ``as_json`` says everything as one JSON object."""

    yes: bool = False
    force: bool = False
    as_json: bool = False


def undo_turn(session: str | None, manner: Manner) -> int:
    """Take back the last turn of the session with this id (None: the project's last); returns the
    exit code."""
    from kimi_cli.agent.undo import undo

    return _run(session, manner, undo)


def redo_turn(session: str | None, manner: Manner) -> int:
    """Bring back what was taken back last; returns the exit code."""
    from kimi_cli.agent.undo import redo

    return _run(session, manner, redo)


def rewind_to(
    session: str | None, turn: int | None, manner: Manner, *, files: bool, conversation: bool
) -> int:
    """Go back to before a turn, or list the turns (None); returns the exit code."""
    if turn is None:
        return _list(session, manner)
    from kimi_cli.agent.undo import rewind

    return _run(
        session,
        manner,
        lambda known: rewind(known, turn, files=files, conversation=conversation),
    )


def _run(session: str | None, manner: Manner, choose: Callable[[History], Goal]) -> int:
    from kimi_cli.agent.stored_undo import begin, opened

    async def work(home: Path, root: Path, limits: Limits) -> int:
        with opened(home, root, session) as stored:
            return await _change(await begin(home, stored, limits), manner, choose)

    return _judged(work)


def _judged(work: Callable[[Path, Path, Limits], Coroutine[object, object, int]]) -> int:
    """The exit code of work on a session of this project; says what is in its way."""
    from kimi_cli.agent.checkpoints import limits_of
    from kimi_cli.agent.undo import CannotUndo
    from kimi_cli.cli.event_loop import run
    from kimi_cli.settings import SettingsError, is_trusted, kimi_home, load_settings
    from kimi_cli.store.errors import SessionError, StoreError
    from kimi_cli.workspace.roots import project_root

    home = kimi_home(os.environ)
    root = project_root(working_directory())
    try:
        settings = load_settings(
            env=dict(os.environ), project_root=root, flags={}, trusted=is_trusted(home, root)
        ).settings
        return run(work(home, root, limits_of(settings.undo)))
    except (SettingsError, SessionError, CannotUndo) as error:
        _tell([f"kimi: {error}"])
        return NOT_DONE
    except StoreError as error:
        _tell([f"kimi: {error}"])
        return EXIT_CODES[StopReason.STORE_FAILED]


async def _change(undoing: Undoing, manner: Manner, choose: Callable[[History], Goal]) -> int:
    from kimi_cli.agent.rewinding import EditedSince
    from kimi_cli.agent.stored_undo import told
    from kimi_cli.frontends import undo as words

    if undoing.finished:
        # That is what was asked for: doing it once more would go too far.
        _tell([f"kimi: {told(undoing.finished)}"])
        return 0
    if undoing.problem:
        _tell([f"kimi: an undo was cut short before; {undoing.problem}"])
    preview = await undoing.rewinder.preview(choose(undoing.rewinder.history))
    refusal = _refusal(preview, manner)
    if manner.as_json:
        if refusal:
            _print_json(words.preview_fields(undoing.session, preview))
            _tell([f"kimi: {refusal}"])
            return NOT_DONE
    else:
        _tell(words.preview_lines(undoing.session, preview, undoing.folder, width=_width()))
        if not refusal and not manner.yes:
            refusal = await asyncio.to_thread(_asked, preview)
        if refusal:
            _tell([f"kimi: {refusal}"])
            return NOT_DONE
    try:
        done = await undoing.rewinder.carry_out(preview.goal, force=manner.force)
    except EditedSince as error:
        names = ", ".join(str(path) for path in error.paths)
        _tell([f"kimi: edited just now: {names}; nothing was changed"])
        return NOT_DONE
    return _report(undoing, preview, done, manner)


def _report(undoing: Undoing, preview: Preview, done: Done, manner: Manner) -> int:
    from kimi_cli.frontends import undo as words

    if manner.as_json:
        _print_json(words.done_fields(undoing.session, preview, done))
    else:
        print(*words.done_lines(preview, done, undoing.folder), sep="\n")
    return NOT_WHOLE if done.failed else 0


def _refusal(preview: Preview, manner: Manner) -> str:
    """Why it is not done, whatever the user would answer; "" when it may be."""
    if preview.problem and preview.goal.what == "redo":
        return "nothing was changed"
    if preview.problem:
        return (
            f"nothing was changed; kimi rewind {preview.goal.target} --conversation leaves the "
            "files as they are"
        )
    if preview.edited and not manner.force:
        return "nothing was changed; --force writes over the files that were edited since"
    if not manner.yes and (manner.as_json or not (_terminal(sys.stdin) and _terminal(sys.stderr))):
        return "nothing was changed; without a terminal to ask on, --yes does it"
    return ""


def _asked(preview: Preview) -> str:
    """Ask; "" for a yes, else what is said then."""
    what = "bring it back" if preview.goal.what == "redo" else "take it back"
    sys.stderr.write(f"{what}? [y/N] ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if answer.strip().lower() in ("y", "yes"):
        return ""
    return "\n" * (not answer) + "nothing was changed"


def _list(session: str | None, manner: Manner) -> int:
    from kimi_cli.agent.stored_undo import reading

    async def work(home: Path, root: Path, limits: Limits) -> int:
        return await _listed(reading(home, root, session, limits), manner)

    return _judged(work)


async def _listed(undoing: Undoing, manner: Manner) -> int:
    from kimi_cli.frontends import undo as words

    turns = undoing.rewinder.history.turns
    changed = {turn.number: await undoing.rewinder.files_of(turn) for turn in turns}
    if manner.as_json:
        _print_json(words.turn_rows(turns, changed))
        return 0
    width = _width() if sys.stdout.isatty() else None
    if turns:
        print(*words.turn_lines(turns, changed, width=width, now=time.time()), sep="\n")
        _tell(["kimi rewind TURN goes back to before a turn"])
    else:
        _tell(["kimi: there is no turn to go back to"])
    return 0


def _print_json(value: object) -> None:
    from kimi_cli.cli.output import json_line

    print(json_line(value))


def _tell(lines: Iterable[str]) -> None:
    from kimi_cli.frontends.headless.progress import say

    for line in lines:
        say(line)


def _terminal(stream: object) -> bool:
    return hasattr(stream, "isatty") and bool(stream.isatty())


def _width() -> int:
    for stream in (sys.stderr, sys.stdout):
        try:
            return os.get_terminal_size(stream.fileno()).columns or WIDTH
        except (OSError, ValueError, AttributeError):
            continue
    return WIDTH
