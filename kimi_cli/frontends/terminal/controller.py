"""What the user's keys mean, and what the session's events do to the screen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prompt_toolkit.buffer import Buffer

from kimi_cli.frontends.plain import clean
from kimi_cli.frontends.terminal.answers import Answers
from kimi_cli.frontends.terminal.branch import branch_state
from kimi_cli.frontends.terminal.commands.command import CommandError
from kimi_cli.frontends.terminal.commands.table import all_commands
from kimi_cli.frontends.terminal.desk import Desk
from kimi_cli.frontends.terminal.input_box import complete_in, pasted
from kimi_cli.frontends.terminal.lending import edit_message, show_fold
from kimi_cli.frontends.terminal.menu import Item, Menu
from kimi_cli.frontends.terminal.notify import LONG_SECONDS, notification
from kimi_cli.frontends.terminal.opened_view import fill_status, opened_lines
from kimi_cli.frontends.terminal.outbox import Outbox
from kimi_cli.frontends.terminal.pastes import Pastes
from kimi_cli.frontends.terminal.work import Work
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import QuestionAsked, TurnEnded
from kimi_cli.protocol.modes import MODES
from kimi_cli.protocol.operations import Operation
from kimi_cli.protocol.stops import StopReason

if TYPE_CHECKING:
    from kimi_cli.agent import Opened, Session, Setup
    from kimi_cli.frontends.terminal.screen import LiveApplication

AGAIN_SECONDS = 2.0
"""Within this time a second Ctrl-C leaves."""
PLAN_ANSWERS = (
    Item("auto", "yes", "in mode auto: free inside the sandbox"),
    Item("ask", "yes, but ask before each change", "in mode ask"),
    Item("plan", "no, go on planning", "say what to change"),
)
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
        self.answers = Answers(desk, buffer, self._send)
        self.outbox = Outbox(self)
        self.work = Work(self, desk.queued, self.outbox.meaning)
        self.app: LiveApplication
        self.setup = setup
        self.cwd = setup.cwd or Path.cwd()
        self.open_session = open_session
        self.notifies = True
        self._choosing = asyncio.Lock()
        self._ctrl_c_at = -AGAIN_SECONDS
        self._frame_due = False
        self._beside: set[asyncio.Future[None]] = set()
        self.commands = all_commands()

    # What the session tells.

    def heard(self, event: Event) -> None:
        questions = len(self.desk.questions)
        lines = self.desk.take(event)
        if len(self.desk.questions) > questions:
            self.answers.asked()
        session = self.work.session
        if session:
            self.desk.status.fullness = session.fullness()
        if lines:
            self.app.print_above(lines)
        else:
            self.frame()
        if isinstance(event, TurnEnded) and session:
            self.begin(self._refresh_branch(session))
        match event:
            case QuestionAsked():
                self.notify(f"{event.tool} needs your answer")
            case TurnEnded(seconds=seconds) if seconds >= LONG_SECONDS:
                self.notify("the turn has ended")
            case TurnEnded(reason=StopReason.DONE) if self.desk.status.mode == "plan":
                self.begin(self._offer_plan())

    async def _refresh_branch(self, session: Session) -> None:
        self.desk.status.branch = await branch_state(session)
        self.frame()

    def notify(self, text: str) -> None:
        """Call the user back who may look elsewhere."""
        if self.notifies:
            self.app.sync.write_raw(notification(text, self.setup.env))
            self.app.sync.flush()

    async def _offer_plan(self) -> None:
        chosen = await self.choose("Carry out this plan?", PLAN_ANSWERS)
        session = self.work.session
        if chosen in MODES and session:
            session.set_mode(chosen)
            self.outbox.submit("Carry out the plan.")

    def opened(self, opened: Opened) -> None:
        self.cwd = opened.session.workspace.root
        complete_in(self, self.cwd, opened.session.workspace.folders)
        fill_status(self.desk.status, opened)
        self.begin(self._refresh_branch(opened.session))
        self.print(opened_lines(self.desk, opened, self.width, self.setup.env))

    def came_back(self, texts: list[str]) -> None:
        kept = [*texts, self.buffer.text]
        self.buffer.text = "\n".join(text for text in kept if text.strip())
        self.buffer.cursor_position = len(self.buffer.text)
        self.desk.steering.clear()
        self.frame()

    def failed(self, problem: Exception) -> None:
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
        """Send, queue, answer or complete: what Enter means now."""
        if self.desk.menu:
            self.desk.menu.take(self.buffer.text)
            return
        if self._complete():
            return
        typed = self.buffer.text
        if self.desk.saying_why:
            self.answers.say_why(self.pastes.expand(typed))
            self.frame()
            return
        if not typed.strip():
            return
        self.buffer.append_to_history()
        self.buffer.reset()
        self.outbox.submit(typed)

    def steer(self) -> None:
        """What is typed goes to the running turn."""
        typed = self.buffer.text
        session = self.work.session
        if not typed.strip():
            return
        if session is None or not session.busy:
            self.enter()
            return
        self.buffer.append_to_history()
        self.buffer.reset()
        self.begin(self.outbox.steer(session, typed))

    def escape(self) -> None:
        """Close what is open, else stop what runs."""
        if self.desk.menu:
            self.desk.menu.close()
        elif self.buffer.complete_state:
            self.buffer.cancel_completion()
        elif self.desk.saying_why:
            self.answers.stop_saying_why()
        elif not self.work.interrupt():
            self.desk.offers.clear()
            self.frame()

    def ctrl_c(self) -> None:
        """Stop what runs, else clear the input; a second one leaves."""
        if self.desk.menu:
            self.desk.menu.close()
            return
        now = time.monotonic()
        again = now - self._ctrl_c_at < AGAIN_SECONDS
        self._ctrl_c_at = now
        if again:
            self.leave()
            return
        stopped = self.work.interrupt()
        if not stopped and self.buffer.text:
            self.buffer.append_to_history()
            self.buffer.reset()
            self._ctrl_c_at = -AGAIN_SECONDS
            return
        self.note("ctrl-c again leaves", AGAIN_SECONDS)

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
        for text in (*self.desk.steering, *self.desk.queued, self.buffer.text):
            if text.strip():
                self.buffer.history.append_string(text)

    def suspend(self) -> None:
        self.begin(self.app.suspend())

    def recall(self) -> None:
        """Take the last queued message back into the input."""
        self.buffer.text = self.desk.queued.pop()
        self.buffer.cursor_position = len(self.buffer.text)

    def next_mode(self) -> None:
        session = self.work.session
        if session:
            session.set_mode(MODES[(MODES.index(session.mode) + 1) % len(MODES)])

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
        for key, what in KEYS:
            self.say(f"{key:<{wide}}  {what}")

    def paste(self, data: str) -> None:
        self.buffer.insert_text(pasted(data, self.cwd, self.pastes))

    # Commands.

    def need_session(self) -> Session:
        """The session. Raises CommandError while it is being opened."""
        if self.work.session is None:
            raise CommandError("the session is being opened")
        return self.work.session

    def begin(self, doing: Coroutine[Any, Any, None]) -> None:
        """Do something beside whatever runs."""
        task = asyncio.ensure_future(doing)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    async def reopen(self, **changes: Any) -> None:
        """Go on with another session: that of the setup with ``changes``. Raises what opening
        raises, and then the present one stays."""
        setup = replace(self.setup, resume=None, continue_last=False, helper=None, cwd=None)
        await self.work.take(await self.open_session(replace(setup, **changes)))

    # Menus.

    async def choose(self, title: str, items: Sequence[Item]) -> str | None:
        """Let the user choose; None when nothing was. What was being typed comes back after. One
        menu at a time: another waits."""
        async with self._choosing:
            draft = self.buffer.text
            self.buffer.reset()
            menu = self.desk.menu = Menu(title, items)
            self.app.invalidate()
            try:
                return await menu.chosen
            finally:
                self.desk.menu = None
                self.buffer.reset()
                self.buffer.insert_text(draft)
                # A question may have been hidden behind the menu.
                self.answers.asked()
                self.app.redraw_now()

    def move_in_menu(self, by: int) -> None:
        if self.desk.menu:
            self.desk.menu.move(by, self.buffer.text)

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
