"""What the tests see of a terminal: whole updates."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.tty import BEGIN, END, updates

PIECES = st.lists(
    st.sampled_from([BEGIN + b"one\r\ntwo" + END, b"between", b"\x1b[2J", b"\x1b"]), max_size=8
)


@given(PIECES, st.data())
def test_updates_are_whole_however_they_are_cut(pieces: list[bytes], data: st.DataObject) -> None:
    text, shown, waiting = b"".join(pieces), b"", b""
    while text:
        length = data.draw(st.integers(1, len(text)))
        whole, waiting = updates(waiting + text[:length])
        shown, text = shown + whole, text[length:]
        assert shown.count(BEGIN) == shown.count(END)
    assert shown + waiting == b"".join(pieces)
    assert waiting in (b"", b"\x1b")
