"""``kimi compact``: the context of a stored session, made small before it goes on."""

from __future__ import annotations

import os

from kimi_cli.cli.exit_codes import EXIT_CODES
from kimi_cli.protocol.stops import StopReason


def compact_session(session: str | None, focus: str) -> int:
    """Compact the session with this id (None: the project's last); returns the exit code."""
    from kimi_cli.agent import Setup, SetupError, StopTurn, open_session
    from kimi_cli.cli.event_loop import run
    from kimi_cli.frontends.headless.progress import Progress, say
    from kimi_cli.frontends.plain import compacted
    from kimi_cli.protocol.event import Event
    from kimi_cli.protocol.events import Compaction
    from kimi_cli.settings import SettingsError, kimi_home
    from kimi_cli.store.errors import StoreError

    setup = Setup(
        env=dict(os.environ),
        home=kimi_home(os.environ),
        resume=session,
        continue_last=session is None,
    )

    async def work() -> str:
        opened = await open_session(setup)
        for warning in opened.warnings:
            say(f"kimi: {warning}")
        agent = opened.session
        progress = Progress(agent.price.currency if agent.price else None)

        def show(event: Event) -> None:
            # Its line is the result, for stdout.
            if not isinstance(event, Compaction):
                progress(event)

        agent.subscribe(show)
        try:
            done = await agent.compact(focus)
        finally:
            await agent.close()
        return compacted(done) if done else "there is nothing to compact"

    try:
        print(run(work()))
    except SettingsError as error:
        say(f"kimi: {error}")
        return EXIT_CODES[StopReason.CONFIGURATION]
    except SetupError as error:
        say(f"kimi: {error}")
        return EXIT_CODES[error.reason]
    except StopTurn as stop:
        say(f"kimi: {stop.reason.value.replace('_', ' ')}: {stop.detail}")
        return EXIT_CODES[stop.reason]
    except StoreError as error:
        say(f"kimi: {error}")
        return EXIT_CODES[StopReason.STORE_FAILED]
    return 0
