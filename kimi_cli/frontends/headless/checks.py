"""What makes an exit code mean something: a check command and a JSON schema for the answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from kimi_cli.agent import StopReason, StopTurn
from kimi_cli.agent.clip import clip_middle
from kimi_cli.protocol.workspace import Task, Workspace

MAX_SCHEMA_TRIES = 3
MAX_VERIFY_BYTES = 8_000
_FENCE = re.compile(r"\A```[\w-]*\n(.*)\n```\Z", re.DOTALL)


class SchemaCheck:
    """The answer must be JSON that validates against a schema; ``value`` is what it parsed to.

    After MAX_SCHEMA_TRIES answers that don't, the turn ends as failed.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        import jsonschema

        validator = jsonschema.validators.validator_for(schema)
        validator.check_schema(dict(schema))
        self._validator = validator(schema)
        self._tries = 0
        self.value: Any = None
        self.instruction = (
            "Your final answer must be one JSON value and nothing else: no prose, no code fence. "
            f"It must validate against this JSON Schema:\n{json.dumps(schema, ensure_ascii=False)}"
        )

    async def __call__(self, answer: str) -> str | None:
        problem = self._problem(answer)
        self._tries += 1
        last = self._tries >= MAX_SCHEMA_TRIES
        if problem is None or last:
            self._tries = 0  # the next turn begins anew
        if problem is None:
            return None
        if last:
            raise StopTurn(StopReason.SCHEMA_FAILED, problem)
        return f"{problem}\n{self.instruction}"

    def _problem(self, answer: str) -> str | None:
        fenced = _FENCE.match(answer.strip())
        try:
            value = json.loads(fenced.group(1) if fenced else answer, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            return f"The answer is not JSON: {error}"
        try:
            errors = sorted(self._validator.iter_errors(value), key=lambda e: str(e.json_path))
        except Exception as error:
            # A $ref that leads nowhere shows only when it is followed.
            reason = f"--json-schema can't be used: {error}"
            raise StopTurn(StopReason.CONFIGURATION, reason) from None
        if errors:
            return "The answer does not meet the schema: " + "; ".join(
                f"{e.json_path}: {e.message[:200]}" for e in errors[:5]
            )
        self.value = value
        return None


class VerifyCheck:
    """A command that must exit with 0 before the task counts as done; its failure goes back to the
    model. After ``tries`` failures the turn ends as failed."""

    def __init__(
        self, command: str, workspace: Workspace, tries: int, doing: Callable[[str], None]
    ) -> None:
        self._doing = doing
        self._command = command
        self._workspace = workspace
        self._tries = self._left = tries

    async def __call__(self, answer: str) -> str | None:
        self._doing(f"verify {self._command}")
        processes = self._workspace.processes
        task = await processes.start(self._command, cwd=self._workspace.root)
        try:
            result = await task.wait(None)
        finally:
            if task.result is None:
                await task.stop(grace=0.2)
        if result and result.code == 0:
            self._left = self._tries
            return None
        self._left -= 1
        outcome = f"exit {result.code}" if result and result.code is not None else "killed"
        problem = f"The check `{self._command}` failed ({outcome})"
        if self._left <= 0:
            self._left = self._tries
            raise StopTurn(StopReason.VERIFY_FAILED, problem)
        return f"{problem}. Its output:\n{_tail(task)}\nThe task is done when it passes. Go on."


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


def _tail(task: Task) -> str:
    """The command's output, cut for the model; reads no more of the file than it needs."""
    try:
        with task.output_path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - 4 * MAX_VERIFY_BYTES, 0))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return "(no output)"
    if len(text.encode()) > MAX_VERIFY_BYTES:
        text = clip_middle(text, MAX_VERIFY_BYTES, str(task.output_path))
    return text or "(no output)"
