#!/usr/bin/env bash
# Sets up what a build with the feature `cuda` needs, from PyPI and without a system install: NVIDIA's
# compiler, the libraries to link with, and a stand-in for the driver's library where there is no driver.
# Prints the environment to build in:
#     eval "$(scripts/cuda-toolkit.sh)"
#     eval "$(scripts/cuda-toolkit.sh cudnn nccl)"    with what the features of that name link with (0.8 GB)
set -euo pipefail
packages=(
    nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-cccl==13.0.85
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-nvrtc==13.0.88 nvidia-cublas==13.0.2.14 nvidia-curand==10.4.0.35
)
place="${XDG_CACHE_HOME:-$HOME/.cache}/aca-for-rust/cuda"
root="$place/nvidia/cu13"
if [[ "$(cat "$place/packages" 2>/dev/null)" != "${packages[*]}" ]]; then
    rm -rf "$place"
    mkdir -p "$place"
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$place" "${packages[@]}" >&2
    ln -sfn lib "$root/lib64"
    for library in cudart cublas cublasLt curand nvrtc; do
        ln -sf "$(basename "$(ls "$root/lib/lib$library.so".* | head -n 1)")" "$root/lib/lib$library.so"
    done
    # Every function of the driver, each of which answers CUDA_ERROR_STUB_LIBRARY.
    mkdir -p "$root/lib/stubs"
    grep -oE '\bcu[A-Z][A-Za-z0-9_]*' "$root/include/cuda.h" | sort -u |
        sed 's/.*/int &(void) { return 34; }/' >"$place/stub.c"
    cc -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$root/lib/stubs/libcuda.so" "$place/stub.c"
    ln -sf libcuda.so "$root/lib/stubs/libcuda.so.1"
    echo "${packages[*]}" >"$place/packages"
fi
extra=
for name in "$@"; do
    case "$name" in
        cudnn) package=nvidia-cudnn-cu13==9.28.1.4 library=cudnn ;;
        nccl) package=nvidia-nccl-cu13==2.32.3 library=nccl ;;
        *) echo "there is no part $name; cudnn and nccl are" >&2 && exit 2 ;;
    esac
    part="$place-$name"
    if [[ "$(cat "$part/packages" 2>/dev/null)" != "$package" ]]; then
        rm -rf "$part"
        python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$part" "$package" >&2
        ln -sf "$(basename "$(ls "$part/nvidia/$name/lib/lib$library.so".* | head -n 1)")" \
            "$part/nvidia/$name/lib/lib$library.so"
        echo "$package" >"$part/packages"
    fi
    extra="$extra:$part/nvidia/$name/lib"
done
# The linker asks LIBRARY_PATH, the loader LD_LIBRARY_PATH; the stand-in must not hide a driver.
stubs=":$root/lib/stubs"
if ldconfig -p 2>/dev/null | grep -q 'libcuda\.so\.1'; then stubs=; fi
cat <<ENVIRONMENT
export CUDA_HOME="$root" CUDA_PATH="$root" PATH="$root/bin:\$PATH"
export CUDA_COMPUTE_CAP="${CUDA_COMPUTE_CAP:-90}"
export LIBRARY_PATH="$root/lib:$root/lib/stubs$extra\${LIBRARY_PATH:+:\$LIBRARY_PATH}"
export LD_LIBRARY_PATH="$root/lib$stubs$extra\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
ENVIRONMENT
