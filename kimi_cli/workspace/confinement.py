"""What a session's commands may touch: implements ``Confinement`` of ``box``."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from kimi_cli.protocol.sandbox import Denial, Grant, SandboxMode, SandboxState
from kimi_cli.protocol.workspace import Task
from kimi_cli.workspace.box import Box, Probe
from kimi_cli.workspace.guard import Guard, Watch
from kimi_cli.workspace.hiding import STARTUP_FILES, expand, secret_places
from kimi_cli.workspace.offline import offline_environment
from kimi_cli.workspace.repositories import Repositories
from kimi_cli.workspace.session_caches import SessionCaches

# Where the workspace is the whole machine, these stay as they are.
_SYSTEM = (
    "/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sbin", "/sys",
    "/usr", "/var/lib/dpkg", "/System", "/Library",
)  # fmt: skip


class Confinement:
    """Makes the boxes of one session.

    ``folders`` are the workspace's (the project's root first), ``home`` is KIMI_HOME, ``user_home``
    the user's home folder, ``env`` what commands inherit, ``outputs`` the session's folder for long
    outputs. ``hide`` and ``show`` are places beside the built-in ones and exceptions from these,
    ``write`` more places that commands may change; absolute, or with ``~`` for the home folder.
    ``caches`` is where the private cache layers are kept, KIMI_HOME if not given.
    Costs nothing until the first box is made. ``close`` gives back what it took.
    """

    def __init__(
        self,
        *,
        mode: SandboxMode,
        probe: Probe,
        folders: Sequence[Path],
        home: Path,
        user_home: Path,
        env: Mapping[str, str],
        outputs: Path,
        network: bool = False,
        hide: Sequence[str] = (),
        show: Sequence[str] = (),
        write: Sequence[str] = (),
        caches: Path | None = None,
    ) -> None:
        self._mode = mode
        self._probe = probe
        self._network = network
        self._env = env
        self._home = _real(home)
        self._user_home = _real(user_home)
        self._outputs = outputs
        self._hide, self._show = hide, show
        self._folders = list(dict.fromkeys(_real(folder) for folder in folders))
        self._more = [expand(text, self._user_home) for text in write]
        self._repositories = Repositories(self._folders, self._user_home)
        self._guard = Guard(
            _real(outputs) / "set-aside", [*self._folders, *self._more, *self._shared_temp()]
        )
        self._secrets: tuple[object, list[Path]] | None = None
        self._caches = SessionCaches(
            caches or self._home,
            self._folders[0] if self._folders else self._home,
            user_home=self._user_home,
            env=env,
            overlays=probe.overlays and probe.way == "namespaces",
            own=[*self._folders, *self._more, *self._shared_temp()],
        )
        self._private_temp: Path | None = None
        self._recent: deque[tuple[Box, Path, list[Path]]] = deque(maxlen=256)

    @property
    def state(self) -> SandboxState:
        if self._mode == "off":
            return SandboxState("off", "none", network=True)
        probe = self._probe
        return SandboxState(self._mode, probe.way, self._network, probe.lacks, probe.why)

    def box(self, cwd: Path, grant: Grant) -> Box | None:
        if self._mode == "off" or grant.unconfined:
            return None
        if self._probe.way == "none":
            raise OSError(f"no sandbox works here: {self._probe.why or 'nothing was found'}")
        granted = [path for path in map(_resolved, grant.write) if self._grantable(path)]
        shown = [path for path in map(_resolved, grant.read) if self._grantable(path)]
        temp = self._temp_folders()
        write = [*temp, *granted]
        overlays: Sequence[tuple[Path, Path, Path]] = ()
        if self._mode == "workspace-write" or granted:
            self._repositories.look(cwd, granted)
        if self._mode == "workspace-write":
            overlays = self._caches.free().overlays
            write = [*self._writable(), *write, *self._caches.common().write]
        guarded = self._guarded(granted)
        lifted = [path for path in guarded if _lifts(granted, path)]
        hidden = [
            path
            for path in self._hidden()
            if path == self._home or not any(_below(path, p) for p in (*shown, *granted))
        ]
        if any(_below(self._user_home / ".ssh", path) for path in shown):
            write += self._agent()
        shown += [self._outputs, *(expand(text, self._user_home) for text in self._show)]
        # What is hidden is read-only too; named as both it would be seen.
        read_only = [path for path in guarded if path not in lifted and path not in hidden]
        read_only += [Path(path) for path in _SYSTEM if Path("/") in write]
        read_only += [p for p in self._session() if any(_below(p, folder) for folder in write)]
        box = Box(
            self._probe.way,
            self._mode,
            self._network or grant.network,
            # A mount on what is granted inside a writable folder would keep programs from replacing
            # it; for what is missing the name alone tells that it may be made.
            write=_raw(p for p in write if p.exists() != (p in lifted)),
            pinned=_raw(
                path
                for path in (*self._repositories.pinned(), *self._ways(hidden, write))
                if path not in granted and any(_below(path, folder) for folder in write)
            ),
            read_only=_raw(_real(p) for p in read_only if p.exists()),
            hidden=_raw(hidden),
            shown=_raw(p for p in map(_real, shown) if any(_below(p, h) for h in hidden)),
            overlays=tuple((_raw1(a), _raw1(b), _raw1(c)) for a, b, c in overlays),
            temp=_raw(p for p in temp if p not in self._folders),
            session=_raw1(self._outputs),
        )
        self._recent.append((box, cwd, guarded))
        return box

    def writable(self) -> Sequence[Path]:
        return [*self._temp_folders(), *self._more]

    def hidden(self) -> Sequence[Path]:
        return self._hidden()

    def guarded(self) -> Sequence[Path]:
        if self._mode == "workspace-write" and self._folders:
            self._repositories.look(self._folders[0], [])
        return [*map(_real, self._guarded([])), *self._session()]

    def environment(self, grant: Grant) -> Mapping[str, str]:
        if self._mode == "off" or grant.unconfined:
            return {}
        network = self._network or grant.network
        found = {} if network else offline_environment(self._env)
        if self._mode == "read-only":
            temp = self._own_temp()
            found |= {"TMPDIR": str(temp), "XDG_CACHE_HOME": str(temp / "cache")}
            found |= {"npm_config_cache": str(temp / "npm"), "GOCACHE": str(temp / "go-build")}
        else:
            layers = self._caches.common()
            found |= dict(layers.variables)
            found |= dict(layers.online) if network else {}
        if self._probe.way == "landlock":
            found |= _without_hooks(self._env)
        return found

    def before(self, task_number: int, box: Box) -> None:
        held = set(box.read_only)
        named = set(box.write)
        watched = []
        guarded = next((paths for known, _, paths in self._recent if known is box), [])
        for path in guarded:
            # A symlink has no mount of its own: what it leads to has.
            kernel = self._probe.way != "landlock" and not path.is_symlink()
            if not path.exists():
                if _raw1(path) not in named:
                    watched.append(path)
            elif _raw1(_real(path)) in held and not kernel:
                watched.append(path)
        watch = Watch(watched, self._repositories.pointers(), self._repositories.known())
        self._guard.before(task_number, watch)
        self._caches.begin(task_number, box)

    def after(self, task_number: int) -> Sequence[str]:
        self._caches.end(task_number)
        made = self._repositories.made() if self._mode == "workspace-write" else []
        return self._guard.after(task_number, made)

    def denial(self, task: Task, box: Box, output: str) -> Denial | None:
        if task.result is None:
            return None
        if task.result.code == 0 and "|" not in task.command:
            return None
        from kimi_cli.workspace.denial_scene import hides_status, scene_of
        from kimi_cli.workspace.denials import find_denial

        if task.result.code == 0 and not hides_status(task.command):
            return None
        cwd = next((place for known, place, _ in self._recent if known is box), None)
        scene = scene_of(
            task.command,
            # What a pipe hid is taken for a failure.
            1 if task.result.code == 0 else task.result.code,
            box,
            cwd=cwd,
            env=self._env,
            home=self._home,
            user_home=self._user_home,
            folders=self._folders,
        )
        return find_denial(output, scene)

    def close(self) -> None:
        """Free the private caches for another session, remove the private temp folder."""
        self._caches.close()
        if self._private_temp is not None:
            shutil.rmtree(self._private_temp, ignore_errors=True)
            self._private_temp = None

    def _temp_folders(self) -> list[Path]:
        return [self._own_temp()] if self._mode == "read-only" else self._shared_temp()

    def _shared_temp(self) -> list[Path]:
        named = [Path("/tmp"), Path("/var/tmp")]
        own = self._env.get("TMPDIR", "")
        if os.path.isabs(own) and not _below(self._user_home, _real(Path(own))):
            named.append(Path(own))
        return list(dict.fromkeys(_real(path) for path in named if path.is_dir()))

    def _own_temp(self) -> Path:
        if self._private_temp is None:
            self._private_temp = _real(Path(tempfile.mkdtemp(prefix="kimi-")))
        return self._private_temp

    def _writable(self) -> list[Path]:
        return [*self._folders, *self._more, *self._repositories.outside()]

    def _guarded(self, granted: Sequence[Path]) -> list[Path]:
        """What must stay as it is inside writable folders, whether it exists or not."""
        writable = [*granted, *(self._writable() if self._mode == "workspace-write" else ())]
        found = [folder / ".kimi" for folder in self._folders if folder != self._user_home]
        found += self._repositories.guarded()
        home = self._user_home
        if any(_below(home, p) for p in writable) or any(_below(p, home) for p in granted):
            found += [self._user_home / name for name in STARTUP_FILES]
        return [
            path
            for path in dict.fromkeys(found)
            if path != self._home and any(_below(path, folder) for folder in writable)
        ]

    def _session(self) -> list[Path]:
        """The session's folder where it lies in the shared temp folder, because it is not kept:
        what kimi itself writes there, and runs, must be nobody else's to change."""
        folder = _real(self._outputs.parent)
        if _below(folder, self._home):
            return []
        around = any(_below(p, folder) for p in (*self._folders, self._user_home, self._home))
        return [_real(self._outputs) if around else folder]

    def _ways(self, hidden: Sequence[Path], write: Sequence[Path]) -> Iterator[Path]:
        """Folders on the way to what is hidden or guarded: under another name it would be neither
        for the next command."""
        tops = (layout.top for layout in self._repositories.layouts())
        for path in (*(p.parent for p in (*hidden, *self._session())), *tops):
            while path not in write and any(_below(path, folder) for folder in write):
                # A mount of its own would uncover what is hidden.
                if not any(_below(path, place) for place in hidden):
                    yield path
                path = path.parent

    def _hidden(self) -> list[Path]:
        # A new place makes its folder newer; a token written into a known file does not.
        mark = tuple(_time(self._user_home / name) for name in ("", ".config", ".npmrc"))
        if self._secrets is None or self._secrets[0] != mark:
            places = secret_places(self._user_home, self._hide, self._show)
            self._secrets = (mark, places)
        found = [self._home, *self._secrets[1]]
        return [p for p in found if p not in self._folders and p.exists()]

    def _grantable(self, path: Path) -> bool:
        """KIMI_HOME is never given away, nor anything in it but a workspace that is there."""
        inner = [folder for folder in self._folders if _below(folder, self._home)]
        return not _below(path, self._home) or any(_below(path, folder) for folder in inner)

    def _agent(self) -> Iterator[Path]:
        """The agent's socket: it holds the same keys as the folder."""
        named = self._env.get("SSH_AUTH_SOCK", "")
        if os.path.isabs(named) and stat.S_ISSOCK(_kind(named)):
            yield _real(Path(named))


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _resolved(text: str) -> Path:
    return _real(Path(text))


def _below(path: Path, folder: Path) -> bool:
    # As Path.is_relative_to, which takes several times as long.
    inner, outer = str(path), str(folder)
    return inner == outer or inner.startswith(outer.rstrip("/") + "/")


def _lifts(granted: Sequence[Path], path: Path) -> bool:
    """Whether a grant names the protected path, something in it, or its repository."""
    return any(
        _below(g, path) or (g.name == ".git" and _below(path, g)) or g == _real(path)
        for g in granted
    )


def _raw(paths: Iterable[Path]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(os.fsencode(path) for path in paths))


def _raw1(path: Path) -> bytes:
    return os.fsencode(path)


def _time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _kind(path: str) -> int:
    try:
        return os.stat(path).st_mode
    except OSError:
        return 0


def _without_hooks(env: Mapping[str, str]) -> dict[str, str]:
    """git-config(1), GIT_CONFIG_COUNT: a hook that one command planted is not run by the next."""
    text = env.get("GIT_CONFIG_COUNT", "")
    count = int(text) if text.isdigit() else 0
    return {
        "GIT_CONFIG_COUNT": str(count + 1),
        f"GIT_CONFIG_KEY_{count}": "core.hooksPath",
        f"GIT_CONFIG_VALUE_{count}": "/dev/null",
    }
