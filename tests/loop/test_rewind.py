"""Turns taken back and brought back in a running session: its requests, its files, its record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kimi_cli.agent import Session
from kimi_cli.agent.rewinding import Done, EditedSince
from kimi_cli.agent.undo import CannotUndo, redo, rewind, undo
from kimi_cli.protocol.events import Checkpoint, Compaction, Notice, Rewind, ToolResult, ToolStarted
from kimi_cli.protocol.stops import StopReason
from tests.loop.conftest import Stage, StageMaker
from tests.support.replies import Reply, text, tool_calls

NOTE = "Goal: mend the sum. State: it is mended. Next: nothing, all that was asked for is done."
SMALL = {"context.recent_tokens": 0}


def edit(old: str, new: str, path: str = "calc.py") -> Reply:
    return tool_calls([("edit", {"path": path, "edits": [{"old": old, "new": new}]})])


def shell(command: str) -> Reply:
    return tool_calls([("shell", {"command": command})])


def write(path: str, content: str) -> Reply:
    return tool_calls([("write", {"path": path, "content": content})])


@pytest.fixture
def work(tmp_path: Path, stage: StageMaker) -> Path:
    folder = tmp_path / "work"
    (folder / "calc.py").write_text("a - b\n")
    return folder


async def undone(session: Session, *, force: bool = False) -> Done:
    rewinder = await session.rewinder()
    return await rewinder.carry_out(undo(rewinder.history), force=force)


async def redone(session: Session) -> Done:
    rewinder = await session.rewinder()
    return await rewinder.carry_out(redo(rewinder.history))


async def rewound(
    session: Session, turn: int, *, files: bool = True, conversation: bool = True
) -> Done:
    rewinder = await session.rewinder()
    goal = rewind(rewinder.history, turn, files=files, conversation=conversation)
    return await rewinder.carry_out(goal)


def extends(s: Stage, later: int, earlier: int) -> bool:
    """Whether one request goes on, byte for byte, from another."""
    requests = s.server.requests
    return requests[later].raw.startswith(requests[earlier].conversation)


def told(s: Stage, request: int) -> str:
    return json.dumps(s.sent(request))


async def test_a_turn_goes_and_the_next_request_goes_on_before_it(
    stage: StageMaker, work: Path
) -> None:
    script = [edit("a - b", "a + b"), text("one"), shell("echo x > made; rm calc.py"), text("two"),
              text("three"), text("four")]  # fmt: skip
    async with stage(script, yolo=True) as s:
        await s.session.run_turn("first")
        await s.session.run_turn("second")
        used = s.session.budget.usage, s.session.budget.steps
        done = await undone(s.session)
        assert {change.path.name: change.kind for change in done.changes} == {
            "made": "deleted", "calc.py": "created"
        }  # fmt: skip
        assert (work / "calc.py").read_text() == "a + b\n" and not (work / "made").exists()
        # What was used was used.
        assert (s.session.budget.usage, s.session.budget.steps) == used
        await s.session.run_turn("instead")
        assert extends(s, 4, 1) and "second" not in told(s, 4)
        assert s.sent(4)[-2:] == [
            {"role": "assistant", "content": "one"}, {"role": "user", "content": "instead"}
        ]  # fmt: skip
        with pytest.raises(CannotUndo, match="nothing to redo"):
            await redone(s.session)


async def test_redo_brings_back_files_and_conversation(stage: StageMaker, work: Path) -> None:
    script = [edit("a - b", "a + b"), text("one"), write("new", "n"), text("two"), text("three")]
    async with stage(script) as s:
        await s.session.run_turn("first")
        await s.session.run_turn("second")
        await undone(s.session)
        await undone(s.session)
        assert (work / "calc.py").read_text() == "a - b\n" and not (work / "new").exists()
        await redone(s.session)
        assert (work / "calc.py").read_text() == "a + b\n" and not (work / "new").exists()
        await redone(s.session)
        assert (work / "new").read_text() == "n"
        await s.session.run_turn("third")
        assert extends(s, 4, 3)


async def test_back_to_before_a_compaction(stage: StageMaker, work: Path) -> None:
    todo = tool_calls([("todo", {"items": [{"text": "mend it", "status": "pending"}]})])
    other = tool_calls([("todo", {"items": [{"text": "other", "status": "done"}]})])
    script = [edit("a - b", "a + b"), todo, text("one"), other, text("two"), text(NOTE),
              text("three"), text("again"), text(NOTE), text("last")]  # fmt: skip
    async with stage(script, flags=SMALL) as s:
        await s.session.run_turn("first")
        before = s.session._record.meter.total
        await s.session.run_turn("second")
        assert await s.session.compact()
        await s.session.run_turn("third")
        assert not extends(s, 6, 2)
        spent = s.session.budget.usage
        await rewound(s.session, 2)
        assert s.session.budget.usage == spent
        assert s.session._record.meter.total == before
        await s.session.run_turn("instead")
        assert extends(s, 7, 2)
        # A compaction keeps the facts of this branch.
        again = await s.session.compact()
        assert again is not None
        pinned = again.pinned[0].model_dump_json()
        assert "mend it" in pinned and "first" in pinned and "instead" in pinned
        assert "other" not in pinned and "second" not in pinned
        assert len(s.of(Compaction)) == 2


async def test_what_the_model_saw_is_that_of_the_branch(stage: StageMaker, work: Path) -> None:
    read = tool_calls([("read", {"path": "calc.py"})])
    script = [read, text("one"), edit("a - b", "a + b"), text("two"),
              edit("a - b", "a * b"), text("three"),
              edit("a * b", "a / b"), read, edit("a - b", "a % b"), text("four")]  # fmt: skip
    async with stage(script) as s:
        await s.session.run_turn("look")
        await s.session.run_turn("mend")
        await undone(s.session)
        # It is what the model last saw: no need to read it again.
        await s.session.run_turn("mend otherwise")
        assert (work / "calc.py").read_text() == "a * b\n"
        await rewound(s.session, 3, conversation=False)
        assert (work / "calc.py").read_text() == "a - b\n"
        await s.session.run_turn("go on")
        results = [(event.name, event.status) for event in s.of(ToolResult)[-3:]]
        assert results == [("edit", "error"), ("read", "ok"), ("edit", "ok")]
        # It was told, behind all it had seen.
        assert extends(s, 6, 5) and "put back the files" in told(s, 6)


async def test_the_conversation_alone(stage: StageMaker, work: Path) -> None:
    script = [edit("a - b", "a + b"), text("one"), edit("a + b", "a * b"), text("two"),
              edit("a + b", "a / b"), text("three")]  # fmt: skip
    async with stage(script) as s:
        await s.session.run_turn("first")
        await s.session.run_turn("second")
        done = await rewound(s.session, 2, files=False)
        assert not done.rewind.files and (work / "calc.py").read_text() == "a * b\n"
        await s.session.run_turn("third")
        assert extends(s, 4, 1)
        # It does not know of that change: it may not write over it.
        assert s.of(ToolResult)[-1].status == "error"


async def test_hand_edits_are_not_written_over(stage: StageMaker, work: Path) -> None:
    script = [edit("a - b", "a + b"), text("one")]
    async with stage(script) as s:
        await s.session.run_turn("first")
        (work / "mine").write_text("by hand")
        (work / "calc.py").write_text("a + b  # by hand\n")
        rewinder = await s.session.rewinder()
        goal = undo(rewinder.history)
        assert (await rewinder.preview(goal)).edited == [work / "calc.py"]
        with pytest.raises(EditedSince):
            await rewinder.carry_out(goal)
        assert (work / "calc.py").read_text() == "a + b  # by hand\n"
        assert not s.of(Rewind)
        await undone(s.session, force=True)
        assert (work / "calc.py").read_text() == "a - b\n"
        assert (work / "mine").read_text() == "by hand"
        # Even what was written over comes back.
        await redone(s.session)
        assert (work / "calc.py").read_text() == "a + b  # by hand\n"


async def test_a_turn_has_its_checkpoints_around_its_changes(stage: StageMaker, work: Path) -> None:
    read = tool_calls([("read", {"path": "calc.py"})])
    script = [read, text("one"), read, shell("rm calc.py"), shell("echo > x"), text("two")]
    async with stage(script, yolo=True) as s:
        await s.session.run_turn("look")
        assert not s.of(Checkpoint)
        await s.session.run_turn("change")
        kinds = [e for e in s.events if isinstance(e, Checkpoint | ToolStarted | ToolResult)]
        moments = [e.moment if isinstance(e, Checkpoint) else e.type for e in kinds[2:]]
        assert moments == [
            *("tool_started", "tool_result", "tool_started", "turn_start", "tool_result"),
            *("tool_started", "tool_result", "turn_end"),
        ]
        await undone(s.session)
        assert (work / "calc.py").exists() and not (work / "x").exists()


async def test_an_interrupted_turn_can_be_undone(stage: StageMaker, work: Path) -> None:
    script = [shell("echo x > made; echo ready; sleep 60"), text("no")]
    async with stage(script, yolo=True) as s:

        def stop(event: object) -> None:
            if "ready" in str(getattr(event, "text", "")):
                s.session.interrupt()

        s.session.subscribe(stop)
        ended = await s.session.run_turn("change")
        assert ended.reason is StopReason.INTERRUPTED and (work / "made").exists()
        await undone(s.session)
        assert not (work / "made").exists()


async def test_without_a_snapshot_the_turn_goes_on_and_says_so(
    stage: StageMaker, work: Path, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "snapshots").write_text("in the way")
    script = [edit("a - b", "a + b"), text("one"), edit("a + b", "a * b"), text("two")]
    async with stage(script) as s:
        assert (await s.session.run_turn("first")).reason is StopReason.DONE
        await s.session.run_turn("second")
        (notice,) = s.of(Notice)
        assert "no snapshot" in notice.text and notice.level == "warning"
        rewinder = await s.session.rewinder()
        goal = undo(rewinder.history)
        assert goal.mark is None and goal.turns[0].failure
        await rewinder.carry_out(goal)
        assert (work / "calc.py").read_text() == "a * b\n"


async def test_snapshots_can_be_switched_off(stage: StageMaker, work: Path) -> None:
    script = [edit("a - b", "a + b"), text("one")]
    async with stage(script, flags={"undo.enabled": False}) as s:
        await s.session.run_turn("first")
        assert not s.of(Checkpoint) and not s.of(Notice)
        done = await undone(s.session)
        assert done.rewind.conversation and (work / "calc.py").read_text() == "a + b\n"


async def test_resumed_elsewhere_the_session_is_as_it_was_left(
    stage: StageMaker, work: Path
) -> None:
    async with stage([edit("a - b", "a + b"), text("one"), text("two")]) as s:
        await s.session.run_turn("first")
        await s.session.run_turn("second")
        await undone(s.session)
        messages = s.session._record.messages
        former = s.server.requests[1].conversation
    async with stage([text("three")], continue_last=True) as s:
        assert s.session._record.messages == messages
        await redone(s.session)
        await undone(s.session)
        assert s.session._record.messages == messages
        await s.session.run_turn("third")
        assert s.server.requests[0].messages[: len(messages)] == json.loads(
            b"[" + b",".join(messages) + b"]"
        )
        assert b'"second"' not in s.server.requests[0].raw and b"first" in former
