"""What the user's keys mean, and what the session's events do to the screen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prompt_toolkit.buffer import Buffer

from kimi_cli.agent import Opened, Session, Setup
from kimi_cli.frontends.plain import clean, counted
from kimi_cli.frontends.terminal.answers import Answers
from kimi_cli.frontends.terminal.commands.command import Command, CommandError
from kimi_cli.frontends.terminal.commands.table import all_commands, find_command, split_line
from kimi_cli.frontends.terminal.desk import Desk
from kimi_cli.frontends.terminal.editor import EditorError, edit_in_editor
from kimi_cli.frontends.terminal.header import branch_of, header, sandbox_mark
from kimi_cli.frontends.terminal.input_box import complete_in, pasted
from kimi_cli.frontends.terminal.mentions import resolve
from kimi_cli.frontends.terminal.menu import Item, Menu
from kimi_cli.frontends.terminal.notify import LONG_SECONDS, notification
from kimi_cli.frontends.terminal.past import last_turns
from kimi_cli.frontends.terminal.pastes import Pastes
from kimi_cli.frontends.terminal.pastes import clean as clean_paste
from kimi_cli.frontends.terminal.unfold import (
    MOST_LINES,
    clipped,
    find_pager,
    fold_lines,
    latest,
    page,
)
from kimi_cli.frontends.terminal.user_shell import run_command
from kimi_cli.frontends.terminal.work import Job, Work
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import QuestionAsked, TurnEnded
from kimi_cli.protocol.modes import MODES
from kimi_cli.protocol.operations import Operation, Say, Steer
from kimi_cli.protocol.stops import StopReason

if TYPE_CHECKING:
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

Open = Callable[[Setup], Awaitable[Opened]]


class Controller:
    """Joins the input box, the screen and the session."""

    def __init__(
        self, desk: Desk, buffer: Buffer, pastes: Pastes, setup: Setup, open_session: Open
    ) -> None:
        self.desk = desk
        self.buffer = buffer
        self.pastes = pastes
        self.answers = Answers(desk, buffer, self._send)
        self.work = Work(self, desk.queued, self._job)
        self.app: LiveApplication
        self.setup = setup
        self.cwd = setup.cwd or Path.cwd()
        self.open_session = open_session
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
        match event:
            case QuestionAsked():
                self.notify(f"{event.tool} needs your answer")
            case TurnEnded(seconds=seconds) if seconds >= LONG_SECONDS:
                self.notify("the turn has ended")
            case TurnEnded(reason=StopReason.DONE) if self.desk.status.mode == "plan":
                self.begin(self._offer_plan())

    def notify(self, text: str) -> None:
        """Call the user back who may look elsewhere."""
        self.app.sync.write_raw(notification(text, self.setup.env))
        self.app.sync.flush()

    async def _offer_plan(self) -> None:
        chosen = await self.choose("Carry out this plan?", PLAN_ANSWERS)
        session = self.work.session
        if chosen in MODES and session:
            session.set_mode(chosen)
            self.submit("Carry out the plan.")

    def opened(self, opened: Opened) -> None:
        session, status = opened.session, self.desk.status
        cwd = self.cwd = session.workspace.root
        complete_in(self, cwd, session.workspace.folders)
        status.model, status.thinking = session.model, session.thinking
        status.mode, status.session = session.mode, session.id
        status.sandbox = sandbox_mark(opened.sandbox)
        status.branch = branch_of(cwd)
        status.window, status.fullness = session.provider.window or 0, session.fullness()
        status.usage, status.cost = session.past, session.past_cost
        status.currency = session.price.currency if session.price else None
        self.app.print_above(
            header(
                self.desk.ink,
                self.width,
                model=session.model,
                cwd=cwd,
                sandbox=opened.sandbox,
                env=self.setup.env,
            )
        )
        for warning in opened.warnings:
            self.say(warning, "warn")
        earlier, events = last_turns(opened.history)
        if earlier:
            self.say(f"{counted(earlier, 'turn')} before: kimi sessions show {session.id}")
        self.print([line for event in events for line in self.desk.scribe.feed(event)])

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
        self.submit(typed)

    def submit(self, typed: str) -> None:
        """A message or a command, as typed."""
        words = split_line(self.pastes.expand(typed))
        if words:
            try:
                command = find_command(self.commands, words[0])
            except CommandError as error:
                self.say(str(error), "warn")
                self.came_back([typed])
                return
            if command.while_busy:
                self.begin(self._run_command(command, words[1]))
                return
        self.desk.queued.append(typed)
        self.work.wake()
        self.frame()

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
        self.begin(self._steer(session, typed))

    async def _steer(self, session: Session, typed: str) -> None:
        text = (await self._message(typed)).text
        self.desk.steering.append(text)
        session.send(Steer(text=text))
        self.frame()

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
        fold = latest(self.desk.scribe.folds, kind == "thinking")
        if fold is None:
            self.note(f"no {kind} to show", AGAIN_SECONDS)
            return
        ink = self.desk.ink
        lines = fold_lines(fold, ink, self.width)
        pager = find_pager(self.setup.env) if len(lines) > MOST_LINES else None
        if pager:
            self.begin(self._page(pager, fold.text))
        else:
            self.print(clipped(lines, ink))

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
        self.begin(self._edit())

    async def _edit(self) -> None:
        typed = self.pastes.expand(self.buffer.text)
        try:
            async with self.app.lent():
                written = await edit_in_editor(typed, self.setup.env)
        except EditorError as error:
            self.failed(error)
            return
        if written is not None:
            self.buffer.reset()
            self.buffer.insert_text(clean_paste(written))

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

    async def _page(self, pager: str, text: str) -> None:
        try:
            async with self.app.lent():
                await page(pager, text, self.setup.env)
        except OSError as error:
            self.failed(error)

    async def reopen(self, **changes: Any) -> None:
        """Go on with another session: that of the setup with ``changes``. Raises what opening
        raises, and then the present one stays."""
        setup = replace(self.setup, resume=None, continue_last=False, helper=None, cwd=None)
        await self.work.take(await self.open_session(replace(setup, **changes)))

    async def _run_command(self, command: Command, argument: str) -> None:
        try:
            await command.run(self, argument)
        except Exception as error:
            self.failed(error)

    # Menus.

    async def choose(self, title: str, items: Sequence[Item]) -> str | None:
        """Let the user choose; None when nothing was. What was being typed comes back after."""
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
            self.app.redraw_now()

    def move_in_menu(self, by: int) -> None:
        if self.desk.menu:
            self.desk.menu.move(by, self.buffer.text)

    # Text.

    async def _job(self, typed: str) -> Say | Job:
        """What a queued line means: a message, or a command."""
        text = self.pastes.expand(typed)
        if text.startswith("!") and text[1:].strip():
            return lambda session: run_command(self, session, text[1:].strip())
        words = split_line(text)
        if words:
            command = find_command(self.commands, words[0])
            return lambda session: command.run(self, words[1])
        if self.work.session:
            for offer in self.desk.offers:
                self.work.session.offer(offer)
        self.desk.offers.clear()
        return await self._message(typed)

    async def _message(self, typed: str) -> Say:
        # Before the pastes are put in: an @ in one of them means nothing.
        found = await asyncio.to_thread(resolve, typed, self.cwd)
        for problem in found.problems:
            self.say(problem, "warn")
        return Say(text=self.pastes.expand(found.text), parts=found.parts)

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
