"""What is installed: a wheel made from a clean copy of the sources, in a fresh environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from kimi_cli.version import VERSION

ROOT = Path(__file__).parents[2]
OFFLINE = ("Could not find a version that satisfies", "NewConnectionError", "ProxyError")


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=300
    )


def clean_copy(folder: Path) -> Path:
    """The files that git knows or would add, and nothing else, as in a fresh clone."""
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        source, target = ROOT / name, folder / name
        if source.is_symlink() or source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    return folder


@pytest.mark.long
def test_wheel_from_a_clean_clone(tmp_path: Path) -> None:
    sources = clean_copy(tmp_path / "clone")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    built = run(*pip, "wheel", "--no-deps", "-q", "-w", tmp_path / "out", sources)
    if built.returncode and any(words in built.stderr for words in OFFLINE):
        pytest.skip("the package index, where the build backend comes from, can't be reached")
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "out").iterdir()
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "kimi_cli",
        f"kimi_agent-{VERSION}.dist-info",
    }
    for folder in ("demo", "demo/project", "prompts", "prompts/tools", "tools"):
        wanted = {
            path.name
            for path in (sources / "kimi_cli" / folder).iterdir()
            if path.is_file() and path.suffix in (".py", ".md", ".jsonl")
        }
        packed = {Path(n).name for n in names if str(Path(n).parent) == f"kimi_cli/{folder}"}
        assert wanted and packed >= wanted, folder
    assert "kimi_cli/py.typed" in names
    assert not [name for name in names if "test" in name and "/demo/project/" not in name]

    venv = tmp_path / "venv"
    assert run(sys.executable, "-m", "venv", "--without-pip", venv).returncode == 0
    python = venv / "bin" / "python"
    installed = run(*pip, "--python", python, "install", "-q", "--no-deps", "--no-index", wheel)
    assert installed.returncode == 0, installed.stderr
    # Its dependencies are borrowed from us; a path file is not searched for further path files, so
    # that an editable installation of ours is not seen.
    site = Path(run(python, "-c", "import site; print(site.getsitepackages()[0])").stdout.strip())
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = run(python, "-c", "import kimi_cli; print(kimi_cli.__file__)", cwd=tmp_path)
    assert where.stdout.startswith(str(site))
    assert run(venv / "bin" / "kimi", "--version").stdout == f"kimi {VERSION}\n"
    demo = run(venv / "bin" / "kimi", "demo", "--fast", cwd=tmp_path)
    assert demo.returncode == 0, demo.stdout + demo.stderr


def test_bare_tools_folder_refuses_to_be_imported() -> None:
    """It would be a second copy of the classes, beside kimi_cli.tools."""
    bare = run(sys.executable, "-c", "import tools", cwd=ROOT)
    assert bare.returncode == 1
    assert "ImportError: import kimi_cli.tools, not the bare tools folder" in bare.stderr
    proper = run(sys.executable, "-c", "import kimi_cli.tools.registry", cwd=ROOT)
    assert proper.returncode == 0, proper.stderr


@pytest.mark.parametrize("name", ["demo", "test"])
def test_readme_has_the_command(name: str) -> None:
    """.ci/run runs the one; here it is at least a line that a shell understands."""
    block = (ROOT / "README.md").read_text().split(f"<!-- {name} command -->")[1]
    fence, *commands, end = block.split("<!-- end -->")[0].strip().splitlines()
    assert (fence, end) == ("```sh", "```")
    assert len(commands) == 1
    assert run("sh", "-n", "-c", commands[0]).returncode == 0
    assert "pip install -q" in commands[0]
