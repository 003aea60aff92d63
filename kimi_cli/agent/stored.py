"""A stored session that is gone on with: what its record says about how."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kimi_cli.agent.branch import branch, touches
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    Confined,
    Instructions,
    ModeChanged,
    ModelChanged,
    RewindStarted,
    SessionResumed,
    SessionStarted,
)
from kimi_cli.protocol.provider import Provider
from kimi_cli.protocol.sandbox import SandboxState
from kimi_cli.protocol.tools import ToolSchema
from kimi_cli.protocol.workspace import FileTouch
from kimi_cli.store.errors import SessionError
from kimi_cli.store.events_file import read_events
from kimi_cli.store.index import latest
from kimi_cli.store.log import SessionLog
from kimi_cli.version import VERSION

PROGRAM = f"kimi {VERSION}"


@dataclass(frozen=True, slots=True)
class Stored:
    """``begun`` is the session's first event, ``events`` are all of them."""

    log: SessionLog
    begun: SessionStarted
    events: Sequence[Event]

    @property
    def model(self) -> tuple[str, str]:
        """Model and thinking, as they were last."""
        last = [e for e in self.events if isinstance(e, SessionStarted | ModelChanged)][-1]
        return last.model, last.thinking

    @property
    def mode(self) -> str:
        """The mode that was changed to last; "" where it never was."""
        changed = (e for e in reversed(self.events) if isinstance(e, ModeChanged))
        return next((event.mode for event in changed), "")

    @property
    def tools(self) -> list[ToolSchema]:
        """The tools as the model has seen them: they are fixed for a session."""
        return [ToolSchema(**tool) for tool in self.begun.tools]

    @property
    def was_rewound(self) -> bool:
        """Whether files were ever restored to an earlier state of it."""
        return any(isinstance(event, RewindStarted) for event in self.events)

    def folder(self) -> Path:
        """Where the session worked. Raises SessionError when that is gone."""
        folder = Path(self.begun.cwd)
        if not folder.is_dir():
            raise SessionError(f"the session's folder {folder} is gone: say with -C where to go on")
        return folder

    def touches(self) -> Iterator[FileTouch]:
        """The files that the model saw or changed, oldest first."""
        return touches(branch(self.events))

    @property
    def instructions(self) -> Instructions | None:
        """Those that the model got last."""
        told = (e for e in reversed(branch(self.events)) if isinstance(e, Instructions))
        return next(told, None)

    @property
    def confined(self) -> Confined | None:
        """What held for commands last, without the place of the event."""
        last = next((e for e in reversed(self.events) if isinstance(e, Confined)), None)
        return last and Confined(
            mode=last.mode, way=last.way, network=last.network, lacks=last.lacks
        )

    def resumed(self, cwd: Path, provider: Provider, thinking: str, dialect: str) -> list[Event]:
        """The events that say that and how it goes on."""
        events: list[Event] = [
            SessionResumed(program=PROGRAM, cwd=str(cwd), dialect=dialect, window=provider.window)
        ]
        if self.model != (provider.model, thinking):
            events.append(
                ModelChanged(
                    model=provider.model,
                    thinking=thinking,
                    window=provider.window,
                    dialect=dialect,
                )
            )
        return events


def confined(sandbox: SandboxState) -> Confined:
    """The event that says what holds for commands."""
    return Confined(
        mode=sandbox.mode, way=sandbox.way, network=sandbox.network, lacks=list(sandbox.lacks)
    )


def open_stored(home: Path, root: Path, wanted: str | None, last: bool) -> Stored | None:
    """The session with the id (or the start of an id) ``wanted``, or the project's ``last`` one;
    None when neither is asked for. Raises SessionError, StoreError."""
    if last:
        wanted = latest(home, root)
        if wanted is None:
            raise SessionError("there is no session of this project to continue")
    if wanted is None:
        return None
    log = SessionLog.open(home, wanted, root)
    try:
        events = read_events(log.path).events
        begun = next((e for e in events if isinstance(e, SessionStarted)), None)
        if begun is None:
            raise SessionError(f"session {log.id} has no beginning and can't be continued")
    except BaseException:
        log.close()
        raise
    return Stored(log, begun, events)


def started(
    prompt: str,
    tools: Sequence[ToolSchema],
    cwd: Path,
    root: Path,
    provider: Provider,
    thinking: str,
    dialect: str,
) -> SessionStarted:
    """The first event of a new session."""
    return SessionStarted(
        program=PROGRAM,
        cwd=str(cwd),
        root=str(root),
        model=provider.model,
        thinking=thinking,
        dialect=dialect,
        window=provider.window,
        system_prompt=prompt,
        tools=[
            {"name": t.name, "description": t.description, "parameters": dict(t.parameters)}
            for t in tools
        ],
    )
