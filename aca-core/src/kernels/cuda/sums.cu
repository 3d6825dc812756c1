// Weighted sums of states, entry by entry.

const int TERMS = 16;  // of one launch, as in launch.rs
const int TILE = 4;    // rows of a dense output that one thread sums, as in launch.rs

// out = base + sum(w_i x_i); out may be base.
struct Combine {
    void* out;
    const void* base;  // or null
    const void* x[TERMS];
    double w[TERMS];
    Index size;
    int count;
};

template <typename T, int N> __device__ inline void combine_at(const Combine& a, Index pack) {
    typedef typename SumOf<T>::Type Sum;
    Sum sum[N];
    Pack<T, N> base = {};
    if (a.base) base = load<T, N>(a.base, pack);
#pragma unroll
    for (int j = 0; j < N; ++j) sum[j] = a.base ? wide(base.at[j]) : Sum(0);
    // Four loads are under way before the first is used.
#pragma unroll 4
    for (int i = 0; i < a.count; ++i) {
        Pack<T, N> x = load<T, N>(a.x[i], pack);
#pragma unroll
        for (int j = 0; j < N; ++j) sum[j] = add_product((Sum)a.w[i], wide(x.at[j]), sum[j]);
    }
    Pack<T, N> out;
#pragma unroll
    for (int j = 0; j < N; ++j) narrow(sum[j], out.at[j]);
    ((Pack<T, N>*)a.out)[pack] = out;
}

template <typename T, int N> __device__ inline void combine(const Combine& a) {
    Index packs = a.size / N, first = thread_of_grid();
    for (Index pack = first; pack < packs; pack += threads_of_grid()) combine_at<T, N>(a, pack);
    // The first few threads take the entries that fill no pack.
    if (N > 1 && first < a.size % N) combine_at<T, 1>(a, packs * N + first);
}

// Rows m of a dense output: base + sum(w_mi x_i). Threads of a block's column y share TILE rows.
struct Rows {
    void* out;
    const void* base;
    const void* x[TERMS];
    const double* w;  // [rows, count]
    Index size;
    Index rows;
    int count;
};

template <typename T, int N> __device__ inline void combine_rows(const Rows& a) {
    typedef typename SumOf<T>::Type Sum;
    Index packs = a.size / N, tiles = (a.rows + TILE - 1) / TILE;
    for (Index tile = blockIdx.y; tile < tiles; tile += gridDim.y)
        for (Index pack = thread_of_grid(); pack < packs; pack += threads_of_grid()) {
            Index row = tile * TILE;
            int rows = a.rows - row < TILE ? (int)(a.rows - row) : TILE;
            Sum sum[TILE][N];
            Pack<T, N> base = load<T, N>(a.base, pack);
#pragma unroll
            for (int m = 0; m < TILE; ++m)
#pragma unroll
                for (int j = 0; j < N; ++j) sum[m][j] = wide(base.at[j]);
            for (int i = 0; i < a.count; ++i) {
                Pack<T, N> x = load<T, N>(a.x[i], pack);
#pragma unroll
                for (int m = 0; m < TILE; ++m) {
                    if (m >= rows) break;
                    Sum w = (Sum)a.w[(row + m) * a.count + i];
#pragma unroll
                    for (int j = 0; j < N; ++j) sum[m][j] = add_product(w, wide(x.at[j]), sum[m][j]);
                }
            }
#pragma unroll
            for (int m = 0; m < TILE; ++m) {
                if (m >= rows) break;
                Pack<T, N> out;
#pragma unroll
                for (int j = 0; j < N; ++j) narrow(sum[m][j], out.at[j]);
                ((Pack<T, N>*)a.out)[(row + m) * packs + pack] = out;
            }
        }
}

// Rows m: base[r_m] + sum(w_mi x_i[r_m]), or m itself instead of r_m; out may be base, read at m then.
struct Picked {
    void* out;
    const void* base;  // or null
    const void* x[TERMS];
    const double* w;    // [rows, count]
    const Index* from;  // [rows] or null
    Index length;       // of a row
    Index rows;
    int count;
};

template <typename T, int N> __device__ inline void combine_picked(const Picked& a) {
    typedef typename SumOf<T>::Type Sum;
    Index row_packs = a.length / N, packs = row_packs * a.rows;
    for (Index pack = thread_of_grid(); pack < packs; pack += threads_of_grid()) {
        // Division of 32 bits is several times faster.
        Index row = packs >> 32 ? pack / row_packs : (unsigned)pack / (unsigned)row_packs;
        Index source = a.from ? a.from[row] * row_packs + pack % row_packs : pack;
        Sum sum[N];
        Pack<T, N> base = {};
        if (a.base) base = load<T, N>(a.base, a.base == a.out ? pack : source);
#pragma unroll
        for (int j = 0; j < N; ++j) sum[j] = a.base ? wide(base.at[j]) : Sum(0);
#pragma unroll 4
        for (int i = 0; i < a.count; ++i) {
            Pack<T, N> x = load<T, N>(a.x[i], source);
            Sum w = (Sum)a.w[row * a.count + i];
#pragma unroll
            for (int j = 0; j < N; ++j) sum[j] = add_product(w, wide(x.at[j]), sum[j]);
        }
        Pack<T, N> out;
#pragma unroll
        for (int j = 0; j < N; ++j) narrow(sum[j], out.at[j]);
        ((Pack<T, N>*)a.out)[pack] = out;
    }
}

KERNELS(combine, Combine)
KERNELS(combine_rows, Rows)
KERNELS(combine_picked, Picked)
