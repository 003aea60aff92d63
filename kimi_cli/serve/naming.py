"""What servers are called here: a folder's name, unique among those that run."""

from __future__ import annotations

import re
from pathlib import Path

from kimi_cli.serve.not_ready import NotReady
from kimi_cli.serve.state import locked, servers_folder

_FORM = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)
_LONGEST = 40
_RESERVED = frozenset({"ports"})
"""Other folders beside those of servers."""


def server_name(home: Path, asked: str, model: str) -> str:
    """The name for a new server: the one `asked` for, else of the model, with a number where a
    server of that name runs. That of one which is over is used again.

    Raises NotReady for an asked name that can't be one or is in use.
    """
    if asked:
        if not _FORM.fullmatch(asked) or asked in _RESERVED or asked.isdecimal():
            raise NotReady(
                "name",
                f"{asked!r} can't be a server's name",
                "use small letters, digits, '-', '_' and '.', not digits alone",
            )
        if locked(servers_folder(home) / asked):
            raise NotReady(
                "name",
                f"a server called {asked} is running",
                "choose another name, or stop it first",
                (f"kimi serve stop {asked}",),
            )
        return asked
    stem = name_of(model)
    number = 1
    while True:
        name = stem if number == 1 else f"{stem}-{number}"
        if not locked(servers_folder(home) / name):
            return name
        number += 1


def name_of(model: str) -> str:
    """A model's or a folder's name in the form of a server's: ``Kimi-K2.5`` as ``kimi-k2.5``."""
    last = model.rstrip("/").rsplit("/", 1)[-1].lower()
    name = re.sub(r"[^a-z0-9._-]+", "-", last).strip("-._")[:_LONGEST].rstrip("-._")
    # Digits alone would be taken for a port.
    return f"model-{name}" if not name or name in _RESERVED or name.isdecimal() else name
