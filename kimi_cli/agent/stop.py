"""How code below the loop ends a turn."""

from kimi_cli.protocol.provider import ModelError
from kimi_cli.protocol.stops import StopReason


class StopTurn(Exception):
    """Ends the running turn with a reason; ``detail`` is for people, ``error`` the failed request
    behind it, if that is what it is."""

    def __init__(
        self, reason: StopReason, detail: str = "", error: ModelError | None = None
    ) -> None:
        super().__init__(detail or reason.value)
        self.reason = reason
        self.detail = detail
        self.error = error
