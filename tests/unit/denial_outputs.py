"""What real programs printed when they had no network, or wrote where they could not.

Taken from runs in a network namespace of their own, on read-only bind mounts, and under Landlock
with a seccomp filter for sockets; shortened, and with paths replaced: OUT is a folder outside the
workspace WS, HOME the home folder.
"""

# ruff: noqa: E501

from __future__ import annotations

NETWORK = {
    "curl name": "curl: (6) Could not resolve host: example.com",
    "curl progress": (
        "  % Total    % Received % Xferd  Average Speed   Time\n"
        "  0     0    0     0    0     0      0      0 --:--:-- --:--:--     0"
        "curl: (6) Could not resolve host: example.com"
    ),
    "curl address": (
        "curl: (7) Failed to connect to 93.184.216.34 port 443 after 0 ms: Couldn't connect to server"
    ),
    "wget name": (
        "--2026-11-22 10:44:50--  https://example.com/\n"
        "Resolving example.com (example.com)... failed: Temporary failure in name resolution.\n"
        "wget: unable to resolve host address ‘example.com’"
    ),
    "wget short": "wget: unable to resolve host address ‘example.com’",
    "wget address": "Connecting to 93.184.216.34:80... failed: Network is unreachable.",
    "git https": (
        "Cloning into 'b'...\n"
        "fatal: unable to access 'https://github.com/a/b.git/': Could not resolve host: github.com"
    ),
    "git ssh": (
        "Cloning into 'b'...\n"
        "ssh: Could not resolve hostname github.com: Temporary failure in name resolution\n"
        "fatal: Could not read from remote repository.\n\n"
        "Please make sure you have the correct access rights\nand the repository exists."
    ),
    "git protocol": (
        "Cloning into 'b'...\nfatal: unable to connect to 93.184.216.34:\n"
        "93.184.216.34[0: 93.184.216.34]: errno=Network is unreachable\n"
    ),
    "git ssh address": (
        "ssh: connect to host 93.184.216.34 port 22: Network is unreachable\n"
        "fatal: Could not read from remote repository."
    ),
    "pip index": (
        "WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) "
        "after connection broken by 'NewConnectionError('<pip._vendor.urllib3.connection."
        "HTTPSConnection object at 0x7fece705c590>: Failed to establish a new connection: [Errno -3] "
        "Temporary failure in name resolution')': /simple/requests/\n"
        "ERROR: Could not find a version that satisfies the requirement requests==99.9.9 "
        "(from versions: 2.34.2)\nERROR: No matching distribution found for requests==99.9.9"
    ),
    "pip index under seccomp": (
        "WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) "
        "after connection broken by 'NewConnectionError('<pip._vendor.urllib3.connection."
        "HTTPSConnection object at 0x7fd16c08cf90>: Failed to establish a new connection: [Errno -2] "
        "Name or service not known')': /simple/requests/\n"
        "ERROR: Could not find a version that satisfies the requirement requests==99.9\n"
        "ERROR: No matching distribution found for requests==99.9"
    ),
    "pip file": (
        "Collecting https://files.example.com/a.tar.gz\n"
        "ERROR: Could not install packages due to an OSError: HTTPSConnectionPool(host='files."
        "example.com', port=443): Max retries exceeded with url: /a.tar.gz (Caused by "
        "NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object at 0x7f1>: "
        "Failed to establish a new connection: [Errno -3] Temporary failure in name resolution'))\n"
    ),
    "pip git": (
        "Collecting git+https://github.com/a/b\n"
        "  Running command git clone --filter=blob:none --quiet https://github.com/a/b /tmp/pip-req\n"
        "  fatal: unable to access 'https://github.com/a/b/': Could not resolve host: github.com\n"
        "  error: subprocess-exited-with-error\n  \n"
        "  × git clone --filter=blob:none --quiet https://github.com/a/b did not run successfully.\n"
        "  │ exit code: 128\n  ╰─> See above for output.\n\n"
        "note: This error originates from a subprocess, and is likely not a problem with pip."
    ),
    "npm": (
        "npm error code EAI_AGAIN\nnpm error syscall getaddrinfo\nnpm error errno EAI_AGAIN\n"
        "npm error request to https://registry.example.org/left-pad failed, reason: getaddrinfo "
        "EAI_AGAIN registry.example.org\n"
        "npm error A complete log of this run can be found in: HOME/.npm/_logs/2026-debug-0.log"
    ),
    "npm without its log": (
        "npm error code EAI_AGAIN\nnpm error syscall getaddrinfo\nnpm error errno EAI_AGAIN\n"
        "npm error request to https://registry.example.org/left-pad failed, reason: getaddrinfo "
        "EAI_AGAIN registry.example.org\n"
        "npm error You can rerun the command with `--loglevel=verbose` to see the logs"
    ),
    "node http": (
        "Emitted 'error' event on ClientRequest instance at:\n"
        "    at emitErrorEvent (node:_http_client:101:11)\n"
        "    at process.processTicksAndRejections (node:internal/process/task_queues:82:21) {\n"
        "  errno: -3001,\n  code: 'EAI_AGAIN',\n  syscall: 'getaddrinfo',\n"
        "  hostname: 'example.com'\n}\n\nNode.js v20.20.2"
    ),
    "node fetch": (
        "TypeError: fetch failed\n    at node:internal/deps/undici/undici:14976:13 {\n"
        "  [cause]: Error: getaddrinfo EAI_AGAIN example.com\n"
        "      at GetAddrInfoReqWrap.onlookupall [as oncomplete] (node:dns:122:26) {\n"
        "    errno: -3001,\n    code: 'EAI_AGAIN',\n    hostname: 'example.com'\n  }\n}\n"
    ),
    "node address": (
        "  [cause]: Error: connect ENETUNREACH 93.184.216.34:80 - Local (0.0.0.0:0)\n"
        "      at internalConnect (node:net:1098:16)\n  errno: -101,\n  code: 'ENETUNREACH',\n"
        "  syscall: 'connect',\n  address: '93.184.216.34',\n  port: 80\n}"
    ),
    "python urllib": (
        "Traceback (most recent call last):\n"
        '  File "/usr/lib/python3.11/urllib/request.py", line 1351, in do_open\n'
        "    raise URLError(err)\n"
        "urllib.error.URLError: <urlopen error [Errno -3] Temporary failure in name resolution>"
    ),
    "python socket": "    sock.connect(sa)\nOSError: [Errno 101] Network is unreachable",
    "python requests": (
        "    raise ConnectionError(e, request=request)\n"
        "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='example.com', port=443): Max "
        "retries exceeded with url: / (Caused by NameResolutionError(\"HTTPSConnection(host='example."
        "com', port=443): Failed to resolve 'example.com' ([Errno -3] Temporary failure in name "
        'resolution)"))'
    ),
    "python openai": (
        "    raise APIConnectionError(request=request) from err\n"
        "openai.APIConnectionError: Connection error."
    ),
    "ssh": "ssh: Could not resolve hostname github.com: Temporary failure in name resolution",
    "ssh under seccomp": (
        "socket: Network is unreachable\nssh: connect to host 93.184.216.34 port 22: failure"
    ),
    "ssh-keyscan": "getaddrinfo github.com: Temporary failure in name resolution",
    "psql name": (
        'psql: error: could not translate host name "db.example.com" to address: Temporary failure '
        "in name resolution"
    ),
    "psql address": (
        'psql: error: connection to server at "10.0.0.1", port 5432 failed: Network is unreachable\n'
        "\tIs the server running on that host and accepting TCP/IP connections?"
    ),
    "psql under seccomp": (
        'psql: error: connection to server at "10.0.0.1", port 5432 failed: could not create socket: '
        "Network is unreachable"
    ),
    "docker over tcp": (
        'error during connect: Get "http://10.0.0.1:2375/v1.50/containers/json": dial tcp '
        "10.0.0.1:2375: connect: network is unreachable"
    ),
    "cargo": (
        "    Updating crates.example index\nerror: failed to get `serde` as a dependency of package "
        "`a v0.1.0 (WS/cg)`\n\nCaused by:\n  download of config.json failed\n\nCaused by:\n"
        "  failed to download from `https://index.example.org/config.json`\n\nCaused by:\n"
        "  [6] Could not resolve hostname (Could not resolve host: index.example.org)"
    ),
    "cargo add offline": "error: the crate `serde` could not be found in registry index.",
    "cargo install offline": (
        "error: could not find `ripgrep` in registry `crates-io` with version `*`"
    ),
    "cargo info offline": (
        "error: could not find `serde` in registry `https://github.com/rust-lang/crates.example-index`"
    ),
    "cargo search offline": "error: config.json not found in registry",
    "cargo git offline": (
        "error: can't checkout from 'https://github.com/a/b': you are in the offline mode (--offline)"
    ),
    "cargo offline": (
        "error: no matching package named `serde` found\nlocation searched: crates.example index\n"
        "required by package `a v0.1.0 (WS/cg)`\n"
        "As a reminder, you're using offline mode (--offline) which can sometimes cause surprising "
        "resolution failures, if this error is too confusing you may wish to retry without "
        "`--offline`."
    ),
    "cargo search": (
        "error: download of config.json failed\n\nCaused by:\n"
        "  failed to download from `https://index.example.org/config.json`\n\nCaused by:\n"
        "  [6] Could not resolve hostname (Could not resolve host: index.example.org)"
    ),
    "java name": (
        'Exception in thread "main" java.net.UnknownHostException: example.com\n'
        "\tat java.base/sun.nio.ch.NioSocketImpl.connect(NioSocketImpl.java:572)\n"
        "\tat N.main(N.java:1)"
    ),
    "java address": (
        'Exception in thread "main" java.net.SocketException: Network is unreachable\n'
        "\tat java.base/sun.nio.ch.Net.connect0(Native Method)\n\tat N.main(N.java:1)"
    ),
    "maven": (
        "[\x1b[1;31mERROR\x1b[m] Failed to execute goal \x1b[32morg.apache.maven.plugins:maven-"
        "dependency-plugin:2.8:get\x1b[m: Could not transfer artifact org.apache.maven:maven-project:"
        "pom:2.0.9 from/to central (https://repo.maven.apache.org/maven2): transfer failed for "
        "https://repo.maven.apache.org/maven2/x.pom: Unknown host repo.maven.apache.org -> "
        "\x1b[1m[Help 1]\x1b[m\n[\x1b[1;31mERROR\x1b[m] \n"
        "[\x1b[1;31mERROR\x1b[m] Re-run Maven using the \x1b[1m-X\x1b[m switch to enable full debug "
        "logging."
    ),
    "maven offline": (
        "[ERROR] Failed to read artifact descriptor for a:b:jar:1: Cannot access central "
        "(https://repo.maven.apache.org/maven2) in offline mode and the artifact a:b:pom:1 has not "
        "been downloaded from it before. -> [Help 1]"
    ),
    "bash name": (
        "bash: line 1: example.com: Temporary failure in name resolution\n"
        "bash: line 1: /dev/tcp/example.com/80: Invalid argument"
    ),
    "bash address": (
        "bash: connect: Network is unreachable\n"
        "bash: line 1: /dev/tcp/93.184.216.34/80: Network is unreachable"
    ),
    "perl": "Could not connect to 'example.com:80': Temporary failure in name resolution",
    "corepack": (
        "Internal Error: Error when performing the request to https://registry.example.org/yarn; for "
        "troubleshooting help, see https://github.com/nodejs/corepack#troubleshooting\n"
        "    at fetch (/usr/lib/node_modules/corepack/dist/lib/corepack.cjs:22089:11)"
    ),
    "in a test run": (
        "    def test_live():\n>       requests.get('https://example.com')\n\n"
        "E   requests.exceptions.ConnectionError: HTTPSConnectionPool(host='example.com', port=443): "
        "Max retries exceeded with url: / (Caused by NameResolutionError('Failed to resolve'))\n"
        "=========== short test summary info ===========\nFAILED t.py::test_live - requests.exc..."
    ),
}

# Where the line of the sandbox is crossed, and the folder or file that would have to be granted.
WRITES = {
    "bash": ("bash: line 1: OUT/f: Read-only file system", "OUT"),
    "touch": ("touch: cannot touch 'OUT/f': Read-only file system", "OUT"),
    "mkdir": ("mkdir: cannot create directory ‘OUT/d’: Read-only file system", "OUT"),
    "cp": ("cp: cannot create regular file 'OUT/a': Read-only file system", "OUT"),
    "mv": (
        "mv: inter-device move failed: 'a' to 'OUT/a'; unable to remove target: Read-only file "
        "system",
        "OUT",
    ),
    "rm": ("rm: cannot remove 'OUT/file': Read-only file system", "OUT"),
    "rmdir": ("rmdir: failed to remove 'OUT/sub': Read-only file system", "OUT"),
    "ln": ("ln: failed to create symbolic link 'OUT/l': Read-only file system", "OUT"),
    "chmod": ("chmod: changing permissions of 'OUT/file': Read-only file system", "OUT"),
    "sed": ("sed: couldn't open temporary file OUT/sed0jRMUd: Read-only file system", "OUT"),
    "tee": ("tee: OUT/f: Read-only file system\na", "OUT"),
    "dd": ("dd: failed to open 'OUT/f': Read-only file system", "OUT"),
    "python open": (
        'Traceback (most recent call last):\n  File "<string>", line 1, in <module>\n'
        "OSError: [Errno 30] Read-only file system: 'OUT/f'",
        "OUT",
    ),
    "python rename": (
        'Traceback (most recent call last):\n  File "<string>", line 1, in <module>\n'
        "OSError: [Errno 18] Invalid cross-device link: 'a' -> 'OUT/a'",
        "OUT",
    ),
    "python venv": ("Error: [Errno 30] Read-only file system: 'OUT/venv'", "OUT"),
    "node": (
        "    at node:internal/main/eval_string:51:3 {\n  errno: -30,\n  code: 'EROFS',\n"
        "  syscall: 'open',\n  path: 'OUT/f'\n}\n\nNode.js v20.20.2",
        "OUT",
    ),
    "npm": (
        "npm error code EROFS\nnpm error syscall open\nnpm error path OUT/package.json\n"
        "npm error errno -30\n"
        "npm error rofs EROFS: read-only file system, open 'OUT/package.json'\n"
        "npm error rofs Often virtualized file systems, or other file systems that don't support "
        "symlinks, give this error.",
        "OUT",
    ),
    "cargo": (
        "    Creating binary (application) `p` package\n"
        "error: failed to create package `p` at `OUT/p`\n\nCaused by:\n"
        "  failed to create directory `OUT/p`\n\nCaused by:\n  Read-only file system (os error 30)",
        "OUT",
    ),
    "rustup": (
        "info: using existing install for stable-x86_64-unknown-linux-gnu\n"
        "error: could not write settings file: 'HOME/.rustup/settings.toml'\n\nCaused by:\n"
        "    Read-only file system (os error 30)",
        "HOME/.rustup",
    ),
    "rustup temp": (
        "error: could not create temp file HOME/.rustup/tmp/uj6s1wy7uair9wli_file",
        "HOME/.rustup",
    ),
    "tar": ("tar: OUT/a: Cannot open: Read-only file system", "OUT"),
    "curl": (
        "Warning: Failed to open the file OUT/x: Read-only file system\n"
        "curl: (23) Failure writing output to destination",
        "OUT",
    ),
    "wget": ("OUT/x: Read-only file system", "OUT"),
    "javac": (
        "N.java:1: error: error while writing N: OUT/N.class: Read-only file system\nclass N{\n^\n"
        "1 error",
        "OUT",
    ),
    "java io": (
        'Exception in thread "main" java.io.FileNotFoundException: OUT/f (Read-only file system)\n'
        "\tat java.base/java.io.FileOutputStream.open0(Native Method)",
        "OUT",
    ),
    "java nio": (
        'Exception in thread "main" java.nio.file.FileSystemException: OUT/f: Read-only file system\n'
        "\tat java.base/sun.nio.fs.UnixException.translateToIOException(UnixException.java:100)",
        "OUT",
    ),
    "ld": (
        "/usr/bin/ld: cannot open output file OUT/x: Read-only file system\n"
        "collect2: error: ld returned 1 exit status",
        "OUT",
    ),
    "sqlite3": (
        'Error: unable to open database "OUT/x.db": unable to open database file',
        "OUT",
    ),
    "mktemp": (
        "mktemp: failed to create file via template ‘OUT/tmp.XXXXXXXXXX’: Read-only file system",
        "OUT",
    ),
    "ssh-keygen": ('Saving key "OUT/k" failed: Read-only file system', "OUT"),
    "gzip": ("gzip: OUT/file.gz: Read-only file system", "OUT"),
    "zip": (
        "zip I/O error: Read-only file system\nzip error: Could not create output file (OUT/x.zip)",
        "OUT",
    ),
    "split": ("split: OUT/xaa: Read-only file system", "OUT"),
    "openssl": ('genrsa: Can\'t open "OUT/k.pem" for writing, Read-only file system', "OUT"),
    "ruff": ("error: Failed to write OUT/up.py: Read-only file system (os error 30)", "OUT"),
    "git init": ("fatal: cannot mkdir OUT/new: Read-only file system", "OUT"),
    "git clone": (
        "fatal: could not create work tree dir 'OUT/new': Read-only file system",
        "OUT",
    ),
    "git worktree": (
        "Preparing worktree (new branch 'wt')\n"
        "fatal: could not create leading directories of 'OUT/wt/.git': Read-only file system",
        "OUT",
    ),
    "git config --global": (
        "error: could not lock config file HOME/.gitconfig: Read-only file system",
        "HOME/.gitconfig",
    ),
    "git commit elsewhere": (
        "fatal: Unable to create 'OUT/.git/index.lock': Read-only file system",
        "OUT/.git",
    ),
    "pip --target": (
        '  File "<frozen os>", line 225, in makedirs\n'
        "OSError: [Errno 30] Read-only file system: 'OUT/t'",
        "OUT",
    ),
    "pip in an environment": (
        "Installing collected packages: six\n"
        "ERROR: Could not install packages due to an OSError: [Errno 30] Read-only file system: "
        "'OUT/venv/lib/python3.11/site-packages/six.py'\n",
        "OUT/venv",
    ),
    "pyenv": ("pyenv: cannot rehash: HOME/.pyenv/shims isn't writable", "HOME/.pyenv"),
    "mkdir below a folder that is missing": (
        "error: failed to create directory `OUT/x/y/z`\n\nCaused by:\n"
        "  Read-only file system (os error 30)",
        "OUT",
    ),
    "landlock bash": ("bash: line 1: OUT/f: Permission denied", "OUT"),
    "landlock touch": ("touch: cannot touch 'OUT/f': Permission denied", "OUT"),
    "landlock mv": ("mv: cannot move 'a' to 'OUT/a': Permission denied", "OUT"),
    "landlock ln": ("ln: failed to create hard link 'OUT/l' => 'a': Permission denied", "OUT"),
    "landlock python": ("PermissionError: [Errno 13] Permission denied: 'OUT/f'", "OUT"),
    "landlock node": (
        "Error: EACCES: permission denied, open 'OUT/f'\n  errno: -13,\n  code: 'EACCES',\n"
        "  syscall: 'open',\n  path: 'OUT/f'\n}\n\nNode.js v20.20.2",
        "OUT",
    ),
    "landlock git": (
        "fatal: could not create work tree dir 'OUT/new': Permission denied",
        "OUT",
    ),
    "landlock cargo": (
        "error: failed to create package `p` at `OUT/p`\n\nCaused by:\n"
        "  failed to create directory `OUT/p`\n\nCaused by:\n  Permission denied (os error 13)",
        "OUT",
    ),
    # Inside the workspace: what stays as it is.
    "git config": (
        "error: could not write config file .git/config: Device or resource busy",
        "WS/.git/config",
    ),
    "git remote add": (
        "error: could not write config file .git/config: Device or resource busy\n"
        "fatal: could not set 'remote.o.url' to 'x'",
        "WS/.git/config",
    ),
    "git branch -m": (
        "error: could not write config file .git/config: Device or resource busy\n"
        "fatal: Branch is renamed, but update of config-file failed",
        "WS/.git/config",
    ),
    "git submodule init": (
        "error: could not write config file .git/config: Device or resource busy\n"
        "error: could not write config file .git/config: Device or resource busy\n"
        "fatal: Failed to register url for submodule path 'sub'",
        "WS/.git/config",
    ),
    "a hook": ("bash: line 1: .git/hooks/pre-commit: Read-only file system", "WS/.git/hooks"),
    "a hook by cp": (
        "cp: cannot create regular file '.git/hooks/pre-commit': Read-only file system",
        "WS/.git/hooks",
    ),
    "a hook by ln": (
        "ln: failed to create symbolic link '.git/hooks/post-commit': Read-only file system",
        "WS/.git/hooks",
    ),
    "settings": ("bash: line 1: .kimi/config.toml: Read-only file system", "WS/.kimi"),
    "mv .git": ("mv: cannot move '.git' to '.gitx': Device or resource busy", "WS/.git"),
    "git init --separate-git-dir": (
        "fatal: unable to move WS/.git to WS/x.git: Device or resource busy",
        "WS/.git",
    ),
}

OUTSIDE = {
    "sudo": (
        'sudo: The "no new privileges" flag is set, which prevents sudo from running as root.\n'
        "sudo: If sudo is running in a container, you may need to adjust the container configuration"
        " to disable the flag."
    ),
    "sudo without setuid": (
        "sudo: effective uid is not 0, is /usr/bin/sudo on a file system with the 'nosuid' option "
        "set or an NFS file system without root privileges?"
    ),
    "su": "su: cannot set groups: Operation not permitted",
    "unshare": "unshare: unshare failed: No space left on device",
    "bwrap": "bwrap: Creating new namespace failed: No space left on device",
    "mount": "mount: /mnt: permission denied.",
}

# Failures of the command's own, whatever the words.
OWN = {
    "nothing": "",
    "a test that fails": "E   assert 1 == 2\nFAILED t.py::test_a - assert 1 == 2",
    "a message that is asserted": (
        ">       assert 'Could not resolve host' in err\n"
        "E       AssertionError: assert 'Could not resolve host' in 'ok'\nFAILED t.py::test_a"
    ),
    "a file system that is read-only in a test": (
        "E   OSError: [Errno 30] Read-only file system: '/nonexistent-kimi/data/x'\n"
        "FAILED t.py::test_readonly_disk"
    ),
    "the words without a path": (
        "test_readonly ... FAILED\nexpected: Read-only file system\n1 failed, 30 passed"
    ),
    "a path that may be written": "OSError: [Errno 30] Read-only file system: 'WS/mnt/f'",
    "a temp folder": "touch: cannot touch '/tmp/x/y': Permission denied",
    "a script that can't be run": "bash: line 1: ./run.sh: Permission denied",
    "a script in the workspace": "/bin/sh: 1: WS/run.sh: Permission denied",
    "a file of the system's": "cat: /proc/sys/kernel/panic: Permission denied",
    "searched text": (
        "src/net.c:12: fprintf(stderr, \"Could not resolve host\");\n"
        "docs/errors.md:9:Temporary failure in name resolution"
    ),
    "a diff": "-    raise OSError('Network is unreachable')\n+    raise Unreachable()",
    "source in a traceback": (
        "    raise ValueError('Network is unreachable')\nValueError: other words"
    ),
    "names that never exist": (
        "curl: (6) Could not resolve host: db.invalid\n"
        "getaddrinfo ENOTFOUND api.service.test"
    ),
    "nothing listens": (
        "curl: (7) Failed to connect to localhost port 1 after 0 ms: Couldn't connect to server"
    ),
    "nothing listens, in Python": "ConnectionRefusedError: [Errno 111] Connection refused",
    "psql on this machine": (
        'psql: error: connection to server at "127.0.0.1", port 1 failed: Connection refused\n'
        "\tIs the server running on that host and accepting TCP/IP connections?"
    ),
    "not found": "bash: line 1: ping: command not found",
    "a missing file": "cat: OUT/none: No such file or directory",
    "a compiler": "a.c:1:1: error: unknown type name 'Network'\n1 error generated.",
    "a server without a daemon": "psql: error: connection to server on socket \"/nonexistent-kimi/s\""
    " failed: No such file or directory",
    "a table": "| error | Temporary failure in name resolution |",
}  # fmt: skip
