"""Runs the checks beside each other, each within its own time, and tells them in a fixed order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing
from functools import partial
from pathlib import Path

from kimi_cli.frontends.doctor import machine
from kimi_cli.frontends.doctor.endpoint import NAMES, check_endpoint
from kimi_cli.frontends.doctor.finding import Finding
from kimi_cli.frontends.doctor.servers import check_local
from kimi_cli.protocol.stops import StopReason
from kimi_cli.serve.state import servers_folder
from kimi_cli.settings import Loaded, SettingsError
from kimi_cli.settings.files import user_file

SECONDS = 12.0
"""For each check of the machine: a dead file system does not answer at all."""
SANDBOX_SECONDS = 30.0


async def examine(
    env: Mapping[str, str], home: Path, root: Path, loaded: Loaded | SettingsError
) -> AsyncIterator[Finding]:
    """The findings for a project at ``root`` with these settings, or with what is wrong with them;
    each as soon as it and those before it are known. Never raises, and ends: every check has its
    limit."""
    checks = [
        _in_thread("home", partial(machine.check_home, home)),
        _in_thread("disk", partial(machine.check_disk, home)),
        _in_thread("terminal", partial(machine.check_terminal, env)),
        _in_thread("git", partial(machine.check_git, env)),
        _in_thread("ripgrep", partial(machine.check_ripgrep, env)),
    ]
    if servers_folder(home).is_dir():
        checks.append(_in_thread("local", partial(check_local, home)))
    if isinstance(loaded, Loaded):
        settings = loaded.settings
        entry = settings.models.get(settings.model)
        configured = (entry.tokenizer if entry else None) or ""
        tokenizer = partial(machine.check_tokenizer, settings.model, configured, env)
        sandbox = machine.check_sandbox(settings.sandbox.mode, root, env)
        checks.append(_limited("sandbox", sandbox, SANDBOX_SECONDS))
        checks.append(_in_thread("tokenizer", tokenizer))
    running = [asyncio.create_task(check) for check in checks]
    found: asyncio.Queue[Finding] = asyncio.Queue()
    asking = asyncio.ensure_future(_ask(loaded, found)) if isinstance(loaded, Loaded) else None
    try:
        yield _settings(env, loaded)
        for task in running:
            if finding := await task:
                yield finding
        for name in NAMES:
            if asking is None:
                yield Finding(name, "warn", "not tried")
            else:
                yield await found.get()
    finally:
        for rest in running:
            rest.cancel()
        if asking is not None:
            asking.cancel()


def _settings(env: Mapping[str, str], loaded: Loaded | SettingsError) -> Finding:
    if isinstance(loaded, SettingsError):
        advice = "Mend the line that it names; `kimi config path` says where the files are."
        return Finding("settings", "fail", str(loaded).replace("\n", "; "), advice)
    file = user_file(env)
    words = str(file) if file.exists() else f"no {file}: the defaults hold"
    # What is wrong with a kept key is told with the key.
    others = [text for text in loaded.warnings if "open to others" not in text]
    if others:
        return Finding("settings", "warn", f"{words}: {'; '.join(others)}")
    return Finding("settings", "ok", words)


async def _ask(loaded: Loaded, found: asyncio.Queue[Finding]) -> None:
    told = 0
    try:
        async with aclosing(check_endpoint(loaded)) as findings:
            async for finding in findings:
                found.put_nowait(finding)
                told += 1
    except Exception as error:
        for name in NAMES[told:]:
            found.put_nowait(_broken(name, error))


def _in_thread(
    name: str, check: Callable[[], Finding | None]
) -> Coroutine[None, None, Finding | None]:
    return _limited(name, asyncio.to_thread(check), SECONDS)


async def _limited(name: str, check: Awaitable[Finding | None], seconds: float) -> Finding | None:
    try:
        async with asyncio.timeout(seconds):
            return await check
    except TimeoutError:
        words = f"no answer within {seconds:.0f} s"
        return Finding(name, "fail", words, reason=StopReason.VERIFY_FAILED)
    except Exception as error:
        return _broken(name, error)


def _broken(name: str, error: Exception) -> Finding:
    words = f"the check itself failed: {type(error).__name__}: {error}"
    return Finding(name, "fail", words, reason=StopReason.INTERNAL)
