#!/usr/bin/env bash
# Keeps the GPU code alive: builds it where there is no GPU, and checks it where there is one.
#     scripts/gpu-check.sh build          builds the feature `cuda`, and runs what needs no GPU
#     scripts/gpu-check.sh ci             the same, unless that takes long and the change has no part in it
#     scripts/gpu-check.sh pack FOLDER    puts tests and benches into FOLDER, with this script
#     FOLDER/gpu-check.sh run             runs them on a machine with a GPU, without Rust
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/aca-for-rust/cuda-target"

# One set of features for every command, so that candle is compiled once.
with=(--workspace --locked --features aca-cli/cuda)

# What the build of the feature depends on.
sources='cuda|gpu-check|Cargo\.(toml|lock)$|aca-core/src/kernels(\.rs|/rows\.rs)$|\.ci/run'

build() {
    cd "$here/.."
    eval "$("$here/cuda-toolkit.sh")"
    export CARGO_TARGET_DIR="$cache"
    local program
    program="$(mktemp --suffix=.cu)"
    cat aca-core/src/kernels/cuda/{elements,sums,reductions}.cu >"$program"
    for architecture in 75 90; do
        nvcc --ptx -arch="sm_$architecture" -std=c++17 -Werror all-warnings -o /dev/null "$program"
    done
    rm "$program"
    cargo clippy "${with[@]}" --lib --bins --tests --bench cuda -- -D warnings
    cargo test "${with[@]}" --lib --bins --tests --no-run
    cargo build "${with[@]}" --bench cuda
    # The kernels compile for every GPU, and a missing driver is named; the rest says that it is skipped.
    cargo test "${with[@]}" --lib --test it -- cuda
    touch "$cache/built"
}

ci() {
    cd "$here/.."
    local changed
    changed="$(git diff --name-only HEAD~1 2>/dev/null || echo cuda)"
    if [[ ! -e "$cache/built" ]] && ! grep -qE "$sources" <<<"$changed"; then
        echo "GPU code not built: candle's kernels take ten minutes the first time, and nothing of it changed"
        return
    fi
    build
}

# Prints the path of every executable that cargo made.
executables() {
    python3 -c '
import json, sys
for line in sys.stdin:
    made = json.loads(line)
    if made.get("executable") and "aca-core" in made["package_id"]:
        print(made["target"]["name"], made["executable"])'
}

pack() {
    local folder="$1"
    mkdir -p "$folder"
    folder="$(cd "$folder" && pwd)"
    build
    local json=--message-format=json
    { cargo test "${with[@]}" $json --lib --test it --no-run && cargo build "${with[@]}" $json --bench cuda; } |
        executables |
        while read -r name executable; do strip -o "$folder/$name" "$executable"; done
    tar --create --xz --file "$folder/binaries.tar.xz" --directory "$folder" --remove-files aca_core it cuda
    cp "$here/gpu-check.sh" "$folder"
}

# Where a CUDA installation, or a Python package that brings one, keeps its libraries.
libraries() {
    ls -d /usr/local/cuda/lib64 2>/dev/null || true
    python3 -c '
import glob, site, sys
for place in [*site.getsitepackages(), site.getusersitepackages()]:
    print(*glob.glob(place + "/nvidia/*/lib"), sep="\n")' 2>/dev/null || true
}

run() {
    place="$(mktemp -d)"
    trap 'rm -rf "$place"' EXIT
    tar --extract --file "$here/binaries.tar.xz" --directory "$place"
    LD_LIBRARY_PATH="$(libraries | paste -sd:)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    export LD_LIBRARY_PATH
    if ldd "$place/it" | grep 'not found'; then
        echo "these libraries are missing: install CUDA 13 or name their folders in LD_LIBRARY_PATH"
        return 1
    fi
    nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
    cd "$place"
    ./aca_core cuda
    ./it cuda --nocapture 2>&1 | tee tests.log
    if grep -q 'skipped, ' tests.log; then
        echo "tests were skipped on a machine that should have a GPU"
        return 1
    fi
    ./it cuda::memory --ignored
    if command -v compute-sanitizer >/dev/null; then
        for tool in memcheck racecheck initcheck; do
            PROPTEST_CASES=4 compute-sanitizer --tool "$tool" --error-exitcode 1 ./it cuda --skip solves
        done
    else
        echo "compute-sanitizer is not installed: memory accesses were not checked"
    fi
    ./cuda
}

case "${1:-}" in
    build | ci | run) "$1" ;;
    pack) pack "${2:?name a folder}" ;;
    *) sed -n '2,6s/^# //p' "$0" && exit 2 ;;
esac
