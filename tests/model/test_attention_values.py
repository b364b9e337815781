"""Every kind of attention gives the weights of a plain loop, written from its paper.

The loops read one utterance, step by step, in numpy's double precision: h (S, D) from the encoder,
states of the decoder s (U, H) before each character, and the weights of the kind by their names.
"""

import math

import numpy as np
import pytest
import torch

from asr.config import AttentionConfig
from asr.config.kinds import ATTENTIONS
from asr.model.attention import make_attention
from asr.model.attention.dynamic_convolution import beta_binomial

SIZES = {"units": 5, "filters": 2, "filter_width": 3, "window": 2, "components": 3, "chunk": 2}
D, H, S, U = 4, 6, 9, 4


def softmax(e):
    weights = np.exp(e - e.max())
    return weights / weights.sum()


def additive_energy(p, h_t, s, more=0.0):
    """w . tanh(V h_t + b + W s + more)"""
    return p["w.weight"][0] @ np.tanh(p["V.weight"] @ h_t + p["V.bias"] + p["W.weight"] @ s + more)


def convolved(filters, signals):
    """Filters (C, channels, width) over signals (channels, S), with zeros around: (S, C)."""
    C, channels, width = filters.shape
    found = np.zeros((signals.shape[1], C))
    for t in range(signals.shape[1]):
        for k in range(width):
            at = t + k - width // 2
            if 0 <= at < signals.shape[1]:
                for c in range(channels):
                    found[t] += filters[:, c, k] * signals[c, at]
    return found


def additive(p, h, states, config):
    return [softmax(np.array([additive_energy(p, x, s) for x in h])) for s in states]


def dot(p, h, states, config):
    scale = np.sqrt(config.units)
    return [
        softmax(np.array([(p["W.weight"] @ s) @ (p["V.weight"] @ x) / scale for x in h]))
        for s in states
    ]


def general(p, h, states, config):
    return [softmax(np.array([s @ p["W.weight"] @ x / np.sqrt(len(s)) for x in h])) for s in states]


def location(p, h, states, config):
    alpha, found = np.full(len(h), 1 / len(h)), []
    for s in states:
        f = convolved(p["filters.weight"], alpha[None])
        more = f @ p["U.weight"].T
        alpha = softmax(np.array([additive_energy(p, x, s, more[t]) for t, x in enumerate(h)]))
        found.append(alpha)
    return found


def location_accumulated(p, h, states, config):
    alpha, total, found = np.full(len(h), 1 / len(h)), np.zeros(len(h)), []
    for s in states:
        f = convolved(p["filters.weight"], np.stack([alpha, total]))
        more = f @ p["U.weight"].T
        alpha = softmax(np.array([additive_energy(p, x, s, more[t]) for t, x in enumerate(h)]))
        total = total + alpha
        found.append(alpha)
    return found


def coverage(p, h, states, config):
    total, found = np.zeros(len(h)), []
    for s in states:
        u = p["u.weight"][:, 0]
        e = [additive_energy(p, x, s, u * total[t]) for t, x in enumerate(h)]
        found.append(softmax(np.array(e)))
        total = total + found[-1]
    return found


def window(p, h, s, centre, D):
    """Softmax of s . W h_t / sqrt(H) over the steps around a centre, 0 elsewhere."""
    inside = [t for t in range(len(h)) if abs(t - centre) <= D]
    alpha = np.zeros(len(h))
    energies = [s @ p["W.weight"] @ h[t] / np.sqrt(len(s)) for t in inside]
    alpha[inside] = softmax(np.array(energies))
    return alpha


def local_m(p, h, states, config):
    centre, found = 0.0, []
    for s in states:
        alpha = window(p, h, s, centre, config.window)
        centre = max(centre, alpha @ np.arange(len(h)))
        found.append(alpha)
    return found


def local_p(p, h, states, config):
    found = []
    for s in states:
        centre = len(h) / (1 + np.exp(-p["v.weight"][0] @ np.tanh(p["P.weight"] @ s)))
        sigma = config.window / 2
        gauss = np.exp(-((np.arange(len(h)) - centre) ** 2) / (2 * sigma**2))
        found.append(window(p, h, s, centre, config.window) * gauss)
    return found


def first_step(h):
    return np.eye(len(h))[0]


def forward(p, h, states, config):
    """With window = 1: alpha_i(t) ~ (alpha_{i-1}(t) + alpha_{i-1}(t - 1)) y(t), as in the paper."""
    alpha, found = first_step(h), []
    for s in states:
        y = softmax(np.array([additive_energy(p, x, s) for x in h]))
        moved = [sum(alpha[max(0, t - config.window) : t + 1]) * y[t] for t in range(len(h))]
        alpha = np.array(moved) / sum(moved)
        found.append(alpha)
    return found


def softplus(x):
    return math.log1p(math.exp(x))


def gmm(p, h, states, config):
    K, found = config.components, []
    means = [0.0] * K
    for s in states:
        w, d, r = (p["V.weight"] @ np.tanh(p["W.weight"] @ s + p["W.bias"]) + p["V.bias"]).reshape(
            3, K
        )
        means = [mean + softplus(x) for mean, x in zip(means, d, strict=True)]
        alpha, share = np.zeros(len(h)), softmax(w)
        for t in range(len(h)):
            for k in range(K):
                z = [
                    (t + side - means[k]) / (softplus(r[k]) * math.sqrt(2)) for side in (-0.5, 0.5)
                ]
                alpha[t] += share[k] * (math.erf(z[1]) - math.erf(z[0])) / 2
        found.append(alpha)
    return found


def dynamic_convolution(p, h, states, config):
    n, a, b = config.window, 0.1, 0.9

    def beta(x, y):
        return math.gamma(x) * math.gamma(y) / math.gamma(x + y)

    prior = [math.comb(n, k) * beta(k + a, n - k + b) / beta(a, b) for k in range(n + 1)]
    alpha, found = first_step(h), []
    for s in states:
        filters = p["G.weight"] @ np.tanh(p["W.weight"] @ s + p["W.bias"])
        filters = filters.reshape(config.filter_width, 1, config.filters).T  # (C, 1, width)
        f, g = convolved(p["filters.weight"], alpha[None]), convolved(filters, alpha[None])
        e = np.full(len(h), -np.inf)
        for t in range(len(h)):
            moved = sum(prior[k] * alpha[t - k] for k in range(n + 1) if k <= t)
            inner = p["U.weight"] @ f[t] + p["T.weight"] @ g[t] + p["T.bias"]
            if moved > 0:
                e[t] = p["w.weight"][0] @ np.tanh(inner) + math.log(moved)
        alpha = softmax(e)
        found.append(alpha)
    return found


def probabilities(p, h, s):
    """Of stopping at each step."""
    scale = p["g"] / np.linalg.norm(p["w.weight"])
    return 1 / (1 + np.exp(-np.array([scale * additive_energy(p, x, s) + p["r"] for x in h])))


def hard_monotonic(p, h, states, config):
    """Equation 9: from where the last character stopped, past all steps between, to a stop."""
    alpha, found = first_step(h), []
    for s in states:
        stop = probabilities(p, h, s)
        alpha = np.array([
            stop[t] * sum(alpha[k] * np.prod(1 - stop[k:t]) for k in range(t + 1))
            for t in range(len(h))
        ])  # fmt: skip
        found.append(alpha)
    return found


def stepwise_monotonic(p, h, states, config):
    """From each step on to the next ones, at most so many, and not beyond the last."""
    alpha, found = first_step(h), []
    for s in states:
        stop, moved = probabilities(p, h, s), np.zeros(len(h))
        for k, mass in enumerate(alpha):
            end = min(k + config.window, len(h) - 1)
            for t in range(k, end):
                moved[t] += mass * stop[t]
                mass *= 1 - stop[t]
            moved[end] += mass
        alpha = moved
        found.append(alpha)
    return found


def chunkwise(p, h, states, config, first):
    """The mean over all stops t of a softmax over the steps first(t) to t."""
    content = {name[8:]: value for name, value in p.items() if name.startswith("content.")}
    found = []
    for s, alpha in zip(states, hard_monotonic(p, h, states, config), strict=True):
        u = np.array([additive_energy(content, x, s) for x in h])
        beta = np.zeros(len(h))
        for t in range(len(h)):
            beta[first(t) : t + 1] += alpha[t] * softmax(u[first(t) : t + 1])
        found.append(beta)
    return found


def mocha(p, h, states, config):
    return chunkwise(p, h, states, config, lambda t: max(0, t - config.chunk + 1))


def milk(p, h, states, config):
    return chunkwise(p, h, states, config, lambda t: 0)


def weights_of(attention, h, states, hard=False):
    """What the kind itself gives, (U, S)."""
    memory, queries = torch.from_numpy(h)[None], torch.from_numpy(states)[:, None]
    keys = attention.precompute(memory, torch.tensor([len(h)]))
    state, found = attention.start(keys, 1), []
    for query in queries:
        alignment, state = attention.step(query, keys, state)
        found.append(alignment.over(len(h))[0])
    return torch.stack(found).detach().numpy()


def case(kind, **settings):
    """An attention with large weights, numbers to read, and its weights by name."""
    config = AttentionConfig(kind=kind, **{**SIZES, **settings})
    attention = make_attention(H, D, config).double().eval()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter)
    chance = np.random.default_rng(1)
    p = {name: value.numpy() for name, value in attention.state_dict().items()}
    return attention, config, p, chance.normal(size=(S, D)), chance.normal(size=(U, H))


@pytest.mark.parametrize("kind", ATTENTIONS)
def test_weights_are_those_of_the_paper(kind):
    attention, config, p, h, states = case(kind)
    expected = globals()[kind](p, h, states, config)
    np.testing.assert_allclose(weights_of(attention, h, states), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["local_m", "local_p"])
def test_training_masks_what_a_window_leaves_out(kind):
    """Weights and gradients are the same; also in a batch of several lengths."""
    attention = case(kind)[0]
    steps, chance = torch.tensor([S, 4, 1]), torch.Generator().manual_seed(1)
    memory = torch.randn(3, S, D, generator=chance, dtype=torch.float64, requires_grad=True)
    queries = torch.randn(U, 6, H, generator=chance, dtype=torch.float64)
    found = []
    for mode in (True, False):
        attention.train(mode)
        keys = attention.precompute(memory, steps)
        state, weights = attention.start(keys, 6), []
        for query in queries:
            alignment, state = attention.step(query, keys, state)
            weights.append(alignment.over(S))
        weights = torch.stack(weights)
        direction = torch.linspace(-1, 1, weights.numel()).view_as(weights)
        loss, inputs = (weights * direction).sum(), [memory, *attention.parameters()]
        found.append((weights, *torch.autograd.grad(loss, inputs)))
    for training, search in zip(*found, strict=True):
        torch.testing.assert_close(training, search, rtol=0, atol=1e-12)


def test_forward_attention_with_a_window_of_one_is_the_papers():
    attention, _, p, h, states = case("forward", window=1)
    alpha = first_step(h)
    for s, weights in zip(states, weights_of(attention, h, states), strict=True):
        y = softmax(np.array([additive_energy(p, x, s) for x in h]))
        alpha = (alpha + np.append(0, alpha[:-1])) * y
        alpha = alpha / alpha.sum()
        np.testing.assert_allclose(weights, alpha, rtol=0, atol=1e-9)


def test_forward_attention_where_energies_forbid_all_that_can_be_reached():
    """In a softmax they underflow to 0; they share the weight all the same."""
    attention, h = (
        make_attention(H, D, AttentionConfig(kind="forward", **SIZES)),
        torch.zeros(1, 9, D),
    )
    h[:, 5:] = 1.0
    for name, value in {"V.weight": 20, "V.bias": -20, "W.weight": 0, "w.weight": 20}.items():
        torch.nn.init.constant_(attention.get_parameter(name), value)
    keys = attention.precompute(h.requires_grad_(), torch.tensor([9]))
    alignment, _ = attention.step(torch.ones(1, H), keys, attention.start(keys, 1))
    torch.testing.assert_close(alignment.weights[0, 0, :4], torch.tensor([1, 1, 1, 0]) / 3)
    alignment.weights[0, 0, 1].backward()
    assert h.grad.isfinite().all()


def test_narrow_gaussians_have_a_mass_of_at_most_one():
    attention, _, _, h, states = case("gmm")
    with torch.no_grad():
        attention.V.bias[-3:] = -30.0  # widths
    assert weights_of(attention, h, states).sum(1).max() <= 1 + 1e-12


def test_heads_are_attentions_side_by_side():
    config = AttentionConfig(kind="location", heads=3, **{**SIZES, "units": 6})
    attention, h, states = make_attention(H, D, config), torch.randn(2, S, D), torch.randn(2, H)
    keys = attention.precompute(h, torch.tensor([S, S - 2]))
    found, _ = attention.step(states, keys, attention.start(keys, 2))
    for m, part in enumerate(attention.parts):
        assert part.w.weight.shape == (1, 2)
        keys = part.precompute(h, torch.tensor([S, S - 2]))
        alone, _ = part.step(states, keys, part.start(keys, 2))
        torch.testing.assert_close(found.weights[:, m], alone.weights[:, 0])


def test_the_prior_of_long_moves_is_a_distribution():
    chances = beta_binomial(10_000, 0.1, 0.9)
    assert sum(chances) == pytest.approx(1)
    assert sum(k * chance for k, chance in enumerate(chances)) == pytest.approx(1000)
