#!/usr/bin/env bash
# Runs the recorded session again, with its recorded model and the real tools, in a copy of the
# project: 0 when every tool call gives what it gave then, 1 with a diff when one does not.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec kimi replay "$here/session.jsonl" --check --project "${1:-$here/project}"
