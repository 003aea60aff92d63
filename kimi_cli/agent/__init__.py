"""The agent as a library: :func:`open_session` gives a :class:`Session` to drive.

Names are loaded on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kimi_cli.agent.assemble import open_session
    from kimi_cli.agent.session import Session
    from kimi_cli.agent.setup import Opened, Place, Setup, SetupError
    from kimi_cli.agent.stop import StopTurn
    from kimi_cli.protocol.stops import StopReason

_HOME = {
    "Opened": "kimi_cli.agent.setup",
    "Place": "kimi_cli.agent.setup",
    "Setup": "kimi_cli.agent.setup",
    "SetupError": "kimi_cli.agent.setup",
    "open_session": "kimi_cli.agent.assemble",
    "Session": "kimi_cli.agent.session",
    "StopTurn": "kimi_cli.agent.stop",
    "StopReason": "kimi_cli.protocol.stops",
}

__all__ = [
    "Opened",
    "Place",
    "Session",
    "Setup",
    "SetupError",
    "StopReason",
    "StopTurn",
    "open_session",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
