"""The question of a folder that kimi does not know: may its own settings take effect?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kimi_cli.frontends.plain import clean
from kimi_cli.frontends.terminal.dialog import Option, choose
from kimi_cli.frontends.terminal.look import Look
from kimi_cli.settings import SettingsError, decline, is_declined, is_trusted, trust
from kimi_cli.settings.load import held_back

if TYPE_CHECKING:
    from kimi_cli.agent.setup import Setup

SHOWN = 8
"""Settings named one by one; a small screen has to hold them."""
SECRET = ("endpoint.api_key", "endpoint.headers.")

Answer = Literal["yes", "no", "quit"]


async def ask_trust(setup: Setup, root: Path, look: Look) -> Answer:
    """Whether the settings of the project at ``root`` take effect: "yes", "no", or "quit" when the
    user wants neither.

    Asked only where something waits for the answer and none is known; otherwise the answer that
    holds is returned at once, "no" for a project without such settings. Both are kept. On "yes"
    the caller opens the session with ``trust=True``: the answer holds for this run also where
    it could not be kept. Raises SettingsError for the user's own settings, NoTerminal.
    """
    if not setup.project_settings:
        return "no"
    if setup.trust or is_trusted(setup.home, root):
        return "yes"
    if is_declined(setup.home, root):
        return "no"
    waiting = await asyncio.to_thread(held_back, setup.env, root)
    if not waiting:
        return "no"
    options = [
        Option("no", "go on without them", "asked once: `kimi trust add` changes it"),
        Option("yes", "trust this project", "if you know who wrote them"),
        Option("quit", "quit"),
    ]
    title = f"{clean(str(root))} has settings of its own. Do they take effect?"
    chosen = await choose(title, options, body=_body(root, waiting, look), look=look)
    if chosen == "yes":
        _kept(trust, setup.home, root)
        return "yes"
    if chosen == "no":
        _kept(decline, setup.home, root)
        return "no"
    return "quit"


def _body(root: Path, waiting: Sequence[tuple[str, str, Any]], look: Look) -> list[str]:
    lines = [
        f"  {_place(place, root)}: {key} = {_shown(key, value, look)}"
        for place, key, value in waiting[:SHOWN]
    ]
    if len(waiting) > SHOWN:
        lines.append(f"  and {len(waiting) - SHOWN} more")
    agents = root / "AGENTS.md"
    if agents.is_file():
        lines.append("AGENTS.md is shown to the model anyway; without trust, marked as foreign.")
    return lines


def _place(place: str, root: Path) -> str:
    return place.removeprefix(f"{root}/").replace(", line ", ":")


def _shown(key: str, value: Any, look: Look) -> str:
    if key.startswith(SECRET):
        return look.ellipsis
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:60] + look.ellipsis


def _kept(keep: Any, home: Path, root: Path) -> None:
    try:
        keep(home, root)
    except (OSError, SettingsError) as error:
        print(f"  this answer holds for now only: {clean(str(error))}", flush=True)
