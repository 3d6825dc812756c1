#!/usr/bin/env bash
# Prints the path of a Python that has the tensorboard package, which it sets up where it is missing.
set -euo pipefail
place="${XDG_CACHE_HOME:-$HOME/.cache}/aca-for-rust/tensorboard"
if ! "$place/bin/python" -c "import tensorboard" 2>/dev/null; then
    python3 -m venv "$place" >&2
    "$place/bin/pip" install --quiet "tensorboard>=2.20,<3" "setuptools<81" >&2
fi
echo "$place/bin/python"
