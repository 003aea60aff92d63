"""The terminal lent to other programs: the user's editor, a pager."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kimi_cli.frontends.terminal.editor import EditorError, edit_in_editor
from kimi_cli.frontends.terminal.folds import Fold, FoldKind
from kimi_cli.frontends.terminal.pastes import clean
from kimi_cli.frontends.terminal.question_view import is_diff
from kimi_cli.frontends.terminal.unfold import (
    MOST_LINES,
    clipped,
    find_pager,
    fold_lines,
    latest,
    page,
)
from kimi_cli.workspace.roots import project_root

if TYPE_CHECKING:
    from kimi_cli.frontends.terminal.controller import Controller


async def edit_message(controller: Controller) -> None:
    """Have the text of the input box written in the user's editor."""
    buffer = controller.buffer
    typed = controller.pastes.expand(buffer.text)
    try:
        async with controller.app.lent():
            written = await edit_in_editor(typed, controller.setup.env)
    except EditorError as error:
        controller.failed(error)
        return
    if written is not None:
        buffer.reset()
        buffer.insert_text(clean(written))


def show_fold(controller: Controller, *, thinking: bool) -> bool:
    """Print the newest fold whole, or open it in a pager where it is very long; False: there is
    none."""
    desk = controller.desk
    fold = latest(desk.scribe.folds, thinking)
    if desk.questions and not thinking:
        asked = desk.questions[0]
        kind: FoldKind = "diff" if is_diff(asked) else "output"
        fold = Fold(0, kind, f"{asked.tool} asks", asked.preview or asked.text)
    if fold is None:
        return False
    lines = fold_lines(fold, desk.ink, controller.width)
    pager = find_pager(_folders(controller)) if len(lines) > MOST_LINES else None
    if pager:
        controller.begin(_page(controller, pager, fold))
    else:
        controller.print(desk.scribe.own(clipped(lines, desk.ink)))
    return True


async def _page(controller: Controller, pager: str, fold: Fold) -> None:
    try:
        async with controller.app.lent():
            await page(pager, fold, controller.setup.env)
    except OSError as error:
        controller.failed(error)


def _folders(controller: Controller) -> Sequence[Path]:
    session = controller.work.session
    return session.workspace.folders if session else [project_root(controller.cwd)]
