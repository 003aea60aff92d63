"""Keys as terminals report them, through prompt-toolkit's own parser and a real terminal."""

from __future__ import annotations

import asyncio
import os
import pty
import string
import time
import tty
from collections.abc import Callable
from io import TextIOWrapper

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit import PromptSession
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.input.ansi_escape_sequences import ANSI_SEQUENCES
from prompt_toolkit.input.vt100 import Vt100Input
from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding import KeyBindings, KeyPress, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.output import DummyOutput

from kimi_cli.frontends.terminal import key_codes
from kimi_cli.frontends.terminal.key_codes import FastPastes

E, M = Keys.Escape, Keys.ControlM
KEYS: list[tuple[int, int, tuple[Keys | str, ...]]] = [
    (13, 2, (Keys.ControlJ,)),
    (13, 5, (Keys.ControlJ,)),
    (13, 6, (Keys.ControlJ,)),
    (13, 3, (E, M)),
    (13, 4, (E, M)),
    (9, 2, (Keys.BackTab,)),
    (9, 5, (Keys.ControlI,)),
    (9, 3, (E, Keys.ControlI)),
    (27, 2, (E,)),
    (27, 5, (E,)),
    (27, 3, (E, E)),
    (127, 2, (Keys.ControlH,)),
    (127, 5, (Keys.ControlW,)),
    (127, 3, (E, Keys.ControlH)),
    (8, 3, (E, Keys.ControlH)),
    (99, 5, (Keys.ControlC,)),
    (67, 6, (Keys.ControlC,)),
    (100, 5, (Keys.ControlD,)),
    (98, 3, (E, "b")),
    (98, 4, (E, "B")),
    (98, 7, (E, Keys.ControlB)),
    (65, 2, ("A",)),
    (97, 2, ("A",)),
    (33, 2, ("!",)),
    (32, 2, (" ",)),
    (32, 5, (Keys.ControlAt,)),
    (91, 5, (E,)),
    (47, 5, (Keys.ControlUnderscore,)),
    (44, 5, (Keys.Ignore,)),
    (44, 7, (Keys.Ignore,)),
]


@pytest.fixture(autouse=True)
def _registered() -> None:
    key_codes.register()


def parsed(data: str) -> list[KeyPress]:
    presses: list[KeyPress] = []
    parser = Vt100Parser(presses.append)
    parser.feed_and_flush(data)
    return presses


def keys(data: str) -> tuple[Keys | str, ...]:
    return tuple(press.key for press in parsed(data))


@pytest.mark.parametrize(("code", "mods", "expected"), KEYS)
def test_both_ways_of_reporting_a_key(
    code: int, mods: int, expected: tuple[Keys | str, ...]
) -> None:
    assert keys(f"\x1b[27;{mods};{code}~") == expected
    assert keys(f"\x1b[{code};{mods}u") == expected


@pytest.mark.parametrize("lock", [64, 128, 192])
def test_locks_change_nothing(lock: int) -> None:
    for code, mods, expected in KEYS:
        assert keys(f"\x1b[{code};{mods + lock}u") == expected
    assert keys(f"\x1b[1;{1 + lock}A") == (Keys.Up,)
    assert keys(f"\x1b[1;{5 + lock}C") == (Keys.ControlRight,)
    assert keys(f"\x1b[3;{1 + lock}~") == (Keys.Delete,)
    assert keys(f"\x1b[1;{1 + lock}H") == (Keys.Home,)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("\x1b[13u", (M,)),
        ("\x1b[27u", (E,)),
        ("\x1b[9u", (Keys.ControlI,)),
        ("\x1b[127u", (Keys.ControlH,)),
        ("\x1bOM", (Keys.ControlJ,)),
    ],
)
def test_keys_without_modifiers(data: str, expected: tuple[Keys | str, ...]) -> None:
    assert keys(data) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("\r", (M,)),
        ("\n", (Keys.ControlJ,)),
        ("\x03", (Keys.ControlC,)),
        ("\x1b\r", (E, M)),
        ("\x1b", (E,)),
        ("\x1bb", (E, "b")),
        ("\x1b[A", (Keys.Up,)),
        ("\x1b[Z", (Keys.BackTab,)),
        ("\x1b[5;9R", (Keys.CPRResponse,)),
        ("\x1b[1;5u", (Keys.Control5,)),
        ("\x1b[200~a\rb\x1b[201~", (Keys.BracketedPaste,)),
    ],
)
def test_what_the_parser_knew_stays(data: str, expected: tuple[Keys | str, ...]) -> None:
    assert keys(data) == expected


def test_every_letter_with_ctrl_is_its_control_key() -> None:
    for letter in string.ascii_lowercase:
        control = (ANSI_SEQUENCES[chr(ord(letter) & 0x1F)],)
        for code in (ord(letter), ord(letter.upper())):
            assert keys(f"\x1b[27;5;{code}~") == keys(f"\x1b[{code};5u") == control


def test_no_sequence_leaves_anything_behind() -> None:
    # Each new sequence makes the parser look through the whole table, so not all of them.
    for sequence, key in sorted(key_codes.sequences().items())[::17]:
        wanted = key if isinstance(key, tuple) else (key,)
        assert keys(f"{sequence}x") == (*wanted, "x")


def test_twice_is_as_once_also_after_keys_were_parsed() -> None:
    before = dict(ANSI_SEQUENCES)
    assert keys("\x1b[1;3A\x1b[13;2u") == (E, Keys.Up, Keys.ControlJ)
    key_codes.register()
    assert before == ANSI_SEQUENCES


def typed_in_a_prompt(send: Callable[[], None], source: Vt100Input) -> str:
    bindings = KeyBindings()

    @bindings.add("c-j")
    def newline(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @bindings.add("c-c")
    def interrupted(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("<interrupt>")

    async def ask() -> str:
        session: PromptSession[str] = PromptSession(
            input=source, output=DummyOutput(), key_bindings=bindings, multiline=False
        )
        send()
        async with asyncio.timeout(30):
            return await session.prompt_async()

    return asyncio.run(ask())


def test_reported_characters_type_themselves() -> None:
    with create_pipe_input() as source:
        assert isinstance(source, Vt100Input)
        key_codes.type_characters(source)
        data = "a\x1b[27;2;66~\x1b[33;2u\x1b[27;2;32~\x1b[27;4;65~c\r"
        assert typed_in_a_prompt(lambda: source.send_text(data), source) == "aB! Ac"


def test_on_a_real_terminal() -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    with TextIOWrapper(os.fdopen(slave, "rb+", buffering=0)) as stdin:
        source = Vt100Input(stdin)
        key_codes.type_characters(source)
        data = b"one\x1b[27;2;13~\x1b[84;2uwo\x1b[13;2u\x1b[99;133u\x1b[27;5;119~\xe4\xb8\x89\r"

        def send() -> None:
            os.write(master, data)

        text = typed_in_a_prompt(send, source)
    os.close(master)
    assert text == "one\nTwo\n三"


def pasted(size: int, chunk: int = 1024) -> tuple[float, str]:
    """Processor seconds to take a paste of this size, and what came of it."""
    keys: list[KeyPress] = []
    parser = Vt100Parser(keys.append)
    fast = FastPastes(parser)
    text = "\x1b[200~" + "x" * size + "\x1b[201~y"
    begun = time.process_time()
    for at in range(0, len(text), chunk):
        fast.feed(text[at : at + chunk])
    assert [press.key for press in keys] == [Keys.BracketedPaste, "y"]
    return time.process_time() - begun, keys[0].data


def test_a_paste_takes_linear_time() -> None:
    small, _ = pasted(1_000_000)
    large, text = pasted(8_000_000)
    assert text == "x" * 8_000_000
    assert large < 24 * max(small, 0.002), "64 times as long would be quadratic"


@given(st.text("ab\x1b[201~", max_size=40), st.integers(1, 7))
def test_pastes_in_any_pieces_are_as_in_one(text: str, chunk: int) -> None:
    def parse(piece: int, fast: bool) -> list[tuple[object, str]]:
        keys: list[KeyPress] = []
        parser = Vt100Parser(keys.append)
        feed = FastPastes(parser).feed if fast else parser.feed
        whole = f"\x1b[200~{text}\x1b[201~z"
        for at in range(0, len(whole), piece):
            feed(whole[at : at + piece])
        parser.flush()
        return [(press.key, press.data) for press in keys]

    assert parse(chunk, fast=True) == parse(chunk, fast=False)
