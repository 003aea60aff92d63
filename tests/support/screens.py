"""The main screens of the interactive `kimi`, made by driving the real program."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.program import FAST, Kimi
from tests.support.replies import Reply, http_error, text, tool_calls
from tests.support.server import ScriptedServer
from tests.support.tty import Tty
from tests.support.worker import NOTE

CART = """class Cart:
    def __init__(self, prices, coupons=()):
        self.prices = list(prices)
        self.coupons = list(coupons)

    def total(self):
        total = sum(self.prices)
        for coupon in self.coupons:
            total -= coupon.value
        return total
"""
TEST = """import unittest
from collections import namedtuple

from cart import Cart

Coupon = namedtuple("Coupon", "value")


class CartTest(unittest.TestCase):
    def test_a_coupon_counts_once(self):
        coupon = Coupon(3)
        self.assertEqual(Cart([10], [coupon, coupon]).total(), 7)
"""
WAIT = "sleep 60"
ANSWER = """\
Each coupon now counts once: `total()` walked a list that held it twice.

| prices | coupons | total |
|---|---|---|
| 10 | 3, 3 | **7** |
"""
EDIT = {
    "path": "cart.py",
    "edits": [{"old": "in self.coupons:", "new": "in dict.fromkeys(self.coupons):"}],
}
LOOKS = [
    tool_calls(
        [("grep", {"pattern": "coupon"}), ("read", {"path": "cart.py"})],
        thinking="The total subtracts each coupon. " * 40,
        thinking_fragments=40,
        delay_between=0.03,
        text="I'll look at how the total is computed.",
    )
]


@dataclass(frozen=True)
class Scene:
    """What the model says, what the user does, and where."""

    script: Sequence[Reply]
    drive: Callable[[Tty], None]
    columns: int = 80
    rows: int = 24
    settings: Mapping[str, Any] = field(default_factory=dict)
    project: Callable[[Path], None] = lambda root: None


def shop(root: Path) -> None:
    """A small project with a bug, on the branch main."""
    root.mkdir(parents=True)
    (root / "cart.py").write_text(CART)
    (root / "test_cart.py").write_text(TEST)
    for words in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-qm", "start")):
        user = ("-c", "user.name=T", "-c", "user.email=t@example.org")
        subprocess.run(["git", *user, *words], cwd=root, check=True, capture_output=True)


def shell(command: str, **options: Any) -> Reply:
    return tool_calls([("shell", {"command": command})], **options)


def say(words: str, until: str) -> Callable[[Tty], None]:
    """Send a message and wait until these words are on the screen."""

    def drive(terminal: Tty) -> None:
        terminal.submit(words)
        terminal.wait_shown(until)

    return drive


def queue(terminal: Tty) -> None:
    terminal.submit("the cart total is wrong with two coupons")
    terminal.wait_shown("    test_api")
    terminal.submit("also add a changelog entry")
    terminal.wait_shown("next: also add")
    terminal.type("and keep the public API as it is")
    terminal.wait_shown("API as it is")
    # After a second the line has its time and its hint, and they stay.
    terminal.wait_shown("esc stops")


def stop(terminal: Tty) -> None:
    terminal.submit("run everything")
    terminal.wait_shown("    begun")
    terminal.press("esc")
    terminal.wait_shown("stopped by you")


def compact(terminal: Tty) -> None:
    terminal.submit("say hi")
    terminal.wait("2 steps")
    for _ in range(5):  # the turn's last work, after its last words
        terminal.nap()
    terminal.submit("/compact")
    terminal.wait_shown("compacted 1")


def background(terminal: Tty) -> None:
    terminal.submit("start the server")
    terminal.wait_shown("    ready")
    terminal.press("ctrl-b")
    terminal.wait_shown("2 steps")


def ask_first(terminal: Tty) -> None:
    terminal.submit("/mode ask")
    terminal.wait_shown("· ask ·")
    terminal.submit("mend the total")
    terminal.wait_shown("1 once")


def complete(terminal: Tty) -> None:
    terminal.type("/mo")
    terminal.wait_shown("/model")


def choose(terminal: Tty) -> None:
    terminal.submit("/thinking")
    terminal.wait_shown("type to narrow")


def keys(terminal: Tty) -> None:
    terminal.press("?")
    terminal.wait_shown("ctrl-z")


SCENES: dict[str, Scene] = {
    "start": Scene([], lambda terminal: None, rows=6),
    "turn": Scene(
        [
            *LOOKS,
            tool_calls([("edit", EDIT)]),
            shell("python3 -m unittest -q test_cart.py"),
            text(ANSWER),
        ],
        say("the total is wrong when a coupon is applied twice", "4 steps"),
        rows=44,
    ),
    "working": Scene([*LOOKS, shell(f"echo test_api; {WAIT}")], queue, rows=20),
    "network": Scene(
        [shell('pip download "httpx>=0.27" && ls *.whl')], say("get httpx", "1 once"), rows=14
    ),
    "diff": Scene(
        [tool_calls([("read", {"path": "cart.py"})]), tool_calls([("edit", EDIT)])],
        ask_first,
        rows=22,
    ),
    "failed": Scene(
        [shell("seq 40; echo 'make: *** [test] Error 1' >&2; exit 2"), text("It fails.")],
        say("run the tests", "2 steps"),
        rows=22,
    ),
    "busy": Scene(
        [
            http_error(
                429,
                "engine_overloaded_error",
                "The engine is overloaded",
                headers={"retry-after": "40"},
            )
        ],
        say("go on", "next try in"),
        rows=10,
    ),
    "stopped": Scene([shell(f"echo begun; {WAIT}")], stop, rows=14),
    "compaction": Scene(
        [shell("echo hi"), text("Done."), text(NOTE), text(NOTE)],
        compact,
        settings={"context": {"recent_tokens": 0}},
    ),
    "background": Scene([shell(f"echo ready; {WAIT}"), text("It runs.")], background, rows=18),
    "completion": Scene([], complete, rows=16),
    "menu": Scene([], choose, rows=16),
    "help": Scene([], say("/help", "/exit"), rows=50),
    "keys": Scene([], keys, rows=26),
}


def play(name: str, folder: Path, server: ScriptedServer, **options: Any) -> Tty:
    """Drive `kimi` to this screen, with ``folder`` as the home; the caller closes the terminal."""
    scene = SCENES[name]
    root = folder / "src" / "shop"
    shop(root)
    kimi = Kimi(root, folder / "kimi-home", folder)
    kimi.configure({**FAST, **scene.settings, "retry": {**FAST["retry"], "cap_seconds": 60}})
    server.script = list(scene.script)
    terminal = Tty(kimi, server=server, columns=scene.columns, rows=scene.rows, **options)
    terminal.wait_shown("% of")
    scene.drive(terminal)
    return terminal
