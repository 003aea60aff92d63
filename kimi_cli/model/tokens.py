"""How many tokens something is: measured where a server said so, estimated where not."""

from __future__ import annotations

import re

from kimi_cli.protocol.messages import Usage

# Characters of scripts that take about one token each; the rest take about four to one.
_WIDE = re.compile(
    "[\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef"
    "\U00020000-\U0003fffd]"
)
_NARROW_PER_TOKEN = 3.6
_WIDE_PER_TOKEN = 1.4
_LOWEST, _HIGHEST = 0.4, 2.5


def estimate(text: str | bytes) -> int:
    """A cheap guess at the tokens of a text, or of UTF-8 bytes (encoded messages, say)."""
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    wide = 0 if text.isascii() else len(_WIDE.findall(text))
    return round(wide / _WIDE_PER_TOKEN + (len(text) - wide) / _NARROW_PER_TOKEN)


class TokenMeter:
    """The size of a conversation in tokens.

    The server's own count of a request is the truth; only what came after it is estimated, and
    the estimate learns from each count how far off it was.
    """

    def __init__(self) -> None:
        self._factor = 1.0
        self._measured = 0
        self._guessed = 0
        self._pending = 0

    @property
    def total(self) -> int:
        """Tokens that the next request would have."""
        return self._measured + self.new

    @property
    def new(self) -> int:
        """Tokens that no answered request has carried yet: the server can't have cached them."""
        return round(self._pending * self._factor)

    def add(self, text: str | bytes) -> None:
        """More of the conversation that the next request will carry."""
        self._pending += estimate(text)

    def measure(self, usage: Usage) -> None:
        """A request with everything added so far was answered with this usage; its answer is
        part of the conversation from here on."""
        if not usage.input_tokens:
            return
        guessed = self._guessed + self._pending
        if guessed:
            ratio = usage.input_tokens / guessed
            self._factor = min(max(ratio, _LOWEST), _HIGHEST)
        self._guessed = guessed + round(usage.output_tokens / self._factor)
        self._pending = 0
        self._measured = usage.total_tokens

    def reset(self) -> None:
        """Another conversation (after a compaction or a rewind); what was learned stays."""
        self._measured = self._guessed = self._pending = 0
