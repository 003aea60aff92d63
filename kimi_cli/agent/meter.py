"""How many tokens the next request adds: measured usage is the truth, what came after is
estimated by the ratio the measurements gave."""

from __future__ import annotations

from kimi_cli.protocol.messages import Usage

BYTES_PER_TOKEN = 3.5
"""Of JSON-encoded messages, until the first measured usage says better."""


class Meter:
    """Calibrates itself on the usage the server reports."""

    def __init__(self) -> None:
        self._ratio = BYTES_PER_TOKEN
        self._sent = 0
        self._last_sent = 0

    def new_tokens(self, size: int) -> int:
        """Estimated tokens of the messages' bytes that no request has carried yet."""
        self._last_sent = size
        return int((size - self._sent) / self._ratio)

    def measured(self, usage: Usage | None) -> None:
        """The last request was answered with this usage."""
        self._sent = self._last_sent
        if usage and usage.input_tokens and self._sent:
            self._ratio = max(self._sent / usage.input_tokens, 1.0)

    def estimate(self, answer_bytes: int) -> Usage:
        """The last request's usage where the server named none."""
        return Usage(
            input_tokens=int(self._last_sent / self._ratio),
            output_tokens=int(answer_bytes / self._ratio),
        )
