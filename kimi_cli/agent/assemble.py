"""Puts a session together from settings: the one place that knows every part."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from kimi_cli.agent.branch import branch
from kimi_cli.agent.budget import Budget
from kimi_cli.agent.checkpoints import limits_of as snapshot_limits
from kimi_cli.agent.compactor import Rules
from kimi_cli.agent.guarding import begin_probe, confine, doubts, make_policy
from kimi_cli.agent.model_config import limits_of, missing_key, secrets_of
from kimi_cli.agent.prompt import system_prompt
from kimi_cli.agent.serving import Served, find_model, other_model
from kimi_cli.agent.session import Session
from kimi_cli.agent.setup import Opened, Place, Setup, SetupError
from kimi_cli.agent.stored import Stored, confined, open_stored, started
from kimi_cli.agent.toolbox import Toolbox
from kimi_cli.agent.turn_host import Parts
from kimi_cli.model.names import normalise_tool_name
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import Instructions, ModeChanged
from kimi_cli.protocol.sandbox import SandboxState
from kimi_cli.protocol.stops import StopReason
from kimi_cli.protocol.tools import ToolSchema
from kimi_cli.settings import Loaded, Settings, is_trusted, load_settings
from kimi_cli.store.errors import SessionError, StoreError
from kimi_cli.store.log import Log, MemoryLog, SessionLog
from kimi_cli.tools.registry import default_tools
from kimi_cli.workspace.instructions import find_instructions
from kimi_cli.workspace.place import LocalWorkspace
from kimi_cli.workspace.processes import ProcessRunner
from kimi_cli.workspace.roots import project_root

if TYPE_CHECKING:
    from kimi_cli.workspace.snapshots import Snapshots

INSTRUCTION_BYTES = 32_768
BYTES_A_TOKEN = 3
CHANGED = "[The instructions have changed: these take the place of those before.]\n\n"
NO_INSTRUCTIONS = "The project's instructions were removed: they hold no longer."
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


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
            loaded = _load(setup, cwd, setup.place)
            if setup.provider is None and (problem := missing_key(loaded.settings)):
                raise SetupError(problem, StopReason.AUTHENTICATION)
            if stored and stored.was_rewound:
                from kimi_cli.agent.stored_undo import completed

                limits = snapshot_limits(loaded.settings.undo)
                stored, told = await completed(setup.home, stored, limits)
                loaded.warnings.extend(told)
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
        return MemoryLog(setup.home)
    try:
        return SessionLog.create(setup.home, root)
    except StoreError as error:
        if error.errno not in READ_ONLY:
            raise
        # Work that leaves no trace is better than none: a container's home is often read-only.
        loaded.warnings.append(f"{error}; this session is not kept")
        return MemoryLog(setup.home)


def _load(setup: Setup, cwd: Path, place: Place) -> Loaded:
    root = project_root(cwd)
    return load_settings(
        env=setup.env,
        project_root=root if setup.project_settings else None,
        flags=setup.flags_at(place),
        trusted=_trusted(setup, root),
    )


def _trusted(setup: Setup, root: Path) -> bool:
    return setup.trust or is_trusted(setup.home, root)


async def _build(
    setup: Setup, cwd: Path, loaded: Loaded, log: Log, stored: Stored | None
) -> Opened:
    workspace = _workspace(setup, loaded, cwd, log)
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
    warnings = [*loaded.warnings, *setup.place.notes]
    # The clock runs from here: an endpoint that does not answer is a part of the run.
    budget = Budget(limits_of(settings), warn_at=settings.budget.warn_at)
    # A fork begins with the messages of another session, which the server may still have cached.
    cache_key = (stored and stored.begun.forked_from) or log.id
    probing = begin_probe(settings, workspace)
    served = await find_model(setup, loaded, stored, cache_key, budget.seconds_left)
    # A session that leaves no trace has caches that go with it.
    caches = setup.home if isinstance(log, SessionLog) else log.path
    sandbox = await confine(setup, settings, workspace, caches, probing)
    warnings += filter(None, (served.doubt, ProcessRunner.limits_note()))
    warnings += doubts(sandbox, workspace)
    own = make_policy(setup, loaded, workspace, [log.path], sandbox)
    own.mode = setup.first_mode
    policy = setup.policy(own) if setup.policy else own
    secrets = secrets_of(settings)
    toolbox = Toolbox(
        default_tools(
            shell_timeout=settings.shell.timeout, shell_max_timeout=settings.shell.max_timeout
        ),
        workspace=workspace,
        policy=policy,
        media_kinds=served.media,
        normalise=normalise_tool_name,
        secrets=secrets,
    )
    tools = stored.tools if stored else toolbox.schemas()

    async def another(
        model: str | None, thinking: str | None, now: Served, place: Place | None
    ) -> Served:
        if setup.provider is not None:
            raise SetupError("the model of this session can't be changed")
        at = now.loaded or loaded
        if place is None:
            place = now.place
        elif place is not now.place:
            at = await asyncio.to_thread(_load, setup, cwd, place)
            if problem := missing_key(at.settings):
                raise SetupError(problem, StopReason.AUTHENTICATION)
            secrets.extend(one for one in secrets_of(at.settings) if one not in secrets)
        left = budget.seconds_left
        return await other_model(at, now, model, thinking, cache_key, left, place=place)

    session = Session(
        Parts(
            log=log,
            served=served,
            find_model=another,
            toolbox=toolbox,
            tools=tools,
            workspace=workspace,
            budget=budget,
            policy=own,
            on_ask=setup.on_ask or settings.headless.on_ask,
            context=_rules(settings),
            snapshots=_snapshots(setup, settings, workspace, log),
            saw=workspace.files.restore,
        )
    )
    try:
        if stored:
            session.restore(stored.events)
            workspace.files.restore(stored.touches())
        opening = _opening(setup, cwd, stored, served, workspace, tools, sandbox)
        for event in opening:
            session.record(event)
    except StoreError as error:
        raise SetupError(str(error), StopReason.STORE_FAILED) from None
    kept = isinstance(log, SessionLog)
    history = branch(stored.events) if stored else ()
    return Opened(
        session, settings, warnings, secrets, kept, served.media, opening, sandbox, history
    )


def _opening(
    setup: Setup,
    cwd: Path,
    stored: Stored | None,
    served: Served,
    workspace: LocalWorkspace,
    tools: Sequence[ToolSchema],
    sandbox: SandboxState,
) -> list[Event]:
    """The events that a session begins, or goes on, with."""
    mode = setup.first_mode
    if stored:
        events = stored.resumed(cwd, served.provider, served.thinking, served.dialect)
    else:
        prompt = setup.system_prompt or system_prompt(workspace, sandbox)
        events = [
            started(
                prompt,
                tools,
                cwd,
                project_root(cwd),
                served.provider,
                served.thinking,
                served.dialect,
            )
        ]
    # The log then says which mode holds; what it does not say is the usual one.
    said = stored.mode if stored else ""
    if mode != said and (said or mode in ("ask", "plan")):
        events.append(ModeChanged(mode=mode))
    held = confined(sandbox)
    if stored is None or stored.confined != held:
        events.append(held)
    window = served.provider.window
    limit = min(INSTRUCTION_BYTES, window * BYTES_A_TOKEN // 4) if window else INSTRUCTION_BYTES
    root = project_root(cwd)
    files, text = find_instructions(setup.home, root, cwd, limit, trusted=_trusted(setup, root))
    former = stored.instructions if stored else None
    if files and (former is None or former.files != files):
        events.append(Instructions(files=files, text=CHANGED + text if former else text))
    elif former and former.files and not files:
        events.append(Instructions(files=[], text=NO_INSTRUCTIONS))
    return events


def _snapshots(
    setup: Setup, settings: Settings, workspace: LocalWorkspace, log: Log
) -> Callable[[], Snapshots] | None:
    """None where they are switched off, or nobody could ask for them: the session is not kept."""
    if not settings.undo.enabled or not isinstance(log, SessionLog):
        return None

    @cache
    def make() -> Snapshots:
        # Late: beside the first request there is time for it.
        from kimi_cli.workspace.snapshots import Snapshots

        return Snapshots(setup.home, workspace.folders, snapshot_limits(settings.undo))

    return make


def _rules(settings: Settings) -> Rules:
    context = settings.context
    return Rules(context.auto_compact, context.compact_at, context.recent_tokens)


def _workspace(setup: Setup, loaded: Loaded, cwd: Path, log: Log) -> LocalWorkspace:
    # The runner drops our usual key variables; these only the settings know.
    env = {name: text for name, text in setup.env.items() if name not in loaded.key_variables}
    try:
        runner = ProcessRunner(log.outputs, env=env, helper=setup.helper)
    except OSError as error:
        raise SetupError(f"no process can be started: {error}", StopReason.INTERNAL) from None
    more = [Path(folder) for folder in loaded.settings.workspace.add_dirs]
    return LocalWorkspace(
        cwd,
        outputs=log.outputs,
        blobs=log.blobs,
        runner=runner,
        add_dirs=[*more, *setup.add_dirs],
    )
