"""Puts a session together from settings: the one place that knows every part."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kimi_cli.agent.budget import Budget
from kimi_cli.agent.model_config import limits_of, missing_key, model_config, price_of
from kimi_cli.agent.prompt import system_prompt
from kimi_cli.agent.session import Session
from kimi_cli.agent.stored import Stored, open_stored, started
from kimi_cli.agent.toolbox import Toolbox
from kimi_cli.model.build import build_endpoint, build_provider
from kimi_cli.model.catalogue import Price
from kimi_cli.model.endpoint import detect
from kimi_cli.model.errors import ConfigError
from kimi_cli.model.names import normalise_tool_name
from kimi_cli.protocol.event import (
    Event,
)
from kimi_cli.protocol.provider import Provider
from kimi_cli.protocol.stops import StopReason
from kimi_cli.safety.policy import AllowAll, Policy, WorkspaceOnly
from kimi_cli.settings import Loaded, Settings, is_trusted, kimi_home, load_settings
from kimi_cli.store.errors import SessionError, StoreError
from kimi_cli.store.log import Log, MemoryLog, SessionLog
from kimi_cli.tools.registry import default_tools
from kimi_cli.workspace.launch import Helper
from kimi_cli.workspace.place import LocalWorkspace
from kimi_cli.workspace.processes import ProcessRunner
from kimi_cli.workspace.roots import project_root

PROTECTED = (".git", ".kimi")
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


class SetupError(Exception):
    """A session can't be opened as asked; ``reason`` gives the exit code, the message is for
    people."""

    def __init__(self, message: str, reason: StopReason = StopReason.CONFIGURATION) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Setup:
    """What a session is made of; only ``from_env`` takes anything from the process's own state.

    ``flags`` are settings by dotted key and win over every other source. ``cwd`` None is the
    process's working directory, or that of a resumed session. ``media`` are the kinds that the
    model has to take. ``provider`` stands in for the endpoint of the settings. ``on_ask`` "wait"
    leaves questions to the front end.
    """

    env: Mapping[str, str]
    home: Path
    flags: Mapping[str, object] = field(default_factory=dict)
    cwd: Path | None = None
    add_dirs: Sequence[Path] = ()
    yolo: bool = False
    on_ask: Literal["deny", "fail", "wait"] | None = None
    system_prompt: str | None = None
    keep: bool = True
    resume: str | None = None
    continue_last: bool = False
    media: frozenset[str] = frozenset()
    provider: Provider | None = None
    helper: Helper | None = None

    @classmethod
    def from_env(
        cls,
        *,
        cwd: Path | str | None = None,
        flags: Mapping[str, object] | None = None,
        yolo: bool = False,
        keep: bool = True,
    ) -> Setup:
        """The setup of the command line in this process: its environment and KIMI_HOME, taken
        now. Use ``dataclasses.replace`` for the other fields."""
        env = dict(os.environ)
        return cls(
            env=env,
            home=kimi_home(env),
            flags=flags or {},
            cwd=Path(cwd) if cwd else None,
            yolo=yolo,
            keep=keep,
        )


@dataclass(frozen=True, slots=True)
class Opened:
    """A session ready to run. ``secrets`` must never be written anywhere; ``warnings`` are for
    the user; ``kept``: the session is stored; ``media``: the kinds the model takes; ``events``:
    what was recorded to open it, before anybody could listen."""

    session: Session
    settings: Settings
    warnings: Sequence[str]
    secrets: Sequence[str]
    kept: bool
    media: frozenset[str]
    events: Sequence[Event] = ()


async def open_session(setup: Setup) -> Opened:
    """Make a new session, or open a stored one, as ``setup`` says.

    Raises SettingsError for the settings, SetupError for everything else that is in the way.
    """
    cwd = _working_directory(setup)
    try:
        stored = open_stored(setup.home, project_root(cwd), setup.resume, setup.continue_last)
        try:
            if stored and setup.cwd is None:
                cwd = stored.folder()
            loaded = _load(setup, cwd)
            if setup.provider is None and (problem := missing_key(loaded.settings)):
                raise SetupError(problem, StopReason.AUTHENTICATION)
            log = stored.log if stored else _new_log(setup, loaded, project_root(cwd))
        except BaseException:
            if stored:
                stored.log.close()
            raise
    except SessionError as error:
        raise SetupError(str(error)) from None
    except StoreError as error:
        raise SetupError(str(error), StopReason.STORE_FAILED) from None
    try:
        return await _build(setup, cwd, loaded, log, stored)
    except BaseException:
        if stored:
            log.close()
        else:
            log.discard()
        raise


def _working_directory(setup: Setup) -> Path:
    try:
        return (setup.cwd or Path(os.getcwd())).resolve()
    except FileNotFoundError:
        raise SetupError("the working directory no longer exists") from None
    except OSError as error:
        raise SetupError(f"{setup.cwd}: {error.strerror}") from None


def _new_log(setup: Setup, loaded: Loaded, root: Path) -> Log:
    if not (setup.keep and loaded.settings.session.keep):
        return MemoryLog()
    try:
        return SessionLog.create(setup.home, root)
    except StoreError as error:
        if error.errno not in READ_ONLY:
            raise
        # Work that leaves no trace is better than none: a container's home is often read-only.
        loaded.warnings.append(f"{error}; this session is not kept")
        return MemoryLog()


def _load(setup: Setup, cwd: Path) -> Loaded:
    root = project_root(cwd)
    return load_settings(
        env=setup.env,
        project_root=root,
        flags=setup.flags,
        trusted=is_trusted(setup.home, root),
    )


async def _build(
    setup: Setup, cwd: Path, loaded: Loaded, log: Log, stored: Stored | None
) -> Opened:
    workspace = _workspace(setup, loaded.settings, cwd, log)
    try:
        return await _furnish(setup, cwd, loaded, log, stored, workspace)
    except BaseException:
        workspace.processes.kill_now()
        raise


async def _furnish(
    setup: Setup,
    cwd: Path,
    loaded: Loaded,
    log: Log,
    stored: Stored | None,
    workspace: LocalWorkspace,
) -> Opened:
    settings = loaded.settings
    warnings = list(loaded.warnings)
    model, thinking = _model_of(loaded, stored)
    # The clock runs from here: an endpoint that does not answer is a part of the run.
    budget = Budget(limits_of(settings), warn_at=settings.budget.warn_at)
    try:
        async with asyncio.timeout(budget.seconds_left):
            provider, price, media, doubt = await _provider(
                setup, settings, model, thinking, log.id
            )
    except TimeoutError:
        raise SetupError("the time limit is reached", StopReason.TIME_LIMIT) from None
    warnings += filter(None, (doubt, ProcessRunner.limits_note()))
    if blind := setup.media - media:
        raise SetupError(f"{provider.model} takes no {' and no '.join(sorted(blind))}s")
    if settings.budget.max_cost is not None and price is None:
        raise SetupError(
            f"--max-cost needs a price, and none is known for {provider.model}: set "
            f'[prices."{provider.model}"] input, cached_input and output'
        )
    policy: Policy = (
        AllowAll()
        if setup.yolo
        else WorkspaceOnly(
            workspace.folders, readable=[log.path], protected=PROTECTED, private=[setup.home]
        )
    )
    toolbox = Toolbox(
        default_tools(
            shell_timeout=settings.shell.timeout, shell_max_timeout=settings.shell.max_timeout
        ),
        workspace=workspace,
        policy=policy,
        media_kinds=media,
        normalise=normalise_tool_name,
    )
    tools = stored.tools if stored else toolbox.schemas()
    session = Session(
        log=log,
        provider=provider,
        toolbox=toolbox,
        tools=tools,
        workspace=workspace,
        budget=budget,
        price=price,
        on_ask=setup.on_ask or settings.headless.on_ask,
    )
    try:
        opening: list[Event]
        if stored:
            session.restore(stored.events)
            workspace.files.restore(stored.touches())
            opening = stored.resumed(cwd, model, thinking)
        else:
            prompt = setup.system_prompt or system_prompt(workspace)
            opening = [started(prompt, tools, cwd, provider.model, thinking)]
        for event in opening:
            session.record(event)
    except StoreError as error:
        raise SetupError(str(error), StopReason.STORE_FAILED) from None
    kept = isinstance(log, SessionLog)
    return Opened(session, settings, warnings, _secrets(settings), kept, media, opening)


def _secrets(settings: Settings) -> list[str]:
    endpoint = settings.endpoint
    values = [endpoint.api_key, *endpoint.headers.values()]
    return [text for value in values if (text := value.get_secret_value())]


def _model_of(loaded: Loaded, stored: Stored | None) -> tuple[str, str]:
    """Model and thinking: a stored session keeps its own unless a flag says otherwise."""
    settings = loaded.settings
    model, thinking = stored.model if stored else (settings.model, settings.thinking)
    if loaded.sources["model"].kind == "flag":
        model = settings.model
    if loaded.sources["thinking"].kind == "flag":
        thinking = settings.thinking
    return model, thinking


def _workspace(setup: Setup, settings: Settings, cwd: Path, log: Log) -> LocalWorkspace:
    # The runner drops our usual key variables; this one only the settings know.
    named = settings.endpoint.api_key_env
    env = {name: value for name, value in setup.env.items() if name != named}
    try:
        runner = ProcessRunner(log.outputs, env=env, helper=setup.helper)
    except OSError as error:
        raise SetupError(f"no process can be started: {error}", StopReason.INTERNAL) from None
    more = [Path(folder) for folder in settings.workspace.add_dirs]
    return LocalWorkspace(
        cwd,
        outputs=log.outputs,
        preimages=log.preimages,
        runner=runner,
        add_dirs=[*more, *setup.add_dirs],
    )


async def _provider(
    setup: Setup, settings: Settings, model: str, thinking: str, session: str
) -> tuple[Provider, Price | None, frozenset[str], str]:
    """The provider, what it costs, the kinds of media its model takes, and a doubt about it."""
    if setup.provider is not None:
        return setup.provider, None, frozenset(), ""
    try:
        config = model_config(settings, model, thinking, session)
        endpoint = build_endpoint(config)
        endpoint.connection.warm()
        config, error = await detect(config, endpoint)
        client = build_provider(config, endpoint)
    except ConfigError as problem:
        raise SetupError(str(problem)) from None
    doubt = f"taking the endpoint for {client.dialect.name}: {error.message}" if error else ""
    return client, price_of(settings, client), client.media, doubt
