"""What becomes of a line that was sent: a message, a command, or a command for the shell."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kimi_cli.frontends.terminal.commands.command import Command, CommandError
from kimi_cli.frontends.terminal.commands.table import find_command, like_a_command, split_line
from kimi_cli.frontends.terminal.mentions import resolve
from kimi_cli.frontends.terminal.user_shell import run_command
from kimi_cli.frontends.terminal.work import Job
from kimi_cli.protocol.operations import Say, Steer

if TYPE_CHECKING:
    from kimi_cli.agent import Session
    from kimi_cli.frontends.terminal.controller import Controller


class Outbox:
    """Lines go into the queue as they were typed; their meaning is found when their turn comes."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def submit(self, typed: str) -> None:
        """Take a line. A command that may run beside a turn runs at once; one that there is not
        comes back to be mended."""
        to = self._controller
        words = split_line(to.pastes.expand(typed))
        if words:
            try:
                command = find_command(to.commands, words[0])
            except CommandError as error:
                if words[1] and not like_a_command(to.commands, words[0]):
                    # "/tmp is full": prose that begins with a path.
                    self._queue(typed)
                    return
                to.say(str(error), to.desk.ink.look.warn)
                to.give_back(typed)
                return
            if words[1] and not command.usage:
                to.say(f"/{command.name} takes nothing after it", to.desk.ink.look.warn)
                to.give_back(typed)
                return
            if command.while_busy:
                to.begin(self._run(command, words[1]), stops=True)
                return
        self._queue(typed)

    def _queue(self, typed: str) -> None:
        to = self._controller
        to.desk.queued.append(typed)
        to.work.wake()
        to.frame()

    async def steer(self, session: Session, typed: str) -> None:
        """Send a line to the running turn."""
        to = self._controller
        message = await self._message(typed)
        if message.parts or not session.busy:
            self._queue(typed)
            if message.parts:
                # Only a message of its own can hold one.
                to.note("with its image it is sent after this turn", 3.0)
            return
        to.desk.steering.append(message.text)
        session.send(Steer(text=message.text))
        to.frame()

    async def meaning(self, typed: str) -> Say | Job:
        """What a line means whose turn has come. Raises CommandError."""
        to = self._controller
        text = to.pastes.expand(typed)
        if text.startswith("!") and text[1:].strip():
            return lambda session: run_command(to, session, text[1:].strip())
        words = split_line(text)
        if words and (not words[1] or like_a_command(to.commands, words[0])):
            command = find_command(to.commands, words[0])
            return lambda session: command.run(to, words[1])
        for offer in to.desk.offers:
            to.need_session().offer(offer)
        to.desk.offers.clear()
        return await self._message(typed)

    async def _message(self, typed: str) -> Say:
        to = self._controller
        # Before the pastes are put in: an @ in one of them means nothing.
        found = await asyncio.to_thread(resolve, typed, to.cwd)
        for problem in found.problems:
            to.say(problem, to.desk.ink.look.warn)
        return Say(text=to.pastes.expand(found.text), parts=found.parts)

    async def _run(self, command: Command, argument: str) -> None:
        try:
            await command.run(self._controller, argument)
        except Exception as error:
            self._controller.failed(error)
