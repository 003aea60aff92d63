"""Fixtures of the tests that run the installed `kimi` as a process."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import Kimi
from tests.support.server import ScriptedServer


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A git repository with one commit: README.md and calc.py."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "README.md").write_text("# calc\n\nAdds numbers.\n")
    (root / "calc.py").write_text("def add(a, b):\n    return a - b\n")
    git(root, "init", "-q", "-b", "main")
    git(root, "add", ".")
    git(root, "commit", "-qm", "start")
    return root


@pytest.fixture
def kimi(project: Path, tmp_path: Path) -> Iterator[Kimi]:
    """The installed program in `project`, with a KIMI_HOME of its own and quick retries.

    A process that is still there after the test fails it.
    """
    user_home = tmp_path / "home"
    user_home.mkdir()
    program = Kimi(project, tmp_path / "kimi-home", user_home)
    yield program
    assert not program.left_behind()


@pytest.fixture
def outside() -> Iterator[Path]:
    """A folder of the user's that is no temporary folder."""
    folder = Path(tempfile.mkdtemp(dir=Path.home(), prefix="kimi-test-"))
    (folder / "file").write_text("mine\n")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def serve() -> Iterator[Callable[..., ScriptedServer]]:
    """Starts scripted model servers, which end with the test: `serve(script, **options)`."""
    servers: list[ScriptedServer] = []

    def start(script: Any = (), **options: Any) -> ScriptedServer:
        server = ScriptedServer(script, **options).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.close()


def git(root: Path, *args: str) -> None:
    """Run git in `root`, by nobody's settings."""
    subprocess.run(
        ["git", "-c", "user.name=T", "-c", "user.email=t@example.org", *args],
        cwd=root,
        check=True,
        capture_output=True,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "GIT_CONFIG_GLOBAL": "/dev/null", "HOME": "/"},
    )
