"""The one wrapper around every tool: names, validation, policy, timing, truncation, events."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel, ValidationError

from kimi_cli.agent.arguments import BadArguments, parse_arguments
from kimi_cli.agent.clip import MAX_RESULT_BYTES, clip_middle
from kimi_cli.agent.host import Journal
from kimi_cli.agent.permits import About, Permits
from kimi_cli.agent.stop import StopTurn
from kimi_cli.protocol.events import (
    ToolResult,
    ToolStarted,
    ToolStatus,
)
from kimi_cli.protocol.live import ToolOutputDelta
from kimi_cli.protocol.messages import ContentPart, TextPart, ToolCallPart
from kimi_cli.protocol.sandbox import Grant
from kimi_cli.protocol.tools import (
    Intent,
    Previewing,
    Tool,
    ToolError,
    ToolOutput,
    ToolSchema,
    schema_of,
)
from kimi_cli.protocol.workspace import StaleFile, Workspace
from kimi_cli.safety.policy import Policy

log = logging.getLogger(__name__)

MAX_PARALLEL = 8
SHORT = 100
SHORTEST_SECRET = 8
"""Characters; what is shorter would be found in every text."""
OWN_KEY = "[kimi's key]"
STOPPED_BY_SANDBOX = "stopped_by_sandbox"
"""The field of a result's data that says what the sandbox refused."""
STOPPED = "interrupted while it ran, and stopped; what it had done until then stays"
NOT_RUN = "not run: the turn was interrupted before"


@dataclass(slots=True)
class _Step:
    """What the calls of one step share; ``cut``: the answer hit the output limit."""

    journal: Journal
    cut: bool
    started: set[str] = field(default_factory=set)
    finished: dict[str, ToolResult] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call that passed validation."""

    call: ToolCallPart
    tool: Tool
    params: Any
    summary: str
    intents: Sequence[Intent]

    def about(self, workspace: Workspace) -> About:
        return About(f"{self.tool.name} {self.summary}", lambda: self._preview(workspace))

    async def _preview(self, workspace: Workspace) -> str:
        if not isinstance(self.tool, Previewing):
            return ""
        try:
            return await asyncio.to_thread(self.tool.preview, self.params, workspace)
        except (ToolError, StaleFile, OSError):
            # What is in the way is told when the call fails, and only to whom may hear of it.
            return ""


@dataclass(frozen=True, slots=True)
class _Context:
    call_id: str
    workspace: Workspace
    media_kinds: frozenset[str]
    journal: Journal
    grant: Grant

    def progress(self, text: str) -> None:
        self.journal.show(ToolOutputDelta(call_id=self.call_id, text=text))


class Toolbox:
    """The tools of a session. The set is fixed for its life: changing it would break the prefix
    cache of everything after."""

    def __init__(
        self,
        tools: Sequence[Tool],
        *,
        workspace: Workspace,
        policy: Policy,
        media_kinds: frozenset[str],
        normalise: Callable[[str, Sequence[str]], str | None],
        secrets: Sequence[str] = (),
    ) -> None:
        """``secrets`` are our own keys, which no result may hold; more may come."""
        self._tools = {tool.name: tool for tool in tools}
        self._workspace = workspace
        self._permits = Permits(policy)
        self._normalise = normalise
        self._secrets = secrets
        self.media_kinds = media_kinds

    def schemas(self) -> list[ToolSchema]:
        return [_schema(tool) for tool in self._tools.values()]

    async def run_all(
        self, calls: Sequence[ToolCallPart], journal: Journal, *, cut: bool
    ) -> list[ToolResult]:
        """Run the calls of one step and record a result for each, in call order.

        Neighbouring read-only calls run side by side, the rest one after the other. ``cut`` says
        that the answer hit the output limit. When cancelled, every call still gets its result
        before CancelledError goes on. Raises StoreError and what ``journal.ask`` raises.
        """
        results: list[ToolResult] = []
        step = _Step(journal, cut)
        try:
            for group in self._groups(calls):
                async for result in self._run_group(group, step):
                    journal.record(result)
                    results.append(result)
        except (asyncio.CancelledError, StopTurn):
            for call in calls[len(results) :]:
                text = STOPPED if call.id in step.started else NOT_RUN
                done = step.finished.get(call.id)
                journal.record(done or _plain_result(call, "interrupted", text))
            raise
        return results

    def _groups(self, calls: Sequence[ToolCallPart]) -> list[list[ToolCallPart]]:
        groups: list[list[ToolCallPart]] = []
        parallel = False
        for call in calls:
            tool = self._find(call.name)
            read_only = tool is None or tool.read_only
            if groups and parallel and read_only and len(groups[-1]) < MAX_PARALLEL:
                groups[-1].append(call)
            else:
                groups.append([call])
            parallel = read_only
        return groups

    async def _run_group(self, group: list[ToolCallPart], step: _Step) -> AsyncIterator[ToolResult]:
        if len(group) == 1:
            yield await self._run(group[0], step)
            return
        running = [asyncio.ensure_future(self._run(call, step)) for call in group]
        try:
            for task in running:
                yield await asyncio.shield(task)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _run(self, call: ToolCallPart, step: _Step) -> ToolResult:
        journal = step.journal
        try:
            prepared = self._prepare(call, step.cut)
        except ToolError as error:
            return _plain_result(call, "error", str(error))
        except Exception as error:
            log.exception("%s could not be prepared", call.name[:80])
            return _plain_result(call, "error", f"{type(error).__name__}: {error}")
        permit = await self._permits.first(
            call, prepared.about(self._workspace), prepared.tool.name, prepared.intents, journal
        )
        if permit.refusal:
            return _plain_result(call, "denied", permit.refusal, summary=prepared.summary)
        journal.record(
            ToolStarted(call_id=call.id, name=prepared.tool.name, summary=prepared.summary)
        )
        step.started.add(call.id)
        if not prepared.tool.read_only:
            await journal.settle()
        result = await self._execute(prepared, permit.grant, journal)
        step.finished[call.id] = result
        return result

    def _prepare(self, call: ToolCallPart, cut: bool) -> Prepared:
        tool = self._find(call.name)
        if tool is None:
            known = ", ".join(self._tools)
            raise ToolError(f"There is no tool {call.name[:80]!r}. The tools are: {known}.")
        try:
            raw = parse_arguments(call.arguments)
            params = _validate(tool, raw)
            intents = tool.intents(params, self._workspace)
            return Prepared(call, tool, params, tool.summary(params), intents)
        except BadArguments as error:
            why = f"The call was not run: {error}."
            if cut:
                why = (
                    "The call was not run: the answer hit the output limit and its arguments "
                    "are cut off. Do it in several smaller calls."
                )
            raise ToolError(why) from None

    async def _execute(self, prepared: Prepared, grant: Grant, journal: Journal) -> ToolResult:
        call, tool = prepared.call, prepared.tool
        begun = time.monotonic()
        status: ToolStatus = "error"
        output = ToolOutput("")
        try:
            output = self._redacted(await self._attempt(prepared, grant, journal))
            status = "error" if output.failed else "ok"
        except (ToolError, StaleFile) as error:
            output = ToolOutput(str(error))
        except OSError as error:
            output = ToolOutput(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))
        except (asyncio.CancelledError, StopTurn):
            # The caller records "interrupted" for it; the tool has cleaned up after itself.
            raise
        except Exception as error:
            log.exception("tool %s failed", tool.name)
            output = ToolOutput(f"The tool itself failed: {type(error).__name__}: {error}")
        text, spilled = self._bound(tool.name, output)
        display = output.display or (_in_short("error", output.text) if status == "error" else "")
        parts: list[ContentPart] = [TextPart(text=text)] if text else []
        parts += [m for m in output.media if m.kind in self.media_kinds]
        return ToolResult(
            call_id=call.id,
            name=tool.name,
            status=status,
            parts=parts,
            summary=prepared.summary,
            display=display,
            seconds=round(time.monotonic() - begun, 4),
            files=list(output.files),
            data=dict(output.data),
            output_path=spilled,
        )

    async def _attempt(self, prepared: Prepared, grant: Grant, journal: Journal) -> ToolOutput:
        """Run the call; where the sandbox stopped it, again with what it lacked if that is allowed.
        Raises what the tool and ``journal.ask`` raise."""
        call, note = prepared.call, ""
        while True:
            context = _Context(call.id, self._workspace, self.media_kinds, journal, grant)
            output = await prepared.tool.run(prepared.params, context)
            if output.denial is None:
                return replace(output, text=note + output.text)
            permit = await self._permits.more(
                call,
                prepared.about(self._workspace),
                prepared.intents,
                output.denial,
                grant,
                journal,
            )
            if permit.refusal:
                why = output.denial.reason
                rest = permit.refusal.removeprefix(f"Denied: {why}")
                rest = rest if rest != permit.refusal else f". {permit.refusal}"
                refused = f"[The sandbox stopped it: {why}{rest}]\n"
                data = {**output.data, STOPPED_BY_SANDBOX: why}
                return replace(output, text=note + output.text + refused, data=data)
            grant = permit.grant
            note = f"[The sandbox stopped it first; run again {grant.words()}, as allowed.]\n"

    def redacted(self, text: str) -> str:
        """The text without our own keys."""
        for secret in self._secrets:
            if len(secret) >= SHORTEST_SECRET:
                text = text.replace(secret, OWN_KEY)
        return text

    def _redacted(self, output: ToolOutput) -> ToolOutput:
        text = self.redacted(output.text)
        return output if text == output.text else replace(output, text=text)

    def _bound(self, name: str, output: ToolOutput) -> tuple[str, str | None]:
        """The text the model gets, and the path of the whole where it had to be cut."""
        raw = output.text.encode("utf-8", "surrogatepass")
        if len(raw) <= MAX_RESULT_BYTES:
            return output.text, output.output_path
        path = output.output_path
        try:
            path = path or str(self._workspace.spill(name, raw))
        except OSError as error:
            lost = f"no file: it could not be kept ({error.strerror or error})"
            return clip_middle(output.text, MAX_RESULT_BYTES, lost), None
        return clip_middle(output.text, MAX_RESULT_BYTES, path), path

    def _find(self, name: str) -> Tool | None:
        known = self._normalise(name, list(self._tools))
        return self._tools.get(known) if known else None


def _schema(tool: Tool) -> ToolSchema:
    params = tool.params
    schema = params if isinstance(params, Mapping) else schema_of(params)
    return ToolSchema(tool.name, tool.description, schema)


def _validate(tool: Tool, raw: dict[str, Any]) -> Any:
    params = tool.params
    if isinstance(params, Mapping):
        return _validate_by_schema(params, raw)
    model: type[BaseModel] = params
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise ToolError(_explain(tool.name, error)) from None


def _validate_by_schema(schema: Mapping[str, Any], raw: dict[str, Any]) -> dict[str, Any]:
    import jsonschema

    try:
        jsonschema.validate(raw, schema)
    except jsonschema.ValidationError as error:
        raise ToolError(f"The call was not run: {error.json_path}: {error.message}") from None
    return raw


def _explain(name: str, error: ValidationError) -> str:
    """A schema error as a sentence the model can act on."""
    problems = [
        f"{'.'.join(str(p) for p in e['loc']) or 'arguments'}: {e['msg']}"
        for e in error.errors(include_url=False, include_context=False, include_input=False)[:5]
    ]
    return f"The call was not run. Wrong arguments for {name}: " + "; ".join(problems)


def _plain_result(
    call: ToolCallPart, status: ToolStatus, text: str, summary: str = ""
) -> ToolResult:
    return ToolResult(
        call_id=call.id,
        name=call.name[:80],
        status=status,
        parts=[TextPart(text=text)],
        summary=summary,
        display="" if status == "interrupted" else _in_short(status, text),
    )


def _in_short(status: str, text: str) -> str:
    """Why a call failed or was denied, for a line that people read."""
    first = text.strip().partition("\n")[0].removeprefix("Denied: ")
    return f"{status}: {first[:SHORT]}{'…' * (len(first) > SHORT)}" if first else status
