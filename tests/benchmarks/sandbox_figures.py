"""What the sandbox adds to a command, and what finding it out takes."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from kimi_cli.workspace.box import Probe, Weaker
from kimi_cli.workspace.launch import launch_helper
from kimi_cli.workspace.processes import ProcessRunner
from tests.benchmarks.figures import Row
from tests.benchmarks.rig import Place
from tests.support.boxed import Given, World

_RUNS = 60
_TARGETS = {"namespaces": "15 ms", "bubblewrap": "25 ms", "landlock": "5 ms"}


def sandbox(place: Place) -> Iterator[Row]:
    """One ``true`` after another, with and without a box in turn, in each way that works."""
    forms: tuple[Weaker, ...] = ("", "bubblewrap", "landlock")
    seen = set()
    for best in forms:
        folder = place.folder / f"sandbox-{best or 'best'}"
        folder.mkdir()
        probe, plain, boxed = asyncio.run(_measure(folder, best))
        if probe.way in seen or probe.way == "none":
            continue
        seen.add(probe.way)
        yield Row(f"probe that finds {probe.way}", f"{probe.seconds * 1000:.1f} ms", "15 ms")
        added = statistics.median(b - p for p, b in zip(plain, boxed, strict=True))
        spans = f"{statistics.median(plain) * 1000:.1f} → {statistics.median(boxed) * 1000:.1f} ms"
        target = _TARGETS[probe.way]
        yield Row(f"a command in {probe.way}", f"+{added * 1000:.1f} ms ({spans})", f"+{target}")


async def _measure(folder: Path, best: Weaker) -> tuple[Probe, list[float], list[float]]:
    """The probe, and the seconds of each command without and with a box."""
    world = World(folder)
    world.make()
    given = Given("none")
    helper = launch_helper(best=best)
    runner = ProcessRunner(folder / "outputs", env=os.environ, helper=helper, confinement=given)
    await runner.run(["true"], cwd=folder, timeout=30, limit=1)
    probe = await runner.probe(folder)
    spans: tuple[list[float], list[float]] = ([], [])
    for number in range(0 if probe.way == "none" else 2 * _RUNS):
        given.next = world.box(probe.way) if number % 2 else None
        began = time.perf_counter()
        task = await runner.start("true", cwd=world.ws)
        result = await task.wait(30)
        spans[number % 2].append(time.perf_counter() - began)
        assert result is not None and result.code == 0
        # The next one's process is forked in a quiet moment.
        await asyncio.sleep(0.01)
    await runner.close()
    return probe, *spans
