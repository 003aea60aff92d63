"""Running a command's coroutine so that nothing holds up its end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class _Unawaited(ThreadPoolExecutor):
    """Threads that nobody waits for at the end: a name lookup or a slow file system can hang one
    for a minute, and nothing stops it."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait=False, cancel_futures=True)


def run(main: Coroutine[object, object, T]) -> T:
    """``asyncio.run``, but for threads that hang; the process must end with ``os._exit``, which
    does not wait for them either. Until ``main`` handles signals itself, one cancels it and
    raises SystemExit with the code of the signal."""
    return asyncio.run(_obedient(main))


async def _obedient(main: Coroutine[object, object, T]) -> T:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(_Unawaited())
    task = asyncio.current_task()
    received: list[int] = []

    def obey(number: int) -> None:
        received.append(number)
        if task:
            task.cancel()

    # A handler of Python's own could be late by as long as the loop waits: it does not wake it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, obey, number)
    try:
        return await main
    except asyncio.CancelledError:
        if received:
            # A hang-up is a kind of termination: the exit codes know no other.
            code = 143 if received[0] == signal.SIGHUP else 128 + received[0]
            raise SystemExit(code) from None
        raise
