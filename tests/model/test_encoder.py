"""Properties of every kind of encoder layer, and the list of layers in the settings."""

import dataclasses
from dataclasses import replace
from pkgutil import resolve_name

import pytest
import torch
from compilers import needs_compiler

from asr.config import EncoderConfig, TrainConfig
from asr.config.args import add_settings, from_args, make_parser
from asr.config.kinds import LAYERS
from asr.config.layers import Convolutions, LayerConfig, Recurrent, SelfAttention
from asr.config.read import from_dict, to_dict
from asr.errors import InputError
from asr.model.cells import make_cell
from asr.model.encoder import Encoder, make_layer
from asr.model.fast import native
from asr.store.weights import SCALE, pack

WIDTH, STEPS = 3, torch.tensor([9, 5, 1])


def small(kind):
    """Settings of small layers of a kind, in as many directions as it knows."""
    names = {field.name for field in dataclasses.fields(resolve_name(LAYERS[kind][0]))}
    table = {"kind": kind, "reduction": 2} | dict.fromkeys(names & {"units", "channels"}, 4)
    directions = [{"directions": d} for d in (1, 2)] if "directions" in names else [{}]
    return [from_dict(LayerConfig, table | each) for each in directions]


def name(settings):
    return f"{settings.kind}-{getattr(settings, 'directions', 0)}"


ALL = [settings for kind in LAYERS for settings in small(kind)]
EVERY_LAYER = pytest.mark.parametrize("settings", ALL, ids=name)
FORWARD = [each for each in ALL if getattr(each, "directions", 2) == 1]


@pytest.fixture(params=["after", "before"])
def make(request):
    """A function that makes a layer whose weights are large enough to matter."""

    def make(settings):
        layer = make_layer(WIDTH, settings, request.param).eval()
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        return layer

    return make


def inputs(dtype=torch.float32):
    padding = torch.arange(9) >= STEPS.unsqueeze(1)
    return torch.randn(3, 9, WIDTH, dtype=dtype).masked_fill(padding.unsqueeze(-1), 0.0)


@EVERY_LAYER
def test_an_utterance_is_the_same_alone_and_in_a_batch(settings, make):
    layer, x = make(settings), inputs()
    together, steps = layer(x, STEPS), settings.output_steps(STEPS)
    assert together.shape == (3, settings.output_steps(9), settings.width(WIDTH))
    for row, count in enumerate(STEPS.tolist()):
        alone = layer(x[row : row + 1, :count], STEPS[row : row + 1])
        assert alone.shape[1] == steps[row] == settings.output_steps(count)
        torch.testing.assert_close(alone[0], together[row, : steps[row]])
        assert together[row, steps[row] :].eq(0).all()


@EVERY_LAYER
def test_gradients_are_those_of_small_differences(settings, make):
    layer = make(settings).double()
    names, parameters = zip(*layer.named_parameters(), strict=True)
    x = inputs(torch.float64)[:2, :6].requires_grad_()

    def run(x, *parameters):
        values = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(layer, values, (x, torch.tensor([6, 5])))

    assert torch.autograd.gradcheck(run, (x, *parameters), fast_mode=True)


@pytest.mark.parametrize("settings", FORWARD, ids=name)
def test_one_direction_does_not_look_ahead(settings, make):
    layer, x = make(settings), inputs()[:1]
    later = x.clone()
    later[:, 4:] += 1.0
    before, after = layer(x, STEPS[:1]), layer(later, STEPS[:1])
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.allclose(before[:, 2:], after[:, 2:])


@EVERY_LAYER
def test_settings_are_written_and_read_and_bound_the_number_of_weights(settings, make):
    config = EncoderConfig(layers=(settings, replace(settings, reduction=4)), dropout=0.0)
    assert from_dict(EncoderConfig, to_dict(config)) == config
    encoder = Encoder(WIDTH, config)
    assert sum(p.numel() for p in encoder.parameters()) >= config.fewest_weights(WIDTH)
    states, steps = encoder(inputs(), STEPS)
    assert steps.tolist() == config.output_steps(STEPS).tolist() == [2, 1, 1]
    assert states.shape == (3, 2, encoder.width) and config.frames_per_step == 8


@needs_compiler
def test_a_layer_of_grus_takes_the_fast_path(monkeypatch):
    layer, x, calls = make_layer(WIDTH, Recurrent(units=4)), inputs(), []
    call = native.call
    monkeypatch.setattr(
        native, "call", lambda name, **fields: (calls.append(name), call(name, **fields))
    )
    layer(x, STEPS)
    assert calls == ["layer_forward"]


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_a_recurrent_layer_is_its_cell_step_by_step(kind):
    """Two directions of 4 units, of which the second begins at the utterance's end."""
    layer, cell = make_layer(WIDTH, Recurrent(kind, units=4)), make_cell(kind, [WIDTH], 4, "after")
    x, steps = inputs(), torch.tensor([9, 9, 9])
    for d, order in enumerate((range(9), range(8, -1, -1))):
        copy_direction(layer, d, cell)
        state = cell.start(3)
        for t in order:
            state = cell.step(cell.gates(x[:, t]), state)
            torch.testing.assert_close(layer(x, steps)[:, t, 4 * d : 4 * d + 4], state[0])


@torch.no_grad()
def copy_direction(layer, d, cell):
    """Give a cell the weights of one direction of a layer."""
    if cell.gate_width == 3 * 4:
        cell.load_state_dict({"W_0": layer.W[d], "U": layer.U[d], "b": layer.b[d], "c": layer.c[d]})
        return
    lstm = layer.directions[d]
    values = {"W_0": lstm.weight_ih_l0.t(), "U": lstm.weight_hh_l0.t(), "b": lstm.bias_ih_l0}
    cell.load_state_dict(values)


def test_convolutions_end_with_relu():
    x = make_layer(WIDTH, Convolutions(reduction=4, channels=3))(torch.randn(3, 9, WIDTH), STEPS)
    assert x.min() == 0 < x.max()


def test_self_attention_without_positions_is_torchs():
    layer = make_layer(WIDTH, SelfAttention(units=8, heads=2)).eval()  # p begins with 0
    theirs = torch.nn.TransformerEncoderLayer(8, 2, 32, 0.0, batch_first=True).eval()
    names = {"W": "self_attn.in_proj_", "W_o": "self_attn.out_proj.", "W_1": "linear1."}
    names |= {"W_2": "linear2.", "norm_1": "norm1.", "norm_2": "norm2."}
    values, kinds = layer.state_dict(), ("weight", "bias")
    theirs.load_state_dict(
        {other + kind: values[f"{ours}.{kind}"] for ours, other in names.items() for kind in kinds}
    )
    x = torch.randn(2, 9, WIDTH)
    torch.testing.assert_close(layer(x, torch.tensor([9, 9])), theirs(layer.V(x)))


def test_self_attention_has_one_bias_for_all_far_steps():
    """Those 64 steps or more ahead have the last one, those behind the first one."""
    layer = make_layer(WIDTH, SelfAttention(units=8, heads=2))
    layer.p.data[:, -1], layer.p.data[:, 0] = 2.0, 3.0
    found = layer._positions(200)
    assert (found[:, 0, 64:] == 2.0).all() and (found[:, 199, :136] == 3.0).all()
    assert (found[:, 0, :64] == 0.0).all()


def test_short_settings_make_layers():
    short = EncoderConfig(units=8, pyramid=(2, 1))
    assert short.stack == (Recurrent(units=8, reduction=2), Recurrent(units=8))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("3", r"model\.encoder\.layers"),
        ("[3]", r"model\.encoder\.layers"),
        ("[{kind: grue}]", r"model\.encoder\.layers\[1 of 1\]\.kind = grue, expected one of gru"),
        ("[{kind: [1]}]", r"model\.encoder\.layers\[1 of 1\]\.kind = \[1\], expected text"),
        ("[{}, {units: 0}]", r"model\.encoder\.layers\[2 of 2\]\.units = 0, expected 1 to 65536"),
        ("[{}, {units: .nan}]", r"layers\[2 of 2\]\.units = nan, expected a whole number"),
        ("[{size: 3}]", r"layers\[1 of 1\]\.size: no such setting, expected one of kind, reduct"),
        (
            "[{kind: attention, units: 6}]",
            r"layers\[1 of 1\]\.heads = 4, expected a divisor of",
        ),
        ("[{kind: conv2d, reduction: 3}]", r"layers\[1 of 1\]\.reduction = 3, expected 2, 4, 8"),
        ("[{reduction: 0}]", r"layers\[1 of 1\]\.reduction = 0, expected 1 to 1000"),
    ],
)
def test_wrong_layers_are_named(layers, message, tmp_path):
    def parse(*args):
        parser = make_parser("asr example", "An example.")
        add_settings(parser, TrainConfig)
        return from_args(TrainConfig, parser, args)

    (tmp_path / "c.yaml").write_text(f"model.encoder:\n  layers: {layers}\n")
    with pytest.raises(InputError, match="c.yaml: .*" + message):
        parse("--config", str(tmp_path / "c.yaml"))
    with pytest.raises(InputError, match=message):
        parse("--model.encoder.layers", layers)


def test_layers_come_from_the_command_line_and_from_files(tmp_path):
    parser = make_parser("asr example", "An example.")
    add_settings(parser, TrainConfig)
    (tmp_path / "c.yaml").write_text("model:\n  encoder:\n    layers: [{units: 3}]\n")
    expected = (Recurrent(units=3),)
    for args in (["--config", str(tmp_path / "c.yaml")], ["--model.encoder.layers=[{units: 3}]"]):
        assert from_args(TrainConfig, parser, args)[0].model.encoder.layers == expected


def test_int8_has_a_scale_for_each_output_of_torchs_own_matrices():
    lstm = make_layer(32, Recurrent("lstm", units=64)).state_dict()
    scales = {n: v.shape for n, v in pack(lstm, "int8").items() if n.endswith(SCALE)}
    assert len(scales) == 4 and set(scales.values()) == {(4 * 64, 1)}
