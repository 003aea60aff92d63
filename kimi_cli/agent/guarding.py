"""What keeps a session's tools within bounds: the sandbox for its commands, the policy for all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from kimi_cli.agent.setup import Setup, SetupError
from kimi_cli.protocol.sandbox import SandboxState
from kimi_cli.protocol.stops import StopReason
from kimi_cli.safety.places import Places
from kimi_cli.safety.rules import RuleSet
from kimi_cli.safety.session_policy import SessionPolicy
from kimi_cli.settings import Loaded, Settings, SettingsError, keep_rule, kept_rules, user_home
from kimi_cli.workspace.box import Probe
from kimi_cli.workspace.confinement import Confinement
from kimi_cli.workspace.place import LocalWorkspace

PROTECTED = (".git", ".kimi")


def begin_probe(settings: Settings, workspace: LocalWorkspace) -> asyncio.Future[Probe] | None:
    """Begin to find out what the sandbox can hold here, for ``confine``; None where there is to be
    none."""
    if settings.sandbox.mode == "off":
        return None
    probing = asyncio.ensure_future(workspace.processes.probe(workspace.root))
    # Whoever fails before it is asked for has another error to tell.
    probing.add_done_callback(lambda done: done.cancelled() or done.exception())
    return probing


async def confine(
    setup: Setup,
    settings: Settings,
    workspace: LocalWorkspace,
    caches: Path,
    probing: asyncio.Future[Probe] | None,
) -> SandboxState:
    """Put the commands of a workspace into the sandbox of the settings; returns what holds then.
    ``caches`` takes what they change of the user's caches. Raises SetupError where no sandbox
    works and none was not what the user asked for."""
    wanted = settings.sandbox
    runner = workspace.processes
    if probing is None:
        return runner.sandbox
    try:
        probe = await probing
        if probe.way == "none":
            # A full or read-only project says nothing about the machine.
            probe = await runner.probe()
    except OSError as error:
        raise SetupError(f"the sandbox can't be tried out: {error}", StopReason.INTERNAL) from None
    if probe.way == "none":
        raise SetupError(
            f"no sandbox works here ({probe.why or 'nothing was found'}), so no command is run: "
            "--sandbox off runs them without one"
        )
    home = user_home(setup.env) or Path("/")
    confinement = Confinement(
        mode=wanted.mode,
        probe=probe,
        folders=workspace.folders,
        home=setup.home,
        user_home=home,
        env=setup.env,
        outputs=workspace.outputs,
        network=wanted.network,
        hide=wanted.hide,
        show=wanted.show,
        write=wanted.write,
        caches=caches,
    )
    runner.confine(confinement)
    return runner.sandbox


def doubts(sandbox: SandboxState, workspace: LocalWorkspace) -> list[str]:
    """What the user should know about what the sandbox does not hold."""
    found = []
    if sandbox.degraded:
        why = f" ({sandbox.why})" if sandbox.why else ""
        found.append(f"the sandbox is degraded{why}: it can't hold {', '.join(sandbox.lacks)}")
    own = Path(__file__).resolve().parents[1]
    inside = any(own.is_relative_to(folder) for folder in workspace.folders)
    if inside and sandbox.mode == "workspace-write":
        found.append(f"kimi itself lies in the workspace ({own}), where commands can change it")
    return found


def make_policy(
    setup: Setup,
    loaded: Loaded,
    workspace: LocalWorkspace,
    readable: Sequence[Path],
    sandbox: SandboxState,
) -> SessionPolicy:
    """The policy of a session. ``readable`` are folders of ours that tools may read. Raises
    SettingsError for a rule that is none."""
    root = workspace.folders[0]
    confinement = workspace.processes.confinement
    places = Places(
        workspace.folders,
        writable=confinement.writable() if confinement else (),
        readable=readable,
        protected=PROTECTED,
        guarded=confinement.guarded if confinement else tuple,
        private=[setup.home],
        hidden=confinement.hidden() if confinement else None,
        secrets=loaded.settings.secrets.files,
    )
    return SessionPolicy(
        places,
        [*workspace.folders, *(confinement.writable() if confinement else ())],
        rules_in_force(loaded, setup.home, root),
        project=root,
        home=user_home(setup.env),
        sandbox=sandbox,
        keep=lambda rule: _keep(setup.home, rule, root),
        yolo=setup.yolo,
    )


def rules_in_force(loaded: Loaded, home: Path, root: Path | None) -> RuleSet:
    """The rules of the settings, and those given by answers and ``kimi policy``. Raises
    SettingsError."""
    texts: dict[str, list[tuple[str, str]]] = {"allow": [], "ask": [], "deny": []}
    for verdict, rule, source in loaded.rules:
        texts[verdict].append((rule, str(source)))
    for kept in kept_rules(home, root):
        where = "for this project" if kept.project else "everywhere"
        texts[kept.verdict].append((kept.rule, f"kept, {where}"))
    try:
        return RuleSet.of(**texts)
    except ValueError as error:
        raise SettingsError(str(error)) from None


def _keep(home: Path, rule: str, root: Path) -> None:
    try:
        keep_rule(home, "allow", rule, root)
    except SettingsError as error:
        raise OSError(str(error)) from None
