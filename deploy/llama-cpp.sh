#!/bin/sh
# Says how llama.cpp is built on this machine, and builds it for the GPU where that is wanted: deploy/llama-cpp.sh PYTHON
#
# CUDA=1 builds for the GPU, CUDA=0 for the CPU; without it a GPU build is made where an NVIDIA driver and nvcc are
# both present. CUDA_ARCHITECTURES overrides what the driver says of its card (docs/gpu.md). CONFIGURE_ONLY=1 prints
# the flags and stops. The CPU build is left to pip and to its cache; a GPU build stays out of that cache, because pip
# would take it for the CPU one.
set -eu
python=$1
version=$(sed -n 's/^llama_cpp_python==//p' requirements.lock)

has_driver() { [ -e /proc/driver/nvidia/version ] && command -v nvidia-smi >/dev/null; }

# 9.0 becomes 90a, the others lose their point; without a driver the cards of the last five years.
architectures() {
    caps=$(has_driver && nvidia-smi --query-gpu=compute_cap --format=csv,noheader | sort -u || true)
    [ -n "$caps" ] || { echo '80-real;86-real;89-real;90a-real'; return; }
    for cap in $caps; do
        case $cap in 9.0) echo 90a-real ;; 12.0) echo 120a-real ;; *) echo "$(echo "$cap" | tr -d .)-real" ;; esac
    done | paste -sd ';'
}

if [ -z "${CUDA:-}" ]; then
    if has_driver && command -v nvcc >/dev/null; then CUDA=1; else CUDA=0; fi
fi
if [ "$CUDA" = 0 ]; then
    echo 'llama.cpp: built for the CPU (CUDA=1 builds for an NVIDIA GPU)'
    exit 0
fi
if ! command -v nvcc >/dev/null; then
    echo 'llama.cpp: CUDA=1, but there is no nvcc; install the CUDA toolkit, or put it on the PATH' >&2
    exit 1
fi
list=${CUDA_ARCHITECTURES:-$(architectures)}
echo "llama.cpp: built for NVIDIA GPUs of architecture $list (CUDA=0 builds for the CPU); this takes a while"
CMAKE_ARGS="-DGGML_CUDA=on -DCMAKE_CUDA_ARCHITECTURES=$list -DGGML_CUDA_NCCL=OFF -DLLAVA_BUILD=OFF"
CMAKE_ARGS="$CMAKE_ARGS -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF ${CMAKE_MORE:-}"
# without a driver there is no libcuda to link against
has_driver || CMAKE_ARGS="$CMAKE_ARGS -DGGML_CUDA_NO_VMM=ON"
if [ "${CONFIGURE_ONLY:-0}" = 1 ]; then echo "$CMAKE_ARGS"; exit 0; fi
export CMAKE_ARGS FORCE_CMAKE=1 CMAKE_BUILD_PARALLEL_LEVEL="${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}"
"$python" -m pip install -q --no-cache-dir --no-binary llama-cpp-python -c requirements.lock "llama-cpp-python==$version"
