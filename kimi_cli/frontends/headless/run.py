"""`kimi -p`: one session, no terminal, no human; stdout is only the result."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kimi_cli.agent import Session, StopReason, StopTurn
from kimi_cli.agent.between import carry_out
from kimi_cli.agent.loop import Check
from kimi_cli.frontends.headless.checks import SchemaCheck, VerifyCheck
from kimi_cli.frontends.headless.operations import operations
from kimi_cli.frontends.headless.progress import Progress, say
from kimi_cli.frontends.headless.result import Tally
from kimi_cli.frontends.headless.writer import Writer
from kimi_cli.frontends.plain import clean_block, counted, money, spent, tokens
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.messages import added
from kimi_cli.protocol.operations import BetweenTurns, Compact, Say
from kimi_cli.protocol.sandbox import SandboxState
from kimi_cli.store.errors import StoreError
from kimi_cli.store.events_file import encode_event

OutputFormat = Literal["text", "json", "stream-json"]
DRAIN_SECONDS = 5.0
ENDING_DRAIN_SECONDS = 0.3
"""Whoever sent a signal waits no longer than a second."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a headless run is asked to do. ``message`` None: operations come over stdin.
    ``opening``: the events recorded before the run could listen."""

    message: Say | None
    output: OutputFormat = "text"
    schema: Mapping[str, Any] | None = None
    verify: str | None = None
    verify_tries: int = 5
    heartbeat: float = 30.0
    keep_session: bool = True
    model: str = ""
    opening: Sequence[Event] = ()
    sandbox: SandboxState | None = None


async def run(session: Session, job: Job, exit_code: Callable[[StopReason], int]) -> int:
    """Carry out ``job`` and print its result; returns the exit code. Closes the session."""
    tally = Tally(session.past, session.past_cost)
    progress = Progress(session.price.currency if session.price else None, session.fullness)
    for event in job.opening:
        progress(event)
    lost: list[OSError] = []
    loop = asyncio.get_running_loop()
    ending = _Ending(session)

    def stdout_lost(error: OSError) -> None:
        lost.append(error)
        # It may end meanwhile.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(ending.stop, StopReason.TERMINATED)

    writer = Writer(_stdout(), stdout_lost)
    session.subscribe(tally)
    session.subscribe(progress)
    if job.output == "stream-json":
        for event in job.opening:
            writer.write(line_of(event))
        session.subscribe(lambda event: writer.write(line_of(event)))
    ending.obey_signals()
    beat = asyncio.create_task(progress.beat(job.heartbeat))
    checks, schema = _checks(session, job, progress)
    try:
        async for operation in _operations(session, job, schema, tally):
            if isinstance(operation, Say):
                await session.run_turn(operation, checks)
            elif isinstance(operation, Compact):
                await _compact(session, operation, tally)
            else:
                await _between(session, operation, tally)
            if ending.reason:
                break
    except asyncio.CancelledError:
        if not ending.reason:
            raise
    finally:
        ending.working = False
        beat.cancel()
        await session.close()
    if schema and tally.reason is StopReason.DONE:
        tally.structured = schema.value
    if ending.reason:
        tally.reason, tally.detail = ending.reason, ""
    elif tally.refused_lines and tally.reason is StopReason.DONE:
        tally.reason = StopReason.CONFIGURATION
        tally.detail = f"{counted(tally.refused_lines, 'line')} of stdin not carried out"
    code = exit_code(tally.reason)
    _print_result(session, job, tally, code, writer, progress)
    patience = ENDING_DRAIN_SECONDS if ending.reason else DRAIN_SECONDS
    # In a thread, so that a second signal still ends the process at once.
    if not await asyncio.to_thread(writer.close, patience) and not lost:
        say("kimi: stdout is not read; the result is lost")
        return code if ending.reason else 74
    if lost:
        say(f"kimi: the result is lost, stdout cannot be written: {lost[0].strerror}")
        return code or 74
    return code


def line_of(event: Event) -> str:
    """An event as one line of ``stream-json``."""
    return encode_event(event).decode() + "\n"


async def _compact(session: Session, operation: Compact, tally: Tally) -> None:
    reason, detail = StopReason.DONE, ""
    try:
        if await session.compact(operation.focus) is None:
            say("kimi: there is nothing to compact")
    except StopTurn as stop:
        reason, detail = stop.reason, stop.detail
    except StoreError as error:
        reason, detail = StopReason.STORE_FAILED, str(error)
    # The turns say how the run ended; a compaction only where it went wrong, or there was no turn.
    if reason is not StopReason.DONE or not tally.turns:
        tally.reason, tally.detail = reason, detail


async def _between(session: Session, operation: BetweenTurns, tally: Tally) -> None:
    if await carry_out(session, operation):
        tally.refuse_line()
    if not tally.turns:
        tally.reason, tally.detail = StopReason.DONE, ""


def _print_result(
    session: Session, job: Job, tally: Tally, code: int, writer: Writer, progress: Progress
) -> None:
    if tally.reason is not StopReason.DONE:
        say(
            f"kimi: {tally.reason.value.replace('_', ' ')}"
            + f": {tally.detail}" * bool(tally.detail)
        )
    if job.output == "text":
        if tally.answer:
            answer = tally.answer.rstrip("\n") + "\n"
            writer.write(clean_block(answer) if os.isatty(_stdout()) else answer)
    else:
        result = tally.result(
            session=session.id if job.keep_session else None,
            model=session.model,
            exit_code=code,
            currency=session.price.currency if session.price else None,
            denials=session.denials,
            sandbox=job.sandbox,
        )
        writer.write(json.dumps(result, ensure_ascii=False) + "\n")
    if session.denials:
        count = counted(len(session.denials), "call")
        progress.line(f"{count} denied; rules, --add-dir or --network on allow more")
    if tally.turns or tally.aside:
        progress.line(*_used(tally, session.price.currency if session.price else None))
    if job.keep_session:
        at = f" --local {session.place.name}" if session.place.name else ""
        say(f'kimi{at} -r {session.id} -p "..."')


def _used(tally: Tally, currency: str | None) -> Iterator[str]:
    yield spent(tally.steps, tally.usage, tally.cost, currency, tally.seconds)
    if tally.past.total_tokens:
        cost = money(added(tally.past_cost, tally.cost), currency)
        whole = tokens(tally.past.total_tokens + tally.usage.total_tokens)
        yield "session " + ", ".join(filter(None, (whole, cost)))


def _checks(
    session: Session, job: Job, progress: Progress
) -> tuple[list[Check], SchemaCheck | None]:
    checks: list[Check] = []
    schema = SchemaCheck(job.schema) if job.schema is not None else None
    if job.verify:
        checks.append(VerifyCheck(job.verify, session.workspace, job.verify_tries, progress.doing))
    if schema:
        checks.append(schema)
    return checks, schema


async def _operations(
    session: Session, job: Job, schema: SchemaCheck | None, tally: Tally
) -> AsyncIterator[Say | Compact | BetweenTurns]:
    """The messages to run, one a turn, and what is done between them; other operations go to
    the session as they come."""
    instruction = f"\n\n{schema.instruction}" if schema else ""
    if job.message is not None:
        yield job.message.model_copy(update={"text": job.message.text + instruction})
        return
    async for operation in operations(session, tally.refuse_line):
        if isinstance(operation, Say):
            yield operation.model_copy(update={"text": operation.text + instruction})
        else:
            yield operation


class _Ending:
    """Ends the run before its time, for a signal or because nobody reads stdout any more; the
    first ``reason`` counts. A second signal ends the process at once."""

    def __init__(self, session: Session) -> None:
        self.reason: StopReason | None = None
        self.working = True
        """False from when there is nothing left to end but the closing, which is quick."""
        self._signalled = False
        self._session = session
        self._work = asyncio.current_task()

    def stop(self, reason: StopReason) -> None:
        if self.reason is not None:
            return
        self.reason = reason
        if self._session.busy:
            self._session.interrupt(reason)
        elif self.working and self._work:
            self._work.cancel()

    def obey_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number, reason in (
            (signal.SIGINT, StopReason.INTERRUPTED),
            (signal.SIGTERM, StopReason.TERMINATED),
            (signal.SIGHUP, StopReason.TERMINATED),
        ):
            if signal.getsignal(number) is signal.SIG_IGN:
                continue
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, self._obey, reason, number)

    def _obey(self, reason: StopReason, number: int) -> None:
        if self._signalled:
            os._exit(128 + number)
        self._signalled = True
        self.stop(reason)


def _stdout() -> int:
    try:
        return sys.stdout.fileno() if sys.stdout else 1
    except (OSError, ValueError):
        return 1
