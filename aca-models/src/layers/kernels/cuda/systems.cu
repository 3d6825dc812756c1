// Systems of physics, one thread a state, with the formulas of the CPU's.

struct LinearDecay {
    static const int DIM = 1, PARAMS = 1;
    template <typename T> __device__ static void slope(const T* k, const T* y, T* dy) { dy[0] = -k[0] * y[0]; }
    template <typename T> __device__ static void pullback(const T* k, const T* y, const T* lambda, T* y_bar, T* k_bar) {
        y_bar[0] = -k[0] * lambda[0];
        k_bar[0] -= y[0] * lambda[0];
    }
};

struct CubicSpiral {
    static const int DIM = 2, PARAMS = 4;
    template <typename T> __device__ static void slope(const T* a, const T* y, T* dy) {
        T u = y[0] * y[0] * y[0], v = y[1] * y[1] * y[1];
        dy[0] = a[0] * u + a[1] * v;
        dy[1] = a[2] * u + a[3] * v;
    }
    template <typename T> __device__ static void pullback(const T* a, const T* y, const T* lambda, T* y_bar, T* a_bar) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            T square = y[i] * y[i];
            y_bar[i] = T(3) * square * (a[i] * lambda[0] + a[2 + i] * lambda[1]);
            a_bar[i] += lambda[0] * square * y[i];
            a_bar[2 + i] += lambda[1] * square * y[i];
        }
    }
};

struct VanDerPol {
    static const int DIM = 2, PARAMS = 1;
    template <typename T> __device__ static void slope(const T* mu, const T* y, T* dy) {
        T x = y[0], v = y[1];
        dy[0] = v;
        dy[1] = mu[0] * (T(1) - x * x) * v - x;
    }
    template <typename T> __device__ static void pullback(const T* mu, const T* y, const T* lambda, T* y_bar, T* mu_bar) {
        T x = y[0], v = y[1], w = lambda[1], spread = T(1) - x * x;
        y_bar[0] = -w * (mu[0] * (x + x) * v + T(1));
        y_bar[1] = lambda[0] + w * mu[0] * spread;
        mu_bar[0] += w * spread * v;
    }
};

struct LotkaVolterra {
    static const int DIM = 2, PARAMS = 4;
    template <typename T> __device__ static void slope(const T* theta, const T* y, T* dy) {
        T u = y[0], v = y[1];
        dy[0] = (theta[0] - theta[1] * v) * u;
        dy[1] = (theta[2] * u - theta[3]) * v;
    }
    template <typename T>
    __device__ static void pullback(const T* theta, const T* y, const T* lambda, T* y_bar, T* theta_bar) {
        T u = y[0], v = y[1], a = lambda[0], b = lambda[1];
        y_bar[0] = a * (theta[0] - theta[1] * v) + b * theta[2] * v;
        y_bar[1] = b * (theta[2] * u - theta[3]) - a * theta[1] * u;
        theta_bar[0] += a * u;
        theta_bar[1] -= a * u * v;
        theta_bar[2] += b * u * v;
        theta_bar[3] -= b * v;
    }
};

struct Lorenz {
    static const int DIM = 3, PARAMS = 3;
    template <typename T> __device__ static void slope(const T* theta, const T* p, T* dp) {
        T x = p[0], y = p[1], z = p[2];
        dp[0] = theta[0] * (y - x);
        dp[1] = x * (theta[1] - z) - y;
        dp[2] = x * y - theta[2] * z;
    }
    template <typename T>
    __device__ static void pullback(const T* theta, const T* p, const T* lambda, T* p_bar, T* theta_bar) {
        T x = p[0], y = p[1], z = p[2], a = lambda[0], b = lambda[1], c = lambda[2];
        p_bar[0] = b * (theta[1] - z) + c * y - a * theta[0];
        p_bar[1] = a * theta[0] - b + c * x;
        p_bar[2] = -b * x - c * theta[2];
        theta_bar[0] += a * (y - x);
        theta_bar[1] += b * x;
        theta_bar[2] -= c * z;
    }
};

__device__ inline double root(double x) { return sqrt(x); }
__device__ inline float root(float x) { return sqrtf(x); }

struct ThreeBody {
    static const int DIM = 18, PARAMS = 3;
    // The units of systems/three_body.rs.
    static constexpr double PERIOD = 79.91 * 365.0 * 24.0 * 3600.0 * 0.51;
    static constexpr double K1 = 6.67408e-11 * PERIOD * 1.989e30 / (5.326e12 * 5.326e12 * 3e4);
    static constexpr double K2 = 3e4 * PERIOD / 5.326e12;

    // Distance vector of a pair; returns the inverse cube of its length.
    template <typename T> __device__ static T pair(const T* y, int i, int j, T* d, T& inverse) {
#pragma unroll
        for (int x = 0; x < 3; ++x) d[x] = y[3 * j + x] - y[3 * i + x];
        inverse = T(1) / (d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
        return inverse * root(inverse);
    }

    template <typename T> __device__ static T dot(const T* a, const T* b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

    template <typename T> __device__ static void slope(const T* m, const T* y, T* dy) {
        const T k1 = T(K1), k2 = T(K2);
#pragma unroll
        for (int x = 0; x < 9; ++x) {
            dy[x] = k2 * y[9 + x];
            dy[9 + x] = T(0);
        }
#pragma unroll
        for (int i = 0; i < 2; ++i)
#pragma unroll
            for (int j = i + 1; j < 3; ++j) {
                T d[3], inverse, cube = pair(y, i, j, d, inverse);
#pragma unroll
                for (int x = 0; x < 3; ++x) {
                    dy[9 + 3 * i + x] += k1 * m[j] * cube * d[x];
                    dy[9 + 3 * j + x] -= k1 * m[i] * cube * d[x];
                }
            }
    }

    template <typename T> __device__ static void pullback(const T* m, const T* y, const T* lambda, T* y_bar, T* m_bar) {
        const T k1 = T(K1), k2 = T(K2);
#pragma unroll
        for (int x = 0; x < 9; ++x) {
            y_bar[x] = T(0);
            y_bar[9 + x] = k2 * lambda[x];
        }
#pragma unroll
        for (int i = 0; i < 2; ++i)
#pragma unroll
            for (int j = i + 1; j < 3; ++j) {
                T d[3], inverse, cube = pair(y, i, j, d, inverse);
                const T *wi = lambda + 9 + 3 * i, *wj = lambda + 9 + 3 * j;
                T along_i = dot(wi, d), along_j = dot(wj, d);
                m_bar[j] += k1 * cube * along_i;
                m_bar[i] -= k1 * cube * along_j;
                T along = T(3) * inverse * (m[j] * along_i - m[i] * along_j);
#pragma unroll
                for (int x = 0; x < 3; ++x) {
                    T d_bar = k1 * cube * (m[j] * wi[x] - m[i] * wj[x] - along * d[x]);
                    y_bar[3 * j + x] += d_bar;
                    y_bar[3 * i + x] -= d_bar;
                }
            }
    }
};

// Which parameters a state has: the same as all, its own, or those of a row.
__device__ inline Index row_of(Index state, const long long* rows, Index shared) {
    return shared ? 0 : rows ? (Index)rows[state] : state;
}

template <typename S, typename T>
__device__ inline void slopes(T* dy, const T* theta, const T* y, const long long* rows, Index states, Index shared) {
    for (Index state = thread_of_grid(); state < states; state += threads_of_grid()) {
        T at[S::DIM], out[S::DIM];
#pragma unroll
        for (int i = 0; i < S::DIM; ++i) at[i] = y[state * S::DIM + i];
        S::slope(theta + row_of(state, rows, shared) * S::PARAMS, at, out);
#pragma unroll
        for (int i = 0; i < S::DIM; ++i) dy[state * S::DIM + i] = out[i];
    }
}

// Cotangents of states and parameters; those of shared ones are summed by blocks, [blocks, PARAMS], in an order that
// depends on the number of states alone.
template <typename S, typename T>
__device__ inline void pullbacks(T* y_bar, T* theta_bar, double* parts, const T* theta, const T* y, const T* lambda,
                                 const long long* rows, Index states, Index shared) {
    double sums[S::PARAMS] = {};
    for (Index state = thread_of_grid(); state < states; state += threads_of_grid()) {
        T at[S::DIM], along[S::DIM], back[S::DIM], own[S::PARAMS] = {};
#pragma unroll
        for (int i = 0; i < S::DIM; ++i) {
            at[i] = y[state * S::DIM + i];
            along[i] = lambda[state * S::DIM + i];
        }
        Index row = row_of(state, rows, shared);
        S::pullback(theta + row * S::PARAMS, at, along, back, own);
#pragma unroll
        for (int i = 0; i < S::DIM; ++i) y_bar[state * S::DIM + i] = back[i];
#pragma unroll
        for (int i = 0; i < S::PARAMS; ++i) {
            if (shared) sums[i] += own[i];
            else theta_bar[row * S::PARAMS + i] = own[i];
        }
    }
    if (!shared) return;
#pragma unroll
    for (int i = 0; i < S::PARAMS; ++i) {
        double sum = block_sum(sums[i]);
        if (threadIdx.x > 0) continue;
        if (gridDim.x == 1) theta_bar[i] = (T)sum;
        else parts[blockIdx.x * S::PARAMS + i] = sum;
    }
}

#define SYSTEM(S, T, dtype)                                                                                        \
    extern "C" __global__ void __launch_bounds__(256)                                                              \
        slopes_##S##_##dtype(T* dy, const T* theta, const T* y, const long long* rows, Index states, Index shared) { \
        slopes<S, T>(dy, theta, y, rows, states, shared);                                                          \
    }                                                                                                              \
    extern "C" __global__ void __launch_bounds__(256)                                                              \
        pullbacks_##S##_##dtype(T* y_bar, T* theta_bar, double* parts, const T* theta, const T* y, const T* lambda, \
                                const long long* rows, Index states, Index shared) {                               \
        pullbacks<S, T>(y_bar, theta_bar, parts, theta, y, lambda, rows, states, shared);                          \
    }

#define SYSTEMS(S) SYSTEM(S, double, f64) SYSTEM(S, float, f32)

SYSTEMS(LinearDecay)
SYSTEMS(CubicSpiral)
SYSTEMS(VanDerPol)
SYSTEMS(LotkaVolterra)
SYSTEMS(Lorenz)
SYSTEMS(ThreeBody)
