#!/bin/sh
# Reviews a diff; the findings come out as JSON:
#   git diff main | examples/headless/review.sh | jq .structured.findings
# Further arguments go to kimi: -m MODEL, --max-cost 0.20 and so on. It can read the project to
# understand the change; the sandbox lets it and its commands change nothing.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)

exec kimi -p "Review the diff below. Report only what is wrong: bugs, lost data, security. Read the
files around a change before you judge it. Don't change anything." \
  --sandbox read-only \
  --json-schema "$here/review.schema.json" \
  --output-format json \
  --max-steps 30 \
  --timeout 600 \
  "$@"
