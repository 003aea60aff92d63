"""``kimi compact``: the context of a stored session, made small before it goes on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from kimi_cli.cli.exit_codes import EXIT_CODES
from kimi_cli.cli.output import json_line
from kimi_cli.protocol.stops import StopReason

if TYPE_CHECKING:
    from kimi_cli.agent import Session
    from kimi_cli.protocol.events import Compaction

NOTHING = "there is nothing to compact"


def compact_session(
    session: str | None, focus: str, *, base_url: str | None = None, as_json: bool = False
) -> int:
    """Compact the session with this id (None: the project's last); returns the exit code."""
    from kimi_cli.agent import Setup, SetupError, StopTurn, open_session
    from kimi_cli.cli.event_loop import run
    from kimi_cli.frontends.headless.progress import Progress, say
    from kimi_cli.frontends.plain import compacted
    from kimi_cli.protocol.event import Event
    from kimi_cli.protocol.events import Compaction, Notice
    from kimi_cli.settings import SettingsError, kimi_home
    from kimi_cli.store.errors import StoreError

    setup = Setup(
        env=dict(os.environ),
        home=kimi_home(os.environ),
        flags={"endpoint.base_url": base_url} if base_url is not None else {},
        resume=session,
        continue_last=session is None,
    )
    agent: Session | None = None
    why = ""

    async def work() -> Compaction | None:
        nonlocal agent, why
        opened = await open_session(setup)
        for warning in opened.warnings:
            say(f"kimi: {warning}")
        agent = opened.session
        progress = Progress(_currency(agent))

        def show(event: Event) -> None:
            nonlocal why
            # Its line is the result, for stdout.
            if isinstance(event, Compaction):
                return
            if isinstance(event, Notice):
                why = event.text
            progress(event)

        why = NOTHING
        agent.subscribe(show)
        try:
            return await agent.compact(focus)
        finally:
            await agent.close()

    done, reason = None, StopReason.DONE
    try:
        done = run(work())
    except SettingsError as error:
        from kimi_cli.cli.options import flag_problems

        reason, why = StopReason.CONFIGURATION, flag_problems(setup.flags) or str(error)
    except SetupError as error:
        reason, why = error.reason, str(error)
    except StopTurn as stop:
        reason, why = stop.reason, f"{stop.reason.value.replace('_', ' ')}: {stop.detail}"
    except StoreError as error:
        reason, why = StopReason.STORE_FAILED, str(error)
    if reason is not StopReason.DONE:
        say(f"kimi: {why}")
    if as_json:
        print(json_line(_fields(agent, done, why, EXIT_CODES[reason])))
    elif reason is StopReason.DONE:
        print(compacted(done, _currency(agent)) if done else why)
    return EXIT_CODES[reason]


def _currency(agent: Session | None) -> str | None:
    return agent.price.currency if agent and agent.price else None


def _fields(
    agent: Session | None, done: Compaction | None, why: str, exit_code: int
) -> dict[str, Any]:
    """What came of it, documented in docs/sessions.md. What was used is counted also where nothing
    came of it."""
    from kimi_cli.frontends.plain import rounded, usage_fields
    from kimi_cli.protocol.messages import Usage

    priced = agent is not None and agent.price is not None
    return {
        "session_id": agent.id if agent else None,
        "compacted": done is not None,
        "why": "" if done else why,
        "tokens_before": done.tokens_before if done else None,
        "tokens_after": done.tokens_after if done else None,
        "mechanical": done.mechanical if done else None,
        "failure": done.failure if done else None,
        "usage": usage_fields(agent.budget.usage if agent else Usage()),
        "cost": rounded(agent.budget.cost) if agent and priced else None,
        "currency": _currency(agent),
        "exit_code": exit_code,
    }
