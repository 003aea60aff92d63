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
    ("esc, ctrl-c", "close a menu, stop what runs; ctrl-c twice leaves"),
    ("↑ ↓", "take back what is queued; the history"),
    ("ctrl-r", "search the history of this project"),
    ("tab", "complete: / commands, @ files"),
    ("shift-tab", "next mode: auto, plan, ask"),
    ("ctrl-t", "show the last thinking whole"),
    ("ctrl-o", "show the last long output, or the question, whole"),
    ("ctrl-b", "move the running command to the background"),
    ("ctrl-g", "write the message in $EDITOR"),
    ("ctrl-z", "suspend kimi; ctrl-d on an empty line leaves"),
)

DIGITS = "123456789"


def make_keys(controller: Controller) -> KeyBindings:
    """The bindings over prompt-toolkit's own for editing."""
    keys = KeyBindings()
    buffer, desk = controller.buffer, controller.desk
    is_empty = Condition(lambda: not buffer.text)
    # The keys go to the message, to the field of a menu or a reason, or to the search.
    in_message = ~is_searching & Condition(lambda: not desk.has_field)
    in_menu = Condition(lambda: desk.menu is not None)
    in_sure = Condition(lambda: desk.menu is not None and desk.menu.sure)
    in_reason = Condition(lambda: bool(desk.saying_why))
    is_asked = in_message & Condition(lambda: bool(desk.questions) or desk.plan_ready)
    recalls = in_message & is_empty & Condition(lambda: bool(desk.queued or desk.kept))

    @keys.add("enter", filter=in_message)
    def _(event: KeyPressEvent) -> None:
        controller.enter()

    @keys.add("enter", filter=in_menu)
    def _(event: KeyPressEvent) -> None:
        controller.chooser.take()

    @keys.add("enter", filter=in_reason)
    def _(event: KeyPressEvent) -> None:
        controller.say_why()

    @keys.add("c-j", filter=in_message)
    @keys.add("escape", "enter", filter=in_message)
    def _(event: KeyPressEvent) -> None:
        buffer.newline(copy_margin=False)

    @keys.add("c-s", filter=in_message)
    def _(event: KeyPressEvent) -> None:
        controller.steer()

    @keys.add("escape", filter=~is_searching)
    def _(event: KeyPressEvent) -> None:
        controller.stopping.escape()

    @keys.add("c-c", filter=~is_searching)
    def _(event: KeyPressEvent) -> None:
        controller.stopping.ctrl_c()

    @keys.add("c-d", filter=in_message & is_empty)
    def _(event: KeyPressEvent) -> None:
        controller.stopping.ctrl_d()

    @keys.add("c-z")
    def _(event: KeyPressEvent) -> None:
        controller.suspend()

    @keys.add("up", filter=recalls)
    def _(event: KeyPressEvent) -> None:
        controller.recall()

    @keys.add("s-tab", filter=in_message & ~has_completions)
    def _(event: KeyPressEvent) -> None:
        controller.next_mode()

    @keys.add("tab", filter=in_message)
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

    @keys.add("c-g", filter=in_message)
    def _(event: KeyPressEvent) -> None:
        controller.edit()

    @keys.add("?", filter=in_message & is_empty)
    def _(event: KeyPressEvent) -> None:
        controller.show_keys()

    @keys.add(Keys.BracketedPaste, filter=in_message)
    def _(event: KeyPressEvent) -> None:
        controller.paste(event.data)

    @keys.add("up", filter=in_menu)
    @keys.add("s-tab", filter=in_menu)
    def _(event: KeyPressEvent) -> None:
        controller.chooser.move(-1)

    @keys.add("down", filter=in_menu)
    @keys.add("tab", filter=in_menu)
    def _(event: KeyPressEvent) -> None:
        controller.chooser.move(1)

    # Nothing that is typed narrows a question with consequences.
    @keys.add(Keys.Any, filter=in_sure)
    @keys.add(Keys.BracketedPaste, filter=in_sure)
    def _(event: KeyPressEvent) -> None:
        if event.data in DIGITS:
            controller.chooser.take_digit(event.data)

    for digit in DIGITS:

        @keys.add(digit, filter=is_asked & is_empty)
        @keys.add("escape", digit, filter=is_asked)
        def _(event: KeyPressEvent) -> None:
            pressed = event.key_sequence
            controller.digit(pressed[-1].data, meant=len(pressed) > 1)

    @keys.add("backspace", filter=in_message)
    @keys.add("c-w", filter=in_message & Condition(lambda: controller.paste_before() > 0))
    def _(event: KeyPressEvent) -> None:
        buffer.delete_before_cursor(controller.paste_before() or 1)

    return keys
