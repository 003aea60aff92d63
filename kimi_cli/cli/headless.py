"""From flags to a headless run: what is wrong with them ends with exit code 2 before a request."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kimi_cli.cli.exit_codes import EXIT_CODES
from kimi_cli.protocol.stops import StopReason

if TYPE_CHECKING:
    from kimi_cli.agent import Opened

SIGNALLED = 128
"""Exit codes from here on are those of signals: whoever sent one does not wait."""
EXPIRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Options:
    """The command line as given; ``flags`` are settings by dotted key, an empty ``resume`` leaves
    the choice of the session to the user."""

    flags: Mapping[str, object]
    prompt: str | None = None
    input_format: Literal["text", "stream-json"] = "text"
    output_format: Literal["text", "json", "stream-json"] = "text"
    images: Sequence[Path] = ()
    cwd: Path | None = None
    add_dirs: Sequence[Path] = ()
    yolo: bool = False
    trust: bool = False
    json_schema: Path | None = None
    verify: str | None = None
    system_prompt_file: Path | None = None
    keep_session: bool = True
    continue_last: bool = False
    resume: str | None = None
    fork: bool = False
    debug: bool = False


class UsageError(Exception):
    """The command line can't be carried out; the message is for people."""


def start(options: Options) -> int:
    """Run headless; returns the exit code."""
    from kimi_cli.store.errors import StoreError
    from kimi_cli.workspace.launch import launch_helper

    try:
        _check_usage(options)
        resume = options.resume if options.resume else _chosen(options)
        # First of all: it starts up on another core while the rest is imported.
        helper = launch_helper()
    except (UsageError, OSError) as error:
        return _fail(options, str(error))
    except StoreError as error:
        return _fail(options, str(error), StopReason.STORE_FAILED)

    from kimi_cli.agent import Setup, SetupError, open_session
    from kimi_cli.cli.event_loop import run as run_loop
    from kimi_cli.frontends.headless.run import Job, run
    from kimi_cli.frontends.headless.stdin import InputError
    from kimi_cli.settings import SettingsError, kimi_home
    from kimi_cli.settings.keys import split_key
    from kimi_cli.settings.layers import value_of

    home = kimi_home(os.environ)
    # Numbers come as they were typed: what can't be one is told in the settings' own words.
    flags = {
        name: value_of(split_key(name), value)
        if name.startswith("budget.") and isinstance(value, str)
        else value
        for name, value in options.flags.items()
    }
    try:
        message = _message(options)
        schema = _schema(options.json_schema)
        setup = Setup(
            env=dict(os.environ),
            home=home,
            flags=flags,
            cwd=_folder(options.cwd) if options.cwd else None,
            add_dirs=[_folder(folder) for folder in options.add_dirs],
            yolo=options.yolo,
            trust=options.trust,
            system_prompt=_text(options.system_prompt_file) if options.system_prompt_file else None,
            keep=options.keep_session,
            resume=resume,
            continue_last=options.continue_last,
            media=frozenset({"image"}) if options.images else frozenset(),
            helper=helper,
        )
    except (UsageError, InputError) as error:
        return _fail(options, str(error))

    run_by: list[Opened] = []

    async def session_and_run() -> int:
        if options.fork:
            from kimi_cli.cli.resume import open_fork

            opened = await open_fork(setup)
        else:
            opened = await open_session(setup)
        run_by.append(opened)
        for warning in opened.warnings:
            _tell(warning)
        if options.debug:
            _debug(home, opened.secrets)
        job = Job(
            message=message,
            output=options.output_format,
            schema=schema,
            verify=options.verify,
            heartbeat=opened.settings.headless.heartbeat,
            keep_session=opened.kept,
            model=opened.session.provider.model,
            opening=opened.events,
            sandbox=opened.sandbox,
        )
        return await run(opened.session, job, lambda reason: EXIT_CODES[reason])

    try:
        code = run_loop(session_and_run())
    except SettingsError as error:
        from kimi_cli.cli.options import flag_problems

        return _fail(options, flag_problems(flags) or str(error))
    except UsageError as error:
        return _fail(options, str(error))
    except SetupError as error:
        return _fail(options, str(error), error.reason)
    if code < SIGNALLED:
        _expire(home, run_by[0])
    return code


def _check_usage(options: Options) -> None:
    piped = not sys.stdin or not sys.stdin.isatty()
    if options.input_format == "stream-json":
        if options.prompt is not None:
            raise UsageError("--input-format stream-json takes its messages from stdin, not -p")
        if options.images:
            raise UsageError("--image goes with -p; over stream-json, send media parts")
    elif options.prompt is None and not piped:
        raise UsageError(
            "nothing to do: give a prompt with -p TEXT or through a pipe (kimi --help; the "
            "interactive terminal is not part of this version)"
        )
    stored = options.continue_last or options.resume is not None
    if options.continue_last and options.resume is not None:
        raise UsageError("--continue and --resume can't be given together")
    if options.fork and not stored:
        raise UsageError("--fork copies a session: say which with --continue or --resume ID")
    if not options.keep_session and stored:
        raise UsageError("--no-session can't go on with a stored session")
    if options.system_prompt_file and stored:
        raise UsageError("--system-prompt-file: a stored session keeps the prompt it began with")


def _chosen(options: Options) -> str | None:
    """The session that the user chooses, where ``-r`` names none; None without ``-r``. Raises
    UsageError, StoreError."""
    if options.resume is None:
        return None
    from kimi_cli.cli.resume import choose
    from kimi_cli.settings import kimi_home
    from kimi_cli.store.errors import SessionError

    try:
        return choose(kimi_home(os.environ), _folder(options.cwd or Path.cwd()))
    except SessionError as error:
        raise UsageError(str(error)) from None
    except FileNotFoundError:
        raise UsageError("the working directory no longer exists") from None


def _message(options: Options) -> Any:
    """The user's message; None when messages come over stdin."""
    from kimi_cli.frontends.headless.progress import say
    from kimi_cli.frontends.headless.stdin import read_all, read_beside
    from kimi_cli.protocol.operations import Say

    if options.input_format == "stream-json":
        return None

    def note(text: str) -> None:
        say(f"  {text}")

    if options.prompt is None or options.prompt == "-":
        text = read_all(note)
    else:
        data = read_beside(note)
        text = f"{options.prompt}\n\n<stdin>\n{data}\n</stdin>" if data.strip() else options.prompt
    if not text.strip() and not options.images:
        raise UsageError("the prompt is empty")
    return Say(text=text, parts=[_image(path) for path in options.images])


def _image(path: Path) -> Any:
    import base64

    from kimi_cli.protocol.messages import MediaPart
    from kimi_cli.tools.text_bytes import media_type

    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    kind, mime = media_type(content) or ("", "")
    if kind != "image":
        raise UsageError(f"{path} is not an image that the model can take (PNG, JPEG, GIF, WebP)")
    data = base64.b64encode(content).decode()
    return MediaPart(kind="image", url=f"data:{mime};base64,{data}", name=path.name)


def _schema(path: Path | None) -> Mapping[str, Any] | None:
    if path is None:
        return None
    import jsonschema

    try:
        schema = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}") from None
    if not isinstance(schema, dict):
        raise UsageError(f"{path} must hold a JSON object")
    try:
        jsonschema.validators.validator_for(schema).check_schema(schema)
    except jsonschema.SchemaError as error:
        raise UsageError(f"{path} is not a JSON Schema: {error.message}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not a JSON Schema: {error}") from None
    return schema


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text") from None


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise UsageError(f"{path} is not a folder")
    return path.resolve()


def _expire(home: Path, opened: Opened) -> None:
    """Remove the outputs, snapshots and caches of long ago. Everybody has their result by now, and
    nobody waits for this: what it can't do in a moment, a later run does."""
    import threading
    import time

    from kimi_cli.store.expire import expire_outputs
    from kimi_cli.workspace.caches import prune_slots

    days, undo = opened.settings.session.outputs_days, opened.settings.undo

    def work() -> None:
        with contextlib.suppress(Exception):
            if days:
                expire_outputs(home, days, time.time())
                prune_slots(home, days, time.time())
            if undo.days:
                opened.session.expire_snapshots(undo.days)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(EXPIRY_SECONDS)


def _debug(home: Path, secrets: Sequence[str]) -> None:
    from kimi_cli.cli.debug_log import start_log

    try:
        _tell(f"debug log {start_log(home, secrets)}")
    except OSError as error:
        _tell(f"no debug log: {error}")


def _fail(options: Options, text: str, reason: StopReason = StopReason.CONFIGURATION) -> int:
    """Say why there is no run; who asked for JSON gets the result of it as JSON."""
    _tell(text)
    code = EXIT_CODES[reason]
    if options.output_format != "text":
        from kimi_cli.frontends.headless.result import Tally

        tally = Tally()
        tally.reason, tally.detail = reason, text
        result = tally.result(session=None, model="", exit_code=code, currency=None, denials=())
        with contextlib.suppress(OSError, ValueError):
            print(json.dumps(result, ensure_ascii=False), flush=True)
    return code


def _tell(text: str) -> None:
    from kimi_cli.frontends.headless.progress import say

    say(f"kimi: {text}")
