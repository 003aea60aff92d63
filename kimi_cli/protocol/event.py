"""What every event carries."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 2
"""2: instructions, compaction with what was kept, shrunk results."""


class Event(BaseModel):
    """What every event carries.

    ``seq`` numbers the durable events of one session from 1 (live events repeat the last one);
    ``parent`` is the seq this one follows, so that a fork or a rewind is a new parent and not a
    rewrite. ``turn`` and ``step`` count from 1, 0 is "before the first". ``time`` is seconds
    since the epoch.
    """

    # JSON has no infinity: as null such a number would make the stored event unreadable.
    model_config = ConfigDict(extra="allow", defer_build=True, ser_json_inf_nan="strings")

    v: int = SCHEMA_VERSION
    session: str = ""
    agent: str = "main"
    turn: int = 0
    step: int = 0
    seq: int = 0
    parent: int = 0
    time: float = 0.0
