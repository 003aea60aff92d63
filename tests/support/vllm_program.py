"""A virtual environment with a ``vllm`` that can say its version and its options and nothing more.

The help is what vLLM 0.32 printed for ``vllm serve --help=all``, of each option the first line.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

HELP = Path(__file__).with_name("vllm_help.txt")
VERSION = "0.32.0"
_PROGRAM = """\
#!{python}
import pathlib, sys
here = pathlib.Path(__file__).resolve().parent.parent
with (here / "calls").open("a") as calls:
    print(*sys.argv[1:], file=calls)
if sys.argv[1:] == ["--version"]:
    print("INFO 11-22 04:00:00 a line of the log")
    print((here / "version").read_text())
elif sys.argv[1:] == ["serve", "--help=all"]:
    print((here / "help").read_text())
else:
    sys.exit(f"vllm was started: {{sys.argv[1:]}}")
"""


def install(
    folder: Path, version: str = VERSION, *, cpu: bool = False, recorded: bool = True
) -> Path:
    """Make the environment in `folder`: the path of its program. With `recorded` False the
    installer has left no record, so that only the program knows its version."""
    binaries = folder / "bin"
    binaries.mkdir(parents=True, exist_ok=True)
    python = binaries / "python3"
    if not python.is_symlink():
        python.symlink_to(sys.executable)
    shutil.copy(HELP, folder / "help")
    (folder / "version").write_text(f"{version}{'+cpu' * cpu}")
    program = binaries / "vllm"
    program.write_text(_PROGRAM.format(python=python))
    program.chmod(0o755)
    if recorded:
        record(folder, version, cpu=cpu)
    return program


def record(folder: Path, version: str = VERSION, *, cpu: bool = False, name: str = "vllm") -> None:
    """The record that an installer leaves, in place of an earlier one."""
    major, minor = sys.version_info[:2]
    packages = folder / "lib" / f"python{major}.{minor}" / "site-packages"
    stem = name.replace("-", "_")
    for old in packages.glob(f"{stem}-*.dist-info"):
        shutil.rmtree(old)
    full = f"{version}{'+cpu' * cpu}"
    info = packages / f"{stem}-{full}.dist-info"
    info.mkdir(parents=True)
    text = f"Metadata-Version: 2.4\nName: {name}\nVersion: {full}\n\nName: another\nVersion: 9\n"
    (info / "METADATA").write_text(text)


def calls(program: Path) -> list[str]:
    """With what it was called so far."""
    kept = program.parent.parent / "calls"
    return kept.read_text().splitlines() if kept.exists() else []


def environment(*folders: Path, **more: str) -> dict[str, str]:
    """An environment that has only those folders in PATH."""
    return {"PATH": os.pathsep.join(map(str, folders)), **more}
