"""A command's own view of the files: a mount namespace in which only its box can be written.

Copies of what stays writable are taken first; then everything is made read-only, and the copies
are laid over the same paths again, from the top down, so that the most specific path decides. The
mounts of the machine are locked in a namespace of less privilege: they can't be taken off, and
what is read-only can't be made writable again (mount_namespaces(7)).
"""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kimi_cli.workspace import helper_kernel as kernel
    from kimi_cli.workspace.helper_landlock import inside
else:
    import helper_kernel as kernel
    from helper_landlock import inside

_NODES = (b"null", b"zero", b"full", b"random", b"urandom", b"tty")
_GPUS = (b"kfd", b"dri", b"dxg")
_LINKS = (
    (b"fd", b"/proc/self/fd"), (b"stdin", b"fd/0"), (b"stdout", b"fd/1"), (b"stderr", b"fd/2"),
    (b"ptmx", b"pts/ptmx"),
)  # fmt: skip
_BARE = kernel.ATTR_RDONLY | kernel.ATTR_NODEV | kernel.ATTR_NOSUID | kernel.ATTR_NOEXEC
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def build(box: dict[str, Any], sockets: list[bytes], ways: list[bytes]) -> None:
    """Give this process the view that ``box`` describes, with ``sockets`` covered and the folders
    ``ways`` pinned too. It must be in the session's user namespace with all capabilities there.
    Raises OSError; then the process must not go on."""
    kernel.unshare(kernel.CLONE_NEWNS)
    root = os.open(b"/", _FOLDER)
    kernel.set_attributes(root, 0, private=True)
    layers = _layers(box, ways)
    scratch = _Scratch(_nodes(box))
    own = [path for path, _ in layers]
    paths = [path for path in (*box["hidden"], *sockets) if path not in own]
    masks = [(path, _mask(scratch, path, own)) for path in dict.fromkeys(paths)]
    layers += [(path, tree) for path, tree in masks if tree >= 0]
    whole = b"/" in box["write"]
    kernel.set_attributes(root, kernel.ATTR_NODEV | (0 if whole else kernel.ATTR_RDONLY))
    scratch.lay_devices()
    for path, tree in sorted(layers, key=lambda layer: layer[0].count(b"/")):
        try:
            _lay(path, tree)
        except FileNotFoundError:
            # A stranger's socket comes and goes; what the box names must not.
            if path not in sockets and path not in ways:
                raise
    os.close(root)


def _layers(box: dict[str, Any], ways: list[bytes]) -> list[tuple[bytes, int]]:
    """What is laid over the read-only tree, but for the masks: paths and detached mounts."""
    found: dict[bytes, int] = {}
    for path in (*ways, *_needed(box)):
        _note(found, path, _copy(path, 0))
    for target, upper, work in box["overlays"]:
        _note(found, target, _overlay(target, upper, work))
    for path in (*box["shown"], *box["read_only"]):
        _note(found, path, _copy(path, kernel.ATTR_RDONLY))
    return [(path, tree) for path, tree in found.items() if tree >= 0]


def _note(found: dict[bytes, int], path: bytes, tree: int) -> None:
    if found.get(path, -1) >= 0:
        os.close(found[path])
    found[path] = tree


def _needed(box: dict[str, Any]) -> list[bytes]:
    """``write`` and ``pinned`` without what another one holds already: between two mounts a rename
    is not possible. Devices have their own way, and the root is not made read-only at all."""
    firm = [*box["read_only"], *box["hidden"], *box["shown"], *(row[0] for row in box["overlays"])]
    firm += box["pinned"]
    kept: list[bytes] = list(box["pinned"])
    for path in box["write"]:
        holders = [p for p in box["write"] if p != path and inside(path, p)]
        holder = max(holders, key=len, default=None)
        between = holder is None or any(inside(path, p) and inside(p, holder) for p in firm)
        if between and path != b"/" and not inside(path, b"/dev") and path not in kept:
            kept.append(path)
    return kept


def _copy(path: bytes, attributes: int) -> int:
    """A detached copy of what is at ``path``, -1 when nothing is."""
    try:
        fd = kernel.open_path(path)
    except FileNotFoundError:
        return -1
    try:
        tree = kernel.clone_tree(fd)
    finally:
        os.close(fd)
    kernel.set_attributes(tree, attributes | kernel.ATTR_NODEV)
    return tree


def _overlay(target: bytes, upper: bytes, work: bytes) -> int:
    fds = [kernel.open_path(path) for path in (target, upper, work)]
    names = [b"/proc/self/fd/%d" % fd for fd in fds]
    options = dict(zip((b"lowerdir", b"upperdir", b"workdir"), names, strict=True))
    try:
        # Without it whiteouts need attributes that only the machine's own root may set.
        return kernel.new_mount(b"overlay", options | {b"userxattr": b""}, kernel.ATTR_NODEV)
    finally:
        for fd in fds:
            os.close(fd)


def _nodes(box: dict[str, Any]) -> list[tuple[bytes, int]]:
    """The devices that a command may use: names below /dev and detached mounts."""
    granted = [path[5:] for path in box["write"] if path.startswith(b"/dev/")]
    granted = [name for name in granted if name.split(b"/")[0] not in (b"shm", b"pts")]
    gpus = [name for name in os.listdir(b"/dev") if name in _GPUS or name.startswith(b"nvidia")]
    found = []
    for name in dict.fromkeys((*_NODES, *sorted(gpus), *granted)):
        try:
            fd = kernel.open_path(b"/dev/" + name)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.EACCES):
                continue
            raise
        found.append((name, kernel.clone_tree(fd)))
        os.close(fd)
    return found


class _Scratch:
    """A small filesystem in memory: the command's /dev, and the emptiness that covers things."""

    def __init__(self, nodes: list[tuple[bytes, int]]) -> None:
        self._top = kernel.new_mount(b"tmpfs", {b"mode": b"0755"}, kernel.ATTR_NOSUID)
        self._skeletons = 0
        for name, mode in ((b"dev", 0o755), (b"shm", 0o1777), (b"dir", 0o555)):
            self._folder(name, mode)
        self._file(b"file")
        for name, tree in nodes:
            self._place(b"dev/" + name, stat.S_ISDIR(os.fstat(tree).st_mode))
        for name in (b"shm", b"pts"):
            self._folder(b"dev/" + name, 0o755)
        for name, target in _LINKS:
            os.symlink(target, b"dev/" + name, dir_fd=self._top)
        # It lies under the new /dev in the end: a copy can only be made of what is mounted.
        _lay(b"/dev", self._top, keep=True)
        self._dev = kernel.clone_tree(self._top, b"dev")
        kernel.set_attributes(self._dev, kernel.ATTR_RDONLY | kernel.ATTR_NOEXEC)
        options = {b"mode": b"0620", b"ptmxmode": b"0666"}
        terminals = kernel.new_mount(b"devpts", options, kernel.ATTR_NOSUID | kernel.ATTR_NOEXEC)
        shm = kernel.clone_tree(self._top, b"shm")
        kernel.set_attributes(shm, kernel.ATTR_NODEV)
        self._nodes = [*nodes, (b"shm", shm), (b"pts", terminals)]

    def lay_devices(self) -> None:
        """Put the new /dev over the machine's."""
        _lay(b"/dev", self._dev)
        for name, tree in self._nodes:
            _lay(b"/dev/" + name, tree)
        os.close(self._top)

    def cover(self, folder: bool, inner: list[tuple[bytes, bool]]) -> int:
        """An empty file or folder, the latter with places for ``inner``: relative paths and
        whether they are folders."""
        name = b"dir" if folder else b"file"
        if inner:
            self._skeletons += 1
            name = b"%d" % self._skeletons
            self._folder(name, 0o755)
        for path, is_folder in inner:
            self._place(name + b"/" + path, is_folder)
        tree = kernel.clone_tree(self._top, name)
        kernel.set_attributes(tree, _BARE)
        return tree

    def _place(self, path: bytes, folder: bool) -> None:
        steps = path.split(b"/")
        for count in range(1, len(steps)):
            self._folder(b"/".join(steps[:count]), 0o755)
        if folder:
            self._folder(path, 0o755)
        else:
            self._file(path)

    def _folder(self, path: bytes, mode: int) -> None:
        try:
            os.mkdir(path, dir_fd=self._top)
        except FileExistsError:
            return
        os.chmod(path, mode, dir_fd=self._top)

    def _file(self, path: bytes) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_CLOEXEC, 0o444, dir_fd=self._top))


def _mask(scratch: _Scratch, path: bytes, own: list[bytes]) -> int:
    """What covers ``path`` but for the layers in ``own``; -1 when there is nothing to cover."""
    try:
        folder = stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return -1
    inner = [other for other in own if inside(other, path) and other != path]
    return scratch.cover(folder, [(p[len(path) + 1 :], os.path.isdir(p)) for p in inner])


def _lay(path: bytes, tree: int, *, keep: bool = False) -> None:
    """Mount ``tree`` there, and close it."""
    target = kernel.open_path(path)
    kernel.attach(tree, target)
    os.close(target)
    if not keep:
        os.close(tree)
