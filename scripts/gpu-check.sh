#!/usr/bin/env bash
# Keeps the GPU code alive: builds it where there is no GPU, and checks it where there is one.
#     scripts/gpu-check.sh build          builds the feature `cuda`, or with ACA_CUDNN=1 `cudnn`, whose library is
#                                         fetched (0.5 GB), and runs its tests over a stand-in for a GPU
#     scripts/gpu-check.sh ci             the same, unless that takes long and the change has no part in it
#     scripts/gpu-check.sh pack FOLDER    the same, then puts tests, benches and `aca` into FOLDER, with this script
#     FOLDER/gpu-check.sh run [PART ..]   runs them on a machine with a GPU, without Rust: all parts, or those named.
#                                         A part that fails does not keep the others from running
#         bandwidth   sums of 1e8 entries beside a copy
#         workloads   the shared workloads and a training step of NODE18
#         tests       every kernel, layer, field and solve beside the CPU's
#         memory      the GPU's memory through a long solve
#         peers       the workloads beside torchdiffeq, where python3 has that
#         sanitizer   tests of kernels under compute-sanitizer, where that is installed
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
caches="${XDG_CACHE_HOME:-$HOME/.cache}/aca-for-rust"
cache="$caches/cuda-target"

# One set of features for every command, so that candle is compiled once.
feature="${ACA_CUDNN:+cudnn}"
feature="${feature:-cuda}"
parts=(${ACA_CUDNN:+cudnn})
with=(--workspace --locked --features "aca-cli/$feature")

# What the build of the feature depends on.
sources='cuda|gpu|nccl|Cargo\.(toml|lock)$|aca-core/src/(run|kernels|kernels/rows)\.rs$|\.ci/run'
sources="$sources|aca-models/src/(layers|fields|systems)/"

# Runs the tests for GPUs, but those of whole networks, over gpu-stand-in: kernels instruction by instruction, with
# an eye on races, bounds, alignment and memory that nothing wrote.
stand_in() {
    local crate="$here/../gpu-stand-in/Cargo.toml" log target="$caches/stand-in"
    cargo fmt --manifest-path "$crate" --check
    cargo clippy --manifest-path "$crate" --target-dir "$target" --all-targets -- -D warnings
    cargo test --manifest-path "$crate" --target-dir "$target"
    cargo build --manifest-path "$crate" --target-dir "$target"
    log="$(mktemp)"
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="env LD_PRELOAD=$target/debug/libgpu_stand_in.so" PROPTEST_CASES=4 \
        cargo test "${with[@]}" --test it -- cuda --nocapture --skip networks 2>&1 | tee "$log"
    if grep -q 'skipped, ' "$log"; then
        echo "tests were skipped in spite of the stand-in"
        return 1
    fi
    rm "$log"
}

build() {
    cd "$here/.."
    eval "$("$here/cuda-toolkit.sh" "${parts[@]}")"
    export CARGO_TARGET_DIR="$cache"
    local program states=aca-core/src/kernels/cuda layers=aca-models/src/layers/kernels/cuda
    program="$(mktemp --suffix=.cu)"
    for source in "$states/reductions.cu" "$layers/"{activations,norm,systems}.cu; do
        cat "$states/elements.cu" >"$program"
        # Reductions use what sums declare.
        if [[ "$source" == "$states/"* ]]; then cat "$states/sums.cu" >>"$program"; fi
        cat "$source" >>"$program"
        for architecture in 75 90; do
            nvcc --ptx -arch="sm_$architecture" -std=c++17 -Werror all-warnings -o /dev/null "$program"
        done
    done
    rm "$program"
    cargo clippy "${with[@]}" --lib --bins --tests --bench cuda -- -D warnings
    # Nothing is linked here, so that neither library need be there.
    cargo clippy --locked --package aca-models --features cudnn --lib -- -D warnings
    if command -v mpicc >/dev/null; then
        cargo clippy --locked --package aca-models --features cudnn,nccl --lib -- -D warnings
    else
        echo "there is no MPI library (scripts/mpi-setup.sh): the feature nccl was not built"
    fi
    cargo test "${with[@]}" --lib --bins --tests --no-run
    cargo build "${with[@]}" --bench cuda
    # The kernels compile for every GPU, and a missing driver is named; the rest says that it is skipped.
    cargo test "${with[@]}" --lib --test it -- cuda
    stand_in
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

# Prints a name and the path of every executable for a GPU that cargo made: tests have their crate's name too.
executables() {
    python3 -c '
import json, sys
for line in sys.stdin:
    made = json.loads(line)
    if not made.get("executable"):
        continue
    name, crate = made["target"]["name"], made["manifest_path"].split("/")[-2]
    if "bench" in made["target"]["kind"] or not made["profile"]["test"]:
        print(name, made["executable"])
    elif crate in ("aca-core", "aca-adjoint", "aca-models"):
        print(f"{crate}-{name}", made["executable"])'
}

pack() {
    local folder="$1"
    mkdir -p "$folder"
    folder="$(cd "$folder" && pwd)"
    build
    local json=--message-format=json
    {
        cargo test "${with[@]}" $json --lib --test it --no-run
        cargo build "${with[@]}" $json --bench cuda
        # As fast as a release, without compiling candle once more.
        CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo build "${with[@]}" $json --bin aca
    } | executables | while read -r name executable; do strip -o "$folder/$name" "$executable"; done
    (cd "$folder" && find . -maxdepth 1 -type f ! -name '*.*' -print0 | sort -z |
        # All programs hold the same kernels: a window over all of them keeps these once.
        XZ_OPT='--lzma2=preset=6,dict=512MiB' \
            tar --create --xz --file binaries.tar.xz --null --files-from - --remove-files)
    cp "$here/gpu-check.sh" "$here"/peers/{gpu,training}.py "$folder"
}

# Where a CUDA installation, or a Python package that brings one, keeps its libraries.
libraries() {
    ls -d /usr/local/cuda/lib64 2>/dev/null || true
    python3 -c '
import glob, site, sys
for place in [*site.getsitepackages(), site.getusersitepackages()]:
    print(*glob.glob(place + "/nvidia/*/lib"), sep="\n")' 2>/dev/null || true
}

# After an access that the GPU forbids, all tests that follow in a process fail, so what fails is run again alone.
tests() {
    local program test bad=0
    for program in aca-*-aca_* aca-*-it; do
        if ! timeout 240 "./$program" cuda --nocapture --test-threads 1 2>&1 | tee "$program.log"; then
            bad=1
            for test in $(sed -n 's/^    \(\S*cuda\S*\)$/\1/p' "$program.log" | sort -u); do
                echo "-- alone: $test"
                timeout 60 "./$program" --exact "$test" --nocapture || true
            done
        fi
        if grep -q 'skipped, ' "$program.log"; then
            echo "tests were skipped on a machine that should have a GPU"
            bad=1
        fi
    done
    return "$bad"
}

memory() { ./aca-core-it cuda::memory --ignored; }

bandwidth() { ./cuda; }

workloads() {
    local workload bad=0
    for workload in three_body mlp conv node18; do
        timeout 120 ./aca bench --workload "$workload" --device cuda --json || bad=1
    done
    return "$bad"
}

peers() {
    if python3 -c 'import torch, torchdiffeq; assert torch.cuda.is_available()' 2>/dev/null; then
        python3 "$here/gpu.py" ./aca
    else
        echo "python3 has no torchdiffeq, or its torch no GPU: nothing to compare with"
    fi
}

sanitizer() {
    if ! command -v compute-sanitizer >/dev/null; then
        echo "compute-sanitizer is not installed: memory accesses were not checked"
        return
    fi
    # What follows the tool's name: a test program and a choice of its tests that calls no library of NVIDIA's.
    sanitized() {
        echo "-- $*"
        PROPTEST_CASES=4 timeout 180 compute-sanitizer --tool "$1" --error-exitcode 1 "${@:2}" --test-threads 1
    }
    local tool bad=0
    for tool in memcheck racecheck initcheck; do
        sanitized "$tool" ./aca-core-it cuda --skip solves --skip memory || bad=1
        sanitized "$tool" ./aca-models-it cuda::systems || bad=1
        sanitized "$tool" ./aca-models-it cuda::layers::batch_norms || bad=1
        sanitized "$tool" ./aca-models-it cuda::layers::activations || bad=1
    done
    return "$bad"
}

run() {
    local all=(bandwidth workloads tests memory peers sanitizer) part failed=()
    local parts=("${@:-${all[@]}}")
    for part in "${parts[@]}"; do
        [[ " ${all[*]} " == *" $part "* ]] || { usage && return 2; }
    done
    place="$(mktemp -d)"
    trap 'rm -rf "$place"' EXIT
    tar --extract --file "$here/binaries.tar.xz" --directory "$place" ||
        python3 -m tarfile --extract "$here/binaries.tar.xz" "$place"
    LD_LIBRARY_PATH="$(libraries | paste -sd:)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    export LD_LIBRARY_PATH
    if ldd "$place"/aca-*-it | grep 'not found' | sort -u; then
        echo "these libraries are missing: install CUDA 13 or name their folders in LD_LIBRARY_PATH"
        return 1
    fi
    nvidia-smi --query-gpu=name,driver_version --format=csv,noheader || echo "nvidia-smi names no GPU"
    cd "$place"
    for part in "${parts[@]}"; do
        echo "== $part"
        SECONDS=0
        "$part" || failed+=("$part")
        echo "== $part took $SECONDS s"
    done
    if [[ ${#failed[@]} != 0 ]]; then
        echo "failed: ${failed[*]}"
        return 1
    fi
    echo "all passed: ${parts[*]}"
}

usage() { sed -n '2,/^set /s/^# //p' "$here/gpu-check.sh"; }

case "${1:-}" in
    build | ci) "$1" ;;
    pack) pack "${2:?name a folder}" ;;
    run) run "${@:2}" ;;
    *) usage && exit 2 ;;
esac
