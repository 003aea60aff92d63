"""What the shell's completion offers beyond flags and commands."""

from __future__ import annotations

import os
from pathlib import Path

INERT = str.maketrans(dict.fromkeys("\\$`\"'", " "))
"""zsh evaluates what is offered: a title, which may be anybody's words, must not be a command."""


def session_ids(incomplete: str) -> list[tuple[str, str]]:
    """Ids of this project's sessions, newest first, each with its title."""
    from kimi_cli.settings import kimi_home
    from kimi_cli.store.summary import summaries
    from kimi_cli.workspace.roots import project_root

    try:
        known = summaries(kimi_home(os.environ), project_root(Path.cwd()))
    except Exception:
        # Whatever is wrong, the shell's line is no place to say so.
        return []
    return [
        (session.id, session.title.translate(INERT))
        for session in known
        if session.id.startswith(incomplete)
    ]
