// Steps of the recurrent cells for several rows; asr/model/cells has the equations.
//
// A cell lays its weights out once for all threads; each thread has its own scratch memory and
// states. All kinds have the same members, because the loops of native.cpp are templates of them.

#pragma once

#include <algorithm>

#include "product.h"

namespace {

// The numbers of a row in one step; N units, G = GATES * N.
struct Row {
  float *gates;       // (G). Forward replaces the inputs' part by the gates, backward the gates by
                      // the gradients of their pre-activations
  float *kept;        // (N). Other numbers that backward needs, see the cell; null: keep none
  const float *h;     // (N). Backward: output of the step before
  const float *c;     // (N). Backward: cell state of an LSTM after the step before
};

// Recurrent weights U (N, G), and a GRU's bias c (N). In a search they are in blocks of columns,
// and a GRU with reset before the product has U (N, 2N) and ``candidate`` (N, N).
struct CellWeights {
  const float *U, *candidate, *c;
  bool in_blocks;
};

// ``width`` columns of U from ``first`` on, (N, width).
inline Packed forward_weights(const CellWeights &w, int N, int G, int first, int width) {
  if (w.in_blocks) return Packed(first ? w.candidate : w.U, width ? N : 0, width);
  return Packed(w.U + first, width ? N : 0, width, G, 1);
}

// The same transposed, (width, N).
inline Packed backward_weights(const float *U, int N, int G, int first, int width) {
  return Packed(U + first, width, width ? N : 0, 1, G);
}

// A GRU. With reset AFTER the product, one product gives h U_r, h U_z and h U_n, and h U_n + c is
// kept. With reset BEFORE it, (r * h) U_n is a product of its own, and r * h is kept.
template <bool BEFORE>
class GRU {
 public:
  static constexpr int GATES = 3;
  static constexpr bool MEMORY = false;

  GRU(const CellWeights &weights, int N)
      : N(N), c(weights.c), U(forward_weights(weights, N, 3 * N, 0, BEFORE ? 2 * N : 3 * N)),
        candidate(forward_weights(weights, N, 3 * N, 2 * N, BEFORE ? N : 0)) {}

  struct Scratch {
    Scratch(int rows, const GRU &cell)
        : hidden(rows * cell.U.n), reset(rows * cell.N), inner(rows * cell.candidate.n) {}
    Buffer hidden, reset, inner;
  };

  // state (m, N) is replaced.
  void step(int m, float *state, float *, const Row *rows, Scratch &scratch) const {
    product(m, state, N, 1, U, scratch.hidden);
    if (BEFORE) {
      for (int k = 0; k < m; k++) {
        const float *hidden = scratch.hidden + k * U.n, *h = state + k * N;
        float *g = rows[k].gates, *out = scratch.reset + k * N;
        each(N, [&](int j, int n) {
          vec r = sigmoid(load(g + j, n) + load(hidden + j, n));
          store(g + j, r, n);
          store(out + j, r * load(h + j, n), n);
        });
        if (rows[k].kept) std::memcpy(rows[k].kept, out, sizeof(float) * N);
      }
      product(m, scratch.reset, N, 1, candidate, scratch.inner);
    }
    for (int k = 0; k < m; k++) {
      const float *hidden = scratch.hidden + k * U.n, *inner = scratch.inner + k * candidate.n;
      float *g = rows[k].gates, *kept = rows[k].kept, *h = state + k * N;
      each(N, [&](int j, int count) {
        vec z = sigmoid(load(g + N + j, count) + load(hidden + N + j, count));
        vec n = load(g + 2 * N + j, count);
        if (BEFORE) {
          n = tanh(n + load(inner + j, count));
        } else {
          vec r = sigmoid(load(g + j, count) + load(hidden + j, count));
          vec own = load(hidden + 2 * N + j, count) + load(c + j, count);
          n = tanh(n + r * own);
          store(g + j, r, count);
          if (kept) store(kept + j, own, count);
        }
        store(g + N + j, z, count);
        store(g + 2 * N + j, n, count);
        store(h + j, n + z * (load(h + j, count) - n), count);
      });
    }
  }

  class Back;

 private:
  const int N;
  const float *c;
  const Packed U, candidate;
};

template <bool BEFORE>
class GRU<BEFORE>::Back {
 public:
  Back(const float *U, int N)
      : stride(padded(N)), N(N), U(backward_weights(U, N, 3 * N, 0, BEFORE ? 2 * N : 3 * N)),
        candidate(backward_weights(U, N, 3 * N, 2 * N, BEFORE ? N : 0)) {}

  struct Scratch {
    Scratch(int rows, const Back &cell)
        : hidden(rows * std::max(cell.U.n, cell.U.k)), reset(rows * cell.N),
          inner(rows * cell.candidate.n) {}
    Buffer hidden, reset, inner;
  };

  // Replace d_h, the gradient of the states after a step, by that of the states before it. Its rows
  // are ``stride`` apart, as in the result of a product. With reset after, ``kept`` becomes its
  // gradient.
  void step(int m, float *d_h, float *, const Row *rows, Scratch &scratch) const {
    for (int k = 0; k < m; k++)
      elements(rows[k], d_h + k * stride, scratch.hidden + k * U.k, scratch.reset + k * N);
    if (BEFORE) {
      product(m, scratch.reset, N, 1, candidate, scratch.inner);
      for (int k = 0; k < m; k++)
        reset_gate(rows[k], scratch.inner + k * candidate.n, d_h + k * stride,
                   scratch.hidden + k * U.k);
    }
    product(m, scratch.hidden, U.k, 1, U, d_h, true);
  }

  const int stride;

 private:
  // The elementwise part. d_hidden: gradients of the recurrent product; d_h: the part of the
  // gradient of the state before that needs no product. With reset before, d_inner is the gradient
  // of the candidate's product, and reset_gate computes that of r.
  void elements(const Row &row, float *d_h, float *d_hidden, float *d_inner) const {
    float *g = row.gates, *kept = row.kept;
    each(N, [&](int j, int count) {
      vec z = load(g + N + j, count), n = load(g + 2 * N + j, count), d = load(d_h + j, count);
      vec old = load(row.h + j, count);
      vec d_n = d * (1.0f - z) * (1.0f - n * n);
      vec d_z = d * (old - n) * z * (1.0f - z);
      store(g + N + j, d_z, count);
      store(g + 2 * N + j, d_n, count);
      store(d_hidden + N + j, d_z, count);
      store(d_h + j, d * z, count);
      if (BEFORE) {
        store(d_inner + j, d_n, count);
      } else {
        vec r = load(g + j, count);
        vec d_r = d_n * load(kept + j, count) * r * (1.0f - r);
        vec d_own = d_n * r;
        store(g + j, d_r, count);
        store(kept + j, d_own, count);
        store(d_hidden + j, d_r, count);
        store(d_hidden + 2 * N + j, d_own, count);
      }
    });
  }

  void reset_gate(const Row &row, const float *d_reset, float *d_h, float *d_hidden) const {
    float *g = row.gates;
    each(N, [&](int j, int count) {
      vec r = load(g + j, count), d = load(d_reset + j, count);
      vec old = load(row.h + j, count);
      vec d_r = d * old * r * (1.0f - r);
      store(g + j, d_r, count);
      store(d_hidden + j, d_r, count);
      store(d_h + j, load(d_h + j, count) + d * r, count);
    });
  }

  const int N;
  const Packed U, candidate;
};

// An LSTM with gates i, f, g and o. Its cell state c is kept.
class LSTM {
 public:
  static constexpr int GATES = 4;
  static constexpr bool MEMORY = true;

  LSTM(const CellWeights &weights, int N)
      : N(N), U(forward_weights(weights, N, 4 * N, 0, 4 * N)) {}

  struct Scratch {
    Scratch(int rows, const LSTM &cell) : hidden(rows * cell.U.n) {}
    Buffer hidden;
  };

  // state and memory (m, N) are replaced.
  void step(int m, float *state, float *memory, const Row *rows, Scratch &scratch) const {
    product(m, state, N, 1, U, scratch.hidden);
    for (int k = 0; k < m; k++) {
      const float *hidden = scratch.hidden + k * U.n;
      float *x = rows[k].gates, *h = state + k * N, *c = memory + k * N;
      each(N, [&](int j, int n) {
        vec i = sigmoid(load(x + j, n) + load(hidden + j, n));
        vec f = sigmoid(load(x + N + j, n) + load(hidden + N + j, n));
        vec g = tanh(load(x + 2 * N + j, n) + load(hidden + 2 * N + j, n));
        vec o = sigmoid(load(x + 3 * N + j, n) + load(hidden + 3 * N + j, n));
        vec now = f * load(c + j, n) + i * g;
        store(x + j, i, n);
        store(x + N + j, f, n);
        store(x + 2 * N + j, g, n);
        store(x + 3 * N + j, o, n);
        store(c + j, now, n);
        store(h + j, o * tanh(now), n);
      });
      if (rows[k].kept) std::memcpy(rows[k].kept, c, sizeof(float) * N);
    }
  }

  class Back;

 private:
  const int N;
  const Packed U;
};

class LSTM::Back {
 public:
  Back(const float *U, int N) : stride(padded(N)), N(N), U(backward_weights(U, N, 4 * N, 0, 4 * N)) {}

  struct Scratch {
    Scratch(int rows, const Back &cell) : gates(rows * cell.U.k) {}
    Buffer gates;
  };

  // As in a GRU; d_memory (m, N), the gradient of the cell state, is replaced likewise.
  void step(int m, float *d_h, float *d_memory, const Row *rows, Scratch &scratch) const {
    for (int k = 0; k < m; k++) {
      const Row &row = rows[k];
      float *x = row.gates, *d_c = d_memory + k * N;
      const float *d_out = d_h + k * stride;
      each(N, [&](int j, int n) {
        vec i = load(x + j, n), f = load(x + N + j, n), g = load(x + 2 * N + j, n);
        vec o = load(x + 3 * N + j, n), d = load(d_out + j, n);
        vec y = tanh(load(row.kept + j, n));
        vec d_now = load(d_c + j, n) + d * o * (1.0f - y * y);
        store(x + j, d_now * g * i * (1.0f - i), n);
        store(x + N + j, d_now * load(row.c + j, n) * f * (1.0f - f), n);
        store(x + 2 * N + j, d_now * i * (1.0f - g * g), n);
        store(x + 3 * N + j, d * y * o * (1.0f - o), n);
        store(d_c + j, d_now * f, n);
      });
      std::memcpy(scratch.gates + k * U.k, x, sizeof(float) * U.k);
    }
    product(m, scratch.gates, U.k, 1, U, d_h);
  }

  const int stride;

 private:
  const int N;
  const Packed U;
};

}  // namespace
