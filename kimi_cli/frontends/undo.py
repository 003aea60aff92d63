"""What an undo will do, what it can't, and what it did: as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kimi_cli.agent.branch import touches
from kimi_cli.agent.restoring import FileChange
from kimi_cli.agent.rewinding import Done, Preview
from kimi_cli.agent.undo import Goal, TurnPoint
from kimi_cli.frontends.plain import ago, clean, counted, fit, moment
from kimi_cli.protocol.events import ToolStarted, TurnEnded
from kimi_cli.workspace.snapshots.model import NEVER_COVERED

VERBS = {
    "created": "brought back",
    "deleted": "removed",
    "modified": "changed back",
    "mode": "permissions",
    "type": "replaced",
}
FORTH_VERBS = {**VERBS, "created": "made again", "modified": "changed again"}
LISTED = 50
NAMED = 10
SHELL = "shell"


def preview_lines(session: str, preview: Preview, folder: Path, *, width: int) -> Iterator[str]:
    """The lines that say what is going to happen; ``folder`` is what paths are shown relative
    to."""
    goal = preview.goal
    yield f"{_heading(goal)} · session {session}"
    for turn in goal.turns:
        yield f"  turn {turn.number}  {fit(_one_line(turn.text), max(width - 12, 20))}"
    if goal.conversation:
        yield "conversation: " + _conversation(goal)
    else:
        yield "conversation: stays as it is"
    yield from _file_lines(preview, folder)
    if preview.edited:
        yield "edited since by others than kimi; these edits would be lost:"
        yield from (f"  {line}" for line in _names(preview.edited, folder))
    if left := beyond(preview):
        yield "not undone:" if goal.what != "redo" else "not redone:"
        yield from (f"  {clean(line)}" for line in left)


def preview_fields(session: str, preview: Preview) -> dict[str, Any]:
    """The same for programs; documented in docs/undo.md."""
    goal = preview.goal
    return {
        "session": session,
        "what": goal.what,
        "before_turn": goal.target,
        "turns": [_turn_fields(turn) for turn in goal.turns],
        "conversation": goal.conversation,
        "files": [_change_fields(change) for change in preview.changes],
        "edited": [str(path) for path in preview.edited],
        "not_undone": beyond(preview),
        "problem": preview.problem,
        "done": False,
    }


def done_fields(session: str, preview: Preview, done: Done) -> dict[str, Any]:
    """The preview's fields, and what came of it."""
    return {
        **preview_fields(session, preview),
        "files": [_change_fields(change) for change in done.changes],
        "failed": [{"path": str(path), "reason": why} for path, why in done.failed],
        "done": True,
    }


def done_lines(preview: Preview, done: Done, folder: Path) -> Iterator[str]:
    """What was done, in a line; the files that could not be restored follow."""
    goal = preview.goal
    pieces = [
        _past(goal),
        f"{counted(len(done.changes), 'file')} restored" if done.changes else "",
        "" if goal.what == "redo" else "kimi redo brings it back",
    ]
    yield " · ".join(piece for piece in pieces if piece)
    for path, why in done.failed:
        yield f"  not restored: {clean(_shown(path, folder))}: {clean(why)}"


def beyond(preview: Preview) -> list[str]:
    """What stays as it is, in sentences."""
    goal = preview.goal
    if goal.what == "redo":
        return []
    said = [f"the files: {preview.problem}"] if preview.problem else []
    for turn in goal.turns:
        if turn.failure or (turn.start is None and _touched(turn)):
            said.append(f"files that turn {turn.number} changed: no snapshot of them was made")
    if commands := _commands(goal.turns):
        said += [_ran(commands), *NEVER_COVERED[:-1]]
    for head in preview.heads:
        said.append(f"commits: {head.folder} stays on {head.after[:10] or 'no commit'}")
    for one in preview.left[:NAMED]:
        said.append(f"{one.path}: {one.reason}")
    if len(preview.left) > NAMED:
        said.append(f"and {len(preview.left) - NAMED} more that no snapshot covers")
    return said


def turn_lines(
    turns: Sequence[TurnPoint],
    changed: Mapping[int, Iterable[Path]],
    *,
    width: int | None,
    now: float,
) -> Iterator[str]:
    """A line for each turn that can be gone back to, the oldest first."""
    for turn in turns:
        count = len(list(changed.get(turn.number, ())))
        end = _outcome(turn)
        files = counted(count, "file") if count else ""
        pieces = (ago(now - turn.time) or moment(turn.time), end, files)
        tail = " · ".join(piece for piece in pieces if piece)
        room = max((width or 120) - 10 - len(tail), 16)
        yield f"{turn.number:>4}  {fit(_one_line(turn.text), room)}  {tail}"


def turn_rows(
    turns: Sequence[TurnPoint], changed: Mapping[int, Iterable[Path]]
) -> list[dict[str, Any]]:
    """The same for programs."""
    return [
        {
            **_turn_fields(turn),
            "stop_reason": next(
                (e.reason.value for e in turn.events if isinstance(e, TurnEnded)), None
            ),
            "files": sorted(str(path) for path in changed.get(turn.number, ())),
            "snapshot": turn.start is not None,
        }
        for turn in turns
    ]


def _heading(goal: Goal) -> str:
    if goal.what == "redo":
        return f"redo {_span(goal.turns)}"
    if goal.what == "undo":
        return f"undo turn {goal.target}"
    return f"back to before turn {goal.target}"


def _past(goal: Goal) -> str:
    if goal.what == "redo":
        return f"redone: {_span(goal.turns)}"
    if goal.what == "undo":
        return f"undone: turn {goal.target}"
    which = {(True, False): "the conversation is ", (False, True): "the files are "}
    what = which.get((goal.conversation, goal.mark is not None), "")
    return f"{what}back before turn {goal.target}"


def _conversation(goal: Goal) -> str:
    if goal.what == "redo":
        return f"{_span(goal.turns)} come back" if len(goal.turns) > 1 else "the turn comes back"
    return f"goes back to before turn {goal.target}"


def _span(turns: Sequence[TurnPoint]) -> str:
    if not turns:
        return "nothing"
    first, last = turns[0].number, turns[-1].number
    return f"turn {first}" if first == last else f"turns {first} to {last}"


def _file_lines(preview: Preview, folder: Path) -> Iterator[str]:
    goal = preview.goal
    if preview.problem:
        yield f"files: can't be restored: {clean(preview.problem)}"
        return
    if not preview.changes:
        yield "files: none to restore" if goal.mark else "files: stay as they are"
        return
    verbs = FORTH_VERBS if goal.what == "redo" else VERBS
    yield "files:"
    for change in preview.changes[:LISTED]:
        figures = "" if change.added is None else f"  +{change.added} -{change.removed}"
        shown = clean(_shown(change.path, folder))
        yield f"  {verbs[change.kind]:<13} {shown}{figures}"
    if len(preview.changes) > LISTED:
        yield f"  and {len(preview.changes) - LISTED} more"


def _names(paths: Sequence[Path], folder: Path) -> Iterator[str]:
    for path in paths[:LISTED]:
        yield clean(_shown(path, folder))
    if len(paths) > LISTED:
        yield f"and {len(paths) - LISTED} more"


def _outcome(turn: TurnPoint) -> str:
    ended = next((e for e in turn.events if isinstance(e, TurnEnded)), None)
    if ended is None:
        return "not ended"
    return "" if ended.reason.value == "done" else ended.reason.value.replace("_", " ")


def _commands(turns: Sequence[TurnPoint]) -> int:
    return sum(isinstance(e, ToolStarted) and e.name == SHELL for t in turns for e in t.events)


def _touched(turn: TurnPoint) -> bool:
    return any(touch.action != "read" for touch in touches(turn.events))


def _ran(commands: int) -> str:
    ran = "the command that ran" if commands == 1 else f"the {commands} commands that ran"
    return f"what {ran} did elsewhere: processes, the network, other folders"


def _turn_fields(turn: TurnPoint) -> dict[str, Any]:
    return {"turn": turn.number, "time": turn.time, "text": turn.text}


def _change_fields(change: FileChange) -> dict[str, Any]:
    return {
        "path": str(change.path),
        "action": change.kind,
        "added": change.added,
        "removed": change.removed,
    }


def _one_line(text: str) -> str:
    return " ".join(clean(text.strip()[:1200].replace("\n", " ")).split())


def _shown(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
