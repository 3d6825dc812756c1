// Activations and dense layers beside their products, with the formulas of the CPU's kernels.

enum Activation { IDENTITY, TANH, SIGMOID, SOFTPLUS, ELU, RELU, GELU };  // as layers/activation.rs orders them

__device__ inline double density(double x) { return 0.3989422804014327 * exp(-0.5 * x * x); }
__device__ inline float density(float x) { return 0.39894228f * expf(-0.5f * x * x); }
__device__ inline double below(double x) { return normcdf(x); }
__device__ inline float below(float x) { return normcdff(x); }
__device__ inline double exponential(double x) { return exp(x); }
__device__ inline float exponential(float x) { return expf(x); }
__device__ inline double exponential_1(double x) { return expm1(x); }
__device__ inline float exponential_1(float x) { return expm1f(x); }
__device__ inline double logarithm_1(double x) { return log1p(x); }
__device__ inline float logarithm_1(float x) { return log1pf(x); }
__device__ inline double hyperbolic(double x) { return tanh(x); }
__device__ inline float hyperbolic(float x) { return tanhf(x); }
__device__ inline double magnitude(double x) { return fabs(x); }
__device__ inline float magnitude(float x) { return fabsf(x); }

// The normal distribution has no mass beyond.
__device__ inline double far(double) { return 38.6; }
__device__ inline float far(float) { return 14.5f; }

// Comparisons are written such that NaN falls through to the result.
template <typename T> __device__ inline T value(int activation, T x) {
    switch (activation) {
        case TANH: return hyperbolic(x);
        case SIGMOID: {
            T e = exponential(-magnitude(x));
            return (x >= T(0) ? T(1) : e) / (T(1) + e);
        }
        case SOFTPLUS: return (x > T(0) ? x : T(0)) + logarithm_1(exponential(-magnitude(x)));
        case ELU: return x >= T(0) ? x : exponential_1(x);
        case RELU: return x <= T(0) ? T(0) : x;
        case GELU: {
            T low = -far(x), kept = x < low ? low : x;
            return kept * below(kept);
        }
        default: return x;
    }
}

// The derivative, of the input for gelu and of the value for all others.
template <typename T> __device__ inline T slope(int activation, T kept) {
    switch (activation) {
        case TANH: return (T(1) - kept) * (T(1) + kept);
        case SIGMOID: return kept * (T(1) - kept);
        case SOFTPLUS: return -exponential_1(-kept);
        case ELU: return kept >= T(0) ? T(1) : kept + T(1);
        case RELU: return kept <= T(0) ? T(0) : T(1);
        case GELU: {
            T end = far(kept), x = kept > end ? end : kept < -end ? -end : kept;
            return x * density(x) + below(kept);
        }
        default: return T(1);
    }
}

// out = activation(x + bias), and sums = x + bias where they are wanted. Without x, it is where the sums go, or out.
template <typename T> struct Activate {
    T* out;
    T* sums;        // or null
    const T* x;
    const T* bias;  // or null
    Index columns;
    Index size;
    int activation;
};

template <typename T, int N> __device__ inline void activate_at(const Activate<T>& a, Index pack) {
    Pack<T, N> x = load<T, N>(a.x, pack), out;
    if (a.bias) {
        // Division of 32 bits is several times faster.
        Index entry = pack * N, column = a.size >> 32 ? entry % a.columns : (unsigned)entry % (unsigned)a.columns;
        Pack<T, N> bias = load<T, N>(a.bias, column / N);
#pragma unroll
        for (int j = 0; j < N; ++j) x.at[j] += bias.at[j];
    }
    if (a.sums) ((Pack<T, N>*)a.sums)[pack] = x;
#pragma unroll
    for (int j = 0; j < N; ++j) out.at[j] = value(a.activation, x.at[j]);
    ((Pack<T, N>*)a.out)[pack] = out;
}

template <typename T> __device__ inline void activate(const Activate<T>& a) {
    const int N = 16 / sizeof(T);
    bool packs = aligned(a.out) && aligned(a.sums) && aligned(a.x) && aligned(a.bias) && a.size % N == 0;
    if (packs && (!a.bias || a.columns % N == 0)) {
        for (Index pack = thread_of_grid(); pack < a.size / N; pack += threads_of_grid()) activate_at<T, N>(a, pack);
    } else {
        for (Index entry = thread_of_grid(); entry < a.size; entry += threads_of_grid()) activate_at<T, 1>(a, entry);
    }
}

// z = lambda times the derivative.
template <typename T> struct Pull {
    T* z;
    const T* kept;
    const T* lambda;
    Index size;
    int activation;
};

template <typename T, int N> __device__ inline void pull_at(const Pull<T>& a, Index pack) {
    Pack<T, N> kept = load<T, N>(a.kept, pack), z = load<T, N>(a.lambda, pack);
#pragma unroll
    for (int j = 0; j < N; ++j) z.at[j] *= slope(a.activation, kept.at[j]);
    ((Pack<T, N>*)a.z)[pack] = z;
}

template <typename T> __device__ inline void pull(const Pull<T>& a) {
    const int N = 16 / sizeof(T);
    Index first = thread_of_grid(), packs = aligned(a.z) && aligned(a.kept) && aligned(a.lambda) ? a.size / N : 0;
    for (Index pack = first; pack < packs; pack += threads_of_grid()) pull_at<T, N>(a, pack);
    for (Index entry = packs * N + first; entry < a.size; entry += threads_of_grid()) pull_at<T, 1>(a, entry);
}

// z as above, and the sums of its columns: the cotangent of a bias. Block (group, part) takes 32 columns of so many
// rows; which rows a thread adds, and in which order, depends on sizes alone.
template <typename T> struct Columns {
    T* z;           // or null
    T* sums;        // of all rows, where there is one part
    double* parts;  // [parts, columns] elsewhere
    const T* kept;  // or null, for a derivative of 1
    const T* lambda;
    Index rows;
    Index columns;
    Index share;  // rows of a part
    int activation;
};

template <typename T> __device__ inline void columns(const Columns<T>& a) {
    __shared__ double lanes[8][32];
    Index column = (Index)blockIdx.x * 32 + threadIdx.x % 32, lane = threadIdx.x / 32;
    Index begin = blockIdx.y * a.share, end = begin + a.share < a.rows ? begin + a.share : a.rows;
    double sum = 0;
    if (column < a.columns)
        for (Index row = begin + lane; row < end; row += 8) {
            Index entry = row * a.columns + column;
            T z = a.lambda[entry];
            if (a.kept) z *= slope(a.activation, a.kept[entry]);
            if (a.z) a.z[entry] = z;
            sum += z;
        }
    lanes[lane][threadIdx.x % 32] = sum;
    __syncthreads();
    if (lane > 0 || column >= a.columns) return;
    for (int other = 1; other < 8; ++other) sum += lanes[other][threadIdx.x];
    if (gridDim.y == 1)
        a.sums[column] = (T)sum;
    else
        a.parts[blockIdx.y * a.columns + column] = sum;
}

// sums[column] = sum over parts of parts[part, column].
template <typename T> __device__ inline void column_totals(T* sums, const double* parts, Index count, Index columns) {
    for (Index column = thread_of_grid(); column < columns; column += threads_of_grid()) {
        double sum = 0;
        for (Index part = 0; part < count; ++part) sum += parts[part * columns + column];
        sums[column] = (T)sum;
    }
}

// The state, and after each row its time: one for all, or one for so many rows.
template <typename T> __device__ inline void with_times(T* out, const T* x, const T* times, Index rows, Index dim, Index share) {
    for (Index entry = thread_of_grid(); entry < rows * (dim + 1); entry += threads_of_grid()) {
        Index row = entry / (dim + 1), column = entry % (dim + 1);
        out[entry] = column < dim ? x[row * dim + column] : times[row / share];
    }
}

#define LAYERS(T, dtype)                                                                                          \
    extern "C" __global__ void __launch_bounds__(256)                                                             \
        activate_##dtype(T* out, T* sums, const T* x, const T* bias, Index columns, Index size, Index activation) { \
        const T* from = x ? x : sums ? sums : out;                                                                \
        activate<T>({out, sums, from, bias, columns, size, (int)activation});                                     \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(256)                                                             \
        pull_##dtype(T* z, const T* kept, const T* lambda, Index size, Index activation) {                        \
        pull<T>({z, kept, lambda, size, (int)activation});                                                        \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(256)                                                             \
        columns_##dtype(T* z, T* sums, double* parts, const T* kept, const T* lambda, Index rows, Index columns,  \
                        Index share, Index activation) {                                                          \
        ::columns<T>({z, sums, parts, kept, lambda, rows, columns, share, (int)activation});                      \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(256)                                                             \
        column_totals_##dtype(T* sums, const double* parts, Index count, Index columns) {                         \
        column_totals<T>(sums, parts, count, columns);                                                            \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(256)                                                             \
        with_times_##dtype(T* out, const T* x, const T* times, Index rows, Index dim, Index share) {              \
        with_times<T>(out, x, times, rows, dim, share);                                                           \
    }

LAYERS(double, f64)
LAYERS(float, f32)
