"""A stand-in for ssh: it reads its arguments as OpenSSH does and runs the command on this computer.

As sshd would, it joins the words of the command with blanks and gives them to ``sh -c`` in a fresh
environment, in the user's home. What it is started with, and the environment that it gives, is
written to a folder, for tests to look at. Hosts that a file there names fail as ssh fails.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

_PROGRAM = """\
#!{python}
import getopt, json, os, pwd, subprocess, sys, tempfile
folder = {folder!r}
try:
    # The options of ssh(1), those with a value marked.
    options, rest = getopt.getopt(
        sys.argv[1:], "1246AaCfGgKkMNnqsTtVvXxYyB:b:c:D:E:e:F:I:i:J:L:l:m:O:o:p:Q:R:S:W:w:"
    )
except getopt.GetoptError as error:
    sys.exit(f"ssh: {{error}}")
if not rest or rest[0].startswith("-") or not rest[0]:
    sys.exit("usage: ssh destination [command]")
host, words = rest[0], rest[1:]
known = json.load(open(folder + "/hosts.json"))
if ("-G", "") in options:
    print(f"host {{host}}\\nhostname {{known.get(host, {{}}).get('address', host)}}")
    sys.exit()
fd, _ = tempfile.mkstemp(".json", "call-", folder)
with open(fd, "w") as file:
    json.dump({{"options": options, "host": host, "words": words}}, file)
if ("-o", "BatchMode=yes") not in options:
    sys.exit("the test has nobody to answer questions")
if host not in known:
    sys.stderr.write(f"ssh: Could not resolve hostname {{host}}: Name or service not known\\n")
    sys.exit(255)
if known[host].get("error"):
    sys.stderr.write(known[host]["error"] + "\\n")
    sys.exit(255)
home = known[host].get("home") or pwd.getpwuid(os.getuid()).pw_dir
env = {{"HOME": home, "PATH": known[host]["path"], "SHELL": "/bin/sh", "LOGNAME": "me"}}
# A process of its own between the two, as sshd is: it outlives what was the client.
ended = subprocess.run(["/bin/sh", "-c", " ".join(words)], env=env, cwd=home,
                       start_new_session=True).returncode
sys.exit(ended if ended >= 0 else 255)
"""


class StandIn:
    """The stand-in's folder. `bin` belongs first on PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        self._hosts: dict[str, dict[str, str]] = {}
        path = self.bin / "ssh"
        path.write_text(_PROGRAM.format(python=sys.executable, folder=str(folder)))
        path.chmod(0o755)
        self._write()

    def host(self, name: str, path: str, *, address: str = "", home: str = "") -> None:
        """A host that answers; `path` is PATH there."""
        self._hosts[name] = {"path": path, "address": address or name, "home": home}
        self._write()

    def broken(self, name: str, error: str) -> None:
        """A host that ssh fails at with these words."""
        self._hosts[name] = {"path": "", "error": error}
        self._write()

    def calls(self) -> list[dict[str, object]]:
        """What it was started with, each time but for ``-G``."""
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob("call-*.json"))]

    def _write(self) -> None:
        (self.folder / "hosts.json").write_text(json.dumps(self._hosts))
