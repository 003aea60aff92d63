"""What front ends ask for between turns, carried out one after the other."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from kimi_cli.protocol.events import Notice
from kimi_cli.protocol.operations import BetweenTurns, Redo, SetModel, Undo
from kimi_cli.store.errors import StoreError

if TYPE_CHECKING:
    from kimi_cli.agent.session import Session


async def carry_out(session: Session, operation: BetweenTurns) -> str:
    """Do it; returns what went wrong, which is an error notice of the session by then, "" when
    nothing did."""
    from kimi_cli.agent.rewinding import EditedSince
    from kimi_cli.agent.setup import SetupError
    from kimi_cli.agent.undo import CannotUndo

    try:
        match operation:
            case SetModel():
                await session.switch_model(operation.model, operation.thinking)
            case Undo():
                await session.undo(force=operation.force)
            case Redo():
                await session.redo(force=operation.force)
        return ""
    except EditedSince as error:
        names = ", ".join(str(path) for path in error.paths)
        problem = f"edited since: {names}; nothing was changed"
    except (SetupError, CannotUndo, StoreError) as error:
        problem = str(error)
    text = f"{operation.type.replace('_', ' ')}: {problem}"
    with contextlib.suppress(StoreError):
        session.record(Notice(level="error", text=text))
    return text
