// The inner loops of the recurrent layers and of attention, for processors.
//
// A recurrence is a chain of small products, each too small for a general library to be fast
// at. Here a thread takes some utterances of one direction and walks through all their steps
// alone: no thread waits for another between steps, the recurrent weights stay in its cache,
// and the elementwise part of a step follows its product while the numbers are still warm.
// Rows are sorted by length, so that an utterance leaves the product when it ends; padding
// costs nothing and never enters.
//
// The file includes no header of torch and compiles in seconds; native.py builds it, and calls
// the functions at the end with pointers to contiguous float32 arrays. The equations stand in
// gru.py, attention.py and decoder.py, whose plain forms the tests compare with. Vectors are
// the portable ones of GCC and Clang. Letters as there; B utterances, S encoder steps,
// N or H units, A attention units, C filters of width K, L characters.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <thread>
#include <vector>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16, ROWS = 8;  // 16 of 32 registers accumulate
#elif defined(__AVX__)
constexpr int LANES = 8, ROWS = 6;  // 12 of 16
#else
constexpr int LANES = 4, ROWS = 6;
#endif
constexpr int PANEL = 2 * LANES;  // columns of a product that are computed together
constexpr int BLOCK = 32;         // columns that lie together in a matrix laid out beforehand

// Attention weights below this are left out of sums over encoder steps. The weights of a step
// sum to one, so that S of them move a sum of values v by less than S * 1e-9 * max |v|: below
// the rounding of float32 for any utterance.
constexpr float NEGLIGIBLE = 1e-9f;

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef float loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));

inline vec load(const float *p) { return *reinterpret_cast<const loose *>(p); }
inline void store(float *p, vec v) { *reinterpret_cast<loose *>(p) = v; }
inline vec splat(float x) { return x - vec{}; }

inline vec load(const float *p, int count) {
  if (count == LANES) return load(p);
  vec v{};
  std::memcpy(&v, p, sizeof(float) * count);
  return v;
}

inline void store(float *p, vec v, int count) {
  if (count == LANES) return store(p, v);
  std::memcpy(p, &v, sizeof(float) * count);
}

// f(j, count) for j = 0, LANES, ...; only the last count may be below LANES.
template <class F>
inline void each(int n, F f) {
  int j = 0;
  for (; j + LANES <= n; j += LANES) f(j, LANES);
  if (j < n) f(j, n - j);
}

// to (n) += what (n).
inline void add(float *to, const float *what, int n) {
  each(n, [&](int j, int count) { store(to + j, load(to + j, count) + load(what + j, count), count); });
}

inline float sum(vec v) {
  float total = 0;
  for (int i = 0; i < LANES; i++) total += v[i];
  return total;
}

// e^x to two units in the last place; the polynomial is that of the Cephes library. A NaN stays
// one, so that a training sees it.
inline vec exp(vec x) {
  x = x > 88.0f ? splat(88.0f) : x;
  x = x < -87.0f ? splat(-87.0f) : x;
  vec n = x * 1.44269504f + 12582912.0f;  // rounds to an integer in the low bits
  n -= 12582912.0f;
  vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
  vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  ints bits = (__builtin_convertvector(n, ints) + 127) << 23;  // 2^n
  vec scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return p * scale;
}

// 1 / x to the last place but one: a division takes as long as all of exp.
inline vec inverse(vec x) {
#if defined(__AVX512F__)
  vec guess = (vec)_mm512_rcp14_ps((__m512)x);  // 14 bits, which a step of Newton's doubles
  return guess * (2.0f - x * guess);
#else
  return 1.0f / x;
#endif
}

inline vec sigmoid(vec x) { return inverse(1.0f + exp(-x)); }
inline vec tanh(vec x) { return 1.0f - 2.0f * inverse(1.0f + exp(2.0f * x)); }

inline int padded(int n) { return (n + PANEL - 1) / PANEL * PANEL; }

// Scratch memory that begins at a cache line; zero at first.
class Buffer {
 public:
  explicit Buffer(size_t count)
      : store_(count + 16), data_(reinterpret_cast<float *>(
                                (reinterpret_cast<uintptr_t>(store_.data()) + 63) / 64 * 64)) {}
  operator float *() { return data_; }
  operator const float *() const { return data_; }

 private:
  std::vector<float> store_;
  float *data_;
};

// A matrix (k, n) as the product reads it: panels of columns, row after row. It is copied into
// that order, unless it is read only once and can be read where it lies, or the caller has laid
// it out in blocks.
class Packed {
 public:
  Packed(const float *matrix, int rows, int columns, int row_stride, int column_stride,
         bool once = false)
      : k(rows), n(padded(columns)),
        stride(once && column_stride == 1 && columns == n ? row_stride : PANEL),
        data_(stride == PANEL ? static_cast<size_t>(rows) * n : 0),
        first_(stride == PANEL ? static_cast<const float *>(data_) : matrix), block_(PANEL),
        next_(stride == PANEL ? static_cast<size_t>(rows) * PANEL : PANEL) {
    if (stride != PANEL) return;
    for (int j = 0; j < columns; j++)
      for (int i = 0; i < rows; i++)
        data_[j / PANEL * next_ + static_cast<size_t>(i) * PANEL + j % PANEL] =
            matrix[static_cast<size_t>(i) * row_stride + static_cast<size_t>(j) * column_stride];
  }
  // Blocks of 32 columns, (n / 32, k, 32), as decoder.py lays them out.
  Packed(const float *blocks, int rows, int columns)
      : k(rows), n(padded(columns)), stride(BLOCK), data_(0), first_(blocks), block_(BLOCK),
        next_(static_cast<size_t>(rows) * BLOCK) {}
  // The PANEL columns from j on; their rows lie stride apart.
  const float *panel(int j) const { return first_ + j / block_ * next_ + j % block_; }
  const int k, n, stride;

 private:
  Buffer data_;
  const float *first_;
  const int block_;
  const size_t next_;  // from a block to the next one
};

template <int R>
inline void tile(const float *a, int row, int column, const float *b, int k, int stride, float *c,
                 int width, bool add) {
  vec low[R], high[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++) {
    low[r] = add ? load(c + r * width) : vec{};
    high[r] = add ? load(c + r * width + LANES) : vec{};
  }
  for (int i = 0; i < k; i++) {
    vec b_low = load(b + i * stride), b_high = load(b + i * stride + LANES);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
      vec x = splat(a[r * row + i * column]);
      low[r] += x * b_low;
      high[r] += x * b_high;
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++) {
    store(c + r * width, low[r]);
    store(c + r * width + LANES, high[r]);
  }
}

// tile for a number of rows that only the run knows, from 1 to R.
template <int R>
inline void tile_of(int rows, const float *a, int row, int column, const float *b, int k,
                    int stride, float *c, int width, bool add) {
  if constexpr (R > 1)
    if (rows < R) return tile_of<R - 1>(rows, a, row, column, b, k, stride, c, width, add);
  tile<R>(a, row, column, b, k, stride, c, width, add);
}

// C (m, b.n) = A (m, k) B, or C += A B. A has any strides; rows of C lie b.n apart. Rows are
// dealt out evenly to as few tiles as can hold them: a tile of one row would be slow.
void product(int m, const float *a, int row, int column, const Packed &b, float *c,
             bool add = false) {
  const int tiles = (m + ROWS - 1) / ROWS;
  for (int j = 0; j < b.n; j += PANEL)
    for (int part = 0; part < tiles; part++) {
      const int i = m * part / tiles, rows = m * (part + 1) / tiles - i;
      tile_of<ROWS>(rows, a + i * row, row, column, b.panel(j), b.k, b.stride, c + i * b.n + j,
                    b.n, add);
    }
}

// Call work(0), ..., work(tasks - 1), each once, on so many threads.
template <class F>
void run(int tasks, int threads, F work) {
  std::atomic<int> next{0};
  auto worker = [&] {
    for (int task; (task = next++) < tasks;) work(task);
  };
  std::vector<std::thread> others;
  for (int i = 1; i < std::min(tasks, threads); i++) others.emplace_back(worker);
  worker();
  for (auto &thread : others) thread.join();
}

// Every groups-th row, the longest first.
std::vector<int> rows_of(int group, int groups, const int32_t *counts, int batch) {
  std::vector<int> order(batch), rows;
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return counts[a] > counts[b]; });
  for (int i = group; i < batch; i += groups) rows.push_back(order[i]);
  return rows;
}

// Where the steps of each row begin when all rows lie one after the other; in the end their sum.
std::vector<size_t> starts_of(const int32_t *counts, int batch) {
  std::vector<size_t> starts(batch + 1);
  for (int i = 0; i < batch; i++) starts[i + 1] = starts[i] + counts[i];
  return starts;
}

// How many of the rows, longest first, have a step i.
int active(const std::vector<int> &rows, const int32_t *counts, int i) {
  int m = 0;
  while (m < static_cast<int>(rows.size()) && counts[rows[m]] > i) m++;
  return m;
}

// The recurrent weights (N, 3N) of a GRU, for both forms: reset AFTER the product has
// h U_r, h U_z and h U_n in one product; reset BEFORE it needs (r * h) U_n for itself.
struct Recurrent {
  Recurrent(const float *U, int N, bool before)
      : first(U, N, before ? 2 * N : 3 * N, 3 * N, 1),
        candidate(U + 2 * N, before ? N : 0, before ? N : 0, 3 * N, 1) {}
  Recurrent(const float *first_blocks, const float *candidate_blocks, int N, bool before)
      : first(first_blocks, N, before ? 2 * N : 3 * N),
        candidate(candidate_blocks, before ? N : 0, before ? N : 0) {}
  const Packed first, candidate;
};

struct RecurrentTransposed {
  RecurrentTransposed(const float *U, int N, bool before)
      : first(U, before ? 2 * N : 3 * N, N, 1, 3 * N),
        candidate(U + 2 * N, before ? N : 0, before ? N : 0, 1, 3 * N) {}
  const Packed first, candidate;
};

// Where a row keeps the numbers of one step.
struct Cell {
  float *rz;     // in: the input's part, (2N); out: r, z
  float *n;      // in: the input's part, (N); out: n
  float *inner;  // after: h U_n + c; before: r * h; (N), or null
};

// Scratch of gru_step and gru_step_back for so many rows.
struct Scratch {
  template <class Weights>
  Scratch(int rows, int N, const Weights &U)
      : first(rows * std::max(U.first.n, U.first.k)), reset(rows * N), inner(rows * U.candidate.n) {}
  Buffer first, reset, inner;
};

// One step of some rows; state (m, N) is replaced.
template <class CellOf>
void gru_step(int m, int N, const Recurrent &U, const float *c, bool before, float *state,
              Scratch &scratch, CellOf cell_of) {
  product(m, state, N, 1, U.first, scratch.first);
  if (before) {
    for (int k = 0; k < m; k++) {
      Cell cell = cell_of(k);
      const float *hidden = scratch.first + k * U.first.n, *h = state + k * N;
      float *g = cell.rz, *out = scratch.reset + k * N;
      each(N, [&](int j, int n) {
        vec r = sigmoid(load(g + j, n) + load(hidden + j, n));
        store(g + j, r, n);
        store(out + j, r * load(h + j, n), n);
      });
      if (cell.inner) std::memcpy(cell.inner, out, sizeof(float) * N);
    }
    product(m, scratch.reset, N, 1, U.candidate, scratch.inner);
  }
  for (int k = 0; k < m; k++) {
    Cell cell = cell_of(k);
    const float *hidden = scratch.first + k * U.first.n, *inner = scratch.inner + k * U.candidate.n;
    float *g = cell.rz, *h = state + k * N;
    each(N, [&](int j, int count) {
      vec z = sigmoid(load(g + N + j, count) + load(hidden + N + j, count));
      vec n = load(cell.n + j, count);
      if (before) {
        n = tanh(n + load(inner + j, count));
      } else {
        vec r = sigmoid(load(g + j, count) + load(hidden + j, count));
        vec own = load(hidden + 2 * N + j, count) + load(c + j, count);
        n = tanh(n + r * own);
        store(g + j, r, count);
        if (cell.inner) store(cell.inner + j, own, count);
      }
      store(g + N + j, z, count);
      store(cell.n + j, n, count);
      store(h + j, n + z * (load(h + j, count) - n), count);
    });
  }
}

// Backward through the elementwise part of one row's step.
// In: r, z, n and inner in the cell, h of the step before and d_h (N).
// Out: gradients of the activations in cell.rz and cell.n; after: that of the candidate's own
// part in cell.inner; d_hidden: gradients of the recurrent product (r, z, and after: n);
// d_h: the part of the gradient of the state before that needs no product.
// before: d_inner is that of the candidate's product, and the gradient of r is left for
// gru_back_reset, which knows that of r * h.
inline void gru_back(int N, Cell cell, const float *h, float *d_h, float *d_hidden,
                     float *d_inner, bool before) {
  float *g = cell.rz;
  each(N, [&](int j, int count) {
    vec z = load(g + N + j, count), n = load(cell.n + j, count), d = load(d_h + j, count);
    vec old = load(h + j, count);
    vec d_n = d * (1.0f - z) * (1.0f - n * n);
    vec d_z = d * (old - n) * z * (1.0f - z);
    store(g + N + j, d_z, count);
    store(cell.n + j, d_n, count);
    store(d_hidden + N + j, d_z, count);
    store(d_h + j, d * z, count);
    if (before) {
      store(d_inner + j, d_n, count);
    } else {
      vec r = load(g + j, count);
      vec d_r = d_n * load(cell.inner + j, count) * r * (1.0f - r);
      vec d_own = d_n * r;
      store(g + j, d_r, count);
      store(cell.inner + j, d_own, count);
      store(d_hidden + j, d_r, count);
      store(d_hidden + 2 * N + j, d_own, count);
    }
  });
}

inline void gru_back_reset(int N, Cell cell, const float *h, const float *d_reset, float *d_h,
                           float *d_hidden) {
  float *g = cell.rz;
  each(N, [&](int j, int count) {
    vec r = load(g + j, count), d = load(d_reset + j, count);
    vec old = load(h + j, count);
    vec d_r = d * old * r * (1.0f - r);
    store(g + j, d_r, count);
    store(d_hidden + j, d_r, count);
    store(d_h + j, load(d_h + j, count) + d * r, count);
  });
}

// d_h of the states after a step becomes that of the states before it. Its rows lie first.n
// apart, for that is how products write; the rest is as in gru_back.
template <class CellOf, class StateOf>
void gru_step_back(int m, int N, const RecurrentTransposed &U, bool before, float *d_h,
                   Scratch &scratch, CellOf cell_of, StateOf state_of) {
  const int width = U.first.k, stride = U.first.n;
  for (int k = 0; k < m; k++)
    gru_back(N, cell_of(k), state_of(k), d_h + k * stride, scratch.first + k * width,
             scratch.reset + k * N, before);
  if (before) {
    product(m, scratch.reset, N, 1, U.candidate, scratch.inner);
    for (int k = 0; k < m; k++)
      gru_back_reset(N, cell_of(k), state_of(k), scratch.inner + k * U.candidate.n,
                     d_h + k * stride, scratch.first + k * width);
  }
  product(m, scratch.first, width, 1, U.first, d_h, true);
}

// Location-aware attention over one utterance; see LocationAttention. A convolution is a product
// with a matrix whose rows are the same numbers, each row one further on.
class Attention {
 public:
  Attention(const float *filters, const float *U, const float *w, int S, int A, int C, int K)
      : filters_(filters), w_(w), A_(A), C_(C), K_(K), stride_(padded(S)), taps_(padded(K)),
        U_(U, C, A, A, 1), margin_(stride_ + taps_), past_(margin_, K, stride_, 1, 1, true),
        location_(static_cast<size_t>(C) * stride_ + ROWS),
        mix_(static_cast<size_t>(ROWS) * U_.n) {}

  // f = filters * previous, (C, S) in location_.
  void look(const float *previous, int steps) {
    std::memset(margin_, 0, sizeof(float) * (stride_ + taps_));
    std::memcpy(margin_ + K_ / 2, previous, sizeof(float) * steps);
    product(C_, filters_, K_, 1, past_, location_);
  }

  // weights (steps): softmax of w . tanh(keys + query + U f).
  void weigh(const float *keys, const float *query, const float *previous, int steps,
             float *weights) {
    look(previous, steps);
    float highest = -INFINITY;
    for (int t = 0; t < steps; t += ROWS) {
      const int rows = std::min(ROWS, steps - t);
      product(rows, location_ + t, 1, stride_, U_, mix_);
      for (int i = 0; i < rows; i++) {
        vec total{};
        const float *key = keys + static_cast<size_t>(t + i) * A_, *mix = mix_ + i * U_.n;
        each(A_, [&](int a, int n) {
          vec x = load(key + a, n) + load(query + a, n) + load(mix + a, n);
          total += load(w_ + a, n) * tanh(x);
        });
        weights[t + i] = sum(total);
        highest = std::max(highest, weights[t + i]);
      }
    }
    float total = 0;
    each(steps, [&](int t, int n) {
      vec e = exp(load(weights + t, n) - highest);
      store(weights + t, e, n);
    });
    for (int t = 0; t < steps; t++) total += weights[t];
    const float scale = 1.0f / total;
    each(steps, [&](int t, int n) { store(weights + t, load(weights + t, n) * scale, n); });
  }

 protected:
  const float *filters_, *w_;
  const int A_, C_, K_, stride_, taps_;
  const Packed U_;
  Buffer margin_;
  const Packed past_;  // (K, S): past_[k][t] = margin_[t + k]
  Buffer location_, mix_;
};

// The same with its backward, which sums the gradients of w, U and the filters over all calls.
class AttentionBack : public Attention {
 public:
  AttentionBack(const float *filters, const float *U, const float *w, int S, int A, int C, int K)
      : Attention(filters, U, w, S, A, C, K), back_U_(U, A, C, 1, A),
        back_filters_(filters, C, K, K, 1), d_w_(U_.n), d_U_(C * U_.n), d_filters_(C * taps_),
        energy_(stride_), d_mix_(static_cast<size_t>(S) * U_.n),
        d_location_(static_cast<size_t>(S) * back_U_.n), d_taps_(static_cast<size_t>(S) * taps_),
        d_margin_(stride_ + taps_) {}

  // Gradients of one row's step. In: weights and previous of the step, d_weights (steps).
  // Added to: d_keys (steps, A), d_query (A), and the sums. Set: d_previous (steps).
  void back(const float *keys, const float *query, const float *previous, const float *weights,
            const float *d_weights, int steps, float *d_keys, float *d_query,
            float *d_previous) {
    look(previous, steps);
    float mean = 0;
    for (int t = 0; t < steps; t++)
      if (!(weights[t] < NEGLIGIBLE)) mean += weights[t] * d_weights[t];
    int first = steps, end = 0;  // all steps that count lie between
    for (int t = 0; t < steps; t++) {
      const bool counts = !(weights[t] < NEGLIGIBLE);
      energy_[t] = counts ? weights[t] * (d_weights[t] - mean) : 0.0f;
      if (counts) first = std::min(first, t), end = t + 1;
    }
    std::memset(d_margin_, 0, sizeof(float) * (stride_ + taps_));
    for (int t = first; t < end; t += ROWS) {
      const int rows = std::min(ROWS, end - t);
      product(rows, location_ + t, 1, stride_, U_, mix_);
      each(A_, [&](int a, int n) {
        const vec asked = load(query + a, n), w = load(w_ + a, n);
        vec d_w{}, d_asked{};
        for (int i = 0; i < rows; i++) {
          const size_t at = static_cast<size_t>(t + i) * A_ + a;
          vec x = tanh(load(keys + at, n) + asked + load(mix_ + i * U_.n + a, n));
          vec d = energy_[t + i] * w * (1.0f - x * x);
          d_w += energy_[t + i] * x;
          d_asked += d;
          store(d_keys + at, load(d_keys + at, n) + d, n);
          store(d_mix_ + static_cast<size_t>(t + i) * U_.n + a, d, n);
        }
        store(d_w_ + a, load(d_w_ + a, n) + d_w, n);
        store(d_query + a, load(d_query + a, n) + d_asked, n);
      });
    }
    if (const int n = end - first; n > 0) {
      const float *d_mix = d_mix_ + static_cast<size_t>(first) * U_.n;
      product(C_, location_ + first, stride_, 1, Packed(d_mix, n, U_.n, U_.n, 1, true), d_U_, true);
      product(n, d_mix, U_.n, 1, back_U_, d_location_);  // (n, C)
      product(C_, d_location_, 1, back_U_.n, Packed(margin_ + first, n, taps_, 1, 1, true),
              d_filters_, true);
      product(n, d_location_, back_U_.n, 1, back_filters_, d_taps_);  // (n, K)
      for (int t = 0; t < n; t++) add(d_margin_ + first + t, d_taps_ + t * taps_, taps_);
    }
    std::memcpy(d_previous, d_margin_ + K_ / 2, sizeof(float) * steps);
  }

  // Adds the sums to d_w (A), d_U (C, A) and d_filters (C, K).
  void collect(float *d_w, float *d_U, float *d_filters) const {
    add(d_w, d_w_, A_);
    for (int c = 0; c < C_; c++) {
      add(d_U + c * A_, d_U_ + c * U_.n, A_);
      add(d_filters + c * K_, d_filters_ + c * taps_, K_);
    }
  }

 private:
  const Packed back_U_, back_filters_;
  Buffer d_w_, d_U_, d_filters_, energy_, d_mix_, d_location_, d_taps_, d_margin_;
};

// total (width) += sum over steps of weights * values (steps, width), four steps at a time.
inline void weighted_sum(const float *weights, const float *values, int steps, int width,
                         float *total) {
  int chosen[4], count = 0;
  for (int t = 0; t < steps; t++) {
    if (!(weights[t] < NEGLIGIBLE)) chosen[count++] = t;
    if (count < 4 && t + 1 < steps) continue;
    vec weight[4];
    const float *value[4];
    for (int i = 0; i < 4; i++) {
      weight[i] = splat(i < count ? weights[chosen[i]] : 0.0f);
      value[i] = values + static_cast<size_t>(i < count ? chosen[i] : t) * width;
    }
    if (count)
      each(width, [&](int j, int n) {
        vec low = weight[0] * load(value[0] + j, n) + weight[1] * load(value[1] + j, n);
        vec high = weight[2] * load(value[2] + j, n) + weight[3] * load(value[3] + j, n);
        store(total + j, load(total + j, n) + (low + high), n);
      });
    count = 0;
  }
}

// Four sums side by side: one alone would wait for each addition.
inline float dot(const float *a, const float *b, int width) {
  vec total[4]{};
  int j = 0;
  for (; j + 4 * LANES <= width; j += 4 * LANES)
    for (int i = 0; i < 4; i++)
      total[i] += load(a + j + i * LANES) * load(b + j + i * LANES);
  each(width - j, [&](int i, int n) { total[0] += load(a + j + i, n) * load(b + j + i, n); });
  return sum((total[0] + total[1]) + (total[2] + total[3]));
}

}  // namespace

extern "C" {

// A bidirectional GRU layer. Its R real steps, those of all utterances one after the other, lie
// packed: gates (R, 3N) of each direction: the input's part x W + b, replaced by r, z and n;
// U (2, N, 3N); c (2, N), after only; counts (B); inner (2, R, N), for backward, or null; out
// (B, S, 2N), 0 on padding. before: 1 for the reset before the product.
void bigru_forward(float *gates_forward, float *gates_back, const float *U, const float *c,
                   const int32_t *counts, float *inner, float *out, int B, int S, int N,
                   int before, int threads) {
  const Recurrent weights[2] = {{U, N, bool(before)}, {U + 3 * N * N, N, bool(before)}};
  const std::vector<size_t> starts = starts_of(counts, B);
  const int groups = (threads + 1) / 2;
  run(2 * groups, threads, [&](int task) {
    const int d = task % 2;
    const std::vector<int> rows = rows_of(task / 2, groups, counts, B);
    const int most = static_cast<int>(rows.size());
    if (!most) return;
    float *gates = d ? gates_back : gates_forward;
    float *own = inner ? inner + d * starts[B] * N : nullptr;
    Buffer state(most * N);
    Scratch scratch(most, N, weights[d]);
    for (int i = 0; i < counts[rows[0]]; i++) {
      const int m = active(rows, counts, i);
      auto time = [&](int k) { return d ? counts[rows[k]] - 1 - i : i; };  // of its i-th step
      gru_step(m, N, weights[d], c + d * N, before, state, scratch, [&](int k) {
        const size_t p = starts[rows[k]] + time(k);
        float *g = gates + p * 3 * N;
        return Cell{g, g + 2 * N, own ? own + p * N : nullptr};
      });
      for (int k = 0; k < m; k++)
        std::memcpy(out + ((static_cast<size_t>(rows[k]) * S + time(k)) * 2 + d) * N,
                    state + k * N, sizeof(float) * N);
    }
    for (int row : rows)
      for (int t = counts[row]; t < S; t++)
        std::memset(out + ((static_cast<size_t>(row) * S + t) * 2 + d) * N, 0, sizeof(float) * N);
  });
}

// Its backward. grad (B, S, 2N) of out; gates and inner as forward left them become the
// gradients of the gates' activations and, after, of the candidate's own part h U_n + c;
// before leaves inner, r * h. olds (2, R, N) is set to the state before each step. d_b (2, 3N) and
// d_c (2, N), 0 at first, get the sums of gates and inner.
void bigru_backward(const float *grad, const float *out, float *gates_forward,
                    float *gates_back, float *inner, float *olds, const float *U,
                    const int32_t *counts, float *d_b, float *d_c, int B, int S, int N,
                    int before, int threads) {
  const RecurrentTransposed weights[2] = {{U, N, bool(before)}, {U + 3 * N * N, N, bool(before)}};
  const std::vector<size_t> starts = starts_of(counts, B);
  const int groups = (threads + 1) / 2;
  std::vector<std::vector<float>> sums(2 * groups, std::vector<float>(4 * N));
  run(2 * groups, threads, [&](int task) {
    const int d = task % 2;
    const std::vector<int> rows = rows_of(task / 2, groups, counts, B);
    const int most = static_cast<int>(rows.size());
    if (!most) return;
    float *gates = d ? gates_back : gates_forward, *sum = sums[task].data();
    float *own = inner + d * starts[B] * N, *old = olds + d * starts[B] * N;
    const int stride = weights[d].first.n;
    Buffer d_h(most * stride);
    Scratch scratch(most, N, weights[d]);
    for (int i = counts[rows[0]] - 1; i >= 0; i--) {
      const int m = active(rows, counts, i);
      auto time = [&](int k, int step) { return d ? counts[rows[k]] - 1 - step : step; };
      auto packed = [&](int k) { return starts[rows[k]] + time(k, i); };
      for (int k = 0; k < m; k++) {
        const size_t row = static_cast<size_t>(rows[k]) * S;
        float *before_it = old + packed(k) * N;
        add(d_h + k * stride, grad + ((row + time(k, i)) * 2 + d) * N, N);
        if (i)
          std::memcpy(before_it, out + ((row + time(k, i - 1)) * 2 + d) * N, sizeof(float) * N);
        else
          std::memset(before_it, 0, sizeof(float) * N);
      }
      gru_step_back(
          m, N, weights[d], before, d_h, scratch,
          [&](int k) {
            float *g = gates + packed(k) * 3 * N;
            return Cell{g, g + 2 * N, own + packed(k) * N};
          },
          [&](int k) { return old + packed(k) * N; });
      for (int k = 0; k < m; k++) {
        add(sum, gates + packed(k) * 3 * N, 3 * N);
        add(sum + 3 * N, own + packed(k) * N, N);
      }
    }
  });
  for (int task = 0; task < 2 * groups; task++) {
    add(d_b + task % 2 * 3 * N, sums[task].data(), 3 * N);
    if (!before) add(d_c + task % 2 * N, sums[task].data() + 3 * N, N);
  }
}

// The decoder's loop over whole transcripts. gates (B, L, 3H): the characters' part, replaced by
// r, z, n; keys (B, S, A); values (B, S, 3H): the context's part of the gates, per encoder step;
// steps and lengths (B); W (H, A), filters (C, K), location (C, A), w (A); U (H, 3H), c (H);
// inner (B, L, H), for backward, or null; states (B, L, H) and weights (B, L, S), 0 on padding.
void decoder_forward(float *gates, const float *keys, const float *values, const int32_t *steps,
                     const int32_t *lengths, const float *W, const float *filters,
                     const float *location, const float *w, const float *U, const float *c,
                     float *inner, float *states, float *weights, int B, int L, int S, int H,
                     int A, int C, int K, int before, int threads) {
  const Recurrent recurrent(U, H, before);
  const Packed query(W, H, A, A, 1);
  run(threads, threads, [&](int group) {
    const std::vector<int> rows = rows_of(group, threads, lengths, B);
    const int most = static_cast<int>(rows.size());
    if (!most) return;
    Attention attention(filters, location, w, S, A, C, K);
    Buffer state(most * H), queries(most * query.n);
    Scratch scratch(most, H, recurrent);
    std::vector<float> uniform(S);
    for (int i = 0; i < lengths[rows[0]]; i++) {
      const int m = active(rows, lengths, i);
      product(m, state, H, 1, query, queries);
      for (int k = 0; k < m; k++) {
        const size_t row = rows[k], p = row * L + i;
        const int real = steps[row];
        float *now = weights + p * S;
        std::fill(uniform.begin(), uniform.end(), 1.0f / real);
        attention.weigh(keys + row * S * A, queries + k * query.n, i ? now - S : uniform.data(),
                        real, now);
        std::memset(now + real, 0, sizeof(float) * (S - real));
        weighted_sum(now, values + row * S * 3 * H, real, 3 * H, gates + p * 3 * H);
      }
      gru_step(m, H, recurrent, c, before, state, scratch, [&](int k) {
        const size_t p = static_cast<size_t>(rows[k]) * L + i;
        return Cell{gates + p * 3 * H, gates + p * 3 * H + 2 * H, inner ? inner + p * H : nullptr};
      });
      for (int k = 0; k < m; k++)
        std::memcpy(states + (static_cast<size_t>(rows[k]) * L + i) * H, state + k * H,
                    sizeof(float) * H);
    }
    for (int row : rows)
      for (int i = lengths[row]; i < L; i++) {
        const size_t p = static_cast<size_t>(row) * L + i;
        std::memset(states + p * H, 0, sizeof(float) * H);
        std::memset(weights + p * S, 0, sizeof(float) * S);
      }
  });
}

// Its backward. d_states (B, L, H) and d_weights (B, L, S) come in; gates and inner become
// gradients as in bigru_backward; d_queries (B, L, A), d_keys (B, S, A), d_filters, d_location
// and d_w are set (all zero at first). d_values is the caller's: weights^T d_gates.
void decoder_backward(const float *d_states, const float *d_weights, const float *keys,
                      const float *values, const float *states, const float *weights,
                      const int32_t *steps, const int32_t *lengths, const float *W,
                      const float *filters, const float *location, const float *w,
                      const float *U, float *gates, float *inner, float *d_queries,
                      float *d_keys, float *d_filters, float *d_location, float *d_w, int B,
                      int L, int S, int H, int A, int C, int K, int before, int threads) {
  const RecurrentTransposed recurrent(U, H, before);
  const Packed query(W, H, A, A, 1), query_back(W, A, H, 1, A);
  const int parameters = A + C * A + C * K;
  std::vector<std::vector<float>> sums(threads, std::vector<float>(parameters));
  run(threads, threads, [&](int group) {
    const std::vector<int> rows = rows_of(group, threads, lengths, B);
    const int most = static_cast<int>(rows.size());
    if (!most) return;
    AttentionBack attention(filters, location, w, S, A, C, K);
    const int stride = recurrent.first.n;
    Buffer d_h(most * stride), before_states(most * H), queries(most * query.n);
    Scratch scratch(most, H, recurrent);
    std::vector<float> d_past(static_cast<size_t>(most) * S), d_now(S), uniform(S);
    std::vector<float> d_query_rows(static_cast<size_t>(most) * A);
    for (int i = lengths[rows[0]] - 1; i >= 0; i--) {
      const int m = active(rows, lengths, i);
      for (int k = 0; k < m; k++) {
        const size_t p = static_cast<size_t>(rows[k]) * L + i;
        add(d_h + k * stride, d_states + p * H, H);
        if (i)
          std::memcpy(before_states + k * H, states + (p - 1) * H, sizeof(float) * H);
        else
          std::memset(before_states + k * H, 0, sizeof(float) * H);
      }
      gru_step_back(
          m, H, recurrent, before, d_h, scratch,
          [&](int k) {
            const size_t p = static_cast<size_t>(rows[k]) * L + i;
            return Cell{gates + p * 3 * H, gates + p * 3 * H + 2 * H, inner + p * H};
          },
          [&](int k) { return static_cast<const float *>(before_states) + k * H; });
      product(m, before_states, H, 1, query, queries);
      for (int k = 0; k < m; k++) {
        const size_t row = rows[k], p = row * L + i;
        const int real = steps[row];
        float *carried = d_past.data() + static_cast<size_t>(k) * S;
        const float *now = weights + p * S;
        for (int t = 0; t < real; t++)
          if (!(now[t] < NEGLIGIBLE))
            d_now[t] = d_weights[p * S + t] + carried[t] +
                       dot(gates + p * 3 * H, values + (row * S + t) * 3 * H, 3 * H);
        std::fill(uniform.begin(), uniform.end(), 1.0f / real);
        attention.back(keys + row * S * A, queries + k * query.n, i ? now - S : uniform.data(),
                       now, d_now.data(), real, d_keys + row * S * A, d_queries + p * A,
                       carried);
        std::memcpy(d_query_rows.data() + static_cast<size_t>(k) * A, d_queries + p * A,
                    sizeof(float) * A);
      }
      product(m, d_query_rows.data(), A, 1, query_back, d_h, true);
    }
    for (int row : rows)
      for (int i = lengths[row]; i < L; i++) {
        const size_t p = static_cast<size_t>(row) * L + i;
        std::memset(gates + p * 3 * H, 0, sizeof(float) * 3 * H);
        std::memset(inner + p * H, 0, sizeof(float) * H);
      }
    float *sum = sums[group].data();
    attention.collect(sum, sum + A, sum + A + C * A);
  });
  for (const auto &part : sums)
    for (int j = 0; j < parameters; j++) {
      if (j < A)
        d_w[j] += part[j];
      else if (j < A + C * A)
        d_location[j - A] += part[j];
      else
        d_filters[j - A - C * A] += part[j];
    }
}

// out (n) = x (n) * 0 or 1 / (1 - p), by chance: what a position gets depends on the seed and the
// position alone, so that backward needs no mask: it calls this with the gradient.
void dropout(const float *x, float *out, int n, int seed, int per_mille, int threads) {
  const int tasks = n < 65536 ? 1 : threads, kept = 1000 - per_mille;
  const uint32_t limit = static_cast<uint32_t>(4294967295.0 * kept / 1000);
  const float scale = 1000.0f / kept;
  run(tasks, threads, [&](int task) {
    const int first = static_cast<int64_t>(n) * task / tasks;
    const int last = static_cast<int64_t>(n) * (task + 1) / tasks;
    for (int i = first; i < last; i++) {
      uint32_t h = static_cast<uint32_t>(i) * 0x9e3779b9u + static_cast<uint32_t>(seed);
      h = (h ^ (h >> 16)) * 0x85ebca6bu;  // the mixing steps of MurmurHash3
      h = (h ^ (h >> 13)) * 0xc2b2ae35u;
      h ^= h >> 16;
      out[i] = h <= limit ? x[i] * scale : 0.0f;
    }
  });
}

// One step of a search for R = B * beam rows, beam of them for each of B utterances. tokens (R):
// the last characters; from (R): the row of the step before that each row goes on from; state
// (, H) and previous (, S): decoder states and attention weights of that step. gates (V, 3H): the
// characters' part; values (B, S, 3H + V): what encoder steps bring to gates and logits; U (H, 3H),
// or reset before (H, 2H) and candidate (H, H); readout (H, V), bias (V); the rest as in
// decoder_forward. values, W, U, candidate and readout lie in blocks of columns. Set: states
// (R, H), weights (R, S), 0 on padding, and log_probs (R, V).
void decoder_step(const int32_t *tokens, const int32_t *from, const float *state,
                  const float *previous, const float *gates, const float *keys,
                  const float *values, const int32_t *steps, const float *W,
                  const float *filters, const float *location, const float *w, const float *U,
                  const float *candidate, const float *c, const float *readout,
                  const float *bias, float *states, float *weights, float *log_probs, int R,
                  int beam, int S, int H, int A, int C, int K, int V, int before, int threads) {
  // to wake a thread takes as long as the work of some ten rows
  const int tasks = std::max(1, std::min(R / 16, threads));
  const int width = padded(3 * H + V), blocks = (3 * H + V + BLOCK - 1) / BLOCK;
  const Recurrent recurrent(U, candidate, H, before);
  const Packed query(W, H, A), spell(readout, H, V);
  run(tasks, threads, [&](int task) {
    const int first = R * task / tasks, m = R * (task + 1) / tasks - first;
    Attention attention(filters, location, w, S, A, C, K);
    Buffer now(m * H), queries(m * query.n), seen(m * width), logits(m * spell.n);
    Scratch scratch(m, H, recurrent);
    for (int k = 0; k < m; k++)
      std::memcpy(now + k * H, state + static_cast<size_t>(from[first + k]) * H,
                  sizeof(float) * H);
    product(m, now, H, 1, query, queries);
    for (int k = 0; k < m; k++) {
      const int row = first + k;
      const size_t b = row / beam;
      float *look = weights + static_cast<size_t>(row) * S;
      attention.weigh(keys + b * S * A, queries + k * query.n,
                      previous + static_cast<size_t>(from[row]) * S, steps[b], look);
      std::memset(look + steps[b], 0, sizeof(float) * (S - steps[b]));
    }
    for (int k = 0, count; k < m; k += count) {  // the rows of an utterance together
      const int b = (first + k) / beam;
      count = std::min(m - k, (b + 1) * beam - first - k);
      const float *looks = weights + static_cast<size_t>(first + k) * S;
      const Packed heard(values + static_cast<size_t>(b) * blocks * S * BLOCK, S, 3 * H + V);
      product(count, looks, S, 1, heard, seen + k * width);
    }
    for (int k = 0; k < m; k++) {
      add(seen + k * width, gates + static_cast<size_t>(tokens[first + k]) * 3 * H, 3 * H);
      add(seen + k * width + 3 * H, bias, V);
    }
    gru_step(m, H, recurrent, c, before, now, scratch, [&](int k) {
      float *sum = seen + k * width;
      return Cell{sum, sum + 2 * H, nullptr};
    });
    product(m, now, H, 1, spell, logits);
    for (int k = 0; k < m; k++) {
      const int row = first + k;
      const float *sum = seen + k * width + 3 * H;
      float *line = log_probs + static_cast<size_t>(row) * V, highest = -INFINITY, total = 0;
      for (int v = 0; v < V; v++) {
        line[v] = logits[k * spell.n + v] + sum[v];
        highest = std::max(highest, line[v]);
      }
      each(V, [&](int v, int n) {
        const vec e = exp(load(line + v, n) - highest);
        for (int i = 0; i < n; i++) total += e[i];
      });
      const float least = highest + std::log(total);
      each(V, [&](int v, int n) { store(line + v, load(line + v, n) - least, n); });
      std::memcpy(states + static_cast<size_t>(row) * H, now + k * H, sizeof(float) * H);
    }
  });
}

}  // extern "C"
