"""Pictures of a training, looked at by their labels."""

from dataclasses import replace

from asr.explain import pictures

ENTRY = {"dev_wer": 0.5, "dev_cer": 0.2, "alignment": 0.4, "learning_rate": 1e-3}
LOSSES = ("train_attention", "train_ctc", "dev_attention", "dev_ctc")


def test_losses_have_plain_numbers_at_their_axis(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(pictures, "write_png", lambda figure, path: drawn.append(figure))
    history = [{"epoch": n, **ENTRY, **dict.fromkeys(LOSSES, 3 / n)} for n in (1, 2, 10)]
    pictures.draw_curves(history, tmp_path / "curves.png")
    drawn[0].canvas.draw()
    axis = drawn[0].axes[0].yaxis
    assert {"0.5", "1", "2"} <= {label.get_text() for label in axis.get_ticklabels()}
    assert {label.get_text() for label in axis.get_ticklabels(minor=True)} <= {""}


def test_a_picture_of_many_segments_has_a_height_that_programs_show(
    tmp_path, monkeypatch, explained, capsys
):
    drawn = []
    monkeypatch.setattr(pictures, "write_png", lambda figure, path: drawn.append(figure))
    monkeypatch.setattr(pictures, "HIGHEST", 8)  # a segment of 13 characters takes 3.06
    found = explained()
    pictures.draw_explanation(replace(found, segments=found.segments * 4), tmp_path / "a.png")
    assert len(drawn[0].axes) == 2 * 2 and drawn[0].get_figheight() < 8
    assert "a.png: without the last 2 segments; the page has all of them" in capsys.readouterr().err
