"""Esc, Ctrl-C and Ctrl-D: closing what is open, stopping what runs, leaving."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kimi_cli.frontends.terminal.controller import Controller

AGAIN_SECONDS = 2.0
"""Within this time a second press leaves."""


class Stopping:
    """One press does one thing: the last that was opened is closed first. Whoever presses again
    because something takes a moment to stop does not leave by that."""

    def __init__(self, controller: Controller) -> None:
        self._to = controller
        self._pressed: dict[str, float] = {}

    def escape(self) -> None:
        to = self._to
        if self._close():
            return
        if to.buffer.complete_state:
            to.buffer.cancel_completion()
        elif not self._stop():
            to.desk.offers.clear()
            to.desk.plan_ready = False
            to.frame()

    def ctrl_c(self) -> None:
        to = self._to
        if self._close() or self._stop():
            self._pressed.clear()
        elif to.buffer.text:
            self._pressed.clear()
            to.buffer.append_to_history()
            to.buffer.reset()
        else:
            self._twice("ctrl-c")

    def ctrl_d(self) -> None:
        if self._to.desk.doing.busy:
            self._twice("ctrl-d")
        else:
            self._to.leave()

    def _twice(self, key: str) -> None:
        now = time.monotonic()
        if now - self._pressed.get(key, -AGAIN_SECONDS) < AGAIN_SECONDS:
            self._to.leave()
            return
        self._pressed[key] = now
        self._to.note(f"{key} again leaves", AGAIN_SECONDS)

    def _close(self) -> bool:
        to = self._to
        if to.desk.menu:
            to.chooser.close()
        elif to.desk.saying_why:
            to.desk.saying_why = ""
            to.refocus()
        else:
            return False
        return True

    def _stop(self) -> bool:
        return self._to.cancel_newest() or self._to.work.interrupt()
