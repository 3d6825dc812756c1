#!/usr/bin/env bash
# Installs what the feature `mpi` needs on Debian and Ubuntu: OpenMPI, and libclang for its bindings.
set -euo pipefail
packages=(libopenmpi-dev openmpi-bin libclang-dev)
if dpkg -s "${packages[@]}" >/dev/null 2>&1; then
    exit 0
fi
as_root=()
if [[ "$(id -u)" != 0 ]]; then
    as_root=(sudo)
fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${packages[@]}"
