"""The recurrences on a GPU, in Triton: one launch for a layer, a loop or a step of a search.

As single operations, a character of the decoder's loop would be some forty launches and a step of
a layer several, and the GPU would wait for the processor that launches them. Here a program runs
all steps. It writes what a step passes to the next one to memory and reads it back after a barrier,
because a program can index memory only.

Several programs share the units of a layer for a group of utterances, or the units and encoder
steps of one utterance in the decoder. Each reads a part of the weights, and they wait for each
other at least once a step (:func:`_wait`). The programs of a group are neighbours in the grid,
which a GPU starts in order, and a group has no more programs than run at a time, so that no program
waits for one that cannot start.

Buffers of the decoder's states and weights have one row more than there are characters: row 0 holds
the state before the first character, and row i + 1 the state after character i. F (K, A) is the
product of the filters and their weights in the energies: their part is
sum_k alpha_{t + k - K/2} F_k. Names in capitals with an underscore are sizes rounded up to a power
of two. Products of float32 matrices split each number in two of TF32 (``tf32x3``), which keeps the
precision of float32.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from asr.model.fast.product import rounded

WARPS = 8
TILE = 8192  # numbers of a matrix that a program holds at a time
STEPS = 16  # encoder steps whose energies a program computes at a time
WIDEST = 512  # most filter taps or attention units: more take long to compile
MOST = 8  # programs that share an utterance
ROWS = 16  # utterances of a program of the encoder: a product has at least 16 rows
BLOCK = 32  # units of a layer that a program computes at a time
DEPTH = 32  # numbers of a state that it multiplies at a time
RECURRENT_WARPS, STAGES = 4, 4


@triton.jit
def _tanh(x):
    return 2 * tl.sigmoid(2 * x) - 1


@triton.jit
def _wait(counter, PARTS: tl.constexpr):
    """Wait until all programs of a group are here, and make visible what they wrote before."""
    tl.debug_barrier()
    if PARTS > 1:
        seen = tl.atomic_add(counter, 1, sem="release")
        target = (seen // PARTS + 1) * PARTS
        seen = tl.atomic_add(counter, 0, sem="acquire")
        while seen < target:
            seen = tl.atomic_add(counter, 0, sem="acquire")
        tl.debug_barrier()


@triton.jit
def _row(pointer, size, BLOCK: tl.constexpr):
    """Load a vector (size,) as (BLOCK,), padded with 0."""
    i = tl.arange(0, BLOCK)
    return tl.load(pointer + i, mask=i < size, other=0.0).to(tl.float32)


@triton.jit
def _put(pointer, values, size, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(pointer + i, values, mask=i < size)


@triton.jit
def _times(x, matrix, K, N, stride, BLOCK: tl.constexpr, TILE: tl.constexpr):
    """Multiply x (K,) by a matrix (K, N) with ``stride`` between rows: (BLOCK,), padded with 0."""
    ROWS: tl.constexpr = TILE // BLOCK
    n = tl.arange(0, BLOCK)
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    for first in range(0, K, ROWS):
        k = first + tl.arange(0, ROWS)
        part = tl.load(
            matrix + k[:, None] * stride + n[None, :],
            mask=(k < K)[:, None] & (n < N)[None, :],
            other=0.0,
        )
        total += tl.load(x + k, mask=k < K, other=0.0).to(tl.float32)[:, None] * part
    return tl.sum(total, 0)


@triton.jit
def _window(previous, t, real, K, TAPS: tl.constexpr):
    """Load the weights around each of the steps t (T,), alpha_{t + k - K/2}: (T, TAPS)."""
    k = tl.arange(0, TAPS)
    at = t[:, None] + k[None, :] - K // 2
    return tl.load(previous + at, mask=(at >= 0) & (at < real) & (k < K)[None, :], other=0.0)


@triton.jit
def _matrix(pointer, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Load a matrix (rows, columns) as (ROWS, COLUMNS), padded with 0."""
    i, j = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    mask = (i < rows)[:, None] & (j < columns)[None, :]
    return tl.load(pointer + i[:, None] * columns + j[None, :], mask=mask, other=0.0)


@triton.jit
def _energies(
    key, query, previous, t, real, F, w, A, K,
    A_: tl.constexpr, TAPS: tl.constexpr, PRECISION: tl.constexpr, KIND: tl.constexpr,
):  # fmt: skip
    """Energies of some encoder steps t (T,) from their keys (T, A_) and the query (A_,)."""
    if KIND == "dot":
        energies = tl.sum(key * query[None, :], 1)
    else:
        mix = key + query[None, :]
        if KIND == "location":
            window, filters = _window(previous, t, real, K, TAPS), _matrix(F, K, A, TAPS, A_)
            mix += tl.dot(window, filters, input_precision=PRECISION)
        energies = tl.sum(_tanh(mix) * _row(w, A, A_)[None, :], 1)
    return energies


@triton.jit
def _energies_back(
    d_energy, key, query, previous, t, real, F, w, A, K,
    A_: tl.constexpr, TAPS: tl.constexpr, PRECISION: tl.constexpr, KIND: tl.constexpr,
):  # fmt: skip
    """Gradients of key (T, A_), query (A_,), w (A_,), F (TAPS, A_) and window (T, TAPS)."""
    d_w, d_F, d_window = 0.0, 0.0, 0.0
    if KIND == "dot":
        d_key, d_query = d_energy[:, None] * query[None, :], tl.sum(d_energy[:, None] * key, 0)
    else:
        mix = key + query[None, :]
        if KIND == "location":
            window, filters = _window(previous, t, real, K, TAPS), _matrix(F, K, A, TAPS, A_)
            mix += tl.dot(window, filters, input_precision=PRECISION)
        y = _tanh(mix)
        d_w = tl.sum(d_energy[:, None] * y, 0)
        d_key = d_energy[:, None] * _row(w, A, A_)[None, :] * (1 - y * y)
        d_query = tl.sum(d_key, 0)
        if KIND == "location":
            d_F = tl.dot(tl.trans(window), d_key, input_precision=PRECISION)
            d_window = tl.dot(d_key, tl.trans(filters), input_precision=PRECISION)
    return d_key, d_query, d_w, d_F, d_window


@triton.jit
def _character(
    state, alignment, gate, keys, values, stride, real, W, F, w, U, c, query, energies, activations,
    own, new_state, new_alignment, part, counter, S, H, A, K,
    BEFORE: tl.constexpr, PARTS: tl.constexpr, H_: tl.constexpr, A_: tl.constexpr,
    S_: tl.constexpr, TAPS: tl.constexpr, TILE: tl.constexpr, STEPS: tl.constexpr,
    PRECISION: tl.constexpr, KIND: tl.constexpr,
):  # fmt: skip
    """Compute one step of one row: a new state and alignment from those of the last character."""
    a, s = tl.arange(0, A_), tl.arange(0, S_)
    q = _times(state, W, H, A, A, A_, TILE)
    _put(query, q, A, A_)
    for first in range(part * STEPS, real, PARTS * STEPS):
        t = first + tl.arange(0, STEPS)
        there = (t < real)[:, None] & (a < A)[None, :]
        key = tl.load(keys + t[:, None] * A + a[None, :], mask=there, other=0.0)
        energy = _energies(key, q, alignment, t, real, F, w, A, K, A_, TAPS, PRECISION, KIND)
        tl.store(energies + t, energy, mask=t < real)
    _wait(counter, PARTS)
    energy = tl.load(energies + s, mask=s < real, other=float("-inf"))
    weight = tl.exp(energy - tl.max(energy, 0))
    tl.store(new_alignment + s, weight / tl.sum(weight, 0), mask=s < S)  # the same in every part
    tl.debug_barrier()

    PART: tl.constexpr = H_ // PARTS
    first, left = part * PART, H - part * PART  # this program's units
    U += first
    values += first
    h = _row(state + first, left, PART)
    r = _row(gate + first, left, PART)
    r += _times(new_alignment, values, real, left, stride, PART, TILE)
    r = tl.sigmoid(r + _times(state, U, H, left, 3 * H, PART, TILE))
    z = _row(gate + H + first, left, PART)
    z += _times(new_alignment, values + H, real, left, stride, PART, TILE)
    z = tl.sigmoid(z + _times(state, U + H, H, left, 3 * H, PART, TILE))
    n = _row(gate + 2 * H + first, left, PART)
    n += _times(new_alignment, values + 2 * H, real, left, stride, PART, TILE)
    if BEFORE:
        _put(own + first, r * h, left, PART)
        _wait(counter, PARTS)
        n = _tanh(n + _times(own, U + 2 * H, H, left, 3 * H, PART, TILE))
    else:
        inner = _times(state, U + 2 * H, H, left, 3 * H, PART, TILE) + _row(c + first, left, PART)
        _put(own + first, inner, left, PART)
        n = _tanh(n + r * inner)
    _put(activations + first, r, left, PART)
    _put(activations + H + first, z, left, PART)
    _put(activations + 2 * H + first, n, left, PART)
    _put(new_state + first, n + z * (h - n), left, PART)
    _wait(counter, PARTS)


@triton.jit(do_not_specialize=["L", "S"])
def _forward(
    gates, keys, values, steps, lengths, W, F, w, U, c, states, weights, inner, queries, energies,
    counters, L, S, H, A, K,
    BEFORE: tl.constexpr, PARTS: tl.constexpr, H_: tl.constexpr, A_: tl.constexpr,
    S_: tl.constexpr, TAPS: tl.constexpr, TILE: tl.constexpr, STEPS: tl.constexpr,
    PRECISION: tl.constexpr, KIND: tl.constexpr,
):  # fmt: skip
    part, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    real, length = tl.load(steps + row), tl.load(lengths + row)
    keys += row * S * A
    values += row * S * 3 * H
    gates += row * L * 3 * H
    inner += row * L * H
    queries += row * L * A
    states += row * (L + 1) * H
    weights += row * (L + 1) * S
    for _ in range(length):
        _character(
            states, weights, gates, keys, values, 3 * H, real, W, F, w, U, c, queries,
            energies + row * S, gates, inner, states + H, weights + S, part, counters + row,
            S, H, A, K, BEFORE, PARTS, H_, A_, S_, TAPS, TILE, STEPS, PRECISION, KIND,
        )  # fmt: skip
        states += H
        weights += S
        gates += 3 * H
        inner += H
        queries += A


@triton.jit(do_not_specialize=["S", "width"])
def _step(
    tokens, origins, state, weights, gates, keys, values, steps, W, F, w, U, c, readout, bias,
    scratch, new_state, new_weights, log_probs, S, H, A, K, V, width,
    BEFORE: tl.constexpr, PARTS: tl.constexpr, H_: tl.constexpr, A_: tl.constexpr,
    S_: tl.constexpr, TAPS: tl.constexpr, TILE: tl.constexpr, STEPS: tl.constexpr,
    PRECISION: tl.constexpr, KIND: tl.constexpr, V_: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    utterance, origin, token = row // width, tl.load(origins + row), tl.load(tokens + row)
    real, stride = tl.load(steps + utterance), 3 * H + V
    values += utterance * S * stride
    scratch += row * (4 * H + A + S)
    new_state += row * H
    new_weights += row * S
    _character(
        state + origin * H, weights + origin * S, gates + token * 3 * H, keys + utterance * S * A,
        values, stride, real, W, F, w, U, c, scratch, scratch + A + 4 * H, scratch + A,
        scratch + A + 3 * H, new_state, new_weights, 0, scratch, S, H, A, K,
        BEFORE, PARTS, H_, A_, S_, TAPS, TILE, STEPS, PRECISION, KIND,
    )  # fmt: skip
    v = tl.arange(0, V_)
    logits = _row(bias, V, V_) + _times(new_state, readout, H, V, V, V_, TILE)
    logits += _times(new_weights, values + 3 * H, real, V, stride, V_, TILE)
    logits -= tl.max(tl.where(v < V, logits, float("-inf")), 0)
    total = tl.sum(tl.where(v < V, tl.exp(logits), 0.0), 0)
    _put(log_probs + row * V, logits - tl.log(total), V, V_)


@triton.jit
def _carry(
    taps, carried, part, real, K,
    PARTS: tl.constexpr, STEPS: tl.constexpr, TAPS: tl.constexpr,
):  # fmt: skip
    """Sum the windows' gradients for each encoder step, for the weights of the last character."""
    k = tl.arange(0, TAPS)
    for first in range(part * STEPS, real, PARTS * STEPS):
        t = first + tl.arange(0, STEPS)
        at = t[:, None] - k[None, :] + K // 2  # the step whose window has t at tap k
        seen = (at >= 0) & (at < real) & (k < K)[None, :]
        d_window = tl.load(taps + at * TAPS + k[None, :], mask=seen, other=0.0)
        tl.store(carried + t, tl.sum(d_window, 1), mask=t < real)


@triton.jit(do_not_specialize=["L", "S"])
def _backward(
    d_states, d_weights, keys, values, states, weights, queries, steps, lengths, W_back, F, w,
    U_back, gates, inner, d_queries, d_keys, d_F, d_w, carried, d_alignments, energies, taps,
    query_parts, counters, L, S, H, A, K,
    BEFORE: tl.constexpr, PARTS: tl.constexpr, H_: tl.constexpr, A_: tl.constexpr,
    S_: tl.constexpr, TAPS: tl.constexpr, TILE: tl.constexpr, STEPS: tl.constexpr,
    PRECISION: tl.constexpr, KIND: tl.constexpr,
):  # fmt: skip
    part, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    real, length = tl.load(steps + row), tl.load(lengths + row)
    keys += row * S * A
    d_keys += row * S * A
    values += row * S * 3 * H
    carried += row * S
    d_alignments += row * S
    energies += row * S
    taps += row * S * TAPS
    query_parts += row * PARTS * A
    counters += row
    a, s, k, n_ = tl.arange(0, A_), tl.arange(0, S_), tl.arange(0, TAPS), tl.arange(0, H_)
    p = tl.arange(0, PARTS)
    d_filters, d_w_row = tl.zeros((TAPS, A_), tl.float32), tl.zeros((A_,), tl.float32)
    PART: tl.constexpr = H_ // PARTS
    mine, left = part * PART, H - part * PART  # this program's units
    U_back += mine
    d_h = tl.zeros((PART,), tl.float32)
    for back in range(length):
        i = row * L + length - 1 - back
        gate, own_row, query_row = gates + i * 3 * H, inner + i * H, d_queries + i * A
        previous = weights + (i + row) * S  # buffers of states and weights have L + 1 rows
        h = _row(states + (i + row) * H + mine, left, PART)

        # the GRU: gradients of its pre-activations, and of the state before
        d_h += _row(d_states + i * H + mine, left, PART)
        r, z = _row(gate + mine, left, PART), _row(gate + H + mine, left, PART)
        n = _row(gate + 2 * H + mine, left, PART)
        d_n = d_h * (1 - z) * (1 - n * n)
        d_z = d_h * (h - n) * z * (1 - z)
        tl.debug_barrier()
        _put(gate + H + mine, d_z, left, PART)
        _put(gate + 2 * H + mine, d_n, left, PART)
        if BEFORE:
            _wait(counters, PARTS)
            d_own = _times(gate + 2 * H, U_back + 2 * H * H, H, left, H, PART, TILE)
            d_r = d_own * h * r * (1 - r)
            d_h = d_h * z + d_own * r
        else:
            own = _row(own_row + mine, left, PART)
            d_r = d_n * own * r * (1 - r)
            d_h *= z
            tl.debug_barrier()
            _put(own_row + mine, d_n * r, left, PART)
        _put(gate + mine, d_r, left, PART)
        _wait(counters, PARTS)
        d_h += _times(gate, U_back, 2 * H, left, H, PART, TILE)
        if not BEFORE:
            d_h += _times(own_row, U_back + 2 * H * H, H, left, H, PART, TILE)

        # the softmax
        d_r_row, d_z_row = _row(gate, H, H_)[None, :], _row(gate + H, H, H_)[None, :]
        d_n_row = _row(gate + 2 * H, H, H_)[None, :]
        for first in range(part * STEPS, real, PARTS * STEPS):
            t = first + tl.arange(0, STEPS)
            there = (t < real)[:, None] & (n_ < H)[None, :]
            at = values + t[:, None] * 3 * H + n_[None, :]
            seen = d_r_row * tl.load(at, mask=there, other=0.0)
            seen += d_z_row * tl.load(at + H, mask=there, other=0.0)
            seen += d_n_row * tl.load(at + 2 * H, mask=there, other=0.0)
            d_alignment = tl.sum(seen, 1) + tl.load(d_weights + i * S + t, mask=t < real, other=0.0)
            d_alignment += tl.load(carried + t, mask=t < real, other=0.0)
            tl.store(d_alignments + t, d_alignment, mask=t < real)
        _wait(counters, PARTS)
        alignment = tl.load(previous + S + s, mask=s < real, other=0.0)
        d_alignment = tl.load(d_alignments + s, mask=s < real, other=0.0)
        energy = alignment * (d_alignment - tl.sum(alignment * d_alignment, 0))
        tl.store(energies + s, energy, mask=s < real)  # the same in every part
        tl.debug_barrier()

        # the energies
        query, d_query = _row(queries + i * A, A, A_), tl.zeros((A_,), tl.float32)
        for first in range(part * STEPS, real, PARTS * STEPS):
            t = first + tl.arange(0, STEPS)
            there = (t < real)[:, None] & (a < A)[None, :]
            at = t[:, None] * A + a[None, :]
            key = tl.load(keys + at, mask=there, other=0.0)
            d_energy = tl.load(energies + t, mask=t < real, other=0.0)
            d_key, d_q, d_w_part, d_filters_part, d_window = _energies_back(
                d_energy, key, query, previous, t, real, F, w, A, K, A_, TAPS, PRECISION, KIND
            )
            old = tl.load(d_keys + at, mask=there, other=0.0)
            tl.store(d_keys + at, old + d_key, mask=there)
            d_query += d_q
            d_w_row += d_w_part
            if KIND == "location":
                d_filters += d_filters_part
                tl.store(taps + t[:, None] * TAPS + k[None, :], d_window, mask=(t < real)[:, None])
        _put(query_parts + part * A, d_query, A, A_)
        _wait(counters, PARTS)
        if KIND == "location":
            _carry(taps, carried, part, real, K, PARTS, STEPS, TAPS)
        q = tl.load(query_parts + p[:, None] * A + a[None, :], mask=(a < A)[None, :], other=0.0)
        _put(query_row, tl.sum(q, 0), A, A_)  # the same in every part
        tl.debug_barrier()
        d_h += _times(query_row, W_back + mine, A, left, H, PART, TILE)
    for i in range(length, L):
        for gate in range(3):
            _put(gates + ((row * L + i) * 3 + gate) * H + mine, 0.0 * d_h, left, PART)
    i = tl.arange(0, TAPS)
    there, place = (i < K)[:, None] & (a < A)[None, :], row * PARTS + part
    tl.store(d_F + place * K * A + i[:, None] * A + a[None, :], d_filters, mask=there)
    _put(d_w + place * A, d_w_row, A, A_)


@triton.jit
def _tile(matrix, row, there, width, n, columns):
    """Load columns n of some rows of a matrix: (ROWS, BLOCK), 0 where ``there`` is false."""
    mask = there[:, None] & (n < columns)[None, :]
    return tl.load(matrix + row[:, None] * width + n[None, :], mask=mask, other=0.0)


@triton.jit
def _put_tile(matrix, row, there, width, n, columns, values):
    mask = there[:, None] & (n < columns)[None, :]
    tl.store(matrix + row[:, None] * width + n[None, :], values, mask=mask)


@triton.jit(do_not_specialize=["B", "S"])
def _bigru_forward(
    gates, U, c, counts, inner, out, counters, B, S, N,
    PARTS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    part, direction = tl.program_id(0), tl.program_id(1) % 2
    row = tl.program_id(1) // 2 * ROWS + tl.arange(0, ROWS)
    count = tl.load(counts + row, mask=row < B, other=0)
    row = row.to(tl.int64) * S
    counters += tl.program_id(1)
    U += direction * N * 3 * N
    c += direction * N
    gates += direction * 3 * N
    inner += direction * N
    out += direction * N
    for i in range(tl.max(count, 0)):
        t = tl.where(direction == 0, i, count - 1 - i)
        here, on = row + t, i < count
        past, had = tl.where(direction == 0, here - 1, here + 1), on & (i > 0)
        for first in range(part * BLOCK, N, PARTS * BLOCK):
            n = first + tl.arange(0, BLOCK)
            r = _tile(gates, here, on, 6 * N, n, N)
            z = _tile(gates + N, here, on, 6 * N, n, N)
            new = _tile(gates + 2 * N, here, on, 6 * N, n, N)
            h = _tile(out, past, had, 2 * N, n, N)
            own = tl.zeros((ROWS, BLOCK), tl.float32)
            for k_first in range(0, N, DEPTH):
                k = k_first + tl.arange(0, DEPTH)
                x = _tile(out, past, had, 2 * N, k, N)
                U_r = _tile(U, k, k < N, 3 * N, n, N)
                U_z = _tile(U + N, k, k < N, 3 * N, n, N)
                U_n = _tile(U + 2 * N, k, k < N, 3 * N, n, N)
                x = x.to(U_r.dtype)
                r = tl.dot(x, U_r, r, input_precision=PRECISION)
                z = tl.dot(x, U_z, z, input_precision=PRECISION)
                own = tl.dot(x, U_n, own, input_precision=PRECISION)
            r, z = tl.sigmoid(r), tl.sigmoid(z)
            own += tl.load(c + n, mask=n < N, other=0.0)[None, :]
            new = _tanh(new + r * own)
            _put_tile(out, here, on, 2 * N, n, N, new + z * (h - new))
            _put_tile(gates, here, on, 6 * N, n, N, r)
            _put_tile(gates + N, here, on, 6 * N, n, N, z)
            _put_tile(gates + 2 * N, here, on, 6 * N, n, N, new)
            _put_tile(inner, here, on, 2 * N, n, N, own)
        _wait(counters, PARTS)


@triton.jit(do_not_specialize=["B", "S"])
def _bigru_backward(
    grad, out, gates, inner, U_back, counts, carried, counters, B, S, N,
    PARTS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    part, direction = tl.program_id(0), tl.program_id(1) % 2
    line = tl.program_id(1) // 2 * ROWS + tl.arange(0, ROWS)
    count = tl.load(counts + line, mask=line < B, other=0)
    row = line.to(tl.int64) * S
    counters += tl.program_id(1)
    U_back += direction * 3 * N * N
    grad += direction * N
    gates += direction * 3 * N
    inner += direction * N
    out += direction * N
    carried += direction * N
    longest = tl.max(count, 0)
    for back in range(longest):
        i = longest - 1 - back
        t = tl.where(direction == 0, i, count - 1 - i)
        here, on = row + t, i < count
        past, had = tl.where(direction == 0, here - 1, here + 1), on & (i > 0)
        for first in range(part * BLOCK, N, PARTS * BLOCK):
            n = first + tl.arange(0, BLOCK)
            d_h = _tile(carried, line, on, 2 * N, n, N) + _tile(grad, here, on, 2 * N, n, N)
            h = _tile(out, past, had, 2 * N, n, N)
            r = _tile(gates, here, on, 6 * N, n, N)
            z = _tile(gates + N, here, on, 6 * N, n, N)
            new = _tile(gates + 2 * N, here, on, 6 * N, n, N)
            d_new = d_h * (1 - z) * (1 - new * new)
            d_r = d_new * _tile(inner, here, on, 2 * N, n, N) * r * (1 - r)
            _put_tile(gates, here, on, 6 * N, n, N, d_r)
            _put_tile(gates + N, here, on, 6 * N, n, N, d_h * (h - new) * z * (1 - z))
            _put_tile(gates + 2 * N, here, on, 6 * N, n, N, d_new)
            _put_tile(inner, here, on, 2 * N, n, N, d_new * r)
            _put_tile(carried, line, on, 2 * N, n, N, d_h * z)
        _wait(counters, PARTS)
        for first in range(part * BLOCK, N, PARTS * BLOCK):
            n = first + tl.arange(0, BLOCK)
            d_h = _tile(carried, line, on, 2 * N, n, N)
            for k_first in range(0, N, DEPTH):
                k = k_first + tl.arange(0, DEPTH)
                d_r = _tile(gates, here, on, 6 * N, k, N)
                d_z = _tile(gates + N, here, on, 6 * N, k, N)
                d_own = _tile(inner, here, on, 2 * N, k, N)
                U_r = _tile(U_back, k, k < N, N, n, N)
                U_z = _tile(U_back + N * N, k, k < N, N, n, N)
                U_n = _tile(U_back + 2 * N * N, k, k < N, N, n, N)
                d_h = tl.dot(d_r.to(U_r.dtype), U_r, d_h, input_precision=PRECISION)
                d_h = tl.dot(d_z.to(U_z.dtype), U_z, d_h, input_precision=PRECISION)
                d_h = tl.dot(d_own.to(U_n.dtype), U_n, d_h, input_precision=PRECISION)
            _put_tile(carried, line, on, 2 * N, n, N, d_h)
        tl.debug_barrier()


@triton.jit
def _double(x):
    tl.store(x, 2 * tl.load(x))


def try_out() -> None:
    """Compile and run a program; an error of Triton is passed on."""
    _double[(1,)](torch.ones(1, device="cuda"))


def resident_programs(device: torch.device) -> int:
    """Return how many programs certainly run at a time, so that they can wait for each other."""
    return torch.cuda.get_device_properties(device).multi_processor_count


def fits(A: int, K: int, device: torch.device) -> bool:
    """Whether F, split in two, and its gradient fit into the shared memory of a multiprocessor."""
    taps, columns = (max(16, triton.next_power_of_2(n)) for n in (K, A))
    properties: Any = torch.cuda.get_device_properties(device)
    enough = 13 * taps * columns <= properties.shared_memory_per_block_optin
    return bool(enough and max(taps, columns) <= WIDEST)


def _share(B: int, device: torch.device) -> tuple[int, Tensor]:
    """Return how many programs share an utterance, a power of two, and a counter for each."""
    parts = 1
    while 2 * parts <= min(MOST, resident_programs(device) // B):
        parts *= 2
    return parts, torch.zeros(B, dtype=torch.int32, device=device)


def _blocks(S: int, H: int, A: int, K: int, before: bool, parts: int = 1) -> dict[str, Any]:
    """Return the constants of a compiled program: sizes are powers of two of at least 16."""
    H_, A_, S_, TAPS = (max(16, triton.next_power_of_2(n)) for n in (H, A, S, K))
    rounds = rounded(torch.empty(0)).dtype != torch.float32
    return {
        "BEFORE": before, "PARTS": parts, "H_": H_, "A_": A_, "S_": S_, "TAPS": TAPS,
        "TILE": max(TILE, H_, A_), "STEPS": STEPS, "PRECISION": "tf32" if rounds else "tf32x3",
        "num_warps": WARPS,
    }  # fmt: skip


def forward(
    gates: Tensor, keys: Tensor, values: Tensor, steps: Tensor, lengths: Tensor, W: Tensor,
    F: Tensor, w: Tensor, U: Tensor, c: Tensor, states: Tensor, weights: Tensor, before: bool,
    kind: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Run the decoder's loop over whole transcripts.

    Args:
        gates: the characters' part of the gates, (B, L, 3H); replaced by r, z and n.
        keys: (B, S, A).
        values: the encoder steps' part of the gates, (B, S, 3H).
        steps: numbers of encoder steps, (B,), int32, on the device.
        lengths: numbers of characters, (B,), int32, on the device.
        W: weights of the queries, (H, A).
        F: filters times their weights, (K, A); K = 0 without filters.
        w: weights of the energies, (A,).
        U: recurrent weights, (H, 3H).
        c: bias of the candidate, (H,).
        states: (B, L + 1, H); row 0 is read, the others are set up to each length.
        weights: attention weights, (B, L + 1, S), likewise.
        before: whether the reset gate stands before the product.
        kind: location, additive or dot.

    Returns:
        h U_n + c, or r * h if the reset gate stands before the product, (B, L, H), and queries
        (B, L, A).
    """
    B, L, _ = gates.shape
    (S, A), H, K = keys.shape[1:], U.shape[0], F.shape[0]
    inner, queries = gates.new_zeros(B, L, H), gates.new_zeros(B, L, A)
    parts, counters = _share(B, gates.device)
    _forward[(parts, B)](
        gates, rounded(keys), rounded(values), steps, lengths, rounded(W), F, w, rounded(U), c,
        states, weights, inner, queries, gates.new_empty(B, S), counters, L, S, H, A, K,
        **_blocks(S, H, A, K, before, parts), KIND=kind,
    )  # fmt: skip
    return inner, queries


def step(
    tokens: Tensor, origins: Tensor, state: Tensor, weights: Tensor, gates: Tensor, keys: Tensor,
    values: Tensor, steps: Tensor, W: Tensor, F: Tensor, w: Tensor, U: Tensor, c: Tensor,
    readout: Tensor, bias: Tensor, before: bool, kind: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Compute a step of a search of N rows, N / B for each of B utterances.

    ``keys``, ``values``, ``W``, ``U`` and ``readout`` are float32 or bfloat16.

    Args:
        tokens: the last characters, (N,), int32.
        origins: the row of ``state`` and ``weights`` that each row continues, (N,), int32.
        state: states before, (rows before, H).
        weights: attention weights before, (rows before, S).
        gates: the gates' part of each token, (V, 3H).
        keys: (B, S, A).
        values: the encoder steps' part of gates and logits, (B, S, 3H + V).
        steps, W, F, w, U, c, before, kind: see :func:`forward`.
        readout: weights of the readout for the state, (H, V).
        bias: bias of the readout, (V,).

    Returns:
        log-probabilities (N, V), states (N, H) and weights (N, S), 0 on padding.
    """
    N, (B, S, A), (H, V), K = len(tokens), keys.shape, readout.shape, F.shape[0]
    scratch, log_probs = state.new_empty(N, 4 * H + A + S), state.new_empty(N, V)
    new_state, new_weights = state.new_empty(N, H), state.new_empty(N, S)
    blocks, V_ = _blocks(S, H, A, K, before), triton.next_power_of_2(V)
    blocks["TILE"] = max(blocks["TILE"], V_)
    _step[(N,)](
        tokens, origins, state, weights, gates, keys, values, steps, W, F, w, U, c, readout, bias,
        scratch, new_state, new_weights, log_probs, S, H, A, K, V, N // B,
        **blocks, KIND=kind, V_=V_,
    )  # fmt: skip
    return log_probs, new_state, new_weights


def backward(
    d_states: Tensor, d_weights: Tensor, gates: Tensor, inner: Tensor, queries: Tensor,
    states: Tensor, weights: Tensor, keys: Tensor, values: Tensor, steps: Tensor, lengths: Tensor,
    W: Tensor, F: Tensor, w: Tensor, U: Tensor, before: bool, kind: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Compute gradients of :func:`forward`, whose arguments and results the others are.

    Args:
        d_states: gradient of all rows but the first, (B, L, H).
        d_weights: likewise, (B, L, S).
        gates: r, z and n; replaced by the gradients of their pre-activations.
        inner: replaced by the gradient of h U_n + c, if the reset gate stands after the product.

    Returns:
        gradients of queries (B, L, A), keys, F and w.
    """
    B, L, H = d_states.shape
    S, A, K = keys.shape[1], keys.shape[2], F.shape[0]
    parts, counters = _share(B, keys.device)
    blocks = _blocks(S, H, A, K, before, parts)
    d_queries, d_keys = torch.zeros_like(queries), torch.zeros_like(keys)
    d_F, d_w = keys.new_empty(B * parts, K, A), keys.new_empty(B * parts, A)
    d_alignments, energies = keys.new_empty(B, S), keys.new_empty(B, S)
    _backward[(parts, B)](
        d_states, d_weights, rounded(keys), rounded(values), states, weights, queries, steps,
        lengths, rounded(W.t().contiguous()), F, w, rounded(U.t().contiguous()), gates, inner,
        d_queries, d_keys, d_F, d_w, keys.new_zeros(B, S), d_alignments, energies,
        keys.new_empty(B, S, blocks["TAPS"]), keys.new_empty(B, parts, A), counters,
        L, S, H, A, K, **blocks, KIND=kind,
    )  # fmt: skip
    return d_queries, d_keys, d_F.sum(0), d_w.sum(0)


def _recurrent(
    B: int, N: int, device: torch.device
) -> tuple[tuple[int, int], Tensor, dict[str, Any]]:
    """Return grid, counters and constants of a layer; a group is some utterances of a direction."""
    groups, parts = 2 * triton.cdiv(B, ROWS), min(triton.cdiv(N, BLOCK), resident_programs(device))
    sizes = {
        "PARTS": parts, "ROWS": ROWS, "BLOCK": BLOCK, "DEPTH": DEPTH, "PRECISION": "tf32x3",
        "num_warps": RECURRENT_WARPS, "num_stages": STAGES,
    }  # fmt: skip
    return (parts, groups), torch.zeros(groups, dtype=torch.int32, device=device), sizes


def bigru_forward(gates: Tensor, U: Tensor, c: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Run both directions of a GRU layer whose reset gate stands after the product.

    Args:
        gates: the input's part of the forward, then of the backward direction, (B, S, 6N);
            replaced by r, z and n.
        U: recurrent weights, (2, N, 3N).
        c: bias of the candidate, (2, N).
        counts: numbers of steps, (B,), int32, on the device.

    Returns:
        states, and h U_n + c, both (B, S, 2N) and 0 on padding.
    """
    B, S, _ = gates.shape
    N = U.shape[1]
    inner, out = gates.new_zeros(B, S, 2 * N), gates.new_zeros(B, S, 2 * N)
    grid, counters, sizes = _recurrent(B, N, gates.device)
    _bigru_forward[grid](gates, rounded(U), c, counts, inner, out, counters, B, S, N, **sizes)
    return out, inner


def bigru_backward(
    grad: Tensor, out: Tensor, gates: Tensor, inner: Tensor, U: Tensor, counts: Tensor
) -> None:
    """Compute gradients of :func:`bigru_forward` in place.

    Args:
        grad: gradient of the states, (B, S, 2N).
        out: the states.
        gates: r, z and n; replaced by the gradients of their pre-activations, undefined on
            padding.
        inner: replaced by the gradient of h U_n + c.
        U: recurrent weights, (2, N, 3N).
        counts: numbers of steps, (B,), int32, on the device.
    """
    B, S, _ = grad.shape
    N = U.shape[1]
    U_back, carried = rounded(U.transpose(1, 2).contiguous()), grad.new_zeros(B, 2 * N)
    grid, counters, sizes = _recurrent(B, N, grad.device)
    _bigru_backward[grid](
        grad, out, gates, inner, U_back, counts, carried, counters, B, S, N, **sizes
    )
