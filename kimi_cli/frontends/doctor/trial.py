"""Short real requests through the same provider that sessions use."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from kimi_cli.agent.model_config import model_config
from kimi_cli.model.build import ModelClient, ModelConfig, build_provider
from kimi_cli.model.endpoint import Models, detect, list_models
from kimi_cli.model.retry import Policy, Schedule
from kimi_cli.protocol.messages import (
    AssistantTurn,
    Message,
    TextPart,
    ToolCallPart,
    ToolTurn,
    UserTurn,
)
from kimi_cli.protocol.provider import Completed, Failed, ModelError, ModelRequest
from kimi_cli.protocol.tools import ToolSchema
from kimi_cli.settings import Settings, load_settings

GREETING_TOKENS = 32
"""Enough for a server to answer at all; a model that thinks may say nothing within them."""
ROUND_TRIP_TOKENS = 4096
LONGEST_WAIT = 60.0
"""Seconds for the first byte of a trial's answer, whatever the settings say."""
ONCE = Policy(patient=Schedule(1, 0, 0), brief=Schedule(1, 0, 0), overrides={})
WORD = "heron"
TOOL = ToolSchema(
    name="look_up",
    description="Looks up the secret word of a number.",
    parameters={
        "type": "object",
        "properties": {"number": {"type": "integer", "description": "The number."}},
        "required": ["number"],
    },
)


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """A tool call and the answer to its result: ``called`` is whether the right call came,
    ``salvaged`` that it came as raw markers in the text, ``answered`` that the answer used the
    result; ``error`` what stopped it."""

    called: bool = False
    salvaged: bool = False
    answered: bool = False
    seconds: float = 0.0
    error: ModelError | None = None


def trial_config(settings: Settings) -> ModelConfig:
    """The configuration of the settings, for requests that are made once and soon given up."""
    config = model_config(settings, settings.model, settings.thinking, "")
    wait = min(config.timeouts.first_byte, LONGEST_WAIT)
    between = min(config.timeouts.between_chunks, LONGEST_WAIT)
    connect = min(config.timeouts.connect, 10.0)
    timeouts = replace(
        config.timeouts,
        connect=connect,
        first_byte=wait,
        between_chunks=between,
        kept_alive=LONGEST_WAIT,
    )
    return replace(config, retry=ONCE, timeouts=timeouts)


def settings_for(env: Mapping[str, str], base_url: str, key: str, model: str) -> Settings:
    """The user's settings with another endpoint, key and model. Raises SettingsError."""
    flags = {
        "endpoint.base_url": base_url,
        "endpoint.api_key": key,
        "endpoint.dialect": "auto",
        "thinking": "",
        **({"model": model} if model else {}),
    }
    return load_settings(env=env, project_root=None, flags=flags, trusted=False).settings


async def listed(settings: Settings) -> Models:
    """What the endpoint lists, or why it did not. Raises ConfigError."""
    return await list_models(trial_config(settings))


async def greet(settings: Settings) -> ModelError | float:
    """Ask the model for a word: the seconds that it took, or what went wrong; any answer will do,
    an empty one too. Raises ConfigError."""
    start = time.monotonic()
    client = await _client(settings)
    try:
        request = _request(client, [_said("Say hello in one word.")], GREETING_TOKENS)
        answer = await _answer(client, request)
    finally:
        await client.close()
    return answer if isinstance(answer, ModelError) else time.monotonic() - start


async def round_trip(settings: Settings) -> RoundTrip:
    """Have the model call a tool, and answer with what the tool said. Raises ConfigError."""
    start = time.monotonic()
    client = await _client(settings)
    try:
        found = await _round_trip(client)
    finally:
        await client.close()
    return replace(found, seconds=time.monotonic() - start)


async def _round_trip(client: ModelClient) -> RoundTrip:
    messages: list[Message] = [
        _said(
            "Call the tool look_up with the number 7, then tell me the word that it gives. "
            "Do not guess it."
        )
    ]
    first = await _answer(client, _request(client, messages, ROUND_TRIP_TOKENS, tools=True))
    if isinstance(first, ModelError):
        return RoundTrip(error=first)
    calls = [part for part in first.parts if isinstance(part, ToolCallPart)]
    call = next((call for call in calls if _right(call)), None)
    if call is None:
        return RoundTrip()
    found = RoundTrip(called=True, salvaged=bool(first.salvaged))
    kept = tuple(p for p in first.parts if not isinstance(p, ToolCallPart) or p is call)
    result = ToolTurn(call.id, TOOL.name, (TextPart(text=f"The word is {WORD}."),))
    messages += [AssistantTurn(kept), result]
    second = await _answer(client, _request(client, messages, ROUND_TRIP_TOKENS, tools=True))
    if isinstance(second, ModelError):
        return replace(found, error=second)
    text = "".join(part.text for part in second.parts if isinstance(part, TextPart))
    return replace(found, answered=WORD in text.lower())


async def _client(settings: Settings) -> ModelClient:
    config, _ = await detect(trial_config(settings))
    return build_provider(config)


def _said(text: str) -> UserTurn:
    return UserTurn((TextPart(text=text),))


def _request(
    client: ModelClient, messages: list[Message], tokens: int, *, tools: bool = False
) -> ModelRequest:
    encoder = client.encoder()
    return ModelRequest(
        messages=[encoder.encode(message).data for message in messages],
        tools=(TOOL,) if tools else (),
        max_output_tokens=tokens,
    )


async def _answer(client: ModelClient, request: ModelRequest) -> Completed | ModelError:
    answer: Completed | ModelError | None = None
    async for event in client.stream(request):
        if isinstance(event, Completed):
            answer = event
        elif isinstance(event, Failed):
            answer = event.error
    assert answer is not None, "a provider's stream ends with Completed or Failed"
    return answer


def _right(call: ToolCallPart) -> bool:
    import json

    from kimi_cli.model.names import normalise_tool_name

    try:
        arguments = json.loads(call.arguments)
    except ValueError:
        return False
    named = normalise_tool_name(call.name, {TOOL.name}) == TOOL.name
    # A "7" is what some models make of a whole number.
    return named and isinstance(arguments, dict) and str(arguments.get("number")) == "7"
