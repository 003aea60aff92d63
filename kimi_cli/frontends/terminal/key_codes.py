"""Keys that prompt-toolkit has no names for, as terminals report them when asked to.

A terminal that is asked for xterm's modifyOtherKeys tells Shift-Enter from Enter: ``CSI 27 ; MODS ;
CODE ~``, or ``CSI CODE ; MODS u`` (xterm's formatOtherKeys, the kitty keyboard protocol). Level 1
leaves alone what has a meaning of old (https://invisible-island.net/xterm/modified-keys.html):
Ctrl-C stays the byte that ends a program, which matters when we are killed or an editor runs. At
level 2 it would be a sequence, and capitals too on some terminals. A terminal may be at that level
all the same, or speak the kitty protocol without being asked; so the table knows all of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial

from prompt_toolkit.input import Input
from prompt_toolkit.input.ansi_escape_sequences import ANSI_SEQUENCES
from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding.key_processor import KeyPress
from prompt_toolkit.keys import Keys

ENABLE = "\x1b[>4;1m"
"""Asks for modifyOtherKeys level 1 (xterm's control sequences, XTMODKEYS)."""
DISABLE = "\x1b[>4m"
"""Back to how the terminal was set up; to be sent at the end, and while another program has it."""
PASTE_END = "\x1b[201~"
NEWLINE = Keys.ControlJ
"""What Shift-Enter and Ctrl-Enter become; Alt-Enter is (Escape, ControlM), as from any terminal."""

Pressed = Keys | str | tuple[Keys | str, ...]

SHIFT, ALT, CTRL, META = 1, 2, 4, 8
# Caps Lock and Num Lock, which the kitty protocol reports as modifiers; they change no key here.
LOCKS = (0, 64, 128, 192)
ENTER, TAB, ESCAPE, SPACE = 13, 9, 27, 32
BACKSPACES = (8, 127)
# What Ctrl makes of keys that are no letters, as terminals have it that report nothing.
_CONTROLS = {
    **dict.fromkeys("@2 `", Keys.ControlAt),
    **dict.fromkeys("[3", Keys.Escape),
    **dict.fromkeys("\\4", Keys.ControlBackslash),
    **dict.fromkeys("]5", Keys.ControlSquareClose),
    **dict.fromkeys("^6~", Keys.ControlCircumflex),
    **dict.fromkeys("_7/-", Keys.ControlUnderscore),
    **dict.fromkeys("8?", Keys.ControlH),
}
_MODIFIED = re.compile(r"\x1b\[(\d+);([2-8])([A-Z~])")
_UNMODIFIED = re.compile(r"\x1b\[(?:([A-Z])|(\d+)~)")


def register() -> None:
    """Teach prompt-toolkit the sequences. Its table is one for the process; to do it again changes
    nothing. Its record of beginnings of sequences needs no change: it takes any ``CSI`` with
    digits for one."""
    ANSI_SEQUENCES.update(sequences())  # type: ignore[arg-type]


def type_characters(source: Input) -> None:
    """Make reported characters type themselves: prompt-toolkit would insert the sequence that
    a character came as. For an input of this process, once."""
    parser = getattr(source, "vt100_parser", None)
    if parser is not None:
        parser.feed = FastPastes(parser).feed
        parser.feed_key_callback = partial(_typed, parser.feed_key_callback)


class FastPastes:
    """Takes pastes in linear time: prompt-toolkit looks through all of a paste for its end with
    each kilobyte that comes, which for megabytes takes many seconds."""

    def __init__(self, parser: Vt100Parser) -> None:
        self._parser = parser
        self._feed = parser.feed
        self._pieces: list[str] = []
        self._end = ""

    def feed(self, data: str) -> None:
        """Take input as it comes, in place of the parser's own method."""
        if not self._parser._in_bracketed_paste:
            self._feed(data)
            if self._parser._in_bracketed_paste:
                self._end = self._parser._paste_buffer[-len(PASTE_END) :]
            return
        self._pieces.append(data)
        self._end += data
        if PASTE_END in self._end:
            whole, self._pieces = "".join(self._pieces), []
            self._feed(whole)
        self._end = self._end[-len(PASTE_END) :]


def _typed(press_on: Callable[[KeyPress], None], press: KeyPress) -> None:
    if not isinstance(press.key, Keys) and press.data != press.key:
        press = KeyPress(press.key)
    press_on(press)


def sequences() -> dict[str, Pressed]:
    """The table: from a sequence to the key, or keys, that it stands for."""
    table: dict[str, Pressed] = {"\x1bOM": NEWLINE}  # Konsole's Shift-Enter
    codes = (ENTER, TAB, ESCAPE, *BACKSPACES, *range(SPACE, 127))
    for code in codes:
        for mods in range(16):
            key = _key(code, mods)
            if mods:
                table[f"\x1b[27;{mods + 1};{code}~"] = key
            if mods < META:
                for lock in LOCKS:
                    table[f"\x1b[{code};{mods + lock + 1}u"] = key
        table[f"\x1b[{code}u"] = _key(code, 0)
    table.update(_locked())
    return table


def _locked() -> Iterator[tuple[str, Pressed]]:
    """Keys of the table that is there (arrows, Home, F5), pressed with a lock on."""
    for sequence, key in ANSI_SEQUENCES.items():
        if found := _MODIFIED.fullmatch(sequence):
            number, mods, end = found[1], int(found[2]), found[3]
        elif found := _UNMODIFIED.fullmatch(sequence):
            number, mods, end = found[2] or "1", 1, found[1] or "~"
        else:
            continue
        # What ends so is the report of a place, or Shift-Tab, which has no number.
        if end not in "RZ" and key is not Keys.BracketedPaste:
            for lock in LOCKS[1:]:
                yield f"\x1b[{number};{mods + lock}{end}", key


def _key(code: int, mods: int) -> Pressed:
    shift, ctrl = bool(mods & SHIFT), bool(mods & CTRL)
    if not mods & (ALT | META):
        return _without_alt(code, shift, ctrl)
    if code == ENTER:
        return Keys.Escape, Keys.ControlM
    key = _without_alt(code, shift, ctrl)
    return key if key is Keys.Ignore else (Keys.Escape, key)


def _without_alt(code: int, shift: bool, ctrl: bool) -> Keys | str:
    if code == ENTER:
        return NEWLINE if shift or ctrl else Keys.ControlM
    if code == TAB:
        return Keys.BackTab if shift else Keys.ControlI
    if code == ESCAPE:
        return Keys.Escape
    if code in BACKSPACES:
        # With Ctrl the word before the cursor, as in most other programs.
        return Keys.ControlW if ctrl else Keys.ControlH
    letter = chr(code)
    if not ctrl:
        return letter.upper() if shift else letter
    if letter.isalpha():
        return Keys(f"c-{letter.lower()}")
    return _CONTROLS.get(letter, Keys.Ignore)
