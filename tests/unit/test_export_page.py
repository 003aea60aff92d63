"""The page of a session in a real browser: the search, the folds, and hostile content."""

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kimi_cli.frontends.export import export
from kimi_cli.protocol.events import Compaction, DurableEvent, ToolResult, TurnStarted
from kimi_cli.protocol.messages import TextPart, ThinkingPart
from tests.unit.export_sessions import (
    HOSTILE,
    answer,
    call,
    everywhere,
    numbered,
    result,
    started,
    user,
)

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium"),
]


CODES: dict[str, dict[str, Any]] = {
    "Enter": {"windowsVirtualKeyCode": 13, "text": "\r"},
    " ": {"windowsVirtualKeyCode": 32, "code": "Space", "text": " "},
}
"""What the browser must know of a key beside its name to do what the key does."""


class Browser:
    """A headless Chromium, driven over the pipes of its DevTools protocol: messages are JSON with
    a zero byte behind them (chromedevtools.github.io/devtools-protocol)."""

    def __init__(self, profile: Path) -> None:
        out, self._out = os.pipe()
        self._in, into = os.pipe()
        # The browser reads from descriptor 3 and writes to 4; these must not be among them.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (out, into)]
        arguments = ["--headless", "--no-sandbox", "--remote-debugging-pipe", "--disable-gpu"]
        script = f'exec 3<&{ends[0]} 4>&{ends[1]}; exec "$@"'
        program = [str(BROWSER), *arguments, f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            ["bash", "-c", script, "-", *program], pass_fds=ends, stderr=subprocess.DEVNULL
        )
        for end in ends:
            os.close(end)
        os.close(out)
        os.close(into)
        self._number = 0
        self._rest = b""
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = ""
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """A command and its result; events that come before it are kept."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": params}
        if getattr(self, "_session", ""):
            command["sessionId"] = self._session
        os.write(self._out, json.dumps(command).encode() + b"\0")
        while (message := self._receive()).get("id") != self._number:
            self.events.append(message)
        assert "error" not in message, message
        reply: dict[str, Any] = message["result"]
        return reply

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            piece = os.read(self._in, 65536)
            assert piece, "the browser ended"
            self._rest += piece
        line, self._rest = self._rest.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def open(self, path: Path) -> None:
        self.events.clear()
        self.send("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def ask(self, expression: str) -> Any:
        """The value of an expression, or of the promise that it is."""
        reply = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in reply, reply
        return reply["result"].get("value")

    def search(self, words: str) -> str:
        """Type into the box, and enter; what the page says of the matches."""
        typed = json.dumps(words)
        self.ask(
            f"""(() => {{
                const {{ q }} = document.getElementById("find").elements;
                q.value = {typed};
                q.dispatchEvent(new Event("input"));
                q.dispatchEvent(new KeyboardEvent("keydown", {{ key: "Enter" }}));
            }})()"""
        )
        return self.found()

    def found(self) -> str:
        return str(self.ask('document.getElementById("find").elements.found.value'))

    def press(self, key: str, shift: bool = False) -> None:
        for kind in ("keyDown", "keyUp"):
            code = CODES.get(key, {})
            modifiers = 8 if shift else 0
            self.send("Input.dispatchKeyEvent", type=kind, key=key, modifiers=modifiers, **code)

    def close(self) -> None:
        os.close(self._out)
        self._process.wait(timeout=60)
        os.close(self._in)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Browser:
    rows = "\n".join(f"needle in row {number}" for number in range(3))
    failed = ToolResult(
        call_id="functions.shell:1", name="shell", status="error", parts=[TextPart(text="hay")]
    )
    events: list[DurableEvent] = [
        started(),
        TurnStarted(),
        user("first request"),
        answer(ThinkingPart(text="a *split nee*dle here"), call(0), call(1)),
        result(0, TextPart(text=rows)),
        failed,
        TurnStarted(),
        user("second request: (a+b)"),
        answer(TextPart(text="nothing here")),
    ]
    path = tmp_path / "page.html"
    path.write_text(export(numbered(events), "html", title="", session="s"))
    browser.open(path)
    return browser


def shown(page: Browser) -> list[str]:
    """The first words of the blocks that can be seen."""
    script = """[...document.querySelectorAll(".turn .b")].filter((b) => b.offsetParent)
        .map((b) => b.textContent.slice(0, 40))"""
    return list(page.ask(script))


def opened(page: Browser) -> int:
    return int(page.ask('document.querySelectorAll("details[open]").length'))


def test_a_search_filters_unfolds_and_counts(page: Browser) -> None:
    before = shown(page)
    assert len(before) == 8
    assert opened(page) == 0
    assert page.search("NEEDLE") == "1 of 4"
    assert opened(page) == 2
    assert [words[:1] for words in shown(page)] == ["✻", "●"]
    assert page.ask('document.querySelectorAll(".turn.out").length') == 1
    assert page.search("(a+b)") == "1 of 1"
    assert opened(page) == 0
    assert page.search("no such words") == "none"
    assert page.search("") == ""
    assert shown(page) == before


def test_matches_only_can_be_switched_off(page: Browser) -> None:
    page.search("needle")
    page.ask('document.getElementById("find").elements.only.click()')
    assert len(shown(page)) == 8
    assert page.found() == "1 of 4"


def test_keys_go_from_match_to_match(page: Browser) -> None:
    page.press("/")
    page.search("needle")
    page.press("Enter")
    assert page.found() == "2 of 4"
    page.press("Enter", shift=True)
    page.press("Enter", shift=True)
    assert page.found() == "4 of 4"
    assert page.ask('[...CSS.highlights.get("now")].map(String)') == ["needle"]
    page.ask('document.getElementById("find").elements.q.blur()')
    page.press("n")
    assert page.found() == "1 of 4"
    page.press("Escape")
    assert page.found() == ""
    assert opened(page) == 0


def test_all_can_be_unfolded(page: Browser) -> None:
    folds = page.ask('document.querySelectorAll("details").length')
    page.ask('document.getElementById("find").elements.folds.click()')
    assert opened(page) == folds
    page.ask('document.getElementById("find").elements.folds.click()')
    assert opened(page) == 0


def test_thinking_can_be_hidden(page: Browser) -> None:
    """By the key, and by the switch with the keyboard alone; the search then leaves it out."""
    checked = 'document.getElementById("find").elements.hide.checked'
    before = shown(page)
    assert page.search("needle") == "1 of 4"
    page.press("Escape")
    page.press("t")
    assert page.ask(checked)
    assert shown(page) == [words for words in before if words[:1] != "✻"]
    assert len(shown(page)) == len(before) - 1
    assert page.search("needle") == "1 of 3"
    page.press("/")
    page.press("t")
    assert page.ask(checked)
    page.press("Escape")
    page.ask('document.getElementById("find").elements.hide.focus()')
    page.press(" ")
    assert not page.ask(checked)
    assert shown(page) == before
    kept = "[localStorage.length, sessionStorage.length, document.cookie].join()"
    assert page.ask(kept) == "0,0,"


def test_links_lead_from_compaction_to_compaction(browser: Browser, tmp_path: Path) -> None:
    """Also to one that the search has hidden."""
    long = "\n\n".join(["a long answer"] * 200)
    turns: list[DurableEvent] = []
    for number in range(3):
        note = f"the note {number}"
        turns += [TurnStarted(), user(f"request {number}"), answer(TextPart(text=long))]
        turns.append(Compaction(upto=len(turns), note=note, tokens_before=9000))
    path = tmp_path / "compactions.html"
    path.write_text(export(numbered([started(), *turns]), "html", title="", session="s"))
    browser.open(path)
    place = """[...document.querySelectorAll(".compaction")]
        .map((block) => block.getBoundingClientRect())
        .findIndex((box) => box.height > 0 && box.top >= 0 && box.bottom <= innerHeight)"""

    def follow(selector: str) -> int:
        browser.ask(f"document.querySelector({json.dumps(selector)}).focus()")
        browser.press("Enter")
        return int(browser.ask(f"new Promise(requestAnimationFrame).then(() => {place})"))

    assert browser.ask(place) == -1
    assert follow("nav a[href='#c2']") == 1
    assert follow("#c2 [aria-label='next compaction']") == 2
    assert follow("#c3 [aria-label='previous compaction']") == 1
    assert browser.search("request 0") == "1 of 1"
    assert browser.ask("document.getElementById('c3').offsetParent") is None
    assert follow("nav a[href='#c3']") == 2
    assert browser.found() == ""


def test_hostile_content_does_nothing(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "hostile.html"
    for first in range(0, len(HOSTILE), 5):
        some = HOSTILE[first : first + 5]
        events = numbered([event for text in some for event in everywhere(text, text)])
        path.write_text(export(events, "html", title=some[0], session=some[0]))
        browser.open(path)
        browser.search("alert")
        browser.ask('document.getElementById("find").elements.folds.click()')
        methods = {event["method"] for event in browser.events}
        assert not methods & {"Page.javascriptDialogOpening", "Runtime.exceptionThrown"}, some
        asked = [
            event["params"]["request"]["url"][:5]
            for event in browser.events
            if event["method"] == "Network.requestWillBeSent"
        ]
        assert set(asked) <= {"file:", "data:"}, some
