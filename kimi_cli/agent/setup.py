"""What a session is opened from, and what opening it gives."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kimi_cli.protocol.event import Event
from kimi_cli.protocol.modes import Mode
from kimi_cli.protocol.provider import Provider
from kimi_cli.protocol.sandbox import UNCONFINED, SandboxState
from kimi_cli.protocol.stops import StopReason
from kimi_cli.settings import Settings, kimi_home
from kimi_cli.workspace.launch import Helper

if TYPE_CHECKING:
    from kimi_cli.agent.session import Session
    from kimi_cli.safety.policy import Policy


class SetupError(Exception):
    """A session can't be opened as asked; ``reason`` gives the exit code, the message is for
    people."""

    def __init__(self, message: str, reason: StopReason = StopReason.CONFIGURATION) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Place:
    """Where the model of a session is, if not where the settings say: ``flags`` are the settings
    that lead there and win over every other source, ``name`` is what it is called, ``notes`` are
    for the user. ``trouble`` says why it can't be reached any more, "" where nothing is known."""

    name: str = ""
    flags: Mapping[str, object] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()
    trouble: Callable[[], str] = field(default=lambda: "", repr=False)


CONFIGURED = Place()
"""The endpoint of the settings."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a session is made of; only ``from_env`` takes anything from the process's own state.

    ``flags`` are settings by dotted key and win over every other source, ``place`` is where the
    model is at first. ``cwd`` None is the
    process's working directory, or that of a resumed session. ``media`` are the kinds that the
    model has to take. ``provider`` stands in for the endpoint of the settings, ``policy`` puts its
    own around ours. ``trust``: the project's settings take effect in this run.
    ``project_settings`` False leaves the project's file unread. ``on_ask`` "wait"
    leaves questions to the front end.
    """

    env: Mapping[str, str]
    home: Path
    flags: Mapping[str, object] = field(default_factory=dict)
    place: Place = CONFIGURED
    cwd: Path | None = None
    add_dirs: Sequence[Path] = ()
    yolo: bool = False
    mode: Mode = "auto"
    trust: bool = False
    on_ask: Literal["deny", "fail", "wait"] | None = None
    system_prompt: str | None = None
    keep: bool = True
    resume: str | None = None
    continue_last: bool = False
    media: frozenset[str] = frozenset()
    provider: Provider | None = None
    policy: Callable[[Policy], Policy] | None = None
    project_settings: bool = True
    helper: Helper | None = None

    @property
    def first_mode(self) -> Mode:
        """The mode that the session begins in."""
        return "yolo" if self.yolo else self.mode

    def flags_at(self, place: Place) -> dict[str, object]:
        """The settings that are given where the model is at ``place``."""
        return {**self.flags, **place.flags}

    @classmethod
    def from_env(
        cls,
        *,
        cwd: Path | str | None = None,
        flags: Mapping[str, object] | None = None,
        yolo: bool = False,
        mode: Mode = "auto",
        keep: bool = True,
    ) -> Setup:
        """The setup of the command line in this process: its environment and KIMI_HOME, taken
        now. Use ``dataclasses.replace`` for the other fields."""
        env = dict(os.environ)
        return cls(
            env=env,
            home=kimi_home(env),
            flags=flags or {},
            cwd=Path(cwd) if cwd else None,
            yolo=yolo,
            mode=mode,
            keep=keep,
        )


@dataclass(frozen=True, slots=True)
class Opened:
    """A session ready to run. ``secrets`` must never be written anywhere, and more may come with
    another place of the model; ``warnings`` are for
    the user; ``kept``: the session is stored; ``media``: the kinds the model takes; ``events``:
    what was recorded to open it, before anybody could listen; ``sandbox``: what holds for
    commands; ``history``: the events of a stored session that still count, oldest first."""

    session: Session
    settings: Settings
    warnings: Sequence[str]
    secrets: Sequence[str]
    kept: bool
    media: frozenset[str]
    events: Sequence[Event] = ()
    sandbox: SandboxState = UNCONFINED
    history: Sequence[Event] = ()
