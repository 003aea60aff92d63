"""Carries a recording out again: recorded model, real loop, real tools, in a copy of the project;
and compares the results."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kimi_cli.agent import Session, Setup, StopReason, open_session
from kimi_cli.agent.replay.compare import difference
from kimi_cli.agent.replay.consent import ALLOWED, OUTSIDE, AskEach
from kimi_cli.agent.replay.places import Places
from kimi_cli.agent.replay.provider import TurnProvider
from kimi_cli.agent.replay.recording import (
    RecordedAnswer,
    RecordedCall,
    RecordedTurn,
    Recording,
    text_of,
    turns_of,
    worked_in,
)
from kimi_cli.agent.replay.scratch import Scratch, ScratchError
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    QuestionAsked,
    SessionResumed,
    SessionStarted,
    ToolResult,
    TurnEnded,
)
from kimi_cli.protocol.messages import MediaPart, ToolCallPart
from kimi_cli.protocol.operations import Answer, Say, Steer
from kimi_cli.store.errors import SessionError

Verdict = Literal["same", "different", "not run"]
UNLIMITED = {"budget.max_steps": 10**9, "context.auto_compact": False}
INTERRUPTED = "it was interrupted when it was recorded"


@dataclass(frozen=True, slots=True)
class Checked:
    """One call: ``diff`` are the lines of a unified diff, ``why`` says why it was not run."""

    turn: int
    call: RecordedCall
    result: ToolResult
    verdict: Verdict
    diff: Sequence[str] = ()
    why: str = ""


@dataclass(slots=True)
class Outcome:
    """``total`` counts the recorded calls that can be compared, ``problems`` say where a turn went
    another way than the recorded one."""

    total: int
    checked: list[Checked] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def count(self, verdict: Verdict) -> int:
        return sum(one.verdict == verdict for one in self.checked)

    @property
    def as_recorded(self) -> bool:
        return self.count("same") == self.total and not self.problems


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run again: ``root`` is the top of the project as it was called then, ``folder``
    where below it the session worked."""

    begun: SessionStarted
    turns: Sequence[RecordedTurn]
    root: str
    folder: str

    @property
    def name(self) -> str:
        return Path(self.root).name


def plan(recording: Recording) -> Plan:
    """Raises SessionError when the recording can't be run again."""
    begun = recording.begun
    if begun is None:
        raise SessionError("the recording has no beginning, so that nobody knows where it ran")
    root, folder = worked_in(recording, begun)
    if not Path(root).name:
        raise SessionError(f"the session worked in {root}, of which there is no copy")
    for event in recording.events:
        if isinstance(event, SessionResumed) and event.cwd != begun.cwd:
            raise SessionError(f"the session went on in another folder, {event.cwd}")
    return Plan(begun, turns_of(recording.events), root, folder)


async def check(
    plan: Plan, scratch: Scratch, env: Mapping[str, str], tell: Callable[[Checked], None]
) -> Outcome:
    """Run every turn again in ``scratch``, a copy of the project as it was at the beginning, with
    the environment ``env``; ``tell`` hears of each call.

    Raises ScratchError when the copy is not of such a project, SetupError and SettingsError when
    no session can be opened in it.
    """
    cwd = scratch.root / plan.folder
    if not cwd.is_dir():
        raise ScratchError(
            f"the session worked in {plan.folder}, and {scratch.project} has no such folder"
        )
    places = Places(plan.root, str(scratch.root), str(scratch.project), str(scratch.temporary))
    replay = _Replay(places, scratch, plan.begun.model, tell)
    await replay.run(plan.turns, plan.begun.system_prompt, cwd, env)
    return replay.outcome


class _Replay:
    """A replay under way: feeds the turns to a session and listens to what comes of them."""

    def __init__(
        self,
        places: Places,
        scratch: Scratch,
        model: str,
        tell: Callable[[Checked], None],
    ) -> None:
        self.outcome = Outcome(total=0)
        self._places = places
        self._scratch = scratch
        self._tell = tell
        self._provider = TurnProvider(model, self._rewrite, self._deliver)
        self._session: Session
        self._turn: RecordedTurn
        self._answer: RecordedAnswer
        self._results = 0
        self._objections: dict[str, str] = {}

    async def run(
        self, turns: Sequence[RecordedTurn], prompt: str, cwd: Path, env: Mapping[str, str]
    ) -> None:
        """Run the turns one after the other in a session of their own."""
        calls = [call for turn in turns for answer in turn.answers for call in answer.calls]
        self.outcome.total = sum(call.fate != "interrupted" for call in calls)
        setup = Setup(
            env=env,
            home=self._scratch.home,
            cwd=cwd,
            flags=UNLIMITED,
            keep=False,
            on_ask="wait",
            provider=self._provider,
            policy=lambda policy: AskEach(policy, self._scratch),
            # A budget in them would end a turn before its time.
            project_settings=False,
            system_prompt=prompt,
        )
        opened = await open_session(setup)
        self._session = session = opened.session
        toolbox = session.toolbox
        toolbox.media_kinds = frozenset(
            part.kind
            for call in calls
            for part in (call.result.parts if call.result else ())
            if isinstance(part, MediaPart)
        )
        session.subscribe(self._hear)
        try:
            for turn in turns:
                await self._run_turn(turn)
        finally:
            await session.close()

    async def _run_turn(self, turn: RecordedTurn) -> None:
        if turn.resumed:
            # The commands of the former process ended with it.
            for task in self._session.workspace.processes.tasks():
                await task.stop()
        if not turn.answers:
            return
        self._turn = turn
        self._provider.begin(turn)
        ended = await self._session.run_turn(Say(parts=turn.said.parts), [self._judge])
        if problem := self._problem(turn, ended):
            self.outcome.problems.append(f"turn {turn.number}: {problem}")

    def _problem(self, turn: RecordedTurn, ended: TurnEnded) -> str:
        """How the turn went another way; "" when it did not."""
        why = f"{ended.reason.value} {ended.detail}".strip()
        left = len(self._provider.waiting)
        if left:
            return f"ended {left} answer{'s' * (left != 1)} early: {why}"
        if ended.reason is StopReason.INTERNAL:
            return why
        was_done = turn.ended is not None and turn.ended.reason is StopReason.DONE
        if was_done and self._provider.asked_for_more:
            return "goes on where the recorded one had ended"
        return ""

    async def _judge(self, answer: str) -> str | None:
        """In the place of the recorded run's checks: what they said then is said again."""
        return (self._answer.told or None) if self._provider.waiting else None

    def _deliver(self, answer: RecordedAnswer) -> None:
        self._answer = answer
        self._results = 0
        self._objections.clear()
        for text in answer.steering:
            self._session.send(Steer(text=text))

    def _rewrite(self, part: ToolCallPart) -> ToolCallPart:
        name = next((c.name for c in self._answer.calls if c.part is part), part.name)
        raw = self._places.arguments(name, part.arguments)
        return part.model_copy(update={"arguments": raw})

    def _hear(self, event: Event) -> None:
        match event:
            case QuestionAsked():
                self._decide(event)
            case ToolResult():
                call = self._answer.calls[self._results]
                self._results += 1
                self._compare(call, event)

    def _decide(self, asked: QuestionAsked) -> None:
        fates = {c.fate for c in self._answer.calls if c.part.id == asked.call_id}
        outside = asked.reason.startswith(OUTSIDE)
        self._objections[asked.call_id] = asked.reason
        answer = "once" if fates == {"run"} and not outside else "no"
        # The question is open only after everybody has heard of it.
        asyncio.get_running_loop().call_soon(
            self._session.send, Answer(question_id=asked.question_id, answer=answer)
        )

    def _compare(self, call: RecordedCall, now: ToolResult) -> None:
        then = call.result
        objection = self._objections.get(call.part.id)
        checked = Checked(self._turn.number, call, now, "same")
        if then is None or call.fate == "interrupted":
            checked = self._not_run(call, now, INTERRUPTED)
        elif call.fate == "denied":
            if now.status != "denied" or objection == ALLOWED:
                allowed = "would be allowed" if now.status == "denied" else text_of(now)
                diff = [f"-denied: {text_of(then)}", f"+{allowed}"]
                checked = Checked(self._turn.number, call, now, "different", diff)
        elif objection and objection.startswith(OUTSIDE):
            self.outcome.total -= 1
            checked = self._not_run(call, now, self._places.neutral(objection))
        else:
            self._places.learn_output(then.output_path, now.output_path)
            self._places.learn_task(then.data.get("task"), now.data.get("task"))
            project = self._scratch.project
            if diff := difference(call.part, then, now, self._places, project):
                checked = Checked(self._turn.number, call, now, "different", diff)
        self.outcome.checked.append(checked)
        self._tell(checked)

    def _not_run(self, call: RecordedCall, now: ToolResult, why: str) -> Checked:
        return Checked(self._turn.number, call, now, "not run", why=why)
