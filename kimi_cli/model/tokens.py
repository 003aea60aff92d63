"""How many tokens something is: measured where a server said so, counted where the tokenizer is
at hand, estimated where neither is."""

from __future__ import annotations

import re
from collections.abc import Callable

from kimi_cli.model.pieces import Piece, pieces
from kimi_cli.protocol.messages import Usage

Counter = Callable[[str], int]

MESSAGE_TOKENS = 4
"""What a chat template puts around a message: its role, and marks before and behind it."""
IMAGE_TOKENS = 1400
"""An image of about a megapixel: Kimi K2.5 and later take 28 × 28 pixels for a token, and at most
4,096 tokens for an image (preprocessor_config.json of the models: patches of 14, merged by 2)."""
VIDEO_BYTES_PER_TOKEN = 250
"""A guess: two pictures a second, four of them at most 1,024 tokens (the same file), of a video of
a megabit a second."""
VIDEO_TOKENS = 15_000
"""A guess for a video that was uploaded before, half a minute."""

# One token of ordinary text, nearly: vocabularies like Kimi's are trained on pieces of this form.
_PIECE = re.compile(
    r"[A-Z]?[a-z]{1,12}|[A-Z]{1,7}|\d{1,3}|[!-/:-@\[-`{-~]{1,80}\n*"
    r"|\s*\n\s*|\s{2,80}| (?=\d)"
)
# Characters of scripts without blanks between words, and signs that are several tokens each. Not
# compiled until they are needed, since that takes milliseconds.
_WIDE = (
    "[\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef"
    "\U00020000-\U0003fffd]"
)
_SIGN = "[\u2190-\u2bff\ufe0f\U0001f000-\U0001faff]"
_WIDE_PER_TOKEN = 1.5
_TOKENS_PER_SIGN = 1.5
_FOREIGN_PER_TOKEN = 3.5

# Of a longer text so many slices are looked at: the guess must not cost more than a millisecond.
_SLICES, _SLICE = 8, 256

_LOWEST, _HIGHEST = 0.4, 2.5


def estimate(text: str | bytes, counter: Counter | None = None) -> int:
    """A cheap guess at the tokens of a text, or of encoded messages (bytes), which count for what
    is in them: media by their kind, not by the length of their data. ``counter`` takes the place
    of the guess where there is one."""
    count = counter or _guess
    if isinstance(text, bytes):
        messages = pieces(text)
        if messages is not None:
            return sum(
                MESSAGE_TOKENS + sum(piece_tokens(piece, count) for piece in message)
                for message in messages
            )
        text = text.decode(errors="replace")
    return count(text)


def piece_tokens(piece: Piece, counter: Counter | None = None) -> int:
    """The tokens of a part of a message."""
    if piece.kind == "image":
        return IMAGE_TOKENS
    if piece.kind == "video":
        embedded = piece.text.startswith("data:")
        return len(piece.text) * 3 // 4 // VIDEO_BYTES_PER_TOKEN if embedded else VIDEO_TOKENS
    return (counter or _guess)(piece.text)


def _guess(text: str) -> int:
    length = len(text)
    if length <= _SLICES * _SLICE:
        return round(_tokens(text))
    step = length // _SLICES
    sample = "\n".join(text[at * step : at * step + _SLICE] for at in range(_SLICES))
    # Without the line ends between the slices, which are not the text's.
    return round((_tokens(sample) - (_SLICES - 1)) * length / (_SLICES * _SLICE))


def _tokens(text: str) -> float:
    tokens = float(len(_PIECE.findall(text)))
    if text.isascii():
        return tokens
    wide, signs = len(re.findall(_WIDE, text)), len(re.findall(_SIGN, text))
    foreign = len(text) - len(text.encode("ascii", "ignore")) - wide - signs
    return (
        tokens
        + wide / _WIDE_PER_TOKEN
        + signs * _TOKENS_PER_SIGN
        + max(foreign, 0) / _FOREIGN_PER_TOKEN
    )


class TokenMeter:
    """The size of a conversation in tokens.

    The server's own count of a request is the truth; only what came after it is estimated, and
    the estimate learns from each count how far off it was. ``counter`` gives the exact counter,
    None as long as there is none; what it counted is not corrected.
    """

    def __init__(self, counter: Callable[[], Counter | None] = lambda: None) -> None:
        self._counter = counter
        self._factor = 1.0
        self._cold = False
        self._measured = self._unseen = 0
        # Both in the estimate's own tokens: times the factor they are the model's.
        self._guessed = 0.0
        self._pending = 0.0

    @property
    def total(self) -> int:
        """Tokens that the next request would have."""
        return self._measured + self.new

    @property
    def new(self) -> int:
        """Tokens that no answered request has carried yet: the server can't have cached them."""
        return round(self._pending * self._factor)

    @property
    def uncached(self) -> int:
        """Tokens of the next request that the server may have to read anew."""
        return self.total if self._cold else self.new

    def cool(self) -> None:
        """Time has passed: the server may have nothing cached until the next answer."""
        self._cold = True

    def add(self, text: str | bytes) -> None:
        """More of the conversation that the next request will carry."""
        self._pending += self._weight(text)

    def size(self, text: str | bytes) -> int:
        """The tokens of a text or an encoded message, as far as is known by now."""
        return round(self._weight(text) * self._factor)

    def at_least(self, tokens: int) -> None:
        """The server refused what was added so far as larger than this."""
        if self.total and self.total < tokens:
            self._factor = min(self._factor * tokens / self.total, _HIGHEST)
            self._pending = max(self._pending, tokens / self._factor)
            self._measured = self._unseen = 0
            self._guessed = 0.0

    def correct(self, tokens: int) -> None:
        """The server's own count of everything added so far."""
        if self._pending and tokens > self._measured:
            ratio = (tokens - self._measured) / self._pending
            self._factor = min(max(ratio, _LOWEST), _HIGHEST)

    def measure(self, usage: Usage) -> None:
        """A request with everything added so far was answered with this usage; its answer is
        part of the conversation from here on."""
        self._cold = False
        if not usage.input_tokens:
            return
        guessed = self._guessed + self._pending
        seen = usage.input_tokens - self._unseen
        if guessed and seen > 0:
            ratio = seen / guessed
            self._factor = min(max(ratio, _LOWEST), _HIGHEST)
        self._guessed = guessed + usage.output_tokens / self._factor
        self._pending = 0
        self._measured = usage.total_tokens

    def start_at(self, usage: Usage) -> None:
        """All of the conversation so far, none of which was added, was measured as this."""
        self.reset()
        self._measured = self._unseen = usage.total_tokens

    def reset(self) -> None:
        """Another conversation (after a compaction or a rewind); what was learned stays."""
        self._measured = self._unseen = 0
        self._guessed = self._pending = 0.0

    def _weight(self, text: str | bytes) -> float:
        counter = self._counter()
        return estimate(text) if counter is None else estimate(text, counter) / self._factor
