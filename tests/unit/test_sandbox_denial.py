"""Whether a failure was the sandbox's doing: what real programs print, and what must not count."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.protocol.sandbox import Denial, Grant
from kimi_cli.workspace.box import Box
from kimi_cli.workspace.denial_grants import grant_folder
from kimi_cli.workspace.denial_scene import changeable, listening, scene_of
from kimi_cli.workspace.denials import Scene, find_denial
from tests.unit.denial_outputs import NETWORK, OUTSIDE, OWN, WRITES


class World:
    """A home folder with a workspace in it, and something outside of both."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ws, self.out, self.kimi = home / "ws", home / "out", home / ".kimi-cli"
        for folder in (".git/hooks", ".kimi", "mnt"):
            (self.ws / folder).mkdir(parents=True)
        (self.ws / ".git/config").write_text("")
        (self.ws / "run.sh").write_text("")
        for folder in ("sub", ".git", "venv/lib/python3.11/site-packages"):
            (self.out / folder).mkdir(parents=True)
        (self.out / "file").write_text("")
        for folder in (".rustup/tmp", ".pyenv/shims", ".ssh", ".kimi-cli/sessions", ".aws"):
            (home / folder).mkdir(parents=True)
        (home / ".gitconfig").write_text("")
        (home / ".ssh/config").write_text("")

    def box(self, **changes: object) -> Box:
        write = (self.ws, Path("/tmp"), Path("/var/tmp"))
        guarded = (".git/hooks", ".git/config", ".kimi")
        box = Box(
            "namespaces",
            "workspace-write",
            write=tuple(os.fsencode(path) for path in write),
            pinned=(os.fsencode(self.ws / ".git"),),
            read_only=tuple(os.fsencode(self.ws / name) for name in guarded),
            hidden=tuple(os.fsencode(p) for p in (self.kimi, self.home / ".ssh")),
            temp=(b"/tmp", b"/var/tmp"),
        )
        return replace(box, **changes)  # type: ignore[arg-type]

    def scene(self, command: str = "make", code: int | None = 1, **changes: object) -> Scene:
        return scene_of(
            command,
            code,
            self.box(**changes),
            cwd=self.ws,
            env={"HTTPS_PROXY": "http://localhost:3128"},
            home=self.kimi,
            user_home=self.home,
            folders=[self.ws],
        )

    def text(self, text: str) -> str:
        for name, path in (("OUT", self.out), ("WS", self.ws), ("HOME", self.home)):
            text = text.replace(name, str(path))
        return text

    def find(self, output: str, **more: object) -> Denial | None:
        return find_denial(self.text(output), self.scene(**more))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    if any(Path.home().resolve().is_relative_to(place) for place in ("/tmp", "/var/tmp")):
        pytest.skip("the home folder lies in a temp folder, which commands may write")
    folder = Path(tempfile.mkdtemp(prefix="kimi-denial-", dir=Path.home())).resolve()
    yield World(folder)
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", NETWORK)
def test_a_missing_network_is_recognised(world: World, name: str) -> None:
    found = world.find(NETWORK[name])
    assert found is not None and found.grant == Grant(network=True)
    # With the network it is another matter.
    with_it = world.find(NETWORK[name], network=True)
    assert with_it is None or with_it.grant != Grant(network=True)


@pytest.mark.parametrize("name", WRITES)
def test_a_refused_write_is_recognised_and_the_grant_is_exact(world: World, name: str) -> None:
    output, granted = WRITES[name]
    found = world.find(output)
    assert found is not None
    assert found.grant == Grant(write=(world.text(granted),))
    # What is granted already can't be what was refused.
    box = world.box(
        write=(*world.box().write, os.fsencode(world.text(granted))), read_only=(), pinned=()
    )
    again = world.find(output, write=box.write, read_only=(), pinned=())
    assert again is None or again.grant != found.grant


@pytest.mark.parametrize("name", OUTSIDE)
def test_rights_that_only_the_machine_itself_gives(world: World, name: str) -> None:
    found = world.find(OUTSIDE[name])
    assert found is not None and found.grant == Grant(unconfined=True)


@pytest.mark.parametrize("name", OWN)
def test_failures_of_the_commands_own_are_not_ours(world: World, name: str) -> None:
    assert world.find(OWN[name]) is None


def test_there_are_enough_of_them() -> None:
    assert len(NETWORK) + len(WRITES) + len(OUTSIDE) >= 60


@pytest.mark.parametrize(
    ("command", "code", "denied"),
    [
        ("curl -sf https://example.com/x", 6, True),
        ("curl -s https://93.184.216.34", 7, True),
        ("wget -q https://example.com/", 4, True),
        ("curl -s http://localhost:3000/health", 7, False),
        ("curl -sf https://example.com/x", 22, False),
        ("./run", 6, False),
    ],
)
def test_programs_that_fail_in_silence(world: World, command: str, code: int, denied: bool) -> None:
    assert (world.find("", command=command, code=code) is not None) == denied


def test_a_server_of_the_machine_is_not_on_the_private_loopback(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listening(port)
        for output in (
            f"curl: (7) Failed to connect to localhost port {port} after 0 ms: Couldn't connect to "
            "server",
            f"Error: connect ECONNREFUSED 127.0.0.1:{port}",
            f"  code: 'ECONNREFUSED',\n  address: '127.0.0.1',\n  port: {port}\n"
            f"Error: connect ECONNREFUSED ::1:{port}",
        ):
            found = world.find(output)
            assert found is not None and found.grant == Grant(network=True)
            assert str(port) in found.reason
    assert world.find(f"Error: connect ECONNREFUSED 127.0.0.1:{port}") is None


def test_a_proxy_on_this_machine_cannot_be_reached(world: World) -> None:
    found = world.find(
        "curl: (7) Failed to connect to localhost port 3128 after 0 ms: Couldn't connect to server"
    )
    assert found is not None and found.grant == Grant(network=True)


def test_sockets_of_other_programs(world: World) -> None:
    with tempfile.TemporaryDirectory(dir=world.out) as folder, socket.socket(socket.AF_UNIX) as s:
        path = f"{folder}/docker.sock"
        s.bind(path)
        found = world.find(
            f"Cannot connect to the Docker daemon at unix://{path}. Is the docker daemon running?"
        )
        assert found is not None and found.grant == Grant(write=(path,))
        found = world.find(f'connection to server on socket "{path}" failed: Connection refused')
        assert found is not None and found.grant == Grant(write=(path,))
    # Where there is none, the program is right.
    assert world.find(f"Cannot connect to the Docker daemon at unix://{path}.") is None


def test_what_is_hidden_may_be_shown(world: World) -> None:
    path = str(world.home / ".ssh/config")
    for output in (f"cat: {path}: No such file or directory", f"cat: {path}: Permission denied"):
        found = world.find(output)
        assert found is not None and found.grant == Grant(read=(path,))
    assert world.find(f"cat: {world.home}/.ssh/none: No such file or directory") is None


def test_missing_keys_are_looked_for_where_they_are_hidden(world: World) -> None:
    output = "git@github.com: Permission denied (publickey).\nfatal: Could not read from remote"
    found = world.find(output, network=True)
    assert found is not None and found.grant == Grant(read=(str(world.home / ".ssh"),))
    assert world.find(output, network=True, hidden=()) is None
    assert world.find("Unable to locate credentials", network=True) is None


@pytest.mark.parametrize(
    "output",
    [
        "touch: cannot touch 'HOME/.kimi-cli/x': Read-only file system",
        "touch: cannot touch 'HOME/.kimi-cli/sessions/x': Permission denied",
        "cat: HOME/.kimi-cli/sessions: No such file or directory",
    ],
)
def test_kimis_own_folder_is_never_given_away(world: World, output: str) -> None:
    found = world.find(output)
    assert found is not None and found.grant is None


def test_the_last_refusal_counts(world: World) -> None:
    found = world.find(
        f"{NETWORK['curl name']}\ntouch: cannot touch 'OUT/f': Read-only file system"
    )
    assert found is not None and found.grant == Grant(write=(str(world.out),))
    found = world.find(f"touch: cannot touch 'OUT/f': Read-only file system\n{NETWORK['ssh']}")
    assert found is not None and found.grant == Grant(network=True)


def test_several_places_are_asked_for_at_once(world: World) -> None:
    found = world.find(
        "touch: cannot touch 'OUT/f': Read-only file system\n"
        "touch: cannot touch 'OUT/sub/f': Read-only file system\n"
        "touch: cannot touch 'HOME/.rustup/f': Read-only file system"
    )
    assert found is not None and found.grant is not None
    assert set(found.grant.write) == {str(world.out), str(world.home / ".rustup")}


@pytest.mark.skipif(os.getuid() != 0, reason="only root could change these")
def test_what_a_package_manager_writes_has_no_smaller_grant(world: World) -> None:
    found = world.find(
        "dpkg: error: unable to access the dpkg database directory /var/lib/dpkg: Read-only file "
        "system"
    )
    assert found is not None and found.grant == Grant(unconfined=True)


@pytest.mark.skipif(os.getuid() == 0, reason="root may do everything")
def test_what_we_could_not_do_ourselves_is_not_the_sandboxs_doing(world: World) -> None:
    assert world.find("touch: cannot touch '/etc/x': Permission denied") is None


def test_grants_for_tools_and_environments(world: World) -> None:
    home = str(world.home)
    (world.home / ".config/tool/deep").mkdir(parents=True)
    for path, granted in (
        (f"{home}/.config/tool/deep/f", f"{home}/.config/tool"),
        (f"{home}/.rustup/tmp/f", f"{home}/.rustup"),
        (f"{home}/.gitconfig", f"{home}/.gitconfig"),
        (f"{home}/new", home),
        (f"{home}/out/node_modules/a/b", f"{home}/out/node_modules"),
        (f"{home}/out/none/none/f", f"{home}/out"),
    ):
        assert grant_folder(path, home) == Grant(write=(granted,))
    assert grant_folder("/nonexistent-kimi", home) == Grant(unconfined=True)


def test_changeable_looks_at_rights_and_mounts(world: World) -> None:
    assert changeable(str(world.out / "file"))
    assert changeable(str(world.out / "none/none"))
    assert not changeable("/proc/none")


_LINES = st.lists(
    st.sampled_from(
        [*OWN.values(), *NETWORK.values(), *(w for w, _ in WRITES.values()), "\x1b[31m"]
    )
    | st.text(max_size=80),
    max_size=6,
)


@given(lines=_LINES)
def test_any_output_is_judged_and_nothing_inside_the_workspace_is_asked_for(
    world: World, lines: list[str]
) -> None:
    found = world.find("\n".join(lines))
    if found is not None and found.grant is not None:
        assert found.grant and found.reason
        for path in found.grant.write:
            assert not Path(path).is_relative_to("/tmp")
            assert Path(path) != world.ws
            assert not Path(path).is_relative_to(world.kimi)
