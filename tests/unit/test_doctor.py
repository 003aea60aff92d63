"""The doctor's findings by themselves: the first failure decides, no check stops the others."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kimi_cli.frontends.doctor.examine import examine
from kimi_cli.frontends.doctor.finding import Finding, document, first_failure
from kimi_cli.frontends.doctor.machine import (
    check_disk,
    check_home,
    check_tokenizer,
)
from kimi_cli.protocol.stops import StopReason
from kimi_cli.settings import SettingsError
from tests.support.prompted import Prompted


def test_the_first_failure_decides() -> None:
    fine = Finding("a", "ok", "x")
    doubt = Finding("b", "warn", "x", reason=StopReason.QUOTA)
    key = Finding("c", "fail", "x", reason=StopReason.AUTHENTICATION)
    away = Finding("d", "fail", "x", reason=StopReason.TEMPORARY)
    assert first_failure([]) is first_failure([fine, doubt]) is StopReason.DONE
    assert first_failure([fine, doubt, key, away]) is StopReason.AUTHENTICATION
    assert first_failure([away, key]) is StopReason.TEMPORARY
    assert document([fine, doubt], 0)["ok"] is True
    assert document([fine, key], 30)["ok"] is False


def test_a_home_that_others_can_change(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert check_home(home).status == "ok" and not home.exists()
    home.mkdir(mode=0o700)
    assert check_home(home) == Finding("home", "ok", str(home))
    assert list(home.iterdir()) == []
    home.chmod(0o770)
    found = check_home(home)
    assert found.status == "warn" and found.advice == f"chmod 700 {home}"
    (home / "file").write_text("")
    found = check_home(home / "file" / "below")
    assert (found.status, found.reason) == ("fail", StopReason.STORE_FAILED)


def test_a_disk_without_room() -> None:
    # A file system that has no space by its nature.
    found = check_disk(Path("/proc"))
    assert (found.status, found.reason) == ("fail", StopReason.STORE_FAILED)
    assert check_disk(Path("/proc/nowhere/at/all")).status == "fail"


LOOK = """
import os
from kimi_cli.frontends.doctor.machine import check_terminal
found = check_terminal(dict(os.environ))
print(found.status, found.detail)
"""


@pytest.mark.parametrize(
    ("env", "size", "expected"),
    [
        ({}, (80, 24), "ok xterm-256color, 80x24, colours, UTF-8"),
        ({"NO_COLOR": "1"}, (80, 24), "ok xterm-256color, 80x24, no colours, UTF-8"),
        ({"PYTHONIOENCODING": "ascii"}, (80, 24), "no UTF-8 (ascii)"),
        ({"TERM": "dumb"}, (80, 24), "warn dumb, 80x24"),
        ({}, (50, 24), "warn xterm-256color, 50x24"),
        ({"TMUX": "/nowhere,1,0"}, (80, 24), "tmux ("),
    ],
)
def test_the_terminal(
    tmp_path: Path, env: dict[str, str], size: tuple[int, int], expected: str
) -> None:
    terminal = Prompted(LOOK, tmp_path, columns=size[0], rows=size[1], env=env)
    assert terminal.end() == 0
    assert expected in " ".join(terminal.text.split())


def test_no_terminal_is_no_fault() -> None:
    run = subprocess.run(
        [sys.executable, "-c", LOOK], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert run.stdout.startswith("ok none here")


@pytest.mark.parametrize("content", [None, b"", b"not a tokenizer\n"])
def test_a_tokenizer_that_can_not_be_used(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "tiktoken.model"
    if content is not None:
        file.write_bytes(content)
    found = check_tokenizer("kimi-k2.5", str(tmp_path), {})
    assert found.status == "warn" and found.advice
    assert check_tokenizer("kimi-k2.5", "", {}).status == "ok"


def test_every_check_is_told_whatever_the_settings(tmp_path: Path) -> None:
    async def all_of() -> list[Finding]:
        broken = SettingsError("config.toml, line 1:\nwrong")
        env = {"PATH": os.defpath, "HOME": str(tmp_path)}
        return [one async for one in examine(env, tmp_path, tmp_path, broken)]

    found = asyncio.run(all_of())
    assert found[0].status == "fail" and "\n" not in found[0].detail
    assert [one.name for one in found[-4:]] == ["key", "endpoint", "model", "tool call"]
    assert first_failure(found) is StopReason.CONFIGURATION
