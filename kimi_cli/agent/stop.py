"""How code below the loop ends a turn."""

from kimi_cli.protocol.stops import StopReason


class StopTurn(Exception):
    """Ends the running turn with a reason; ``detail`` is for people."""

    def __init__(self, reason: StopReason, detail: str = "") -> None:
        super().__init__(detail or reason.value)
        self.reason = reason
        self.detail = detail
