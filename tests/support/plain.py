"""``python -m tests.support.plain PROGRAM...``: run a program as an ordinary user.

The user is number 1000 of a user namespace of its own and stands for whoever runs this, so that the
same files can be read: but it has no rights over others, nor a way to get any.
"""

from __future__ import annotations

import os
import sys

from tests.support.boxed import become_plain

if __name__ == "__main__":
    become_plain()
    os.execvp(sys.argv[1], sys.argv[1:])
