"""A table of the layers of a network with shapes, weights, operations and memory."""

from dataclasses import dataclass

import numpy as np

HEADERS = ("layer", "output shape", "weights", "multiply-adds", "MB of a batch")

STYLE = """<style>
.skcnn-summary { border-collapse: collapse; margin: 0.5em 0; font-variant-numeric: tabular-nums; }
.skcnn-summary th, .skcnn-summary td { padding: 0.2em 0.8em; text-align: right; border: none; }
.skcnn-summary :is(th, td):first-child { text-align: left; }
.skcnn-summary thead { border-bottom: 1px solid currentcolor; }
.skcnn-summary tfoot { border-top: 1px solid currentcolor; }
</style>"""


@dataclass
class Summary:
    """A table that prints itself; `rows` holds a tuple for each layer, then one of the totals."""

    rows: list

    def __repr__(self):
        cells = [HEADERS, *([_text(value) for value in row] for row in self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(HEADERS))]
        lines = []
        for row in cells:
            first = row[0].ljust(widths[0])
            others = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
            lines.append("  ".join([first, *others]).rstrip())
        ruler = "-" * (sum(widths) + 2 * (len(widths) - 1))
        return "\n".join([lines[0], ruler, *lines[1:-1], ruler, lines[-1]])

    def _repr_html_(self):
        *layers, total = ([_text(value) for value in row] for row in self.rows)
        head = "".join(f"<th>{name}</th>" for name in HEADERS)
        body = "".join(f"<tr>{_cells('td', row)}</tr>" for row in layers)
        return (
            f'<table class="skcnn-summary">{STYLE}<thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody><tfoot><tr>{_cells('th', total)}</tr></tfoot></table>"
        )

    def frame(self):
        """Return a DataFrame with one row per layer."""
        import pandas as pd  # only here

        return pd.DataFrame(self.rows[:-1], columns=HEADERS)


def summarize(network, dtype, batch_size):
    """Return the `Summary` of a network.

    Multiply-adds are those of one image in a forward pass. Memory is the size of the layer's output
    for a batch.
    """
    item = np.dtype(dtype).itemsize
    rows = []
    for i, (layer, shape) in enumerate(zip(network.layers, network.shapes, strict=False)):
        weights = flops = 0
        at = shape
        for step in layer.steps():
            shapes = step.weight_shapes(at)
            weights += sum(int(np.prod(shapes[n])) for n in ("coef", "intercept") if n in shapes)
            flops += step.flops(at) if "coef" in shapes else 0
            at = step.output_shape(at)
        megabytes = int(np.prod(at)) * batch_size * item / 2**20
        rows.append((f"{i} {type(layer).__name__}", at, weights, flops // 2, megabytes))
    totals = [sum(row[i] for row in rows) for i in (2, 3, 4)]
    return Summary([*rows, ("all", network.output_shape, *totals)])


def _cells(tag, texts):
    return "".join(f"<{tag}>{text}</{tag}>" for text in texts)


def _text(value):
    if isinstance(value, tuple):
        return " x ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.2f}"
    return value if isinstance(value, str) else f"{value:,}"
