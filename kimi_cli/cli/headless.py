"""From flags to a headless run: what is wrong with them ends with exit code 2 before a request."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kimi_cli.cli.exit_codes import EXIT_CODES
from kimi_cli.cli.starting import (
    GaveUp,
    Options,
    UsageError,
    begin_debug,
    check_session,
    chosen,
    expire,
    first_place,
    make_setup,
    open_run,
    tell,
    text_of,
    typed_flags,
)
from kimi_cli.protocol.stops import StopReason

if TYPE_CHECKING:
    from kimi_cli.agent import Opened

SIGNALLED = 128
"""Exit codes from here on are those of signals: whoever sent one does not wait."""


def start(options: Options) -> int:
    """Run headless; returns the exit code."""
    from kimi_cli.store.errors import StoreError
    from kimi_cli.workspace.launch import launch_helper

    try:
        _check_usage(options)
        resume = options.resume if options.resume else chosen(options)
        place = first_place(options, terminal=False)
        # First of all: it starts up on another core while the rest is imported.
        helper = launch_helper()
    except (UsageError, OSError) as error:
        return _fail(options, str(error))
    except GaveUp as error:
        return _fail(options, str(error), error.reason)
    except StoreError as error:
        return _fail(options, str(error), StopReason.STORE_FAILED)

    from kimi_cli.agent import SetupError
    from kimi_cli.cli.event_loop import run as run_loop
    from kimi_cli.frontends.headless.run import Job, run
    from kimi_cli.frontends.headless.stdin import InputError
    from kimi_cli.settings import SettingsError, kimi_home

    home = kimi_home(os.environ)
    try:
        message = _message(options)
        schema = _schema(options.json_schema)
        setup = make_setup(options, home, resume, helper, place)
    except (UsageError, InputError) as error:
        return _fail(options, str(error))

    run_by: list[Opened] = []

    async def session_and_run() -> int:
        opened = await open_run(options, setup)
        run_by.append(opened)
        for warning in opened.warnings:
            tell(warning)
        if options.debug:
            begin_debug(home, opened.secrets)
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

        return _fail(options, flag_problems(typed_flags(options.flags)) or str(error))
    except UsageError as error:
        return _fail(options, str(error))
    except SetupError as error:
        return _fail(options, str(error), error.reason)
    if code < SIGNALLED:
        expire(home, run_by[0])
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
            "nothing to do: give a prompt with -p TEXT or through a pipe; kimi alone needs a "
            "terminal (kimi --help)"
        )
    check_session(options)


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
        schema = json.loads(text_of(path))
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


def _fail(options: Options, text: str, reason: StopReason = StopReason.CONFIGURATION) -> int:
    """Say why there is no run; who asked for JSON gets the result of it as JSON."""
    tell(text)
    code = EXIT_CODES[reason]
    if options.output_format != "text":
        from kimi_cli.frontends.headless.result import Tally

        tally = Tally()
        tally.reason, tally.detail = reason, text
        result = tally.result(session=None, model="", exit_code=code, currency=None, denials=())
        with contextlib.suppress(OSError, ValueError):
            print(json.dumps(result, ensure_ascii=False), flush=True)
    return code
