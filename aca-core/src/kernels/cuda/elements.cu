// Passes over whole states, one launch each. The file includes nothing, so that NVRTC compiles it on a machine
// that has no toolkit. Every kernel exists for f64, f32, f16 and bf16, element by element and in packs of
// sixteen bytes; half types are summed in float. Multiply-adds are written out, so that a row of a batch rounds
// as the same state alone does.

typedef unsigned long long Index;

struct Half { unsigned short bits; };
struct Bfloat { unsigned short bits; };

template <typename T> struct SumOf { typedef float Type; };
template <> struct SumOf<double> { typedef double Type; };

__device__ inline double wide(double x) { return x; }
__device__ inline float wide(float x) { return x; }
__device__ inline float wide(Half x) {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(x.bits));
    return wide;
}
__device__ inline float wide(Bfloat x) { return __uint_as_float((unsigned)x.bits << 16); }

__device__ inline void narrow(double x, double& out) { out = x; }
__device__ inline void narrow(float x, float& out) { out = x; }
__device__ inline void narrow(float x, Half& out) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out.bits) : "f"(x)); }
__device__ inline void narrow(float x, Bfloat& out) {
    unsigned bits = __float_as_uint(x);
    // To the nearest, ties to even; NaN stays NaN.
    out.bits = x != x ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

__device__ inline double add_product(double w, double x, double sum) { return fma(w, x, sum); }
__device__ inline float add_product(float w, float x, float sum) { return fmaf(w, x, sum); }
__device__ inline double larger(double a, double b) { return fmax(fabs(a), fabs(b)); }
__device__ inline float larger(float a, float b) { return fmaxf(fabsf(a), fabsf(b)); }

template <typename T, int N> struct alignas(sizeof(T) * N) Pack { T at[N]; };

template <typename T, int N> __device__ inline Pack<T, N> load(const void* x, Index pack) {
    return ((const Pack<T, N>*)x)[pack];
}

// Whether packs may be read there; null counts as such a place.
__device__ inline bool aligned(const void* x) { return (Index)x % 16 == 0; }

__device__ inline Index thread_of_grid() { return (Index)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ inline Index threads_of_grid() { return (Index)gridDim.x * blockDim.x; }

// Returns the sum over the block in its first thread.
__device__ inline double block_sum(double x) {
    __shared__ double warps[32];
#pragma unroll
    for (int away = 16; away > 0; away /= 2) x += __shfl_down_sync(0xffffffffu, x, away);
    __syncthreads();  // the first thread may still read an earlier sum's
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = x;
    __syncthreads();
    double sum = 0;
    if (threadIdx.x == 0)
        for (int warp = 0; warp < (int)blockDim.x / 32; ++warp) sum += warps[warp];
    return sum;
}

// The same in all of its threads.
__device__ inline double block_total(double x) {
    __shared__ double total;
    double sum = block_sum(x);
    if (threadIdx.x == 0) total = sum;
    __syncthreads();
    return total;
}

#define KERNEL(name, Arguments, T, dtype)                                                                     \
    extern "C" __global__ void __launch_bounds__(256) name##_##dtype(const __grid_constant__ Arguments a) {   \
        name<T, 1>(a);                                                                                        \
    }                                                                                                         \
    extern "C" __global__ void __launch_bounds__(256) name##_##dtype##_packs(                                 \
        const __grid_constant__ Arguments a) {                                                                \
        name<T, 16 / sizeof(T)>(a);                                                                           \
    }

#define KERNELS(name, Arguments)          \
    KERNEL(name, Arguments, double, f64)  \
    KERNEL(name, Arguments, float, f32)   \
    KERNEL(name, Arguments, Half, f16)    \
    KERNEL(name, Arguments, Bfloat, bf16)
