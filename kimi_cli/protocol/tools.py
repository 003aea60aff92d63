"""The contract between the toolbox and a tool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from kimi_cli.protocol.messages import MediaPart
from kimi_cli.protocol.sandbox import Denial, Grant
from kimi_cli.protocol.workspace import FileTouch, Workspace

IntentKind = Literal["read", "write", "execute"]


@dataclass(frozen=True, slots=True)
class ToolSchema:
    """A tool as the model sees it; ``parameters`` is a JSON Schema object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Intent:
    """One thing a call wants to do, for the policy to judge: ``target`` is an absolute path for
    read and write, the command line for execute. ``real`` is where the path led when the call was
    made, all symlinks followed: the place that is judged and worked on; empty: to be found out."""

    kind: IntentKind
    target: str
    real: str = ""


class Params(BaseModel):
    """Base of a tool's arguments: unknown names are refused so that the model hears of typos."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """What a tool gives back.

    ``text`` goes to the model (the toolbox truncates and spills it), ``media`` too where the
    model takes it. ``display`` is for people's eyes only: a short outcome such as "4 passed" or
    "+1 -1". ``files`` are the files read or changed, ``data`` whatever a front end or the
    session needs in structured form. ``output_path`` names a file that already holds the whole
    output. ``failed`` marks a result that is an error although the tool itself worked (a command
    with a non-zero exit status). ``denial`` says that the sandbox caused the failure: the toolbox
    may ask and run the call again with what it lacked.
    """

    text: str
    media: Sequence[MediaPart] = ()
    display: str = ""
    failed: bool = False
    files: Sequence[FileTouch] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    output_path: str | None = None
    denial: Denial | None = None


class ToolError(Exception):
    """A call that could not be carried out; the message is written for the model and says what
    to do instead."""


class ToolContext(Protocol):
    """What a running call may reach."""

    @property
    def call_id(self) -> str: ...

    @property
    def workspace(self) -> Workspace: ...

    @property
    def media_kinds(self) -> frozenset[str]:
        """Kinds of media the current model takes: a subset of {"image", "video"}."""
        ...

    @property
    def grant(self) -> Grant:
        """What this call may do beyond the sandbox's mode."""
        ...

    def progress(self, text: str) -> None:
        """Show a piece of live output to people; never stored, never sent to the model."""
        ...


class Tool(Protocol):
    """One tool. ``params`` is a pydantic model, or a JSON Schema for tools that arrive at run
    time; ``run`` then gets a plain dict. ``read_only`` tools of one step may run in parallel.
    """

    @property
    def name(self) -> str: ...

    @property
    def params(self) -> type[BaseModel] | Mapping[str, Any]: ...

    @property
    def description(self) -> str: ...

    @property
    def read_only(self) -> bool: ...

    def intents(self, params: Any, workspace: Workspace) -> Sequence[Intent]:
        """What the call wants, judged by the policy before ``run``."""
        ...

    def summary(self, params: Any) -> str:
        """One short line for people: what the call works on, without the tool's name."""
        ...

    async def run(self, params: Any, context: ToolContext) -> ToolOutput:
        """Carry the call out. Raises ToolError for what the model should hear; any other
        exception is a bug and is reported as such. Must clean up when cancelled."""
        ...


@runtime_checkable
class Previewing(Protocol):
    """A tool that can tell beforehand exactly what a call would do."""

    def preview(self, params: Any, workspace: Workspace) -> str:
        """A unified diff, or the command, for the user who is asked; changes nothing. May block.
        Raises ToolError, StaleFile or OSError where the call would fail."""
        ...


_LEFT_OUT = frozenset(
    {
        *("title", "default", "$defs", "additionalProperties"),
        *("minLength", "maxLength", "minItems", "maxItems"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    }
)


def schema_of(params: type[BaseModel] | Mapping[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a tool's arguments, as small as the model needs it.

    Definitions are inlined; titles, defaults, class docstrings, bounds and
    ``additionalProperties`` are dropped (the validation still holds them); an optional value is
    its plain type, because the hosted API refuses a property without ``type``. A ready schema
    comes back unchanged. Raises ValueError for a model that contains itself.
    """
    if isinstance(params, Mapping):
        return dict(params)
    schema = params.model_json_schema()
    compact = _compact(schema, schema.get("$defs", {}), ())
    compact.pop("description", None)
    return compact


def _compact(
    node: Mapping[str, Any], definitions: Mapping[str, Any], inside: tuple[str, ...]
) -> dict[str, Any]:
    if "$ref" in node:
        name = str(node["$ref"]).rsplit("/", 1)[-1]
        if name in inside:
            raise ValueError(f"{name} contains itself: no finite schema")
        target = {k: v for k, v in definitions[name].items() if k != "description"}
        rest = {k: v for k, v in node.items() if k != "$ref"}
        return _compact(target | rest, definitions, (*inside, name))
    choices = [c for c in node.get("anyOf", ()) if c.get("type") != "null"]
    if len(choices) == 1:
        rest = {k: v for k, v in node.items() if k != "anyOf"}
        return _compact({**choices[0], **rest}, definitions, inside)
    result: dict[str, Any] = {}
    for key, value in node.items():
        if key in _LEFT_OUT:
            continue
        if key == "properties":
            result[key] = {k: _compact(v, definitions, inside) for k, v in value.items()}
        elif key == "items":
            result[key] = _compact(value, definitions, inside)
        elif key == "anyOf":
            result[key] = [_compact(choice, definitions, inside) for choice in choices]
        else:
            result[key] = value
    return result
