"""Draw egs/pipeline.svg, the picture of the pipeline in the README, for light and dark pages.

usage: python egs/utils/draw_pipeline.py
"""

from pathlib import Path

from asr.files import write_text

OUT = Path(__file__).resolve().parents[1] / "pipeline.svg"
WIDTH, HEIGHT = 1160, 264
STYLE = """
  text { font: 15px system-ui, sans-serif; fill: #1f2328; text-anchor: middle }
  .small { font-size: 12.5px; fill: #59636e }
  rect { fill: #eef4fb; stroke: #3b6ea5; stroke-width: 1.5 }
  .other { fill: #fdf3e4; stroke: #b9770e }
  path { fill: none; stroke: #59636e; stroke-width: 1.5 }
  #tip path { fill: #59636e; stroke: none }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #9da7b3 }
    rect { fill: #16263a; stroke: #6ca4df } .other { fill: #2f2413; stroke: #e0a54a }
    path { stroke: #9da7b3 } #tip path { fill: #9da7b3 }
  }
"""
# left, top, width, height, class, title, lines below it
BOXES = [
    (10, 20, 140, 84, "other", "audio", ["wav, flac, mp3, …", "16,000 samples/s"]),
    (190, 20, 150, 84, "model", "filterbank", ["(T, 80)", "a frame each 10 ms"]),
    (380, 20, 160, 84, "model", "encoder", ["pyramid of 3 BiGRUs", "(T / 8, 512)"]),
    (580, 20, 160, 84, "model", "attention", ["location-aware", "weights over T / 8"]),
    (820, 20, 150, 84, "model", "decoder", ["GRU, step by step", "characters"]),
    (380, 160, 160, 60, "model", "CTC head", ["in training and search"]),
    (580, 160, 160, 60, "other", "language model", ["and hot words, if any"]),
    (820, 160, 150, 60, "other", "beam search", ["sums the scores"]),
    (1010, 160, 140, 60, "other", "text", ["times, confidence"]),
]
ARROWS = [
    "M150,62 H186",
    "M340,62 H376",
    "M540,62 H576",
    "M740,48 H816",  # context
    "M820,78 H744",  # state
    "M460,104 V156",
    "M895,104 V156",
    "M740,190 H816",
    "M460,220 V250 H895 V224",
    "M970,190 H1006",
]
LABELS = [(780, 40, "context"), (780, 95, "state")]


def svg() -> str:
    """Return the picture."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'aria-label="From audio through filterbank, encoder, attention and decoder to text">',
        f"<style>{STYLE}</style>",
        '<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z"/></marker></defs>',
    ]
    parts += [f'<path d="{line}" marker-end="url(#tip)"/>' for line in ARROWS]
    for left, top, width, height, kind, title, lines in BOXES:
        middle = left + width / 2
        parts.append(
            f'<rect class="{kind}" x="{left}" y="{top}" width="{width}" height="{height}" rx="8"/>'
        )
        parts.append(f'<text x="{middle}" y="{top + 26}">{title}</text>')
        parts += [
            f'<text class="small" x="{middle}" y="{top + 47 + 18 * i}">{line}</text>'
            for i, line in enumerate(lines)
        ]
    parts += [f'<text class="small" x="{x}" y="{y}">{label}</text>' for x, y, label in LABELS]
    return "\n".join([*parts, "</svg>\n"])


if __name__ == "__main__":
    write_text(OUT, svg())
