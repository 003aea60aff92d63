"""Leave for a tool call: what the policy says, asked where it asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from kimi_cli.agent.host import Journal, Leave, Wish
from kimi_cli.protocol.events import Notice
from kimi_cli.protocol.messages import ToolCallPart
from kimi_cli.protocol.sandbox import NOTHING, Denial, Grant
from kimi_cli.protocol.tools import Intent
from kimi_cli.safety.policy import Decision, Policy

NEVER = "That is never allowed."


@dataclass(frozen=True, slots=True)
class Permit:
    """``refusal`` says to the model why the call may not run, empty when it may; ``grant`` is what
    it may do beyond the sandbox then."""

    refusal: str = ""
    grant: Grant = NOTHING


@dataclass(frozen=True, slots=True)
class About:
    """What a call does, for the user who is asked: in a line, and exactly."""

    title: str
    preview: Callable[[], Awaitable[str]]


class Permits:
    """Asks the policy, and the user where the policy can't say."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    async def first(
        self,
        call: ToolCallPart,
        about: About,
        tool: str,
        intents: Sequence[Intent],
        journal: Journal,
    ) -> Permit:
        """Whether the call may run at all. Raises as ``journal.ask``."""
        decision = self._policy.decide(tool, intents)
        return await self._settle(call, about, decision, journal)

    async def more(
        self,
        call: ToolCallPart,
        about: About,
        intents: Sequence[Intent],
        denial: Denial,
        grant: Grant,
        journal: Journal,
    ) -> Permit:
        """Whether a call that the sandbox stopped may run again with exactly what it lacked."""
        if denial.grant is None:
            return Permit(NEVER)
        if grant.covers(denial.grant):
            # What would have helped was given already: the reading of the output was wrong.
            return Permit("Allowing it did not help.")
        decision = self._policy.beyond(intents, denial)
        permit = await self._settle(call, about, decision, journal)
        return Permit(permit.refusal, grant | denial.grant)

    async def _settle(
        self, call: ToolCallPart, about: About, decision: Decision, journal: Journal
    ) -> Permit:
        if decision.verdict == "allow":
            return Permit(grant=decision.grant)
        if decision.verdict == "deny":
            return Permit(f"Denied: {decision.reason}.")
        preview = await about.preview()
        wish = Wish(
            about.title, decision.reason, decision.rule, decision.grant, decision.marks, preview
        )
        leave: Leave = await journal.ask(call, wish)
        if not leave.allowed:
            return Permit(leave.words)
        if leave.scope != "once":
            try:
                self._policy.remember(decision.rule, leave.scope)
            except OSError as error:
                # The answer holds all the same, for as long as this session.
                journal.record(Notice(level="warning", text=f"the rule was not kept: {error}"))
        return Permit(grant=decision.grant)
