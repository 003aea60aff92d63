"""Estimates and measurements of tokens."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.model.build import ModelConfig, build_provider
from kimi_cli.model.pieces import Piece, pieces
from kimi_cli.model.tokens import (
    IMAGE_TOKENS,
    MESSAGE_TOKENS,
    VIDEO_BYTES_PER_TOKEN,
    VIDEO_TOKENS,
    TokenMeter,
    estimate,
)
from kimi_cli.protocol.messages import (
    AssistantTurn,
    MediaPart,
    Message,
    SystemMessage,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolTurn,
    Usage,
    UserTurn,
)


def noise(size: int) -> bytes:
    """Bytes without any pattern, the same each time."""
    return b"".join(sha256(b"%d" % at).digest() for at in range(size // 32))


RECORDS = [
    {
        "id": n,
        "name": f"user{n}",
        "mail": f"u{n}@example.org",
        "active": n % 2 == 0,
        "score": n * 1.5,
    }
    for n in range(100)
]
CODE = '''def total(self, coupons: list[Coupon]) -> Decimal:
    """The sum after all coupons, each counted once."""
    amount = sum((item.price * item.count for item in self.items), start=Decimal(0))
    for coupon in dict.fromkeys(coupons):
        if coupon.expires is not None and coupon.expires < self.clock.now():
            raise CouponExpired(f"{coupon.code} expired on {coupon.expires:%Y-%m-%d}")
        amount -= coupon.discount(amount)
    return max(amount, Decimal(0)).quantize(Decimal("0.01"))


'''
TRACE = noise(32 * 32)
LOG = "\n".join(
    f"2026-11-22T07:{n % 60:02d}:{n * 7 % 60:02d}.{n * 37 % 1000:03d}Z INFO [worker-{n % 8}] "
    + f"server: GET /api/v1/items/{n * 7919 % 100_000}?limit=50 200 {n % 97} ms "
    + f"trace={TRACE[n * 8 : n * 8 + 8].hex()}"
    for n in range(100)
)
# Texts and their tokens by o200k_base, a vocabulary of the same size and way of splitting.
TEXTS = {
    "english": ("The quick brown fox jumps over the lazy dog. " * 50, 501),
    "code": (CODE * 20, 2460),
    "json": (json.dumps(RECORDS), 3501),
    "pretty json": (json.dumps(RECORDS, indent=2), 4402),
    "log": (LOG, 5320),
    "chinese": (
        "上下文窗口快满时，程序会自动压缩对话内容，并保留用户的消息、待办列表以及最近的步骤。" * 50,
        1500,
    ),
    "japanese": (
        "コンテキストウィンドウがいっぱいになると、プログラムは自動的に会話を圧縮します。" * 50,
        1450,
    ),
    "korean": ("컨텍스트 창이 가득 차면 프로그램이 대화를 자동으로 압축합니다. " * 50, 951),
    "russian": ("Когда окно почти заполнено, программа сжимает разговор. " * 50, 601),
    "german": (
        "Wenn das Kontextfenster fast voll ist, verdichtet das Programm die Unterhaltung. " * 50,
        801,
    ),
    "mixed": (
        "打开 config.toml，把 timeout = 30 改成 60。Then restart 服务 and run pytest -q。" * 50,
        1200,
    ),
    "base64": (base64.b64encode(noise(30_000)).decode(), 27362),
    "hex": (noise(15_000).hex(), 16960),
    "digits": ("3141592653589793238462643383279502884197" * 250, 3334),
    "emoji": ("🎉🚀✅ done 🔥😀 " * 100, 901),
    "rule": (("-" * 78 + "\n") * 100, 100),
    "html": (
        '<div class="row"><a href="/items/1">Item</a><span id="x">text</span></div>\n' * 100,
        2700,
    ),
    "minified": (
        "function a(b,c){var d=b.e;for(var f=0;f<c.length;f++){d.push(c[f].g(h,i))}}" * 100,
        3200,
    ),
    "constants": ("MAX_TOKENS_PER_REQUEST = KIMI_HOME / XDG_CACHE_HOME\n" * 100, 1700),
}


@pytest.mark.parametrize("name", TEXTS)
def test_estimates_are_of_the_right_size(name: str) -> None:
    text, tokens = TEXTS[name]
    assert 0.7 * tokens <= estimate(text) <= 1.4 * tokens
    assert estimate(text.encode()) == estimate(text)


def test_nothing_is_no_tokens() -> None:
    assert estimate("") == estimate(b"") == 0


@given(st.one_of(st.text(), st.text(max_size=5000), st.sampled_from(list("a1 -\n中é"))))
def test_an_estimate_is_never_absurd(text: str) -> None:
    """No token is longer than 80 characters, and no character more than its bytes in tokens."""
    assert (
        len(text.replace(" ", "")) / 90 - 1
        <= estimate(text)
        <= 2 * len(text.encode("utf-8", "replace")) + 1
    )


@given(st.binary(max_size=100))
def test_any_bytes_can_be_estimated(data: bytes) -> None:
    assert estimate(data) >= 0


def test_a_long_text_costs_no_more_than_a_short_one() -> None:
    """What is looked at is bounded: 100 MB would take seconds, and there is one a step."""
    looked: list[int] = []

    class Watched(str):
        def __getitem__(self, key: Any) -> str:
            piece = super().__getitem__(key)
            looked.append(len(piece))
            return piece

    assert estimate(Watched("word " * 2_000_000)) > 1_000_000
    assert 0 < sum(looked) < 10_000


def image(size: int) -> str:
    return "data:image/png;base64," + base64.b64encode(noise(size)).decode()


def encoded(message: Message, dialect: str = "moonshot") -> bytes:
    config = ModelConfig("http://127.0.0.1/v1", "kimi-k2.5", dialect=dialect)
    return build_provider(config).encoder().encode(message).data


PICTURE = MediaPart(kind="image", url=image(1_000_000))
CLIP = MediaPart(kind="video", url=image(1_000_000).replace("image/png", "video/mp4"))
UPLOADED = MediaPart(kind="video", url="ms://abc123")


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        (PICTURE, IMAGE_TOKENS),
        (CLIP, 1_000_000 // VIDEO_BYTES_PER_TOKEN),
        (UPLOADED, VIDEO_TOKENS),
    ],
)
def test_media_count_for_what_they_show(part: MediaPart, tokens: int) -> None:
    data = encoded(UserTurn((TextPart(text="Look at this."), part, part)))
    assert estimate(data) == pytest.approx(2 * tokens + MESSAGE_TOKENS + 4, rel=0.01)
    # The same where an exact counter is at hand: it can't count pictures either.
    assert estimate(data, len) == pytest.approx(2 * tokens + MESSAGE_TOKENS + 13, rel=0.01)


def test_an_image_of_a_tool_counts_wherever_it_stands() -> None:
    turn = ToolTurn("c", "read", (TextPart(text="an image"), PICTURE))
    for dialect in ("moonshot", "vllm"):
        config = ModelConfig("http://127.0.0.1/v1", "kimi-k2.5", dialect=dialect)
        encoder = build_provider(config).encoder()
        encoder.encode(AssistantTurn((ToolCallPart(id="c", name="read", arguments="{}"),)))
        assert IMAGE_TOKENS < estimate(encoder.encode(turn).data) < IMAGE_TOKENS + 50


def test_a_data_url_in_a_text_is_text() -> None:
    """Only where it stands as a medium does the server see a picture."""
    words = image(30_000)
    assert estimate(encoded(UserTurn((TextPart(text=words),)))) > 15_000


def test_what_an_encoded_message_holds() -> None:
    call = ToolCallPart(id="shell:0", name="shell", arguments='{"command": "ls"}')
    parts = (ThinkingPart(text="hm"), TextPart(text="I look."), call)
    data = encoded(AssistantTurn(parts))
    assert pieces(data) == [
        [
            Piece("thinking", "hm"),
            Piece("text", "I look."),
            Piece("call", 'shell:0 shell {"command": "ls"}'),
        ]
    ]
    both = encoded(SystemMessage("You are.")) + b"," + encoded(UserTurn((TextPart(text="x"),)))
    assert pieces(both) == [[Piece("text", "You are.")], [Piece("text", "x")]]
    assert pieces(both.decode()) == pieces(both)
    tool = encoded(ToolTurn("shell:0", "shell", (TextPart(text="a b"),)))
    assert pieces(tool) == [[Piece("text", "shell:0"), Piece("text", "a b")]]


@given(
    st.one_of(
        st.binary(max_size=50),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["role", "content", "tool_calls", "function", "image_url", "x"]
                    ),
                    inner,
                    max_size=4,
                )
            ),
        ).map(lambda document: json.dumps(document).encode()),
    )
)
def test_what_is_no_message_has_no_pieces_and_breaks_nothing(data: bytes) -> None:
    found = pieces(data)
    assert found is None or b'"role"' in data
    assert estimate(data) >= 0


def test_the_measurement_is_the_truth_and_teaches() -> None:
    meter = TokenMeter()
    meter.add("word " * 1000)
    guess = meter.total
    assert meter.new == guess
    meter.measure(Usage(input_tokens=guess * 2, output_tokens=50))
    assert meter.total == guess * 2 + 50
    assert meter.new == 0
    meter.add("word " * 1000)
    assert meter.new == pytest.approx(guess * 2, rel=0.01)


def test_a_request_without_usage_changes_nothing() -> None:
    meter = TokenMeter()
    meter.add("word " * 100)
    before = meter.total
    meter.measure(Usage())
    assert meter.total == before


def test_absurd_usage_does_not_run_away() -> None:
    meter = TokenMeter()
    meter.add("word " * 100)
    meter.measure(Usage(input_tokens=10_000_000))
    meter.add("word " * 100)
    assert meter.new <= 3 * estimate("word " * 100)


def test_reset_forgets_the_conversation_but_not_the_lesson() -> None:
    meter = TokenMeter()
    meter.add("word " * 1000)
    guess = meter.total
    meter.measure(Usage(input_tokens=guess * 2))
    meter.reset()
    assert meter.total == 0
    meter.add("word " * 1000)
    assert meter.total == pytest.approx(guess * 2, rel=0.01)


def test_a_counter_that_comes_later_is_believed() -> None:
    """It counts from when it is there, and what it counts is not corrected by the lesson that the
    estimates gave."""
    counters: list[Callable[[str], int]] = []
    meter = TokenMeter(lambda: counters[0] if counters else None)
    meter.add("word " * 1000)
    guess = meter.total
    meter.measure(Usage(input_tokens=guess * 2))
    counters.append(lambda text: len(text.split()))
    meter.add("word " * 1000)
    assert meter.new == 1000
    assert meter.size("word " * 10) == 10
    meter.measure(Usage(input_tokens=guess * 2 + 1000, output_tokens=500))
    meter.add("word " * 100)
    assert meter.new == 100
    assert meter.total == guess * 2 + 1600


def test_a_refusal_tells_a_least_size() -> None:
    meter = TokenMeter()
    meter.add("word " * 1000)
    guess = meter.total
    meter.at_least(guess // 2)
    assert meter.total == guess
    meter.at_least(guess * 2)
    assert meter.total == pytest.approx(guess * 2, abs=1)


def test_what_a_refusal_taught_is_taught_once() -> None:
    meter = TokenMeter()
    meter.add("word " * 1000)
    guess = meter.total
    meter.measure(Usage(input_tokens=guess))
    meter.add("word " * 1000)
    meter.at_least(guess * 4)
    meter.measure(Usage(input_tokens=guess * 4))
    meter.add("word " * 1000)
    assert meter.new == pytest.approx(guess * 2, rel=0.01)


def test_after_a_while_nothing_counts_as_cached() -> None:
    meter = TokenMeter()
    meter.add("word " * 1000)
    meter.measure(Usage(input_tokens=1000, output_tokens=50))
    meter.add("word " * 10)
    assert meter.uncached == meter.new < 20
    meter.cool()
    assert meter.uncached == meter.total > 1000
    assert meter.new < 20
    meter.measure(Usage(input_tokens=1060, output_tokens=50))
    assert meter.uncached == 0
