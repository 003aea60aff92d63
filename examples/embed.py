"""A turn driven from Python: python examples/embed.py "what is this project?"

Settings, key and endpoint are those of the command line, and so is the sandbox: the model works
freely inside the folder, and what wants out is denied.
"""

import asyncio
import sys

from kimi_cli.agent import Setup, StopReason, open_session
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import ToolResult


def show(event: Event) -> None:
    if isinstance(event, ToolResult):
        print(f"{event.name} {event.summary}: {event.status}", file=sys.stderr)


async def main(prompt: str) -> int:
    opened = await open_session(Setup.from_env(cwd=".", flags={"budget.max_steps": 50}))
    async with opened.session as session:
        session.subscribe(show)
        ended = await session.run_turn(prompt)
    print(ended.answer)
    if ended.reason is not StopReason.DONE:
        print(f"{ended.reason}: {ended.detail}", file=sys.stderr)
    return 0 if ended.reason is StopReason.DONE else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(" ".join(sys.argv[1:]) or "What is this project? Two sentences.")))
