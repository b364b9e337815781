// The inner loops of the recurrent layers and of the decoder, for processors.
//
// A recurrence is a chain of products that are too small for a general library to be fast. Here a
// thread takes some utterances of one direction and computes all their steps: threads do not wait
// for each other, the recurrent weights stay in the cache, and the elementwise part of a step
// follows its product while the numbers are in the cache, too. Rows are sorted by length, so that
// an utterance leaves the product when it ends, and padding is never computed.
//
// The files include no header of torch and compile in seconds. native.py builds them, and calls the
// functions at the end with a struct of pointers to contiguous arrays of float32 or int32; they
// return 0, or 1 where memory has run out. The loops are templates of the cell (cells.h) and of the attention's energies (attention.h); tests compare them
// with the plain forms in asr/model. Vectors are the portable ones of GCC and Clang. Letters:
// B utterances, S encoder steps, N or H units, G width of the gates, A attention units, C filters
// of width K, L characters, V vocabulary.

#include <atomic>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <thread>

#include "attention.h"
#include "cells.h"

// The arguments of the functions; native.py declares the same structs.
extern "C" {

// A layer of D = 1 or 2 directions. The R real steps of all utterances are concatenated.
struct Layer {
  float *gates_forward, *gates_back;  // (R, G), one for each direction; see Row
  const float *U, *c;                 // (D, N, G); (D, N) or null
  const int32_t *counts;              // (B), numbers of steps
  float *kept;                        // (D, R, N); see Row; null: without backward
  float *out;                         // (B, S, D N), 0 on padding
  // backward alone
  const float *d_out;  // (B, S, D N)
  float *olds;         // (D, R, N), set to the state before each step
  float *d_b, *d_c;    // (D, G) and (D, N), 0 at first; sums of gates and kept
  int cell, D, B, S, N, threads;
};

// The decoder's loop over whole transcripts.
struct Loop {
  float *gates;                        // (B, L, G); see Row. In: the characters' part
  const float *keys, *values;          // (B, S, A); (B, S, G): the context's part of the gates
  const int32_t *steps, *lengths;      // (B)
  const float *W;                      // (H, A), weights of the queries
  const float *filters, *location;     // (C, last + sum, K), (C, A), or null; see Past
  const float *w;                      // (A) or null
  const float *generator, *b, *prior;  // (A, C / 2, K), (A), (moves), or null; see Dynamic
  const float *U, *c;                  // (H, G); (H) or null
  float *kept;                         // (B, L, H); see Row; null: without backward
  float *states, *weights;             // (B, L, H) and (B, L, S), 0 on padding
  float *sums;                         // (B, L, S), of the weights before; null: not seen
  // backward alone
  const float *d_states, *d_weights;  // (B, L, H), (B, L, S)
  float *d_queries;                   // (B, L, A); all gradients are 0 at first
  float *d_keys;                      // (B, S, A)
  float *d_filters, *d_location, *d_w, *d_generator;
  int energy, cell, B, L, S, H, A, C, K, last, sum, moves, threads;
};

struct Dropout {
  const float *x;  // (n)
  float *out;      // (n)
  int n, seed, per_mille, threads;
};

// A step of a search of R = B * beam rows, ``beam`` of them for each of B utterances. The last five
// matrices that are read are in blocks of columns.
struct Step {
  const int32_t *tokens, *from;  // (R), the last characters; the rows before that they continue
  const float *state, *memory;   // (rows before, H); memory: the cell state of an LSTM
  const float *previous, *sums;  // (rows before, S), attention weights and their sum; see Past
  const float *gates;            // (V, G), the characters' part
  const float *keys;             // (B, S, A)
  const int32_t *steps;          // (B)
  const float *filters, *location, *w, *generator, *b, *prior, *c;  // as in Loop
  const float *bias;                                                // (V), of the readout
  const float *values;           // (B, S, G + V), the encoder steps' part of gates and logits
  const float *W, *U, *candidate, *readout;        // see CellWeights; (H, V)
  float *states, *memories;      // (R, H)
  float *weights, *log_probs;    // (R, S), 0 on padding; (R, V)
  int energy, cell, R, beam, S, H, A, C, K, last, sum, moves, V, threads;
};

}  // extern "C"

namespace {

// Call work(0), ..., work(tasks - 1) on a number of threads; throw what one of them throws.
void run(int tasks, int threads, const std::function<void(int)> &work) {
  std::atomic<int> next{0};
  std::exception_ptr failed;
  std::mutex lock;
  auto worker = [&] {
    try {
      for (int task; (task = next++) < tasks;) work(task);
    } catch (...) {
      const std::lock_guard<std::mutex> guard(lock);
      failed = std::current_exception();
    }
  };
  std::vector<std::thread> others;
  try {
    for (int i = 1; i < std::min(tasks, threads); i++) others.emplace_back(worker);
  } catch (const std::exception &) {  // no more threads can be started; these do all tasks
  }
  worker();
  for (auto &thread : others) thread.join();
  if (failed) std::rethrow_exception(failed);
}

// Call f; return 0, or 1 after an exception, which must not reach Python.
template <class F>
int safely(F f) {
  try {
    f();
    return 0;
  } catch (const std::exception &) {
    return 1;
  }
}

// The rows of a group, which are every groups-th row in the order of length, longest first.
std::vector<int> rows_of(int group, int groups, const int32_t *counts, int batch) {
  std::vector<int> order(batch), rows;
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return counts[a] > counts[b]; });
  for (int i = group; i < batch; i += groups) rows.push_back(order[i]);
  return rows;
}

// The offset of each row's first step when the steps of all rows are concatenated, and their sum.
std::vector<size_t> starts_of(const int32_t *counts, int batch) {
  std::vector<size_t> starts(batch + 1);
  for (int i = 0; i < batch; i++) starts[i + 1] = starts[i] + counts[i];
  return starts;
}

// The number of rows, sorted by length, that have a step i.
int active(const std::vector<int> &rows, const int32_t *counts, int i) {
  int m = 0;
  while (m < static_cast<int>(rows.size()) && counts[rows[m]] > i) m++;
  return m;
}

// Call f with a null pointer whose type is the cell (or energies) of a number in kinds.py.
template <class F>
void with_gru(int cell, F f) {
  if (cell == 0) f(static_cast<GRU<false> *>(nullptr));
  if (cell == 1) f(static_cast<GRU<true> *>(nullptr));
}

template <class F>
void with_cell(int cell, F f) {
  with_gru(cell, f);
  if (cell == 2) f(static_cast<LSTM *>(nullptr));
}

template <class F>
void with_energy(int energy, F f) {
  if (energy == 0) f(static_cast<Additive *>(nullptr));
  if (energy == 1) f(static_cast<Dot *>(nullptr));
  if (energy == 2) f(static_cast<DynamicConvolution *>(nullptr));
}

// The loop over all steps of a layer of GRUs.
template <class Cell>
struct Directions {
  static constexpr int GATES = Cell::GATES;
  const Layer &a;
  const int D = a.D, B = a.B, S = a.S, N = a.N, G = GATES * N;
  const int groups = std::min(B, (a.threads + D - 1) / D);
  const std::vector<size_t> starts = starts_of(a.counts, B);

  void forward() const {
    const size_t one = static_cast<size_t>(N) * G;
    const size_t last = D - 1;
    const Cell cells[2] = {{{a.U, nullptr, a.c, false}, N},
                           {{a.U + last * one, nullptr, a.c ? a.c + last * N : nullptr, false}, N}};
    run(D * groups, a.threads, [&](int task) {
      const int d = task % D;
      const std::vector<int> rows = rows_of(task / D, groups, a.counts, B);
      const int most = static_cast<int>(rows.size());
      if (!most) return;
      Buffer state(most * N);
      typename Cell::Scratch scratch(most, cells[d]);
      std::vector<Row> places(most);
      for (int i = 0; i < a.counts[rows[0]]; i++) {
        const int m = active(rows, a.counts, i);
        for (int k = 0; k < m; k++) places[k] = place(d, rows[k], i);
        cells[d].step(m, state, nullptr, places.data(), scratch);
        for (int k = 0; k < m; k++)
          std::memcpy(out_of(a.out, d, rows[k], i), state + k * N, sizeof(float) * N);
      }
      for (int row : rows)
        for (int t = a.counts[row]; t < S; t++)
          std::memset(at(a.out, d, row, t), 0, sizeof(float) * N);
    });
  }

  void backward() const {
    const size_t one = static_cast<size_t>(N) * G;
    const typename Cell::Back cells[2] = {{a.U, N}, {a.U + (D - 1) * one, N}};
    const std::vector<float> zeros(N);
    std::vector<std::vector<float>> sums(D * groups, std::vector<float>(G + N));
    run(D * groups, a.threads, [&](int task) {
      const int d = task % D, stride = cells[d].stride;
      const std::vector<int> rows = rows_of(task / D, groups, a.counts, B);
      const int most = static_cast<int>(rows.size());
      if (!most) return;
      Buffer d_h(most * stride);
      typename Cell::Back::Scratch scratch(most, cells[d]);
      std::vector<Row> places(most);
      for (int i = a.counts[rows[0]] - 1; i >= 0; i--) {
        const int m = active(rows, a.counts, i);
        for (int k = 0; k < m; k++) {
          add(d_h + k * stride, out_of(a.d_out, d, rows[k], i), N);
          const float *before = i ? out_of(a.out, d, rows[k], i - 1) : zeros.data();
          float *old = a.olds + packed(d, rows[k], i) * N;
          std::memcpy(old, before, sizeof(float) * N);
          places[k] = place(d, rows[k], i);
          places[k].h = old;
        }
        cells[d].step(m, d_h, nullptr, places.data(), scratch);
        for (int k = 0; k < m; k++) {
          add(sums[task].data(), places[k].gates, G);
          add(sums[task].data() + G, places[k].kept, N);
        }
      }
    });
    for (int task = 0; task < D * groups; task++) {
      add(a.d_b + task % D * G, sums[task].data(), G);
      if (a.d_c) add(a.d_c + task % D * N, sums[task].data() + G, N);
    }
  }

 private:
  // The time of step i of a direction.
  int time(int d, int row, int i) const { return d ? a.counts[row] - 1 - i : i; }

  // Its index among the real steps of all utterances and directions.
  size_t packed(int d, int row, int i) const {
    return d * starts[B] + starts[row] + time(d, row, i);
  }

  Row place(int d, int row, int i) const {
    const size_t p = packed(d, row, i), mine = p - d * starts[B];
    return {(d ? a.gates_back : a.gates_forward) + mine * G, a.kept ? a.kept + p * N : nullptr,
            nullptr, nullptr};
  }

  // A direction's part of step t in an array (B, S, D N).
  template <class Float>
  Float *at(Float *array, int d, int row, int t) const {
    return array + ((static_cast<size_t>(row) * S + t) * D + d) * N;
  }

  template <class Float>
  Float *out_of(Float *array, int d, int row, int i) const {
    return at(array, d, row, time(d, row, i));
  }
};

// The decoder's loop over whole transcripts.
template <class Energy, class Cell>
struct Decoder {
  const Loop &a;
  const int B = a.B, L = a.L, S = a.S, H = a.H, A = a.A, G = Cell::GATES * H;
  const int groups = std::min(B, a.threads);

  void forward() const {
    const Cell cell({a.U, nullptr, a.c, false}, H);
    const Packed query(a.W, H, A, A, 1);
    run(groups, groups, [&](int group) {
      const std::vector<int> rows = rows_of(group, groups, a.lengths, B);
      const int most = static_cast<int>(rows.size());
      if (!most) return;
      Energy energy(a);
      Buffer state(most * H), memory(Cell::MEMORY ? most * H : 0), queries(most * query.n);
      typename Cell::Scratch scratch(most, cell);
      std::vector<float> start(S);
      std::vector<Row> places(most);
      for (int i = 0; i < a.lengths[rows[0]]; i++) {
        const int m = active(rows, a.lengths, i);
        product(m, state, H, 1, query, queries);
        for (int k = 0; k < m; k++) {
          const size_t row = rows[k], p = row * L + i;
          const int real = a.steps[row];
          float *now = a.weights + p * S;
          if (a.sum) add_up(p, i);
          energy.energies(a.keys + row * S * A, queries + k * query.n, past(p, i, real, start),
                          real, now);
          softmax(now, real);
          std::memset(now + real, 0, sizeof(float) * (S - real));
          weighted_sum(now, a.values + row * S * G, real, G, a.gates + p * G);
          places[k] = place(p);
        }
        cell.step(m, state, memory, places.data(), scratch);
        for (int k = 0; k < m; k++)
          std::memcpy(a.states + (static_cast<size_t>(rows[k]) * L + i) * H, state + k * H,
                      sizeof(float) * H);
      }
      padding(rows, a.states, H);
      padding(rows, a.weights, S);
    });
  }

  // The caller computes d_values = weights^T d_gates.
  void backward() const {
    const typename Cell::Back cell(a.U, H);
    const Packed query(a.W, H, A, A, 1), query_back(a.W, A, H, 1, A);
    const std::vector<float> zeros(H);
    std::vector<std::unique_ptr<typename Energy::Back>> energies(groups);
    run(groups, groups, [&](int group) {
      const std::vector<int> rows = rows_of(group, groups, a.lengths, B);
      const int most = static_cast<int>(rows.size()), stride = cell.stride;
      if (!most) return;
      energies[group] = std::make_unique<typename Energy::Back>(a);
      Buffer d_h(most * stride), d_memory(Cell::MEMORY ? most * H : 0), before(most * H),
          queries(most * query.n);
      typename Cell::Back::Scratch scratch(most, cell);
      // Gradients of each row's last weights, and of their sum, from the characters behind.
      std::vector<float> d_last(static_cast<size_t>(most) * S), d_sum(a.sum ? d_last.size() : 0);
      std::vector<float> d_now(S), d_energies(S), start(S);
      std::vector<float> d_query_rows(static_cast<size_t>(most) * A);
      std::vector<Row> places(most);
      for (int i = a.lengths[rows[0]] - 1; i >= 0; i--) {
        const int m = active(rows, a.lengths, i);
        for (int k = 0; k < m; k++) {
          const size_t p = static_cast<size_t>(rows[k]) * L + i;
          add(d_h + k * stride, a.d_states + p * H, H);
          std::memcpy(before + k * H, i ? a.states + (p - 1) * H : zeros.data(), sizeof(float) * H);
          places[k] = place(p);
          places[k].h = before + k * H;
          places[k].c = i ? a.kept + (p - 1) * H : zeros.data();
        }
        cell.step(m, d_h, d_memory, places.data(), scratch);
        product(m, before, H, 1, query, queries);
        for (int k = 0; k < m; k++) {
          const size_t row = rows[k], p = row * L + i;
          const int real = a.steps[row];
          float *carried = d_last.data() + static_cast<size_t>(k) * S;
          float *carried_sum = a.sum ? d_sum.data() + static_cast<size_t>(k) * S : nullptr;
          if (a.sum) add(carried, carried_sum, S);
          const float *now = a.weights + p * S;
          for (int t = 0; t < real; t++)
            if (!(now[t] < NEGLIGIBLE))
              d_now[t] = a.d_weights[p * S + t] + carried[t] +
                         dot(a.gates + p * G, a.values + (row * S + t) * G, G);
          std::memset(carried, 0, sizeof(float) * S);
          int first, end;
          softmax_back(now, d_now.data(), real, d_energies.data(), first, end);
          energies[group]->back(a.keys + row * S * A, queries + k * query.n,
                                past(p, i, real, start), real, d_energies.data(), first, end,
                                a.d_keys + row * S * A, a.d_queries + p * A,
                                {carried, carried_sum});
          std::memcpy(d_query_rows.data() + static_cast<size_t>(k) * A, a.d_queries + p * A,
                      sizeof(float) * A);
        }
        product(m, d_query_rows.data(), A, 1, query_back, d_h, true);
      }
      padding(rows, a.gates, G);
      padding(rows, a.kept, H);
    });
    for (const auto &energy : energies)
      if (energy) energy->collect(a);
  }

 private:
  Row place(size_t p) const {
    return {a.gates + p * G, a.kept ? a.kept + p * H : nullptr, nullptr, nullptr};
  }

  // Set the sum of the weights before character i, which is at p in (B, L).
  void add_up(size_t p, int i) const {
    float *sums = a.sums + p * S;
    std::memset(sums, 0, sizeof(float) * S);
    if (i) add(sums, sums - S, S), add(sums, a.weights + (p - 1) * S, S);
  }

  // What character i, at p in (B, L), knows; the first one knows ``start``.
  Past<const float> past(size_t p, int i, int real, std::vector<float> &start) const {
    const float *sum = a.sum ? a.sums + p * S : nullptr;
    if (i) return {a.weights + (p - 1) * S, sum};
    std::fill(start.begin(), start.end(), Energy::UNIFORM ? 1.0f / real : 0.0f);
    if (!Energy::UNIFORM) start[0] = 1.0f;
    return {start.data(), sum};
  }

  // Set the padding of an array (B, L, width) to zero.
  void padding(const std::vector<int> &rows, float *array, int width) const {
    for (int row : rows)
      for (int i = a.lengths[row]; i < L; i++)
        std::memset(array + (static_cast<size_t>(row) * L + i) * width, 0, sizeof(float) * width);
  }
};

// Replace line (V) by its log-softmax.
inline void log_softmax(float *line, int V) {
  float highest = -INFINITY, total = 0;
  for (int v = 0; v < V; v++) highest = std::max(highest, line[v]);
  each(V, [&](int v, int n) {
    const vec e = exp(load(line + v, n) - highest);
    for (int i = 0; i < n; i++) total += e[i];
  });
  const float offset = highest + std::log(total);
  each(V, [&](int v, int n) { store(line + v, load(line + v, n) - offset, n); });
}

// Compute rows first to first + m of a step of a search.
template <class Energy, class Cell>
void search_rows(const Step &a, const Cell &cell, const Packed &query, const Packed &readout,
                 int first, int m) {
  const int S = a.S, H = a.H, A = a.A, V = a.V, G = Cell::GATES * H;
  const int width = padded(G + V), blocks = (G + V + BLOCK - 1) / BLOCK;
  Energy energy(a);
  Buffer now(m * H), memory(Cell::MEMORY ? m * H : 0), queries(m * query.n), context(m * width),
      logits(m * readout.n);
  typename Cell::Scratch scratch(m, cell);
  std::vector<Row> places(m);
  for (int k = 0; k < m; k++) {
    const size_t from = a.from[first + k];
    std::memcpy(now + k * H, a.state + from * H, sizeof(float) * H);
    if (Cell::MEMORY) std::memcpy(memory + k * H, a.memory + from * H, sizeof(float) * H);
    places[k] = {context + k * width, nullptr, nullptr, nullptr};
  }
  product(m, now, H, 1, query, queries);
  for (int k = 0; k < m; k++) {
    const int row = first + k, real = a.steps[row / a.beam];
    const size_t b = row / a.beam, from = a.from[row];
    float *weights = a.weights + static_cast<size_t>(row) * S;
    energy.energies(a.keys + b * S * A, queries + k * query.n,
                    {a.last ? a.previous + from * S : nullptr, a.sum ? a.sums + from * S : nullptr},
                    real, weights);
    softmax(weights, real);
    std::memset(weights + real, 0, sizeof(float) * (S - real));
  }
  for (int k = 0, count; k < m; k += count) {  // the rows of an utterance together
    const int b = (first + k) / a.beam;
    count = std::min(m - k, (b + 1) * a.beam - first - k);
    const float *weights = a.weights + static_cast<size_t>(first + k) * S;
    const Packed values(a.values + static_cast<size_t>(b) * blocks * S * BLOCK, S, G + V);
    product(count, weights, S, 1, values, context + k * width);
  }
  for (int k = 0; k < m; k++) {
    add(context + k * width, a.gates + static_cast<size_t>(a.tokens[first + k]) * G, G);
    add(context + k * width + G, a.bias, V);
  }
  cell.step(m, now, memory, places.data(), scratch);
  product(m, now, H, 1, readout, logits);
  for (int k = 0; k < m; k++) {
    const size_t row = first + k;
    const float *sum = context + k * width + G;
    float *line = a.log_probs + row * V;
    for (int v = 0; v < V; v++) line[v] = logits[k * readout.n + v] + sum[v];
    log_softmax(line, V);
    std::memcpy(a.states + row * H, now + k * H, sizeof(float) * H);
    if (Cell::MEMORY) std::memcpy(a.memories + row * H, memory + k * H, sizeof(float) * H);
  }
}

template <class Energy, class Cell>
void search_step(const Step &a) {
  // waking a thread takes as long as about ten rows
  const int tasks = std::max(1, std::min(a.R / 16, a.threads));
  const Cell cell({a.U, a.candidate, a.c, true}, a.H);
  const Packed query(a.W, a.H, a.A), readout(a.readout, a.H, a.V);
  run(tasks, a.threads, [&](int task) {
    const int first = a.R * task / tasks, m = a.R * (task + 1) / tasks - first;
    search_rows<Energy>(a, cell, query, readout, first, m);
  });
}

template <class T>
using type_of = std::remove_pointer_t<T>;

}  // namespace

extern "C" {

int layer_forward(const Layer *a) {
  return safely([&] {
    with_gru(a->cell, [&](auto cell) { Directions<type_of<decltype(cell)>>{*a}.forward(); });
  });
}

int layer_backward(const Layer *a) {
  return safely([&] {
    with_gru(a->cell, [&](auto cell) { Directions<type_of<decltype(cell)>>{*a}.backward(); });
  });
}

int decoder_forward(const Loop *a) {
  return safely([&] {
    with_energy(a->energy, [&](auto energy) {
      with_cell(a->cell, [&](auto cell) {
        Decoder<type_of<decltype(energy)>, type_of<decltype(cell)>>{*a}.forward();
      });
    });
  });
}

int decoder_backward(const Loop *a) {
  return safely([&] {
    with_energy(a->energy, [&](auto energy) {
      with_cell(a->cell, [&](auto cell) {
        Decoder<type_of<decltype(energy)>, type_of<decltype(cell)>>{*a}.backward();
      });
    });
  });
}

int decoder_step(const Step *a) {
  return safely([&] {
    with_energy(a->energy, [&](auto energy) {
      with_cell(a->cell, [&](auto cell) {
        search_step<type_of<decltype(energy)>, type_of<decltype(cell)>>(*a);
      });
    });
  });
}

// out (n) = x (n) times 0 or 1 / (1 - p). The factor of a position depends only on the seed and the
// position, so that backward calls this function with the gradient and needs no mask.
int dropout(const Dropout *a) {
  const int n = a->n, tasks = n < 65536 ? 1 : a->threads, kept = 1000 - a->per_mille;
  const auto work = [=](int task) {
    // local copies, because a compiler makes vectors only of what no store can change
    const float *__restrict x = a->x;
    const float scale = 1000.0f / kept;
    float *__restrict out = a->out;
    const uint32_t seed = a->seed, limit = static_cast<uint32_t>(4294967295.0 * kept / 1000);
    const int first = static_cast<int64_t>(n) * task / tasks;
    const int last = static_cast<int64_t>(n) * (task + 1) / tasks;
    for (int i = first; i < last; i++) {
      uint32_t h = static_cast<uint32_t>(i) * 0x9e3779b9u + seed;
      h = (h ^ (h >> 16)) * 0x85ebca6bu;  // the mixing steps of MurmurHash3
      h = (h ^ (h >> 13)) * 0xc2b2ae35u;
      h ^= h >> 16;
      const float scaled = x[i] * scale;
      out[i] = h <= limit ? scaled : 0.0f;
    }
  };
  return safely([&] { run(tasks, a->threads, work); });
}

}  // extern "C"
