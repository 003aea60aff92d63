"""Ways out of a box, as commands. Each one exits with 0, or changes something of the world, when it
gets through; the names before the groups say what a form of the sandbox holds against."""

from __future__ import annotations

import textwrap

_SOCKET = """
import os, socket
with socket.socket(socket.AF_UNIX) as s:
    s.settimeout(5)
    s.connect({address})
    assert s.recv(9) == b"hello"
"""


def _python(source: str) -> str:
    return f"\"$PYTHON\" -c '{textwrap.dedent(source)}'"


_SYSCALL = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
{}
"""

FILES = {
    "overwrite": "echo x > $OUT/file",
    "append": "echo x >> $OUT/file",
    "create": "echo x > $OUT/new",
    "remove": "rm -f $OUT/file && [ ! -e $OUT/file ]",
    "folder": "mkdir $OUT/new",
    "remove folder": "rmdir $OUT/folder",
    "fifo": "mkfifo $OUT/new",
    "truncate": "truncate -s 1 $OUT/file",
    "symlink": "ln -s $OUT/file link && echo x > link",
    "symlinked folder": "ln -s $OUT link && echo x > link/new",
    "hard link": "ln $OUT/file link && echo x >> link",
    "hard link out": "ln file $OUT/new",
    "dots": "echo x > ../out/file",
    "own cwd": "echo x > /proc/self/cwd/../out/file",
    "own root": "echo x > /proc/self/root$OUT/file",
    "descriptor's folder": "exec 7< $OUT && echo x > /proc/self/fd/7/new",
    "rename in": _python("import os; os.rename(os.environ['OUT'] + '/file', 'mine')").replace(
        "'OUT'", '"OUT"'
    ).replace("'/file'", '"/file"').replace("'mine'", '"mine"'),
    "rename over": _python(
        """
        import os
        open("mine", "w").close()
        os.rename("mine", os.environ["OUT"] + "/file")
        """
    ),
    "copy over": "cp -f file $OUT/folder/",
    "parent renamed": "mv $WS $WS.moved",
    "unpacked": "mkdir a && echo x > a/new && tar cf a.tar -C a new && tar xf a.tar -C $OUT",
}  # fmt: skip

ATTRIBUTES = {
    "mode": "chmod 777 $OUT/file",
    "time": "touch -d 2001-01-01 $OUT/file",
    "group": "chgrp $(id -g) $OUT/file && touch -c -a $OUT/file && chmod g+s $OUT/file",
    "attribute": _python(
        """
        import os
        os.setxattr(os.environ["OUT"] + "/file", "user.mine", b"x")
        """
    ),
}

KEPT = {
    "hook": "echo x > .git/hooks/pre-commit",
    "config": "git config core.fsmonitor ./evil",
    "config by hand": "echo x >> .git/config",
    "config replaced": "echo x > new && mv -f new .git/config",
    "config removed": "rm -f .git/config && [ ! -e .git/config ]",
    "hooks aside": "mv .git/hooks .git/old",
    "hook's mode": "chmod 777 .git/hooks",
}
PINNED = {
    "git aside": "mv .git old",
    "git exchanged": "mkdir new && "
    + _python(_SYSCALL.format('sys.exit(libc.renameat2(-100, b"new", -100, b".git", 2) != 0)')),
}

HIDDEN = {
    "secret": "cat $SECRET/key",
    "secret by a link": "ln -s $SECRET link && cat link/key",
    "secret by own root": "cat /proc/self/root$SECRET/key",
    "secret copied": "cp -r $SECRET copy && [ -s copy/key ]",
}

PROCESSES = {
    "kimi's root": "echo x > /proc/$KIMI/root$OUT/file",
    "kimi's cwd": "echo x > /proc/$KIMI/cwd/out/file",
    "helper's root": "echo x > /proc/$HELPER/root$OUT/file",
    "kimi's memory": "head -c 0 /proc/$KIMI/mem",
    "kimi's descriptors": "readlink /proc/$KIMI/fd/0",
    "victim's environment": "grep -q VICTIM_SECRET /proc/$VICTIM/environ",
    "trace": _python(
        _SYSCALL.format(
            'import os; sys.exit(libc.ptrace(0x4206, int(os.environ["VICTIM"]), 0, 0) != 0)'
        )
    ),
}
SIGNALS = {
    "kill": "kill -9 $VICTIM",
    "kill kimi": "kill -0 $KIMI",
    "kill helper": "kill -0 $HELPER",
}

NETWORK = {
    "tcp": _python(
        """
        import os, socket
        socket.create_connection(("127.0.0.1", int(os.environ["TCP"])), 5).recv(5)
        """
    ),
    "udp": _python(
        """
        import os, socket
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(1)
        s.connect(("127.0.0.1", int(os.environ["UDP"])))
        s.send(b"x")
        assert s.recv(9) == b"hello"
        """
    ),
    "tcp of bash": "exec 7<>/dev/tcp/127.0.0.1/$TCP",
    "abstract socket": _python(_SOCKET.format(address='"\\0" + os.environ["ABSTRACT"]')),
}
SOCKETS = {
    "socket outside": _python(_SOCKET.format(address='os.environ["HOME_SOCKET"]')),
    "socket in temp": _python(_SOCKET.format(address='os.environ["TEMP_SOCKET"]')),
    "socket linked": "ln $TEMP_SOCKET $TEMP/a.sock && TEMP_SOCKET=$TEMP/a.sock "
    + _python(_SOCKET.format(address='os.environ["TEMP_SOCKET"]')),
    "socket's folder renamed": "mv $TEMP/deep/er $TEMP/deep/other || mv $TEMP/deep $TEMP/other",
}

CALLS = {
    "io_uring": _python(
        _SYSCALL.format(
            "sys.exit(libc.syscall(425, 8, ctypes.create_string_buffer(120)) == -1)"
        )
    ),
    "vsock": _python("import socket; socket.socket(40, socket.SOCK_STREAM)"),
    "packet family": _python("import socket; socket.socket(38, socket.SOCK_SEQPACKET)"),
}  # fmt: skip

# What only works for a privileged user, or must not be tried without a box at all.
PRIVILEGED = {
    "remount": "mount -o remount,rw / && echo x > $OUT/new",
    "remount bind": "mount -o remount,bind,rw / && echo x > $OUT/new",
    "umount secret": "umount -l $SECRET && cat $SECRET/key",
    "umount dev": "umount -l /dev",
    "umount hooks": "umount -l .git/hooks && echo x > .git/hooks/pre-commit",
    "bind": "mkdir m && mount --bind $OUT m && echo x > m/new",
    "own user namespace": "unshare -Urm true",
    "own mount namespace": "unshare -m true",
    "mounts in a namespace": "unshare -Urm sh -c 'mount -o remount,rw / ; echo x > $OUT/new'",
    "device": "mknod null c 1 3",
    "chroot": "chroot / true",
    "host name": "hostname x",
    "kernel setting": "cat /proc/sys/vm/swappiness > /proc/sys/vm/swappiness",
    "join": "nsenter -t $KIMI -m true",
    "another user's process": "nsenter -t $KIMI -U true",
}
