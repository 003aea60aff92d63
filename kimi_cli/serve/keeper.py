"""The keeper of a server: starts vLLM's processes, watches them, repairs a start, stops them all.

One keeper, one server, one process. It tells how things go in `state.json` and listens to signals:
SIGTERM stops in good order, a second one or SIGQUIT at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from kimi_cli.serve import client, log_file, state, sweep
from kimi_cli.serve.book import Book
from kimi_cli.serve.downloads import downloaded
from kimi_cli.serve.holders import who_holds
from kimi_cli.serve.log_reader import LogReader
from kimi_cli.serve.nodes import Node, start_node, sweep_node
from kimi_cli.serve.repairs import may_repair, repaired
from kimi_cli.serve.running import Checked, Repair, Trouble
from kimi_cli.serve.trouble_keeper import not_started, of_node, own_fault
from kimi_cli.serve.troubles import find_trouble

LOOK_SECONDS = 0.1
DOWNLOAD_SECONDS = 1.0
DRAIN_SECONDS = 45.0
"""vLLM itself ends requests in flight after a time that its command says; this is longer."""
LOADING_SECONDS = 8.0
LAST_WORDS_SECONDS = 1.0
"""Other nodes, and the log, may tell why a node ended."""

Prove = Callable[[str, str, str, bool], Awaitable[Iterable[Checked]]]
"""Tries the server: its URL, the key, the model's served name, and whether tools are expected."""


class Stop(Exception):
    """Somebody asked to stop."""


class Failed(Exception):
    """A start or a running server came to an end by itself."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.what)
        self.trouble = trouble


class Keeper:
    """Keeps the server of a folder. `prove` tries what it has brought up."""

    def __init__(self, folder: Path, prove: Prove) -> None:
        self._prove = prove
        self._launch = state.read_launch(folder)
        self._book = Book(folder)
        self._server = state.Server(folder, self._book.state, alive=True)
        self._commands = self._launch.commands
        self._nodes: list[Node] = []
        self._reader = self._new_reader()
        self._read_to = 0
        self._stop = asyncio.Event()
        self._now = asyncio.Event()
        self._next_look_for_bytes = 0.0

    async def run(self, owner: int = -1) -> None:
        """Keep the server until it has ended. When the last holder of the other end of the pipe
        `owner` is gone, it is stopped."""
        sweep.adopt_orphans()
        self._listen(owner)
        # Whoever reads this may send signals.
        self._book.begin()
        try:
            await self._bring_up()
            await self._watch()
        except Stop:
            await self._end(asked=True)
            self._book.say("stopped")
        except Failed as failure:
            await self._end()
            self._book.say("failed", trouble=failure.trouble)
        except BaseException as problem:
            await self._end()
            self._book.say("failed", trouble=own_fault(problem))
            raise

    def stop(self) -> None:
        """In good order; asked twice, at once."""
        if self._stop.is_set():
            self._now.set()
        self._stop.set()

    def stop_now(self) -> None:
        """Without waiting for requests in flight."""
        self._stop.set()
        self._now.set()

    def _listen(self, owner: int) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        loop.add_signal_handler(signal.SIGQUIT, self.stop_now)
        for number in (signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        if owner >= 0:
            os.set_inheritable(owner, False)

            def gone() -> None:
                loop.remove_reader(owner)
                self.stop()

            loop.add_reader(owner, gone)

    # Up.

    async def _bring_up(self) -> None:
        while True:
            try:
                await self._start()
                await self._until_answering()
                await self._prove_it()
                return
            except Failed as failure:
                repair = failure.trouble.repair
                made = self._book.state.repairs
                if repair is None or not may_repair(repair, made, self._launch.request):
                    raise
                self._book.say("starting", trouble=failure.trouble)
                await self._end()
                if self._stop.is_set():
                    raise Stop from None
                self._commands = repaired(self._commands, repair)
                self._again(repair)

    def _again(self, repair: Repair) -> None:
        self._reader = self._new_reader()
        self._book.say(
            "starting",
            trouble=None,
            answered=None,
            launch=replace(self._launch, commands=self._commands),
            repairs=(*self._book.state.repairs, repair),
            notes=(*self._book.state.notes, repair.why),
        )

    async def _start(self) -> None:
        key = self._server.key
        self._nodes = []
        for command in self._commands:
            try:
                node = await start_node(command, self._book.state.id, key, self._server.log)
            except OSError as error:
                raise Failed(not_started(command, error)) from None
            self._nodes.append(node)
        self._book.note(self._below, now=True)

    async def _until_answering(self) -> None:
        url = self._book.state.base_url
        while True:
            await self._step()
            if await asyncio.to_thread(client.healthy, url):
                break
        self._read_log()
        entry = await self._entry()
        context = entry.get("max_model_len")
        self._book.say(
            "proving",
            answered=time.time(),
            context=context if isinstance(context, int) else self._reader.context,
            tokens=self._reader.tokens,
        )

    async def _entry(self) -> dict[str, object]:
        name = self._launch.served_name
        try:
            found = await asyncio.to_thread(
                client.model_entry, self._book.state.base_url, self._server.key, name
            )
        except client.NoAnswer:
            return {}
        return dict(found)

    async def _prove_it(self) -> None:
        launch = self._launch
        proving = asyncio.ensure_future(
            self._prove(
                self._book.state.base_url,
                self._server.key,
                launch.served_name,
                bool(launch.tool_parser),
            )
        )
        try:
            while not proving.done():
                await self._step(proving)
            checks = tuple(await proving)
        finally:
            proving.cancel()
        # What the check broke is told by the process that ends of it.
        if not all(check.ok for check in checks):
            await asyncio.sleep(LAST_WORDS_SECONDS)
            self._check_nodes()
        good = all(check.ok for check in checks)
        # From now on they stay the same, and are looked at seldom.
        self._book.note(self._below, now=True)
        self._book.say(
            "ready" if good else "limited", checks=checks, ready=time.time(), trouble=None
        )

    # Watching.

    async def _watch(self) -> None:
        while True:
            await self._step(pause=0.5)
            with contextlib.suppress(OSError):
                if await asyncio.to_thread(
                    log_file.turn, self._server.log, self._server.former_log
                ):
                    self._read_to = 0

    async def _step(
        self, other: asyncio.Future[Any] | None = None, pause: float = LOOK_SECONDS
    ) -> None:
        """A moment of watching. Raises Stop, Failed."""
        waiting: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(self._stop.wait()),
            *(node.ended for node in self._nodes),
        ]
        if other is not None:
            waiting.append(other)
        await asyncio.wait(waiting, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
        waiting[0].cancel()
        if self._stop.is_set():
            raise Stop
        self._read_log()
        if any(node.ended.done() for node in self._nodes):
            await self._last_words()
            self._check_nodes()
        await self._count_bytes()
        self._show_progress()
        self._book.note(self._below)

    async def _last_words(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await self._stop.wait()
        self._read_log()

    def _new_reader(self) -> LogReader:
        launch = self._launch
        return LogReader(launch.weight_bytes, repo=launch.repo, hosts=launch.request.hosts)

    def _check_nodes(self) -> None:
        for node in self._nodes:
            if node.ended.done():
                code = node.ended.result()
                trouble = find_trouble(
                    self._reader.lines,
                    self._book.state.launch,
                    exit_code=code,
                    holders=lambda: who_holds(self._launch.port),
                )
                raise Failed(of_node(trouble, node.command, len(self._nodes)))

    def _read_log(self) -> None:
        with contextlib.suppress(OSError), open(self._server.log, "rb") as log:
            log.seek(self._read_to)
            while piece := log.read(1 << 16):
                self._read_to += len(piece)
                self._reader.feed(piece.decode("utf-8", "replace"), time.time())

    async def _count_bytes(self) -> None:
        now = time.monotonic()
        if self._book.state.progress.stage in ("starting", "download") and now > (
            self._next_look_for_bytes
        ):
            found = await asyncio.to_thread(downloaded, self._launch.repo, dict(os.environ))
            if found:
                self._reader.downloaded(found, time.time())
            self._next_look_for_bytes = time.monotonic() + DOWNLOAD_SECONDS

    def _show_progress(self) -> None:
        if self._book.state.answered is None:
            now = self._reader.progress(time.time())
            # Whole seconds, so that the file is not written at every look.
            self._book.show(replace(now, eta=None if now.eta is None else float(round(now.eta))))

    # Down.

    async def _end(self, *, asked: bool = False) -> None:
        """End all processes: in good order where requests may be in flight, and whatever happens
        none is left."""
        up = self._book.state.ready is not None
        if asked:
            self._book.say("stopping")
        if asked and up and not self._now.is_set():
            # The head first: the others work for it until its last answer is out.
            await self._ask_head(DRAIN_SECONDS)
        seconds = 1.0 if self._now.is_set() else LOADING_SECONDS
        left = await asyncio.to_thread(sweep.end, self._below, seconds)
        hosts = [node.command for node in self._nodes if node.remote]
        await asyncio.gather(*(sweep_node(command, self._book.state.id) for command in hosts))
        for node in self._nodes:
            await node.close()
        self._nodes = []
        self._book.note(lambda: left, now=True)
        self._read_log()

    async def _ask_head(self, seconds: float) -> None:
        head = self._nodes[0] if self._nodes else None
        if head is None or head.ended.done():
            return
        head.terminate()
        now = asyncio.ensure_future(self._now.wait())
        ends: list[asyncio.Future[Any]] = [head.ended, now]
        await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        now.cancel()

    def _below(self) -> list[sweep.Proc]:
        found = [*sweep.descendants(os.getpid()), *sweep.marked(self._book.state.id)]
        return list(dict.fromkeys(found))
