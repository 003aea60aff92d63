"""What each key does, as long as the input box has the focus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prompt_toolkit.filters import Condition, has_completions, is_searching
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys

if TYPE_CHECKING:
    from kimi_cli.frontends.terminal.controller import Controller

KEYS = (
    ("enter", "send; while it works: queue"),
    ("ctrl-s", "send to the running turn, delivered after its current step"),
    ("alt-enter, ctrl-j, shift-enter", "new line"),
    ("esc, ctrl-c", "stop what runs; ctrl-c twice leaves"),
    ("↑ ↓", "take back what is queued; the history"),
    ("ctrl-r", "search the history of this project"),
    ("tab", "complete: / commands, @ files"),
    ("shift-tab", "next mode: auto, plan, ask, yolo"),
    ("ctrl-t", "show the last thinking whole"),
    ("ctrl-o", "show the last long output whole"),
    ("ctrl-b", "move the running command to the background"),
    ("ctrl-g", "write the message in $EDITOR"),
    ("ctrl-z", "suspend kimi; ctrl-d on an empty line leaves"),
)


def make_keys(controller: Controller) -> KeyBindings:
    """The bindings over prompt-toolkit's own for editing."""
    keys = KeyBindings()
    buffer, desk = controller.buffer, controller.desk
    is_empty = Condition(lambda: not buffer.text and desk.menu is None)
    typing = ~is_searching
    asked = Condition(lambda: controller.answers.takes_digits)
    has_question = Condition(lambda: bool(desk.questions) and not desk.saying_why)
    choosing = Condition(lambda: desk.menu is not None)
    recalls = Condition(lambda: not buffer.text and bool(desk.queued))

    @keys.add("enter", filter=typing)
    def _(event: KeyPressEvent) -> None:
        controller.enter()

    @keys.add("c-j", filter=typing)
    @keys.add("escape", "enter", filter=typing)
    def _(event: KeyPressEvent) -> None:
        buffer.newline(copy_margin=False)

    @keys.add("c-s", filter=typing)
    def _(event: KeyPressEvent) -> None:
        controller.steer()

    @keys.add("escape", filter=typing)
    def _(event: KeyPressEvent) -> None:
        controller.escape()

    @keys.add("c-c")
    def _(event: KeyPressEvent) -> None:
        controller.ctrl_c()

    @keys.add("c-d", filter=is_empty & typing)
    def _(event: KeyPressEvent) -> None:
        controller.leave()

    @keys.add("c-z")
    def _(event: KeyPressEvent) -> None:
        controller.suspend()

    @keys.add("up", filter=recalls & typing)
    def _(event: KeyPressEvent) -> None:
        controller.recall()

    @keys.add("s-tab", filter=typing & ~has_completions)
    def _(event: KeyPressEvent) -> None:
        controller.next_mode()

    @keys.add("tab", filter=typing)
    def _(event: KeyPressEvent) -> None:
        if buffer.complete_state:
            buffer.complete_next()
        else:
            buffer.start_completion(insert_common_part=True)

    @keys.add("c-t")
    def _(event: KeyPressEvent) -> None:
        controller.unfold("thinking")

    @keys.add("c-o")
    def _(event: KeyPressEvent) -> None:
        controller.unfold("output")

    @keys.add("c-b", filter=Condition(lambda: bool(desk.doing.tools)))
    def _(event: KeyPressEvent) -> None:
        controller.to_background()

    @keys.add("c-g", filter=typing)
    def _(event: KeyPressEvent) -> None:
        controller.edit()

    @keys.add("?", filter=is_empty & typing & ~has_question)
    def _(event: KeyPressEvent) -> None:
        controller.show_keys()

    @keys.add(Keys.BracketedPaste)
    def _(event: KeyPressEvent) -> None:
        controller.paste(event.data)

    @keys.add("up", filter=choosing)
    @keys.add("s-tab", filter=choosing)
    def _(event: KeyPressEvent) -> None:
        controller.move_in_menu(-1)

    @keys.add("down", filter=choosing)
    @keys.add("tab", filter=choosing)
    def _(event: KeyPressEvent) -> None:
        controller.move_in_menu(1)

    for digit in "123456789":

        @keys.add(digit, filter=asked)
        @keys.add("escape", digit, filter=has_question)
        def _(event: KeyPressEvent) -> None:
            keys = event.key_sequence
            controller.answers.give(keys[-1].data, meant=len(keys) > 1)

    @keys.add("backspace", filter=typing)
    def _(event: KeyPressEvent) -> None:
        length = controller.pastes.placeholder_before(buffer.text, buffer.cursor_position)
        buffer.delete_before_cursor(length or 1)

    return keys
