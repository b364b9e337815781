"""Both forms of the GRU equal those of Keras and ONNX Runtime, in float32 to 1e-5.

The paper's form, with the reset before the product, is Keras's ``reset_after=False`` and ONNX's
``linear_before_reset=0``. Both libraries order the gates z, r, n; the project r, z, n.
"""

import numpy as np
import pytest
import torch

from asr.config.layers import Recurrent
from asr.model.cells import make_cell
from asr.model.encoder import make_layer

INPUTS, UNITS, ROWS, STEPS = 3, 5, 4, 7
TOLERANCE = 1e-5
BOTH = pytest.mark.parametrize("reset", ["before", "after"])


@pytest.fixture(scope="module")
def keras(tmp_path_factory):
    """Keras on its torch backend, without files in the home directory."""
    patch = pytest.MonkeyPatch()
    patch.setenv("KERAS_BACKEND", "torch")
    patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
    yield pytest.importorskip("keras")
    patch.undo()


def draw(*shape):
    """Normal numbers, always the same ones."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def reordered(weights):
    """Gates r, z, n in the order z, r, n, or back; along the last axis."""
    r, z, n = weights.chunk(3, -1)
    return torch.cat([z, r, n], -1)


def randomise(module):
    chance = torch.Generator().manual_seed(2)
    for parameter in module.parameters():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=chance) / 2)
    return module


def keras_layer(keras, W, U, b, c, reset):
    """A GRU layer of Keras with our weights."""
    layer = keras.layers.GRU(UNITS, reset_after=reset == "after", return_sequences=True)
    layer.build((ROWS, STEPS, INPUTS))
    bias = reordered(b)
    if reset == "after":  # Keras has two biases for each gate
        bias = torch.stack([bias, torch.cat([torch.zeros(2 * UNITS), c])])
    layer.set_weights([each.detach().numpy() for each in (reordered(W), reordered(U), bias)])
    return layer.to("cpu")


def values_and_gradients(outputs, inputs, weights):
    """Outputs, and gradients of a fixed direction in them."""
    direction = torch.linspace(-1, 1, outputs.numel()).view_as(outputs)
    return outputs, torch.autograd.grad((outputs * direction).sum(), [inputs, *weights])


def assert_keras_equals(keras, outputs, x, W, U, b, c, reset):
    """Compare outputs (B, S, N) and gradients of the inputs, W, U and b."""
    theirs = keras_layer(keras, *(each.squeeze(0) for each in (W, U, b, c)), reset)
    expected, wanted = values_and_gradients(
        theirs(x), x, [each.value for each in theirs.trainable_weights]
    )
    found, gradients = values_and_gradients(outputs, x, [W, U, b])
    assert expected.dtype == found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)
    wanted = [wanted[0], *map(reordered, wanted[1:])]
    wanted[3] = wanted[3][0] if reset == "after" else wanted[3]  # that of the inputs
    for ours, theirs in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(ours.view_as(theirs), theirs, rtol=0, atol=TOLERANCE)


@BOTH
def test_the_decoders_cell_equals_keras(keras, reset):
    cell = randomise(make_cell("gru", (INPUTS,), UNITS, reset))
    x = draw(ROWS, STEPS, INPUTS).requires_grad_()
    state, outputs = cell.start(ROWS), []
    for gates in cell.gates(x).unbind(1):
        state = cell.step(gates, state)
        outputs.append(state[0])
    assert_keras_equals(keras, torch.stack(outputs, 1), x, cell.W_0, cell.U, cell.b, cell.c, reset)


@BOTH
@pytest.mark.parametrize("plain", [False, True])
def test_the_encoders_layer_equals_keras(keras, reset, plain, monkeypatch):
    if plain:
        monkeypatch.setattr("asr.model.fast.lookup.layer", lambda *_: None)
    layer = randomise(make_layer(INPUTS, Recurrent("gru", 1, UNITS, directions=1), reset))
    x = draw(ROWS, STEPS, INPUTS).requires_grad_()
    outputs = layer(x, torch.full((ROWS,), STEPS))
    assert_keras_equals(keras, outputs, x, layer.W, layer.U, layer.b, layer.c, reset)


def onnx_gru(W, U, b, c, reset):
    """A session of ONNX Runtime with one GRU of our weights, (directions, ...) each."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    second = torch.cat([torch.zeros(len(W), 2 * UNITS), c], -1)
    values = {
        "W": reordered(W).transpose(1, 2),
        "R": reordered(U).transpose(1, 2),
        "B": torch.cat([reordered(b), second if reset == "after" else 0 * second], -1),
    }
    node = helper.make_node(
        "GRU",
        ["x", "W", "R", "B", "steps"],
        ["y"],
        hidden_size=UNITS,
        direction="bidirectional" if len(W) == 2 else "forward",
        linear_before_reset=int(reset == "after"),
    )
    graph = helper.make_graph(
        [node],
        "gru",
        [
            helper.make_tensor_value_info("x", float32, [STEPS, ROWS, INPUTS]),
            helper.make_tensor_value_info("steps", onnx.TensorProto.INT32, [ROWS]),
        ],
        [helper.make_tensor_value_info("y", float32, [STEPS, len(W), ROWS, UNITS])],
        [onnx.numpy_helper.from_array(v.contiguous().numpy(), k) for k, v in values.items()],
    )
    opset = [helper.make_opsetid("", 22)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    return runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@torch.no_grad()
@BOTH
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("plain", [False, True])
def test_the_encoders_layer_equals_onnx_runtime(reset, directions, plain, monkeypatch):
    """Of several lengths, whose backward direction starts at the end of each."""
    if plain:
        monkeypatch.setattr("asr.model.fast.lookup.layer", lambda *_: None)
    layer = randomise(make_layer(INPUTS, Recurrent("gru", 1, UNITS, directions), reset))
    steps = torch.tensor([7, 4, 1, 6])
    padding = torch.arange(STEPS) >= steps.unsqueeze(1)
    x = draw(ROWS, STEPS, INPUTS).masked_fill(padding.unsqueeze(-1), 0.0)
    session = onnx_gru(layer.W, layer.U, layer.b, layer.c, reset)
    inputs = {"x": x.transpose(0, 1).contiguous().numpy(), "steps": steps.int().numpy()}
    (expected,) = session.run(["y"], inputs)  # (S, directions, B, N)
    expected = expected.transpose(2, 0, 1, 3).reshape(ROWS, STEPS, -1)
    np.testing.assert_allclose(layer(x, steps).numpy(), expected, rtol=0, atol=TOLERANCE)


@torch.no_grad()
@BOTH
def test_the_decoders_cell_equals_onnx_runtime(reset):
    cell = randomise(make_cell("gru", (INPUTS,), UNITS, reset))
    x = draw(STEPS, ROWS, INPUTS)
    session = onnx_gru(cell.W_0[None], cell.U[None], cell.b[None], cell.c[None], reset)
    steps = np.full(ROWS, STEPS, np.int32)
    (expected,) = session.run(["y"], {"x": x.numpy(), "steps": steps})
    state = cell.start(ROWS)
    for each, wanted in zip(x, expected[:, 0], strict=True):
        state = cell.step(cell.gates(each), state)
        np.testing.assert_allclose(state[0].numpy(), wanted, rtol=0, atol=TOLERANCE)
