// Sums over the rows of a state, or over all of it as one row. Block (row, part) sums a part, and the sum of the
// parts is a launch of its own. Rows come in packs where they are whole packs. So which entries a thread adds, and
// in which order, depends on the row's length alone.

__device__ inline Index thread_of_row() { return (Index)blockIdx.y * blockDim.x + threadIdx.x; }
__device__ inline Index threads_of_row() { return (Index)gridDim.y * blockDim.x; }

// One or two sums of (sum(e_i k_i) / (atol + rtol max(|y0|, |y1|)))^2; a weight of 0 skips its slope.
struct Norms {
    double* parts;  // [rows, parts, results]
    const void* y0;
    const void* y1;
    const void* rtol_each;  // or null
    const void* atol_each;
    const void* x[TERMS];
    double w[2][TERMS];
    double rtol;
    double atol;
    Index length;
    int count;
    int results;
};

template <typename T, int N> __device__ inline void add_squares(const Norms& a, Index pack, double* sums) {
    typedef typename SumOf<T>::Type Sum;
    Pack<T, N> y0 = load<T, N>(a.y0, pack), y1 = load<T, N>(a.y1, pack), rtol = {}, atol = {};
    if (a.rtol_each) {
        rtol = load<T, N>(a.rtol_each, pack);
        atol = load<T, N>(a.atol_each, pack);
    }
    Sum error[2][N] = {};
    each_term<T, N>(a.x, a.count, pack, [&](int i, const Pack<T, N>& x) {
#pragma unroll
        for (int r = 0; r < 2; ++r)
            if (a.w[r][i] != 0) add((Sum)a.w[r][i], x, error[r]);
    });
#pragma unroll
    for (int j = 0; j < N; ++j) {
        Sum r = a.rtol_each ? wide(rtol.at[j]) : (Sum)a.rtol, s = a.rtol_each ? wide(atol.at[j]) : (Sum)a.atol;
        Sum end = wide(y1.at[j]), scale = add_product(r, larger(wide(y0.at[j]), end), s);
#pragma unroll
        for (int m = 0; m < 2; ++m) {
            if (m >= a.results) break;
            // end - end is NaN where y1 is not finite: an infinite scale must not hide the error.
            double ratio = error[m][j] / scale + (end - end);
            sums[m] = fma(ratio, ratio, sums[m]);
        }
    }
}

template <typename T, int N> __device__ inline void norms(const Norms& a) {
    Index row = blockIdx.x, packs = a.length / N;
    double sums[2] = {0, 0};
    for (Index pack = thread_of_row(); pack < packs; pack += threads_of_row()) add_squares<T, N>(a, row * packs + pack, sums);
#pragma unroll
    for (int m = 0; m < 2; ++m) {
        if (m >= a.results) break;
        double sum = block_sum(sums[m]);
        if (threadIdx.x == 0) a.parts[(row * gridDim.y + blockIdx.y) * a.results + m] = sum;
    }
}

// Inner products of rows.
struct Dots {
    double* parts;  // [rows, parts]
    const void* a;
    const void* b;
    Index length;
};

template <typename T, int N> __device__ inline void add_products(const Dots& d, Index pack, double& sum) {
    Pack<T, N> a = load<T, N>(d.a, pack), b = load<T, N>(d.b, pack);
#pragma unroll
    for (int j = 0; j < N; ++j) sum = fma((double)wide(a.at[j]), (double)wide(b.at[j]), sum);
}

template <typename T, int N> __device__ inline void dots(const Dots& d) {
    Index row = blockIdx.x, packs = d.length / N;
    double sum = 0;
    for (Index pack = thread_of_row(); pack < packs; pack += threads_of_row()) add_products<T, N>(d, row * packs + pack, sum);
    sum = block_sum(sum);
    if (threadIdx.x == 0) d.parts[row * gridDim.y + blockIdx.y] = sum;
}

// The smallest index of an entry that is not finite, counted from `base`, where there is one.
struct Finite {
    Index* first;
    const void* x;
    Index size;
    Index base;
};

template <typename T, int N> __device__ inline void find(const Finite& a, Index pack, Index entry) {
    Pack<T, N> x = load<T, N>(a.x, pack);
#pragma unroll
    for (int j = N - 1; j >= 0; --j)
        if (!(wide(x.at[j]) - wide(x.at[j]) == 0)) atomicMin(a.first, a.base + entry + j);
}

template <typename T, int N> __device__ inline void first_non_finite(const Finite& a) {
    Index packs = a.size / N, first = thread_of_grid();
    for (Index pack = first; pack < packs; pack += threads_of_grid()) find<T, N>(a, pack, pack * N);
    if (N > 1 && first < a.size % N) find<T, 1>(a, packs * N + first, packs * N + first);
}

KERNELS(norms, Norms)
KERNELS(dots, Dots)
KERNELS(first_non_finite, Finite)

// sums[row, m] = sum over parts of parts[row, part, m]; block (row, m).
extern "C" __global__ void __launch_bounds__(256) sum_parts(double* sums, const double* parts, int count) {
    Index first = (Index)blockIdx.x * count * gridDim.y + blockIdx.y;
    double sum = 0;
    for (int part = threadIdx.x; part < count; part += blockDim.x) sum += parts[first + (Index)part * gridDim.y];
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x * gridDim.y + blockIdx.y] = sum;
}
