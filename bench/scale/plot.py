"""Cost against size: draw bench/results/scale.json as docs/scale.svg.

python -m bench.scale.plot
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib import pyplot as plt

from bench import results

FILE: Final = Path(__file__).parents[2] / "docs" / "scale.svg"
_THEIRS: Final = {
    "cold start, against an OFPFlowMod each": (
        "an OFPFlowMod each (os-ken)",
        "C3",
        "^",
    ),
    "cold start, against ovs-ofctl --bundle": ("ovs-ofctl --bundle add-flows", "C1", "s"),
    "cold start, against the bare bytes": ("the limit: the same bytes, no program", "C7", "v"),
}


def draw() -> None:
    """Draw what was measured last."""
    rows = json.loads((results.FOLDER / "scale.json").read_text())
    mpl.rcParams["svg.hashsalt"] = "ovs-lwt"  # the same figures make the same file
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name, (label, color, marker) in _THEIRS.items():
        points = sorted((row["size"], row["theirs"]) for row in rows if row["name"] == name)
        axes.plot(*zip(*points, strict=True), marker=marker, color=color, label=label)
    ours = sorted({row["size"]: row["ours"] for row in rows if row["name"] in _THEIRS}.items())
    axes.plot(
        *zip(*ours, strict=True),
        marker="o",
        linewidth=2.5,
        color="C0",
        label="ovs-lwt, from the overlay's file",
    )
    for point in ours:
        label = f"{point[1]:.2g} s"
        axes.annotate(label, point, (7, -11), textcoords="offset points", color="C0")
    axes.margins(x=0.12)
    axes.set(xscale="log", yscale="log", xlabel="endpoints", ylabel="seconds")
    axes.set_title("Cold start of one host that needs every endpoint")
    axes.xaxis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:g}"))
    axes.grid(visible=True, which="major", alpha=0.4)
    axes.legend(frameon=False)
    figure.savefig(FILE, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    draw()
