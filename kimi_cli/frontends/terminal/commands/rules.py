"""The command about what the agent may do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from kimi_cli.frontends.plain import clean
from kimi_cli.frontends.terminal.commands.command import Command, CommandError
from kimi_cli.frontends.terminal.commands.support import (
    loaded_settings,
    need_opened,
    project_of,
    tell,
)

if TYPE_CHECKING:
    from kimi_cli.frontends.terminal.controller import Controller

Verdict = Literal["allow", "ask", "deny"]
VERDICTS: dict[str, Verdict] = {"allow": "allow", "ask": "ask", "deny": "deny"}
USAGE = "[explain COMMAND | allow|ask|deny|remove RULE]"
ABOUT = {
    "explain ": "what would become of a command",
    "allow ": "without asking from now on",
    "ask ": "ask from now on",
    "deny ": "never",
    "remove ": "take back a rule that was added",
}


async def policy(controller: Controller, argument: str) -> None:
    what, _, rest = argument.partition(" ")
    rest = rest.strip()
    if not what or argument == "list":
        await _list(controller)
    elif not rest:
        raise CommandError(f"/policy {USAGE}")
    elif what == "explain":
        await _explain(controller, rest)
    elif what in VERDICTS:
        await _add(controller, VERDICTS[what], rest)
    elif what == "remove":
        await _remove(controller, rest)
    else:
        raise CommandError(f"/policy {USAGE}")


async def _list(controller: Controller) -> None:
    from kimi_cli.frontends.policy_rules import NO_RULES, rule_lines, rule_rows

    loaded = await loaded_settings(controller)
    home, root = controller.setup.home, project_of(controller)
    rows = await asyncio.to_thread(rule_rows, loaded, home, root)
    tell(controller, map(clean, rule_lines(rows)) if rows else [NO_RULES])


async def _explain(controller: Controller, command: str) -> None:
    from kimi_cli.frontends.policy_rules import explanation

    opened, setup = need_opened(controller), controller.setup
    loaded = await loaded_settings(controller)
    root, mode = project_of(controller), opened.session.mode
    found = await asyncio.to_thread(
        lambda: explanation(
            command,
            loaded,
            env=setup.env,
            home=setup.home,
            root=root,
            cwd=opened.session.workspace.root,
            mode="read-only" if mode == "plan" else opened.sandbox.mode,
            yolo=mode == "yolo",
        )
    )
    tell(controller, str(found).split("\n"))
    if mode in ("ask", "plan"):
        controller.say(f"mode {mode} is stricter: what changes anything is {_stricter(mode)}")


async def _add(controller: Controller, verdict: Verdict, text: str) -> None:
    from kimi_cli.frontends.policy_rules import rule_text
    from kimi_cli.settings import keep_rule

    try:
        rule = rule_text(text, verdict)
    except ValueError as error:
        raise CommandError(str(error)) from None
    home, root = controller.setup.home, project_of(controller)
    new = await asyncio.to_thread(keep_rule, home, verdict, rule, root)
    await _put_in_force(controller)
    controller.say(f"{verdict}: {rule}, in {root}" + ("" if new else ", it was there"))


async def _remove(controller: Controller, text: str) -> None:
    from kimi_cli.frontends.policy_rules import rule_text
    from kimi_cli.settings import drop_rule

    try:
        rule = rule_text(text)
    except ValueError as error:
        raise CommandError(str(error)) from None
    home, root = controller.setup.home, project_of(controller)
    gone = await asyncio.to_thread(drop_rule, home, rule, root)
    if not gone:
        raise CommandError("no such rule was added for this project; those of files stay there")
    await _put_in_force(controller)
    for one in gone:
        controller.say(f"removed: {one.verdict} {one.rule}")


async def _put_in_force(controller: Controller) -> None:
    from kimi_cli.agent.guarding import rules_in_force

    loaded = await loaded_settings(controller)
    home, root = controller.setup.home, project_of(controller)
    controller.need_session().use_rules(await asyncio.to_thread(rules_in_force, loaded, home, root))


def _stricter(mode: str) -> str:
    return "asked for" if mode == "ask" else "refused"


def rule_choices(controller: Controller, typed: str) -> Iterable[tuple[str, str]]:
    """The kinds of /policy; after ``remove`` the rules that were added for the project."""
    from kimi_cli.settings import kept_rules

    if not typed.startswith("remove "):
        return list(ABOUT.items())
    kept = kept_rules(controller.setup.home, project_of(controller))
    return [(f"remove {one.rule}", one.verdict) for one in kept if one.project]


COMMANDS = (
    Command(
        "policy",
        "what may be done without asking, and what never",
        policy,
        USAGE,
        while_busy=True,
        complete=rule_choices,
    ),
)
