"""Decoding of server-sent events."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.model.sse import Decoder, Event


def decode(stream: bytes, cuts: list[int] | None = None) -> list[Event]:
    decoder = Decoder()
    places = sorted({min(cut, len(stream)) for cut in cuts or []} | {0, len(stream)})
    events = []
    for start, end in itertools.pairwise(places):
        events += decoder.feed(stream[start:end])
    return events + decoder.finish()


def test_every_way_to_write_an_event() -> None:
    stream = (
        b"\xef\xbb\xbfdata: one\n\n"
        b"data:two\r\n\r\n"
        b"data: three\r\r"
        b": ping\n\n"
        b"event: error\ndata: {\ndata: }\n\n"
        b"id: 7\nretry: 3\nnonsense\n\n"
        b"data:  padded\n\n"
        b"data: last, without an end"
    )
    assert decode(stream) == [
        Event("one"),
        Event("two"),
        Event("three"),
        Event(None),
        Event("{\n}", "error"),
        Event(" padded"),
        Event("last, without an end"),
    ]


def test_bytes_that_are_no_utf8_are_replaced() -> None:
    assert decode(b"data: a\xffb\n\n") == [Event("a\ufffdb")]


_PIECES = st.sampled_from(
    [b"data: ", b"data:", b"event: e", b": c", b"\n", b"\r", b"\r\n", b"x", "é漢🙂".encode(), b" "]
)


@given(st.lists(_PIECES, max_size=30).map(b"".join), st.lists(st.integers(0, 120), max_size=20))
def test_the_cuts_never_matter(stream: bytes, cuts: list[int]) -> None:
    assert decode(stream, cuts) == decode(stream)
    assert decode(stream, list(range(len(stream)))) == decode(stream)
