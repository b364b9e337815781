// The energies of attention over one utterance, their softmax, and weighted sums;
// asr/model/attention has the equations.
//
// A thread makes one object of a kind and calls it for every row and step. All kinds have the same
// members, because the loops of native.cpp are templates of them.

#pragma once

#include <cmath>

#include "product.h"

namespace {

// Smaller attention weights are left out of sums over encoder steps. S of them change a sum of
// values v by less than S * 1e-9 * max |v|, a millionth for 1,000 steps.
constexpr float NEGLIGIBLE = 1e-9f;

// What a character knows of the weights of the characters before it, for each encoder step: the
// last weights, and the sum of all. A kind that does not read one of them gets a null pointer.
template <class Float>
struct Past {
  Float *last, *sum;
};

// Additive energies, w . tanh(keys + query), and those that also see the past, which have C filters
// of width K for each part of it that they see, and U (C, A): w . tanh(keys + query + U f), where f
// is the convolution of the past with the filters. For each part it is a product with a matrix whose
// row k is the part shifted by k. Coverage has one filter, of width 1.
class Additive {
 public:
  static constexpr bool UNIFORM = true;  // the last weights before the first character

  // Arguments is a struct of native.cpp with w, filters, location, S, A, C, K, last and sum.
  template <class Arguments>
  explicit Additive(const Arguments &a)
      : filters_(a.filters), w_(a.w), A_(a.A), C_(a.C), K_(a.K), parts_(a.last + a.sum),
        last_(a.last), stride_(padded(a.S)), taps_(padded(K_)), U_(a.location, C_, A_, A_, 1),
        margins_{Buffer(stride_ + taps_), Buffer(stride_ + taps_)},
        past_{{margins_[0], K_, stride_, 1, 1, true}, {margins_[1], K_, stride_, 1, 1, true}},
        location_(static_cast<size_t>(C_) * stride_ + ROWS),
        mix_(static_cast<size_t>(ROWS) * U_.n) {}

  // energies (steps) from keys (steps, A), query (A) and the past (steps).
  void energies(const float *keys, const float *query, Past<const float> past, int steps,
                float *energies) {
    convolve(past, steps);
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
        energies[t + i] = sum(total);
      }
    }
  }

  class Back;

 protected:
  // f = filters * past, (C, S) in location_.
  void convolve(Past<const float> past, int steps) {
    for (int i = 0; i < parts_; i++) {
      std::memset(margins_[i], 0, sizeof(float) * (stride_ + taps_));
      std::memcpy(margins_[i] + K_ / 2, part(past, i), sizeof(float) * steps);
      product(C_, filters_ + i * K_, parts_ * K_, 1, past_[i], location_, i > 0);
    }
  }

  // The part of the past that filters (C, parts, K) see as the i-th.
  template <class Float>
  Float *part(Past<Float> past, int i) const {
    return i == 0 && last_ ? past.last : past.sum;
  }

  const float *filters_;  // (C, parts, K)
  const float *w_;
  const int A_, C_, K_, parts_, last_, stride_, taps_;
  const Packed U_;
  Buffer margins_[2];
  const Packed past_[2];  // (K, S) for each part: past_[i][k][t] = margins_[i][t + k]
  Buffer location_, mix_;
};

// Backward of Additive; it sums the gradients of w, U and the filters over all calls.
class Additive::Back : protected Additive {
 public:
  template <class Arguments>
  explicit Back(const Arguments &a)
      : Additive(a), back_U_(a.location, A_, C_, 1, A_), d_w_(U_.n),
        d_U_(C_ * U_.n), d_filters_{Buffer(C_ * taps_), Buffer(C_ * taps_)},
        d_mix_(static_cast<size_t>(a.S) * U_.n),
        d_location_(static_cast<size_t>(a.S) * back_U_.n),
        d_taps_(static_cast<size_t>(a.S) * taps_), d_margin_(stride_ + taps_) {}

  // Gradients of a step of one row. Reads d_energies, which are 0 outside of first to end. Adds to
  // d_keys (steps, A), d_query (A), d_past (steps) and the sums over calls.
  void back(const float *keys, const float *query, Past<const float> past, int steps,
            const float *d_energies, int first, int end, float *d_keys, float *d_query,
            Past<float> d_past) {
    convolve(past, steps);
    for (int t = first; t < end; t += ROWS) {
      const int rows = std::min(ROWS, end - t);
      product(rows, location_ + t, 1, stride_, U_, mix_);
      each(A_, [&](int a, int n) {
        const vec q = load(query + a, n), w = load(w_ + a, n);
        vec d_w{}, d_q{};
        for (int i = 0; i < rows; i++) {
          const size_t at = static_cast<size_t>(t + i) * A_ + a;
          vec x = tanh(load(keys + at, n) + q + load(mix_ + i * U_.n + a, n));
          vec d = d_energies[t + i] * w * (1.0f - x * x);
          d_w += d_energies[t + i] * x;
          d_q += d;
          store(d_keys + at, load(d_keys + at, n) + d, n);
          store(d_mix_ + static_cast<size_t>(t + i) * U_.n + a, d, n);
        }
        store(d_w_ + a, load(d_w_ + a, n) + d_w, n);
        store(d_query + a, load(d_query + a, n) + d_q, n);
      });
    }
    if (parts_ && first < end) convolve_back(first, end - first, steps, d_past);
  }

  // Add the sums to d_w (A), d_location (C, A) and d_filters (C, K).
  template <class Arguments>
  void collect(const Arguments &a) const {
    add(a.d_w, d_w_, A_);
    for (int c = 0; c < C_; c++) {
      add(a.d_location + c * A_, d_U_ + c * U_.n, A_);
      for (int i = 0; i < parts_; i++)
        add(a.d_filters + (c * parts_ + i) * K_, d_filters_[i] + c * taps_, K_);
    }
  }

 protected:
  // Backward of convolve for n steps of d_mix_ from first on.
  void convolve_back(int first, int n, int steps, Past<float> d_past) {
    const float *d_mix = d_mix_ + static_cast<size_t>(first) * U_.n;
    product(C_, location_ + first, stride_, 1, Packed(d_mix, n, U_.n, U_.n, 1, true), d_U_, true);
    product(n, d_mix, U_.n, 1, back_U_, d_location_);  // (n, C)
    for (int i = 0; i < parts_; i++) {
      product(C_, d_location_, 1, back_U_.n, Packed(margins_[i] + first, n, taps_, 1, 1, true),
              d_filters_[i], true);
      product(n, d_location_, back_U_.n, 1, Packed(filters_ + i * K_, C_, K_, parts_ * K_, 1),
              d_taps_);  // (n, K)
      std::memset(d_margin_, 0, sizeof(float) * (stride_ + taps_));
      for (int t = 0; t < n; t++) add(d_margin_ + first + t, d_taps_ + static_cast<size_t>(t) * taps_, taps_);
      add(part(d_past, i), d_margin_ + K_ / 2, steps);
    }
  }

  const Packed back_U_;
  Buffer d_w_, d_U_, d_filters_[2], d_mix_, d_location_, d_taps_, d_margin_;
};

// The part of dynamic convolution that is not additive attention: the second half of the C filters
// follows from the query, x = tanh(query + b) and x G, and a prior P lets weights move on.
class Dynamic {
 public:
  // Arguments is a struct of native.cpp with filters, G (A, C / 2, K), b (A) and P (moves).
  template <class Arguments>
  explicit Dynamic(const Arguments &a)
      : A_(a.A), half_(a.C / 2 * a.K), moves_(a.moves), G_(a.generator), b_(a.b), P_(a.prior),
        x_(A_), filters_(2 * half_) {
    std::memcpy(filters_, a.filters, sizeof(float) * half_);
  }

  // The filters (C, K) of a query (A).
  const float *filters(const float *query) {
    float *second = filters_ + half_;
    std::memset(second, 0, sizeof(float) * half_);
    each(A_, [&](int a, int n) { store(x_ + a, tanh(load(query + a, n) + load(b_ + a, n)), n); });
    for (int a = 0; a < A_; a++) add_scaled(second, x_[a], G_ + a * half_);
    return filters_;
  }

  // What the prior makes of the last weights at step t; the energy gets its logarithm.
  float moved(const float *last, int t) const {
    float total = 0;
    for (int k = 0; k < std::min(moves_, t + 1); k++) total += P_[k] * last[t - k];
    return total;
  }

  // The last weights' gradients (steps) from those of the energies, first to end.
  void moved_back(const float *last, const float *d_energies, int first, int end,
                  float *d_last) const {
    for (int t = first; t < end; t++) {
      const float x = moved(last, t), d = x > 0 ? d_energies[t] / x : 0.0f;
      for (int k = 0; k < std::min(moves_, t + 1); k++) d_last[t - k] += P_[k] * d;
    }
  }

  // Add to d_query (A) and d_G (A, C / 2, K); d_second (C / 2, K) are the query's filters'.
  void filters_back(const float *d_second, float *d_query, float *d_G) const {
    for (int a = 0; a < A_; a++) {
      d_query[a] += dot(G_ + a * half_, d_second, half_) * (1.0f - x_[a] * x_[a]);
      add_scaled(d_G + a * half_, x_[a], d_second);
    }
  }

 private:
  // to (C / 2, K) += factor * what.
  void add_scaled(float *to, float factor, const float *what) const {
    each(half_, [&](int j, int n) {
      store(to + j, load(to + j, n) + factor * load(what + j, n), n);
    });
  }

  const int A_, half_, moves_;
  const float *G_, *b_, *P_;
  Buffer x_, filters_;
};

class DynamicConvolution : Additive {
 public:
  static constexpr bool UNIFORM = false;  // all weight on the first step

  template <class Arguments>
  explicit DynamicConvolution(const Arguments &a) : Additive(a), dynamic_(a), zeros_(a.A) {}

  void energies(const float *keys, const float *query, Past<const float> past, int steps,
                float *energies) {
    filters_ = dynamic_.filters(query);
    Additive::energies(keys, zeros_, past, steps, energies);
    for (int t = 0; t < steps; t++) energies[t] += std::log(dynamic_.moved(past.last, t));
  }

  class Back;

 private:
  Dynamic dynamic_;
  Buffer zeros_;
};

class DynamicConvolution::Back : Additive::Back {
 public:
  template <class Arguments>
  explicit Back(const Arguments &a)
      : Additive::Back(a), dynamic_(a), zeros_(A_), d_zeros_(A_), d_second_(C_ / 2 * K_),
        d_G_(static_cast<size_t>(A_) * C_ / 2 * K_) {}

  void back(const float *keys, const float *query, Past<const float> past, int steps,
            const float *d_energies, int first, int end, float *d_keys, float *d_query,
            Past<float> d_past) {
    filters_ = dynamic_.filters(query);
    Additive::Back::back(keys, zeros_, past, steps, d_energies, first, end, d_keys, d_zeros_,
                         d_past);
    dynamic_.moved_back(past.last, d_energies, first, end, d_past.last);
    for (int c = 0; c < C_ / 2; c++) {  // the sums over calls are for the first half alone
      float *d_filter = d_filters_[0] + (C_ / 2 + c) * taps_;
      std::memcpy(d_second_ + c * K_, d_filter, sizeof(float) * K_);
      std::memset(d_filter, 0, sizeof(float) * K_);
    }
    dynamic_.filters_back(d_second_, d_query, d_G_);
  }

  // Add the sums to those of Additive and d_generator (A, C / 2, K).
  template <class Arguments>
  void collect(const Arguments &a) const {
    Additive::Back::collect(a);
    add(a.d_generator, d_G_, A_ * C_ / 2 * K_);
  }

 private:
  Dynamic dynamic_;
  Buffer zeros_, d_zeros_, d_second_, d_G_;
};

// Energies that are the product of key and query; the query's weights include the scale.
class Dot {
 public:
  static constexpr bool UNIFORM = true;

  template <class Arguments>
  explicit Dot(const Arguments &a) : A_(a.A) {}

  void energies(const float *keys, const float *query, Past<const float>, int steps,
                float *energies) {
    for (int t = 0; t < steps; t++)
      energies[t] = dot(keys + static_cast<size_t>(t) * A_, query, A_);
  }

  class Back;

 private:
  const int A_;
};

class Dot::Back : Dot {
 public:
  using Dot::Dot;

  void back(const float *keys, const float *query, Past<const float>, int,
            const float *d_energies, int first, int end, float *d_keys, float *d_query,
            Past<float>) {
    for (int t = first; t < end; t++) {
      const float *key = keys + static_cast<size_t>(t) * A_, d = d_energies[t];
      float *d_key = d_keys + static_cast<size_t>(t) * A_;
      each(A_, [&](int a, int n) {
        store(d_key + a, load(d_key + a, n) + d * load(query + a, n), n);
        store(d_query + a, load(d_query + a, n) + d * load(key + a, n), n);
      });
    }
  }

  template <class Arguments>
  void collect(const Arguments &) const {}
};

// The softmax of energies (steps), in place; weights below e^-87 of the largest are 0.
inline void softmax(float *weights, int steps) {
  float highest = -INFINITY, total = 0;
  for (int t = 0; t < steps; t++) highest = std::max(highest, weights[t]);
  each(steps, [&](int t, int n) {
    const vec x = load(weights + t, n) - highest;
    store(weights + t, x < -87.0f ? vec{} : exp(x), n);
  });
  for (int t = 0; t < steps; t++) total += weights[t];
  const float scale = 1.0f / total;
  each(steps, [&](int t, int n) { store(weights + t, load(weights + t, n) * scale, n); });
}

// Backward of softmax: d_weights (steps) to d_energies, which are 0 outside of first to end.
inline void softmax_back(const float *weights, const float *d_weights, int steps,
                         float *d_energies, int &first, int &end) {
  float mean = 0;
  for (int t = 0; t < steps; t++)
    if (!(weights[t] < NEGLIGIBLE)) mean += weights[t] * d_weights[t];
  first = steps, end = 0;
  for (int t = 0; t < steps; t++) {
    const bool counts = !(weights[t] < NEGLIGIBLE);
    d_energies[t] = counts ? weights[t] * (d_weights[t] - mean) : 0.0f;
    if (counts) first = std::min(first, t), end = t + 1;
  }
}

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

}  // namespace
