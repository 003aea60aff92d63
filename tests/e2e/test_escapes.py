"""Every known way out of the sandbox, tried by a model through the installed program."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.helpers import last_text
from tests.support.boxed import Listeners, World
from tests.support.program import Kimi, Running
from tests.support.recorded import Recorded
from tests.support.replies import Reply, text, tool_calls
from tests.support.server import ScriptedServer
from tests.unit import sandbox_attacks as attacks

WAYS = (
    attacks.FILES
    | attacks.ATTRIBUTES
    | attacks.KEPT
    | attacks.PINNED
    | attacks.HIDDEN
    | attacks.PROCESSES
    | attacks.SIGNALS
    | attacks.NETWORK
    | attacks.SOCKETS
    | attacks.CALLS
    | attacks.PRIVILEGED
)
ROOT = Path(__file__).parents[2]
PLAIN = [sys.executable, "-m", "tests.support.plain"]
THROUGH = "GOT-THROUGH"


class Attempts:
    """A model that tries one way after the other and looks at what came of the last."""

    def __init__(self, world: World, listeners: Listeners, victim: int) -> None:
        self._world, self._listeners, self._victim = world, listeners, victim
        self._left = list(WAYS.items())
        self._now = ""
        self._before: dict[str, str] = {}
        self.running: Running | None = None
        self.succeeded: list[str] = []
        self.tried = 0

    def __call__(self, index: int, record: Recorded) -> Reply:
        if self._now:
            self._look(record)
        if not self._left:
            return text("I give up.")
        self._now, command = self._left.pop(0)
        self._before = self._world.state()
        self.tried += 1
        lines = [f"export {name}={value}" for name, value in self._variables().items()]
        script = "\n".join([*lines, f"if ( {command}\n) ; then echo {THROUGH} ; fi"])
        return tool_calls([("shell", {"command": script, "timeout": 20})])

    def _look(self, record: Recorded) -> None:
        said = last_text(record.messages, "tool")
        after = self._world.state()
        changed = sorted(p for p in self._before | after if self._before.get(p) != after.get(p))
        if THROUGH in said or changed:
            self.succeeded.append(f"{self._now}: {changed} {said}")
        self._world.make()
        self._listeners.by_path()

    def _variables(self) -> dict[str, str]:
        world, listeners = self._world, self._listeners
        assert self.running is not None
        kimi = self.running.process.pid
        return {
            "OUT": str(world.out), "WS": str(world.ws), "SECRET": str(world.home / "secret"),
            "TEMP": str(world.temp), "HOME_SOCKET": str(world.home / "s.sock"),
            "TEMP_SOCKET": str(world.temp / "s.sock"), "ABSTRACT": listeners.abstract,
            "LOWER": str(world.lower), "KIMI": str(kimi), "HELPER": str(_helper_of(kimi)),
            "VICTIM": str(self._victim), "TCP": str(listeners.tcp), "UDP": str(listeners.udp),
            "PYTHON": sys.executable,
        }  # fmt: skip


def _helper_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0])


@pytest.mark.long
@pytest.mark.parametrize("wrap", [[], PLAIN], ids=["as we are", "plain"])
def test_no_way_out(
    wrap: list[str], kimi: Kimi, serve: Callable[..., ScriptedServer], outside: Path
) -> None:
    world = World(outside)
    world.make()
    listeners = Listeners(world)
    listeners.by_path()
    victim = subprocess.Popen(["sleep", "600"], env={"VICTIM_SECRET": "it"})
    kimi.configure({"sandbox": {"hide": [str(world.home / "secret")]}})
    kimi.cwd = world.ws
    model = Attempts(world, listeners, victim.pid)
    server = serve(model)
    env = {"PYTHONPATH": str(ROOT), "TMPDIR": str(world.temp)}
    try:
        model.running = kimi.start(
            "-p", "get out", "--max-steps", "500", server=server, wrap=wrap, env=env
        )
        run = model.running.end(300)
        assert run.code == 0, run.err
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()
    assert model.tried == len(WAYS)
    assert model.succeeded == []
