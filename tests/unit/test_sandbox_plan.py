"""The boxes that a session makes: their paths, and what comes of them with a kernel and git."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kimi_cli.protocol.sandbox import NOTHING, Denial, Grant
from kimi_cli.workspace.box import Box, Probe, Weaker
from kimi_cli.workspace.confinement import Confinement
from kimi_cli.workspace.launch import launch_helper
from kimi_cli.workspace.processes import ProcessRunner

FULL = Probe("namespaces", overlays=True)
BARE = Probe("landlock", ("protected files are put back only after a command",), "no namespaces")


class World:
    """A home folder away from the temp folders, with KIMI_HOME, a project and secrets in it."""

    def __init__(self, folder: Path) -> None:
        self.home = folder
        self.kimi = folder / ".kimi-cli"
        self.outputs = self.kimi / "sessions/p/s/outputs"
        self.project = folder / "project"
        for path in (self.outputs, self.project, folder / ".ssh", folder / ".cache"):
            path.mkdir(parents=True)
        (folder / ".ssh/id").write_text("secret key")
        (folder / ".gitconfig").write_text("[user]\n\tname = n\n\temail = e\n")
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        self.made: list[Confinement] = []

    def git(self, folder: Path, command: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["/bin/sh", "-c", command], cwd=folder, env=self.env, check=True, capture_output=True
        )

    def repository(self, folder: Path) -> Path:
        self.git(folder, "git init -q . && echo a > a && git add a && git commit -qm a")
        return folder

    def plan(self, *folders: Path, probe: Probe = FULL, **more: Any) -> Confinement:
        values: dict[str, Any] = {
            "mode": "workspace-write",
            "probe": probe,
            "folders": folders or [self.project],
            "home": self.kimi,
            "user_home": self.home,
            "env": self.env,
            "outputs": self.outputs,
        }
        made = Confinement(**(values | more))
        self.made.append(made)
        return made

    def box(self, *folders: Path, grant: Grant = NOTHING, **more: Any) -> Box:
        box = self.plan(*folders, **more).box(folders[0] if folders else self.project, grant)
        assert box is not None
        return box


@pytest.fixture
def world() -> Iterator[World]:
    if any(Path.home().resolve().is_relative_to(place) for place in ("/tmp", "/var/tmp")):
        pytest.skip("the home folder lies in a temp folder, which commands may write")
    folder = Path(tempfile.mkdtemp(prefix="kimi-plan-", dir=Path.home())).resolve()
    made = World(folder)
    yield made
    for confinement in made.made:
        confinement.close()
    shutil.rmtree(folder)


def names(paths: tuple[bytes, ...], world: World) -> set[str]:
    return {os.fsdecode(path).removeprefix(f"{world.home}/") for path in paths}


def test_an_ordinary_repository(world: World) -> None:
    world.repository(world.project)
    (world.project / ".kimi").mkdir()
    box = world.box()
    assert b"/tmp" in box.write and b"/tmp" in box.temp
    assert names(box.write, world) >= {"project"}
    assert names(box.pinned, world) == {"project/.git"}
    assert names(box.read_only, world) == {
        "project/.git/config",
        "project/.git/hooks",
        "project/.kimi",
    }
    assert names(box.hidden, world) == {".kimi-cli", ".ssh"}
    assert names(box.shown, world) == {".kimi-cli/sessions/p/s/outputs"}
    assert not box.network
    assert [os.fsdecode(t) for t, _, _ in box.overlays] == [str(world.home / ".cache")]


def test_read_only_leaves_a_private_temp_folder_and_no_more(world: World) -> None:
    world.repository(world.project)
    plan = world.plan(mode="read-only")
    box = plan.box(world.project, NOTHING)
    assert box is not None
    (temp,) = box.write
    assert os.fsdecode(temp) == plan.environment(NOTHING)["TMPDIR"]
    assert os.listdir(temp) == []
    assert box.overlays == () and box.pinned == ()
    granted = plan.box(world.project, Grant(write=(str(world.project),)))
    assert granted is not None
    assert names(granted.read_only, world) >= {"project/.git/hooks", "project/.git/config"}
    plan.close()
    assert not os.path.exists(temp)


def test_off_and_unconfined(world: World) -> None:
    off = world.plan(mode="off")
    assert off.box(world.project, NOTHING) is None
    assert off.state.mode == "off" and off.environment(NOTHING) == {}
    plan = world.plan()
    assert plan.box(world.project, Grant(unconfined=True)) is None
    assert plan.environment(Grant(unconfined=True)) == {}


def test_no_way_to_confine_is_an_error_not_a_command_without_limits(world: World) -> None:
    plan = world.plan(probe=Probe("none", why="the kernel is too old"))
    with pytest.raises(OSError, match="too old"):
        plan.box(world.project, NOTHING)


def test_a_linked_worktree(world: World) -> None:
    main = world.repository(world.home / "main")
    world.git(main, "git worktree add -q ../tree && git worktree add -q ../other")
    box = world.box(world.home / "tree")
    assert names(box.write, world) >= {"tree", "main/.git"}
    assert "main" not in names(box.write, world)
    assert names(box.read_only, world) >= {
        "main/.git/config",
        "main/.git/hooks",
        "main/.git/worktrees/tree/commondir",
        "tree/.git",
    }


@pytest.mark.parametrize("how", ["file", "symlink"])
def test_a_git_file_that_a_command_made_gives_nothing_away(world: World, how: str) -> None:
    other = world.repository(world.home / "other")
    if how == "file":
        (world.project / ".git").write_text(f"gitdir: {other}/.git\n")
    else:
        (world.project / ".git").symlink_to(other / ".git")
    (world.project / "sub").mkdir()
    (world.project / "sub/.git").write_text(f"gitdir: {other}/.git\n")
    assert not {n for n in names(world.box().write, world) if n.startswith("other")}


def test_submodules(world: World) -> None:
    world.repository(world.home / "lib")
    world.repository(world.project)
    add = "git -c protocol.file.allow=always submodule --quiet add"
    world.git(world.project, f"{add} {world.home}/lib libs/lib && git commit -qm s")
    read_only = names(world.box().read_only, world)
    assert {
        "project/.git/modules/libs/lib/hooks",
        "project/.git/modules/libs/lib/config",
        "project/libs/lib/.git",
    } <= read_only
    # The submodule as the workspace: its git folder belongs to it, its hooks do not.
    box = world.box(world.project / "libs/lib")
    assert "project/.git/modules/libs/lib" in names(box.write, world)
    assert "project/.git" not in names(box.write, world)


def test_grants(world: World) -> None:
    world.repository(world.project)
    plan = world.plan()
    config = str(world.project / ".git/config")

    def box(grant: Grant) -> Box:
        made = plan.box(world.project, grant)
        assert made is not None
        return made

    assert box(Grant(network=True)).network
    assert box(Grant(network=True)).hidden == box(NOTHING).hidden
    written = box(Grant(write=(config,)))
    # Without a mount of its own: git replaces the file by another.
    assert "project/.git/config" not in names(written.read_only + written.write, world)
    assert "project/.git/hooks" in names(written.read_only, world)
    inner = box(Grant(write=(str(world.project / ".git/hooks/pre-commit"),)))
    assert "project/.git/hooks" not in names(inner.read_only, world)
    whole = box(Grant(write=(str(world.project / ".git"),)))
    assert whole.pinned == () and not names(whole.read_only, world)
    missing = box(Grant(write=(str(world.project / ".kimi"),)))
    assert "project/.kimi" in names(missing.write, world)
    shown = box(Grant(read=(str(world.home / ".ssh"),)))
    assert names(shown.hidden, world) == {".kimi-cli"}
    one = box(Grant(read=(str(world.home / ".ssh/id"),)))
    assert ".ssh" in names(one.hidden, world) and ".ssh/id" in names(one.shown, world)


@pytest.mark.parametrize("place", ["", "/sessions", "/config.toml"])
def test_kimi_home_is_never_granted(world: World, place: str) -> None:
    path = f"{world.kimi}{place}"
    for grant in (Grant(write=(path,)), Grant(read=(path,)), Grant(read=(str(world.home),))):
        box = world.box(grant=grant)
        assert ".kimi-cli" in names(box.hidden, world)
        assert not [n for n in names(box.write, world) if n.startswith(".kimi-cli/")]
        assert ".kimi-cli" not in names(box.write, world)
        assert names(box.shown, world) <= {".kimi-cli/sessions/p/s/outputs"}


def test_another_repository_that_is_granted_keeps_its_hooks(world: World) -> None:
    other = world.repository(world.home / "other")
    for granted in (other, other / ".git"):
        box = world.box(grant=Grant(write=(str(granted),)))
        assert str(granted.relative_to(world.home)) in names(box.write, world)
    box = world.box(grant=Grant(write=(str(other),)))
    assert names(box.read_only, world) >= {"other/.git/hooks", "other/.git/config"}


def test_hiding_more_and_showing_some(world: World) -> None:
    (world.home / "private").mkdir()
    (world.home / ".aws").mkdir()
    (world.home / ".npmrc").write_text("//registry/:_authToken=abc\n")
    hidden = names(world.box().hidden, world)
    assert {".aws", ".npmrc", ".ssh"} <= hidden and "private" not in hidden
    (world.home / ".npmrc").write_text("save-exact=true\n")
    box = world.box(hide=["~/private"], show=["~/.aws", "~/.ssh/id"])
    assert names(box.hidden, world) == {".kimi-cli", ".ssh", "private"}
    assert ".ssh/id" in names(box.shown, world)


def test_more_places_to_write(world: World) -> None:
    (world.home / "data").mkdir()
    box = world.box(write=["~/data", "~/missing"])
    assert "data" in names(box.write, world) and "missing" not in names(box.write, world)


def test_the_home_folder_as_the_workspace(world: World) -> None:
    (world.home / ".bashrc").write_text("")
    (world.home / ".config/fish").mkdir(parents=True)
    world.repository(world.home / "code/app")
    box = world.box(world.home)
    assert os.fsencode(world.home) in box.write
    assert names(box.hidden, world) == {".kimi-cli", ".ssh"}
    assert {".bashrc", ".config/fish", ".gitconfig", "code/app/.git/hooks"} <= names(
        box.read_only, world
    )
    assert not set(box.hidden) & set(box.read_only)
    assert box.overlays == ()


def test_the_whole_machine_as_the_workspace(world: World) -> None:
    box = world.box(Path("/"), env=world.env | {"TMPDIR": "/"})
    assert b"/" in box.write
    assert {b"/etc", b"/usr", b"/proc", b"/sys"} <= set(box.read_only)
    assert {os.fsencode(world.kimi), os.fsencode(world.home / ".ssh")} <= set(box.hidden)
    assert b"/" not in box.temp


def test_a_workspace_in_a_hidden_place_stays_visible(world: World) -> None:
    inner = world.kimi / "demo/project"
    inner.mkdir(parents=True)
    box = world.box(inner)
    assert os.fsencode(inner) in box.write and os.fsencode(world.kimi) in box.hidden
    box = world.box(world.home / ".ssh")
    assert ".ssh" in names(box.write, world) and ".ssh" not in names(box.hidden, world)


def test_folders_that_are_symlinks_missing_or_nested(world: World) -> None:
    (world.home / "link").symlink_to(world.project)
    (world.project / "sub").mkdir()
    folders = (world.home / "link", world.project / "sub", world.home / "gone")
    box = world.box(*folders)
    assert {n for n in names(box.write, world) if not n.startswith(("/", "."))} == {
        "project",
        "project/sub",
    }
    for path in (*box.write, *box.read_only, *box.hidden, *box.shown, *box.pinned):
        text = os.fsdecode(path)
        assert os.path.realpath(text) == text


def test_a_temp_folder_of_the_users(world: World) -> None:
    own = world.home / "tmp"
    own.mkdir()
    assert "tmp" in names(world.box(env=world.env | {"TMPDIR": str(own)}).temp, world)
    # The home folder is none, whatever the variable says.
    for value in (str(world.home), "/", "relative", "/nonexistent-kimi"):
        assert world.box(env=world.env | {"TMPDIR": value}).write == world.box().write


def test_the_agent_goes_with_the_keys(world: World) -> None:
    import socket

    path = str(world.home / "agent")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        env = world.env | {"SSH_AUTH_SOCK": path}
        assert "agent" not in names(world.box(env=env).write, world)
        shown = world.box(env=env, grant=Grant(read=(str(world.home / ".ssh"),)))
        assert "agent" in names(shown.write, world)


def test_the_environment(world: World) -> None:
    plan = world.plan()
    assert plan.environment(NOTHING)["CARGO_NET_OFFLINE"] == "true"
    assert "CARGO_NET_OFFLINE" not in plan.environment(Grant(network=True))
    assert "CARGO_NET_OFFLINE" not in world.plan(network=True).environment(NOTHING)
    bare = world.plan(probe=BARE, env=world.env | {"GIT_CONFIG_COUNT": "1"})
    made = bare.environment(NOTHING)
    assert made["GIT_CONFIG_COUNT"] == "2" and made["GIT_CONFIG_KEY_1"] == "core.hooksPath"
    assert Path(made["XDG_CACHE_HOME"]).is_relative_to(world.kimi / "caches")
    box = bare.box(world.project, NOTHING)
    assert box is not None and os.fsencode(made["XDG_CACHE_HOME"]) in box.write
    assert bare.state.degraded and bare.state.why


def test_two_sessions_have_layers_of_their_own(world: World) -> None:
    first, second = world.box(), world.box()
    uppers = {os.fsdecode(upper) for box in (first, second) for _, upper, _ in box.overlays}
    assert len(uppers) == 2


def test_kimi_home_that_cannot_be_written_costs_only_the_caches(world: World) -> None:
    (world.kimi / "caches").write_text("in the way")
    box = world.box()
    assert box.overlays == () and names(box.write, world) >= {"project"}


def test_a_box_is_made_in_little_time(world: World) -> None:
    world.repository(world.project)
    plan = world.plan()
    assert plan.box(world.project, NOTHING) is not None

    def best(runs: int) -> float:
        found = []
        for _ in range(runs):
            began = time.perf_counter()
            plan.box(world.project, NOTHING)
            found.append(time.perf_counter() - began)
        return min(found)

    # Against a process, which every command costs anyway.
    began = time.perf_counter()
    for _ in range(5):
        subprocess.run(["/bin/true"], check=True)
    assert best(20) < (time.perf_counter() - began) / 5 * 2


def test_changed_configuration_is_seen_by_the_next_box(world: World) -> None:
    world.repository(world.project)
    (world.project / "hooks").mkdir()
    plan = world.plan()
    before = plan.box(world.project, NOTHING)
    world.git(world.project, "git config core.hooksPath hooks")
    after = plan.box(world.project, NOTHING)
    assert before is not None and after is not None
    assert names(after.read_only, world) - names(before.read_only, world) == {"project/hooks"}


# From here on with a kernel.


class Session:
    """Commands run in the boxes of a plan."""

    def __init__(self, world: World, plan: Confinement, runner: ProcessRunner) -> None:
        self.world, self.plan, self.runner = world, plan, runner
        self.put_back: list[str] = []

    async def run(
        self, command: str, *, cwd: Path | None = None, grant: Grant = NOTHING
    ) -> tuple[int | None, str, Denial | None]:
        task = await self.runner.start(command, cwd=cwd or self.world.project, grant=grant)
        result = await task.wait(60)
        assert result is not None
        await task.stop(0.0)
        self.put_back = list(task.put_back)
        output = task.output_path.read_text(errors="replace")
        return result.code, output, self.runner.denial(task, output)


def session(
    world: World, use: Callable[[Session], Awaitable[None]], best: Weaker = "", **more: Any
) -> None:
    async def main() -> None:
        runner = ProcessRunner(world.outputs, env=world.env, helper=launch_helper(best=best))
        try:
            probe = await runner.probe(world.home)
            if probe.way != (best or "namespaces"):
                pytest.skip(f"{best or 'namespaces'} does not work here: {probe.why}")
            plan = world.plan(*more.pop("folders", ()), probe=probe, **more)
            runner.confine(plan)
            await use(Session(world, plan, runner))
        finally:
            await runner.close()

    asyncio.run(main())


WORK = (
    "echo b > b && git add b && git commit -qm b && git switch -qc topic && echo c >> b &&"
    " git stash -q && git stash pop -q && git commit -qam c && git tag t && git gc -q &&"
    " git switch -q - && git merge -q topic && git log --oneline | wc -l"
)


@pytest.mark.parametrize("best", ["", "landlock"])
@pytest.mark.parametrize("where", ["main", "tree", "sub"])
def test_ordinary_work_with_git(world: World, where: str, best: Weaker) -> None:
    world.repository(world.project)
    place = world.project
    if where == "tree":
        place = world.home / "tree"
        world.git(world.project, "git worktree add -q ../tree")
    if where == "sub":
        world.repository(world.home / "lib")
        add = "git -c protocol.file.allow=always submodule --quiet add"
        world.git(world.project, f"{add} {world.home}/lib lib && git commit -qm s")
        place = world.project / "lib"

    async def use(session: Session) -> None:
        code, output, denial = await session.run(WORK, cwd=place)
        assert (code, denial, session.put_back) == (0, None, []), output

    session(world, use, best, folders=(place,))


def test_what_decides_what_git_runs_is_held(world: World) -> None:
    world.repository(world.project)
    world.git(world.project, "git worktree add -q ../tree")
    tree = world.home / "tree"

    async def use(session: Session) -> None:
        hooks = world.project / ".git/hooks"
        for command in (
            f"echo evil > {hooks}/post-commit",
            "git config core.fsmonitor ./evil",
            f"mv {hooks} {hooks}2",
            "echo gitdir: /tmp > .git",
            "rm .git",
            "echo /tmp > $(git rev-parse --git-dir)/commondir",
        ):
            code, output, denial = await session.run(command, cwd=tree)
            assert code != 0, output
            assert denial is not None and denial.grant is not None, output
            # What is offered is what it takes.
        assert not (hooks / "post-commit").exists()
        code, output, denial = await session.run("git remote add o ../x", cwd=tree)
        assert denial is not None and denial.grant is not None
        code, output, _ = await session.run("git remote add o ../x", cwd=tree, grant=denial.grant)
        assert code == 0, output

    session(world, use, folders=(tree,))


@pytest.mark.parametrize("best", ["", "landlock"])
def test_what_was_missing_is_set_aside_after_the_command(world: World, best: Weaker) -> None:
    world.repository(world.project)

    async def use(session: Session) -> None:
        code, output, _ = await session.run("mkdir .kimi; echo x > .kimi/config.toml")
        assert code == 0, output
        assert len(session.put_back) == 1 and ".kimi" in session.put_back[0]
        assert not (world.project / ".kimi").exists()
        code, output, _ = await session.run("git init -q new && echo x > new/.git/hooks/pre-commit")
        assert code == 0, output
        assert not (world.project / "new/.git/hooks/pre-commit").exists()
        assert (world.project / "new/.git/HEAD").exists()
        # What a command made it can remove again, and set up as it likes.
        code, output, _ = await session.run("git -C new remote add o x && rm -r new")
        assert code == 0, output
        # The model can read what was set aside.
        code, output, _ = await session.run(f"cat {world.outputs}/set-aside/*-pre-commit")
        assert (code, output) == (0, "x\n")

    session(world, use, best)


def test_protected_files_are_put_back_where_the_kernel_holds_nothing(world: World) -> None:
    world.repository(world.project)
    config = (world.project / ".git/config").read_bytes()

    async def use(session: Session) -> None:
        code, output, _ = await session.run("git config core.fsmonitor ./evil")
        assert code == 0, output
        assert session.put_back
        assert (world.project / ".git/config").read_bytes() == config
        grant = Grant(write=(str(world.project / ".git/config"),))
        code, output, _ = await session.run("git config a.b c", grant=grant)
        assert code == 0 and session.put_back == []
        assert (world.project / ".git/config").read_bytes() != config

    session(world, use, "landlock")


@pytest.mark.parametrize("best", ["", "landlock"])
def test_refusals_are_recognised_and_the_grant_offered_is_enough(
    world: World, best: Weaker
) -> None:
    world.repository(world.project)
    (world.home / "out").mkdir()

    async def use(session: Session) -> None:
        for command in (
            f"touch {world.home}/out/f",
            f"cd {world.home}/out && mkdir sub",
            f"python3 -c \"open('{world.home}/out/g', 'w')\"",
            f"git clone -q . {world.home}/out/copy",
            f"git config --file {world.home}/out/conf a.b c",
        ):
            code, output, denial = await session.run(command)
            assert code != 0
            assert denial is not None and denial.grant is not None, output
            assert denial.grant == Grant(write=(str(world.home / "out"),))
            code, output, _ = await session.run(command, grant=denial.grant)
            assert code == 0, output

    session(world, use, best)


@pytest.mark.parametrize("best", ["", "landlock"])
def test_secrets_are_hidden_and_outputs_are_shown(world: World, best: Weaker) -> None:
    key = world.home / ".ssh/id"
    (world.outputs / "long.txt").write_text("long")
    (world.kimi / "config.toml").write_text("api_key")

    async def use(session: Session) -> None:
        code, output, denial = await session.run(f"cat {key}")
        assert code != 0 and "secret" not in output
        assert denial is not None and denial.grant == Grant(read=(str(key),))
        code, output, _ = await session.run(f"cat {key}", grant=denial.grant)
        assert (code, output) == (0, "secret key")
        code, output, denial = await session.run(f"cat {world.kimi}/config.toml")
        assert code != 0 and denial is not None and denial.grant is None
        code, output, _ = await session.run(f"cat {world.outputs}/long.txt")
        assert (code, output) == (0, "long")

    session(world, use, best)


@pytest.mark.parametrize("best", ["", "landlock"])
def test_no_network(world: World, best: Weaker) -> None:
    async def use(session: Session) -> None:
        code, output, denial = await session.run("curl -sS http://93.184.216.34/ || exit 1")
        assert code == 1
        if "not found" not in output:
            assert denial is not None and denial.grant == Grant(network=True), output
        command = "exec 3<>/dev/tcp/93.184.216.34/80"
        code, output, denial = await session.run(command)
        assert code != 0
        assert denial is not None and denial.grant == Grant(network=True), output

    session(world, use, best)


def test_read_only(world: World) -> None:
    world.repository(world.project)

    async def use(session: Session) -> None:
        code, output, denial = await session.run("echo x > b")
        assert code != 0
        assert denial is not None and denial.grant == Grant(write=(str(world.project),))
        code, output, _ = await session.run("git status && git log && mktemp && echo x >> a")
        assert code != 0 and "Read-only" in output
        code, output, _ = await session.run("mktemp && git diff && git status")
        assert code == 0, output

    session(world, use, mode="read-only")


def test_caches_are_warm_and_stay_as_they_were(world: World) -> None:
    (world.home / ".cache/tool").mkdir()
    (world.home / ".cache/tool/warm").write_text("warm")

    async def use(session: Session) -> None:
        if not session.plan.box(world.project, NOTHING).overlays:  # type: ignore[union-attr]
            pytest.skip("no overlays here")
        code, output, _ = await session.run(
            "cat ~/.cache/tool/warm && echo evil > ~/.cache/tool/warm && echo y > ~/.cache/new"
        )
        assert (code, output) == (0, "warm")
        # Later commands see it, the user's own programs don't.
        code, output, _ = await session.run("cat ~/.cache/tool/warm ~/.cache/new")
        assert (code, output) == (0, "evil\ny\n")
        assert (world.home / ".cache/tool/warm").read_text() == "warm"
        assert not (world.home / ".cache/new").exists()

    session(world, use)


def test_commands_that_run_at_once_have_no_layer_in_common(world: World) -> None:
    plan = world.plan()

    def start(number: int) -> set[bytes]:
        box = plan.box(world.project, NOTHING)
        assert box is not None
        plan.before(number, box)
        return {upper for _, upper, _ in box.overlays}

    first, second = start(1), start(2)
    assert first and second and not first & second
    plan.after(1)
    assert start(3) == first
    plan.after(2)
    plan.after(3)
    assert start(4) == first


def test_private_caches_where_there_are_no_overlays(world: World) -> None:
    async def use(session: Session) -> None:
        code, output, _ = await session.run("mkdir -p $PIP_CACHE_DIR && echo x > $PIP_CACHE_DIR/f")
        assert code == 0, output
        assert not (world.home / ".cache/pip").exists()

    session(world, use, "landlock")


def test_a_command_that_succeeds_was_denied_nothing(world: World) -> None:
    async def use(session: Session) -> None:
        code, _, denial = await session.run(f"touch {world.home}/f; true")
        assert code == 0 and denial is None

    session(world, use)
