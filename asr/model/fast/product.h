// Small matrix products, fast if one factor is used many times.

#pragma once

#include <algorithm>

#include "simd.h"

namespace {

constexpr int PANEL = 2 * LANES;  // columns of a product that are computed together
constexpr int BLOCK = 32;         // columns of a block in a matrix that is laid out beforehand

inline int padded(int n) { return (n + PANEL - 1) / PANEL * PANEL; }

// A matrix (k, n) in panels of columns, as the product reads it. It is copied into panels, unless
// it is used only once and has suitable strides, or the caller has laid it out in blocks.
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
    for (int j = 0; j < columns; j += PANEL) {
      float *panel = data_ + j / PANEL * next_;
      const float *from = matrix + static_cast<size_t>(j) * column_stride;
      copy(from, rows, std::min(PANEL, columns - j), row_stride, column_stride, panel);
    }
  }
  // Blocks of 32 columns, (n / 32, k, 32), as session.py lays them out.
  Packed(const float *blocks, int rows, int columns)
      : k(rows), n(padded(columns)), stride(BLOCK), data_(0), first_(blocks), block_(BLOCK),
        next_(static_cast<size_t>(rows) * BLOCK) {}
  // The PANEL columns from j on; their rows are ``stride`` apart.
  const float *panel(int j) const { return first_ + j / block_ * next_ + j % block_; }
  const int k, n, stride;

 private:
  // Copy a panel (rows, columns), along the side on which the matrix is dense.
  static void copy(const float *from, int rows, int columns, size_t row_stride,
                   size_t column_stride, float *panel) {
    if (column_stride == 1) {
      for (int i = 0; i < rows; i++)
        std::memcpy(panel + i * PANEL, from + i * row_stride, sizeof(float) * columns);
      return;
    }
    for (int i = 0; i < rows; i++)
      for (int j = 0; j < columns; j++)
        panel[i * PANEL + j] = from[i * row_stride + j * column_stride];
  }

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

// tile for a number of rows, from 1 to R, that is known at run time only.
template <int R>
inline void tile_of(int rows, const float *a, int row, int column, const float *b, int k,
                    int stride, float *c, int width, bool add) {
  if constexpr (R > 1)
    if (rows < R) return tile_of<R - 1>(rows, a, row, column, b, k, stride, c, width, add);
  tile<R>(a, row, column, b, k, stride, c, width, add);
}

// C (m, b.n) = A (m, k) B, or C += A B. A has any strides; rows of C are b.n apart. Rows are
// divided evenly among as few tiles as possible, because a tile of one row is slow.
void product(int m, const float *a, int row, int column, const Packed &b, float *c,
             bool add = false) {
  const int tiles = (m + ROWS - 1) / ROWS;
  for (int j = 0; j < b.n; j += PANEL)
    for (int part = 0; part < tiles; part++) {
      const int64_t i = int64_t{m} * part / tiles, rows = int64_t{m} * (part + 1) / tiles - i;
      tile_of<ROWS>(static_cast<int>(rows), a + i * row, row, column, b.panel(j), b.k, b.stride, c + i * b.n + j,
                    b.n, add);
    }
}

}  // namespace
