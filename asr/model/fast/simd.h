// Vectors of floats, functions of them, and scratch memory.

#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16, ROWS = 8;  // sums take 16 of 32 registers
#elif defined(__AVX__)
constexpr int LANES = 8, ROWS = 6;  // 12 of 16
#else
constexpr int LANES = 4, ROWS = 6;
#endif
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

// Call f(j, count) for j = 0, LANES, ...; only the last count can be below LANES.
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

// e^x to two units in the last place, by the polynomial of the Cephes library. NaN stays NaN, so
// that training detects it.
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

// 1 / x to two units in the last place; a division would take as long as exp.
inline vec inverse(vec x) {
#if defined(__AVX512F__)
  vec guess = (vec)_mm512_rcp14_ps((__m512)x);  // 14 bits; a step of Newton's method doubles them
  return guess * (2.0f - x * guess);
#else
  return 1.0f / x;
#endif
}

inline vec sigmoid(vec x) { return inverse(1.0f + exp(-x)); }
inline vec tanh(vec x) { return 1.0f - 2.0f * inverse(1.0f + exp(2.0f * x)); }

// The scalar product, in four sums, because one sum would wait for each addition.
inline float dot(const float *a, const float *b, int width) {
  vec total[4]{};
  int j = 0;
  for (; j + 4 * LANES <= width; j += 4 * LANES)
    for (int i = 0; i < 4; i++)
      total[i] += load(a + j + i * LANES) * load(b + j + i * LANES);
  each(width - j, [&](int i, int n) { total[0] += load(a + j + i, n) * load(b + j + i, n); });
  return sum((total[0] + total[1]) + (total[2] + total[3]));
}

// Scratch memory aligned to a cache line; zero at first.
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

}  // namespace
