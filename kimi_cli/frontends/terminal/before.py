"""What is settled before the screen appears: trust in the folder, an endpoint and its key."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kimi_cli.frontends.terminal.look import Look
from kimi_cli.frontends.terminal.trust_question import ask_trust
from kimi_cli.settings import is_trusted, load_settings
from kimi_cli.settings.schema import Settings, Terminal
from kimi_cli.workspace.roots import project_root

if TYPE_CHECKING:
    from kimi_cli.agent import Setup


@dataclass(frozen=True, slots=True)
class Settled:
    """What to open a session with, and how the terminal is to be."""

    setup: Setup
    terminal: Terminal


async def settle(setup: Setup, look: Look) -> Settled | None:
    """Ask what has to be asked first; None when the user leaves. Raises SettingsError."""
    try:
        root = project_root(setup.cwd or Path.cwd())
    except FileNotFoundError:
        # Opening the session tells of it.
        return Settled(setup, Terminal())
    answer = await ask_trust(setup, root, look)
    if answer == "quit":
        return None
    if answer == "yes":
        setup = replace(setup, trust=True)
    loaded = load_settings(
        env=setup.env,
        project_root=root if setup.project_settings else None,
        flags=setup.flags_at(setup.place),
        trusted=setup.trust or is_trusted(setup.home, root),
    )
    if setup.provider is None and _needs_key(loaded.settings):
        from kimi_cli.frontends.terminal.first_run import first_run

        if not await first_run(setup.env, setup.home):
            return None
    return Settled(setup, loaded.settings.terminal)


def _needs_key(settings: Settings) -> bool:
    if settings.endpoint.api_key.get_secret_value():
        return False
    # Late: it loads much of the model layer.
    from kimi_cli.agent.model_config import missing_key

    return missing_key(settings) is not None
