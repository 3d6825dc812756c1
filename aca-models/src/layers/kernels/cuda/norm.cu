// Normalisation of channels over batches of images: moments and sums by parts of a channel, which the kernel that
// follows puts together. Block (channel, part) takes so many packs of the channel's pixels, image after image. Which
// numbers a thread adds, and in which order, depends on sizes alone (and on whether addresses allow packs).

struct Planes {
    Index channels;
    Index pixels;  // of a channel
    Index count;   // numbers of a channel: images times pixels
    Index share;   // numbers of a part
};

// Where a number of a channel lies; division of 32 bits is several times faster.
__device__ inline Index place(const Planes& p, Index number) {
    if (p.count >> 32) return (number / p.pixels * p.channels + blockIdx.x) * p.pixels + number % p.pixels;
    unsigned image = (unsigned)number / (unsigned)p.pixels, pixel = (unsigned)number % (unsigned)p.pixels;
    return ((Index)image * p.channels + blockIdx.x) * p.pixels + pixel;
}

// Calls f with the place of every pack of the block's part that is this thread's.
template <int N, typename F> __device__ inline void each(const Planes& p, F f) {
    Index begin = blockIdx.y * p.share, end = begin + p.share < p.count ? begin + p.share : p.count;
    for (Index number = begin + threadIdx.x * N; number < end; number += blockDim.x * N) f(place(p, number) / N);
}

// Numbers of a part.
__device__ inline double size_of_part(const Planes& p, Index part) {
    Index begin = part * p.share;
    return (double)(begin + p.share < p.count ? p.share : p.count - begin);
}

// parts[channel, part] = the mean of a part, and the sum of the squares of what is left without it.
template <typename T, int N> __device__ inline void norm_parts(double* parts, const T* x, const Planes& p) {
    double sum = 0, squares = 0;
    each<N>(p, [&](Index pack) {
        Pack<T, N> at = load<T, N>(x, pack);
#pragma unroll
        for (int j = 0; j < N; ++j) sum += at.at[j];
    });
    double mean = block_total(sum) / size_of_part(p, blockIdx.y);
    each<N>(p, [&](Index pack) {
        Pack<T, N> at = load<T, N>(x, pack);
#pragma unroll
        for (int j = 0; j < N; ++j) {
            double off = at.at[j] - mean;
            squares = fma(off, off, squares);
        }
    });
    squares = block_sum(squares);
    if (threadIdx.x > 0) return;
    double* out = parts + ((Index)blockIdx.x * gridDim.y + blockIdx.y) * 2;
    out[0] = mean;
    out[1] = squares;
}

// Mean and biased variance of the block's channel, of its so many parts.
__device__ inline void moments_of(const double* parts, Index count, const Planes& p, double& mean, double& variance) {
    const double* own = parts + blockIdx.x * count * 2;
    bool has = threadIdx.x < count;
    double size = has ? size_of_part(p, threadIdx.x) : 0, part = has ? own[2 * threadIdx.x] : 0;
    mean = block_total(size * part) / (double)p.count;
    double off = part - mean, squares = has ? own[2 * threadIdx.x + 1] : 0;
    variance = block_total(fma(size * off, off, squares)) / (double)p.count;
}

// Both sums of the block's channel over its so many parts.
__device__ inline void sums_of(const double* parts, Index count, double& sum, double& product) {
    const double* own = parts + blockIdx.x * count * 2;
    bool has = threadIdx.x < count;
    sum = block_total(has ? own[2 * threadIdx.x] : 0);
    product = block_total(has ? own[2 * threadIdx.x + 1] : 0);
}

// What a channel needs of its moments and parameters.
template <typename T> struct Scale {
    T mean;
    double rest;  // what rounding took from the mean
    T slope;
    T bias;  // with the rest of the mean taken in
    double inverse;

    __device__ Scale(double exact_mean, double variance, T weight, T bias_of_layer, double eps) {
        inverse = 1.0 / sqrt(variance + eps);
        double exact = inverse * (double)weight;
        mean = (T)exact_mean;
        rest = exact_mean - (double)mean;
        slope = (T)exact;
        bias = (T)((double)bias_of_layer - rest * exact);
    }

    // The result before it is cut off; rounded in the same way wherever it is asked for.
    __device__ T apply(T x) const { return add_product(x - mean, slope, bias); }
};

// out = weight (x - mean) / sqrt(variance + eps) + bias, by the moments of the parts, which are kept, or by those given.
template <typename T, int N>
__device__ inline void norm_value(T* out, double* moments, const double* parts, const T* x, const T* weight,
                                  const T* bias, const Planes& p, double eps, bool relu) {
    Index channel = blockIdx.x;
    double mean, variance;
    if (parts) {
        moments_of(parts, gridDim.y, p, mean, variance);
        if (blockIdx.y == 0 && threadIdx.x == 0) {
            moments[2 * channel] = mean;
            moments[2 * channel + 1] = variance;
        }
    } else {
        mean = moments[2 * channel];
        variance = moments[2 * channel + 1];
    }
    Scale<T> scale(mean, variance, weight[channel], bias[channel], eps);
    each<N>(p, [&](Index pack) {
        Pack<T, N> at = load<T, N>(x, pack);
#pragma unroll
        for (int j = 0; j < N; ++j) {
            T y = scale.apply(at.at[j]);
            at.at[j] = relu && y < T(0) ? T(0) : y;  // written so that NaN stays
        }
        ((Pack<T, N>*)out)[pack] = at;
    });
}

// The part of a cotangent that passes the cut.
template <typename T> __device__ inline T passed(const Scale<T>& scale, bool relu, T x, T z) {
    return relu && scale.apply(x) <= T(0) ? T(0) : z;
}

// parts[channel, part] = the sums of z and of z (x - mean) over a part.
template <typename T, int N>
__device__ inline void norm_sums(double* parts, const double* moments, const T* x, const T* z, const T* weight,
                                 const T* bias, const Planes& p, double eps, bool relu) {
    Index channel = blockIdx.x;
    Scale<T> scale(moments[2 * channel], moments[2 * channel + 1], weight[channel], bias[channel], eps);
    double sum = 0, product = 0;
    each<N>(p, [&](Index pack) {
        Pack<T, N> at = load<T, N>(x, pack), back = load<T, N>(z, pack);
#pragma unroll
        for (int j = 0; j < N; ++j) {
            T through = passed(scale, relu, at.at[j], back.at[j]);
            sum += through;
            product += through * (at.at[j] - scale.mean);
        }
    });
    sum = block_sum(sum);
    product = block_sum(product);
    if (threadIdx.x > 0) return;
    double* out = parts + (channel * gridDim.y + blockIdx.y) * 2;
    out[0] = sum;
    out[1] = product - scale.rest * sum;
}

// Cotangents of x, weight and bias. `all`: sums over the numbers of `total` a channel, where the moments are of more
// than x; with no `total`, the moments did not depend on x.
template <typename T, int N>
__device__ inline void norm_pull(T* x_bar, T* weight_bar, T* bias_bar, const double* parts, const double* all,
                                 const double* moments, const T* x, const T* z, const T* weight, const T* bias,
                                 const Planes& p, double total, double eps, bool relu) {
    Index channel = blockIdx.x;
    Scale<T> scale(moments[2 * channel], moments[2 * channel + 1], weight[channel], bias[channel], eps);
    double sum, product;
    sums_of(parts, gridDim.y, sum, product);
    if (blockIdx.y == 0 && threadIdx.x == 0) {
        weight_bar[channel] = (T)(product * scale.inverse);
        bias_bar[channel] = (T)sum;
    }
    if (all) {
        sum = all[2 * channel];
        product = all[2 * channel + 1];
    }
    double steep = total > 0 ? product * scale.inverse * scale.inverse / total : 0;
    T mean = (T)(total > 0 ? sum / total - scale.rest * steep : 0), along = (T)steep;
    each<N>(p, [&](Index pack) {
        Pack<T, N> at = load<T, N>(x, pack), back = load<T, N>(z, pack);
#pragma unroll
        for (int j = 0; j < N; ++j) {
            T through = passed(scale, relu, at.at[j], back.at[j]);
            at.at[j] = scale.slope * (through - mean - (at.at[j] - scale.mean) * along);
        }
        ((Pack<T, N>*)x_bar)[pack] = at;
    });
}

// The moments of every channel, of its so many parts; and both sums.
extern "C" __global__ void __launch_bounds__(256)
    norm_moments_f64(double* moments, const double* parts, Index parts_of_channel, Index count, Index share) {
    Planes p = {gridDim.x, 0, count, share};
    double mean, variance;
    moments_of(parts, parts_of_channel, p, mean, variance);
    if (threadIdx.x > 0) return;
    moments[2 * blockIdx.x] = mean;
    moments[2 * blockIdx.x + 1] = variance;
}

extern "C" __global__ void __launch_bounds__(256)
    norm_totals_f64(double* totals, const double* parts, Index parts_of_channel) {
    double sum, product;
    sums_of(parts, parts_of_channel, sum, product);
    if (threadIdx.x > 0) return;
    totals[2 * blockIdx.x] = sum;
    totals[2 * blockIdx.x + 1] = product;
}

// running = kept running + part moment, for the mean (entry 0) or the variance (entry 1) of every channel.
template <typename T>
__device__ inline void follow(T* running, const double* moments, Index channels, Index entry, double kept, double part) {
    for (Index channel = thread_of_grid(); channel < channels; channel += threads_of_grid())
        running[channel] = (T)(kept * (double)running[channel] + part * moments[2 * channel + entry]);
}

// Packs of a part where every plane is whole packs and every address allows them.
#define IN_PACKS(T, name, condition, ...)                       \
    const int N = 16 / sizeof(T);                               \
    if ((condition) && p.pixels % N == 0) name<T, N>(__VA_ARGS__); \
    else name<T, 1>(__VA_ARGS__);

#define NORMS(T, dtype)                                                                                             \
    extern "C" __global__ void __launch_bounds__(256)                                                               \
        norm_parts_##dtype(double* parts, const T* x, Index channels, Index pixels, Index count, Index share) {     \
        Planes p = {channels, pixels, count, share};                                                                \
        IN_PACKS(T, norm_parts, aligned(x), parts, x, p)                                                            \
    }                                                                                                               \
    extern "C" __global__ void __launch_bounds__(256)                                                               \
        norm_value_##dtype(T* out, double* moments, const double* parts, const T* x, const T* weight, const T* bias, \
                           Index channels, Index pixels, Index count, Index share, double eps, Index relu) {        \
        Planes p = {channels, pixels, count, share};                                                                \
        IN_PACKS(T, norm_value, aligned(x) && aligned(out), out, moments, parts, x, weight, bias, p, eps, relu != 0) \
    }                                                                                                               \
    extern "C" __global__ void __launch_bounds__(256)                                                               \
        norm_sums_##dtype(double* parts, const double* moments, const T* x, const T* z, const T* weight,            \
                          const T* bias, Index channels, Index pixels, Index count, Index share, double eps,        \
                          Index relu) {                                                                             \
        Planes p = {channels, pixels, count, share};                                                                \
        IN_PACKS(T, norm_sums, aligned(x) && aligned(z), parts, moments, x, z, weight, bias, p, eps, relu != 0)     \
    }                                                                                                               \
    extern "C" __global__ void __launch_bounds__(256)                                                               \
        norm_pull_##dtype(T* x_bar, T* weight_bar, T* bias_bar, const double* parts, const double* all,             \
                          const double* moments, const T* x, const T* z, const T* weight, const T* bias,            \
                          Index channels, Index pixels, Index count, Index share, double total, double eps,         \
                          Index relu) {                                                                             \
        Planes p = {channels, pixels, count, share};                                                                \
        IN_PACKS(T, norm_pull, aligned(x) && aligned(z) && aligned(x_bar), x_bar, weight_bar, bias_bar, parts, all, \
                 moments, x, z, weight, bias, p, total, eps, relu != 0)                                             \
    }                                                                                                               \
    extern "C" __global__ void __launch_bounds__(256)                                                               \
        follow_##dtype(T* running, const double* moments, Index channels, Index entry, double kept, double part) {  \
        follow<T>(running, moments, channels, entry, kept, part);                                                   \
    }

NORMS(double, f64)
NORMS(float, f32)
