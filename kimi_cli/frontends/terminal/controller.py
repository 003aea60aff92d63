"""What the user's keys mean, and what the session's events do to the screen."""

from __future__ import annotations

import asyncio
import textwrap
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prompt_toolkit.buffer import Buffer

from kimi_cli.frontends.plain import clean
from kimi_cli.frontends.terminal.answers import Answers
from kimi_cli.frontends.terminal.branch import branch_state
from kimi_cli.frontends.terminal.choosing import Chooser
from kimi_cli.frontends.terminal.commands.command import CommandError
from kimi_cli.frontends.terminal.commands.table import all_commands
from kimi_cli.frontends.terminal.desk import Desk
from kimi_cli.frontends.terminal.input_box import complete_in, pasted, project_history
from kimi_cli.frontends.terminal.lending import edit_message, show_fold
from kimi_cli.frontends.terminal.menu import Item
from kimi_cli.frontends.terminal.notify import LONG_SECONDS, notification
from kimi_cli.frontends.terminal.opened_view import fill_status, opened_lines
from kimi_cli.frontends.terminal.outbox import Outbox
from kimi_cli.frontends.terminal.pastes import Pastes
from kimi_cli.frontends.terminal.stopping import AGAIN_SECONDS, Stopping
from kimi_cli.frontends.terminal.user_shell import CALL
from kimi_cli.frontends.terminal.work import Work
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import QuestionAnswered, QuestionAsked, TurnEnded
from kimi_cli.protocol.modes import Mode
from kimi_cli.protocol.operations import Operation
from kimi_cli.protocol.stops import StopReason
from kimi_cli.workspace.roots import project_root

if TYPE_CHECKING:
    from kimi_cli.agent import Opened, Session, Setup
    from kimi_cli.frontends.terminal.screen import LiveApplication

PLAN_MODES: dict[str, Mode] = {"1": "auto", "2": "ask"}
CYCLE: tuple[Mode, ...] = ("auto", "plan", "ask")
FRAME_SECONDS = 1 / 15
"""What streams is drawn at most this often; what is typed, at once."""

Open = Callable[["Setup"], Awaitable["Opened"]]


class Controller:
    """Joins the input box, the screen and the session."""

    def __init__(
        self, desk: Desk, buffer: Buffer, pastes: Pastes, setup: Setup, open_session: Open
    ) -> None:
        self.desk = desk
        self.buffer = buffer
        self.pastes = pastes
        self.answers = Answers(desk, self._send)
        self.outbox = Outbox(self)
        self.work = Work(self, desk.queued, self.outbox.meaning)
        self.app: LiveApplication
        self.setup = setup
        self.cwd = setup.cwd or Path.cwd()
        self.open_session = open_session
        self.notifies = True
        self.field = Buffer(multiline=False)
        self.chooser = Chooser(desk, self.field, self.refocus)
        self.stopping = Stopping(self)
        self._frame_due = False
        self._beside: dict[asyncio.Future[None], bool] = {}
        self.commands = all_commands()

    # What the session tells.

    def heard(self, event: Event) -> None:
        lines = self.desk.take(event)
        if isinstance(event, QuestionAsked):
            self.answers.asked()
        if isinstance(event, TurnEnded):
            self._turn_ended(event)
        if isinstance(event, TurnEnded | QuestionAnswered):
            self.refocus()
        session = self.work.session
        if session:
            self.desk.status.fullness = session.fullness()
        if lines:
            self.app.print_above(lines)
        else:
            self.frame()
        match event:
            case QuestionAsked():
                self.notify(f"{event.tool} needs your answer")
            case TurnEnded(seconds=seconds) if seconds >= LONG_SECONDS:
                self.notify("the turn has ended")

    def _turn_ended(self, event: TurnEnded) -> None:
        session = self.work.session
        if session:
            self.begin(self._refresh_branch(session))
        # What waits goes on by itself: then there is no time to approve anything.
        waits = self.desk.queued or event.reason is not StopReason.DONE
        if session and session.mode == "plan" and not waits:
            self.desk.plan_ready = True
            self.answers.asked()

    async def _refresh_branch(self, session: Session) -> None:
        self.desk.status.branch = await branch_state(session)
        self.frame()

    def notify(self, text: str) -> None:
        """Call the user back who may look elsewhere."""
        if self.notifies:
            self.app.sync.write_raw(notification(text, self.setup.env))
            self.app.sync.flush()

    def opened(self, opened: Opened) -> None:
        cwd = opened.session.workspace.root
        if project_root(cwd) != project_root(self.cwd):
            # A session of another folder: its own history.
            self.buffer.history = project_history(self.setup.home, cwd, self.pastes)
            self.buffer.reset(self.buffer.document)
        self.cwd = cwd
        complete_in(self, self.cwd, opened.session.workspace.folders)
        fill_status(self.desk.status, opened)
        self.begin(self._refresh_branch(opened.session))
        self.print(opened_lines(self.desk, opened, self.width, self.setup.env))

    def came_back(self, texts: list[str]) -> None:
        self.desk.kept[:0] = texts
        self.desk.steering.clear()
        self.frame()

    def stops_itself(self) -> bool:
        return CALL in self.desk.doing.tools

    def job_done(self) -> None:
        self.frame()

    def give_back(self, typed: str) -> None:
        """Put a line that could not be carried out into the input again, to be mended."""
        self.buffer.text = "\n".join(text for text in (typed, self.buffer.text) if text)
        self.buffer.cursor_position = len(typed)
        self.frame()

    def failed(self, problem: BaseException) -> None:
        self.say(str(problem) or type(problem).__name__, "bad")

    # Drawing.

    def say(self, text: str, style: str = "dim") -> None:
        """A line of our own in the scrollback."""
        self.app.print_above(self.desk.scribe.notice(text, style))

    def print(self, lines: Sequence[str]) -> None:
        """Finished lines (ANSI, fitted to the width) in the scrollback."""
        self.app.print_above(lines)

    @property
    def width(self) -> int:
        """Columns of the terminal."""
        return self.app.sync.get_size().columns

    def frame(self) -> None:
        """Draw what changed, soon."""
        if self._frame_due or not self.app.loop:
            return
        self._frame_due = True
        self.app.loop.call_later(FRAME_SECONDS, self._draw)

    def _draw(self) -> None:
        self._frame_due = False
        self.app.invalidate()

    # Keys.

    def enter(self) -> None:
        """Send, queue or complete: what Enter means in the message."""
        if self._complete():
            return
        typed = self.buffer.text
        if not typed.strip():
            self._send_kept()
            return
        self.buffer.append_to_history()
        self.buffer.reset()
        self.desk.plan_ready = False
        self.outbox.submit(typed)

    def _send_kept(self) -> None:
        if self.desk.kept:
            self.desk.queued += self.desk.kept
            self.desk.kept.clear()
            self.work.wake()
            self.frame()

    def steer(self) -> None:
        """What is typed goes to the running turn."""
        typed = self.buffer.text
        session = self.work.session
        if not typed.strip():
            return
        if session is None or not session.busy or typed.startswith(("/", "!")):
            self.enter()
            return
        self.buffer.append_to_history()
        self.buffer.reset()
        self.begin(self.outbox.steer(session, typed))

    def say_why(self) -> None:
        """Refuse what is asked, in the words of the field."""
        self.answers.say_why(self.field.text)
        self.refocus()

    def digit(self, digit: str, *, meant: bool) -> None:
        """Answer what is asked; ``meant``: the digit can't be a part of a message."""
        if self.desk.questions:
            self.answers.give(digit, meant=meant)
            self.refocus()
        elif self.desk.plan_ready and (meant or not self.answers.unread):
            mode = PLAN_MODES.get(digit)
            session = self.work.session
            if mode and session:
                session.set_mode(mode)
                self.outbox.submit("Carry out the plan.")

    def refocus(self) -> None:
        """The keys go to what is open now; its field begins empty."""
        focus = self.field if self.desk.has_field else self.buffer
        if self.app.layout.current_buffer is not focus:
            self.field.reset()
            self.app.layout.focus(focus)
            # A question may have come into sight again.
            self.answers.asked()
            self.app.redraw_now()
        else:
            self.app.invalidate()

    def note(self, text: str, seconds: float) -> None:
        """Show words for a moment."""
        self.desk.note = text
        if self.app.loop:
            self.app.loop.call_later(seconds, self._end_note, text)
        self.app.invalidate()

    def _end_note(self, text: str) -> None:
        if self.desk.note == text:
            self.desk.note = ""
            self.app.invalidate()

    def leave(self, code: int = 0) -> None:
        """End the program; what was typed and not sent stays in the history."""
        if self.app.is_running and self.app.future and not self.app.future.done():
            self.app.exit(result=code)

    def keep_unsent(self) -> None:
        """Put what was typed and not sent into the history, the newest last."""
        desk = self.desk
        for text in (*desk.steering, *desk.kept, *desk.queued, self.buffer.text):
            if text.strip():
                self.buffer.history.append_string(text)

    def suspend(self) -> None:
        self.begin(self.app.suspend())

    def recall(self) -> None:
        """Take the last message that waits back into the input."""
        self.buffer.text = (self.desk.queued or self.desk.kept).pop()
        self.buffer.cursor_position = len(self.buffer.text)

    def next_mode(self) -> None:
        """The next of those that a key should reach: yolo is a command."""
        session = self.work.session
        if session:
            place = CYCLE.index(session.mode) if session.mode in CYCLE else -1
            session.set_mode(CYCLE[(place + 1) % len(CYCLE)])

    def unfold(self, kind: str) -> None:
        """Print the last thinking or the last long output whole."""
        if not show_fold(self, thinking=kind == "thinking"):
            self.note(f"no {kind} to show", AGAIN_SECONDS)

    def to_background(self) -> None:
        self.begin(self._to_background())

    async def _to_background(self) -> None:
        until = time.monotonic() + AGAIN_SECONDS / 2
        session = self.work.session
        while session and not session.background():
            # Its line may be there before the command has been started.
            if time.monotonic() > until or not self.desk.doing.tools:
                self.note("nothing to move to the background", AGAIN_SECONDS)
                return
            await asyncio.sleep(0.05)

    def edit(self) -> None:
        """Write the message in the user's editor."""
        self.begin(edit_message(self))

    def show_keys(self) -> None:
        from kimi_cli.frontends.terminal.keys import KEYS

        wide = max(len(key) for key, _ in KEYS)
        room = max(self.width - wide - 4, 20)
        for key, what in KEYS:
            first, *rest = textwrap.wrap(what, room)
            self.say("\n".join([f"{key:<{wide}}  {first}", *(" " * (wide + 2) + r for r in rest)]))

    def paste_before(self) -> int:
        """The length of the placeholder of a paste that ends at the cursor; 0: there is none."""
        return self.pastes.placeholder_before(self.buffer.text, self.buffer.cursor_position)

    def paste(self, data: str) -> None:
        self.buffer.insert_text(pasted(data, self.cwd, self.pastes))

    # Commands.

    def need_session(self) -> Session:
        """The session. Raises CommandError while it is being opened."""
        if self.work.session is None:
            raise CommandError("the session is being opened")
        return self.work.session

    def begin(self, doing: Coroutine[Any, Any, None], *, stops: bool = False) -> None:
        """Do something beside whatever runs; ``stops``: Esc ends it."""
        task = asyncio.ensure_future(doing)
        self._beside[task] = stops
        task.add_done_callback(self._done_beside)

    def _done_beside(self, task: asyncio.Future[None]) -> None:
        self._beside.pop(task, None)
        if not task.cancelled() and (problem := task.exception()):
            self.failed(problem)
        self.frame()

    def cancel_newest(self) -> bool:
        """End what was begun last of what can be ended; False when there is nothing."""
        newest = next((task for task, stops in reversed(self._beside.items()) if stops), None)
        return newest is not None and newest.cancel()

    def cancel_beside(self) -> None:
        """End all that was begun beside."""
        for task in list(self._beside):
            task.cancel()

    async def reopen(self, **changes: Any) -> None:
        """Go on with another session: that of the setup with ``changes``. Raises what opening
        raises, and then the present one stays."""
        setup = replace(self.setup, resume=None, continue_last=False, helper=None, cwd=None)
        await self.work.take(await self.open_session(replace(setup, **changes)))

    # Menus.

    async def choose(self, title: str, items: Sequence[Item], *, sure: bool = False) -> str | None:
        """Let the user choose; None when nothing was. ``sure``: it has consequences."""
        return await self.chooser.choose(title, items, sure=sure)

    # Text.

    def _send(self, operation: Operation) -> None:
        if self.work.session:
            self.work.session.send(operation)
        self.app.invalidate()

    def _complete(self) -> bool:
        """Take the completion that is chosen, or the only sensible one; False: there is none."""
        state = self.buffer.complete_state
        if not state:
            return False
        if state.current_completion is None and state.completions and "@" in self._word():
            self.buffer.go_to_completion(0)
        chosen = self.buffer.complete_state and self.buffer.complete_state.current_completion
        self.buffer.complete_state = None
        return bool(chosen)

    def _word(self) -> str:
        words: Sequence[str] = self.buffer.document.current_line_before_cursor.split()
        return clean(words[-1]) if words else ""
