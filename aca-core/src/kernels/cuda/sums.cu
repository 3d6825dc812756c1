// Weighted sums of states, entry by entry.

const int TERMS = 16;  // of one launch, as in launch.rs
const int TILE = 4;    // rows of a dense output that one thread sums, as in launch.rs
const int AHEAD = 4;   // terms whose loads are under way before the first is used

// Calls use(i, x_i) for each of `count` terms in turn.
template <typename T, int N, typename Use>
__device__ inline void each_term(const void* const* x, int count, Index pack, Use use) {
    for (int first = 0; first < count; first += AHEAD) {
        Pack<T, N> packs[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; ++i)
            if (first + i < count) packs[i] = load<T, N>(x[first + i], pack);
#pragma unroll
        for (int i = 0; i < AHEAD; ++i)
            if (first + i < count) use(first + i, packs[i]);
    }
}

// What a sum begins with: zeros where there is no base.
template <typename T, int N, typename Sum>
__device__ inline void begin(const void* base, Index pack, Sum (&sum)[N]) {
    Pack<T, N> x = {};
    if (base) x = load<T, N>(base, pack);
#pragma unroll
    for (int j = 0; j < N; ++j) sum[j] = wide(x.at[j]);
}

template <typename T, int N, typename Sum> __device__ inline void add(Sum w, const Pack<T, N>& x, Sum (&sum)[N]) {
#pragma unroll
    for (int j = 0; j < N; ++j) sum[j] = add_product(w, wide(x.at[j]), sum[j]);
}

template <typename T, int N, typename Sum> __device__ inline void store(void* out, Index pack, const Sum (&sum)[N]) {
    Pack<T, N> x;
#pragma unroll
    for (int j = 0; j < N; ++j) narrow(sum[j], x.at[j]);
    ((Pack<T, N>*)out)[pack] = x;
}

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
    begin<T, N>(a.base, pack, sum);
    each_term<T, N>(a.x, a.count, pack, [&](int i, const Pack<T, N>& x) { add((Sum)a.w[i], x, sum); });
    store<T, N>(a.out, pack, sum);
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
            const double* w = a.w + row * a.count;
            Sum sum[TILE][N];
            begin<T, N>(a.base, pack, sum[0]);
#pragma unroll
            for (int m = 1; m < TILE; ++m)
#pragma unroll
                for (int j = 0; j < N; ++j) sum[m][j] = sum[0][j];
            each_term<T, N>(a.x, a.count, pack, [&](int i, const Pack<T, N>& x) {
#pragma unroll
                for (int m = 0; m < TILE; ++m)
                    if (m < rows) add((Sum)w[m * a.count + i], x, sum[m]);
            });
#pragma unroll
            for (int m = 0; m < TILE; ++m)
                if (m < rows) store<T, N>(a.out, (row + m) * packs + pack, sum[m]);
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
        const double* w = a.w + row * a.count;
        Sum sum[N];
        begin<T, N>(a.base, a.base == a.out ? pack : source, sum);
        each_term<T, N>(a.x, a.count, source, [&](int i, const Pack<T, N>& x) { add((Sum)w[i], x, sum); });
        store<T, N>(a.out, pack, sum);
    }
}

KERNELS(combine, Combine)
KERNELS(combine_rows, Rows)
KERNELS(combine_picked, Picked)
