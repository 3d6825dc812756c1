"""Picture of example 16's fit: data, the first and the last network, on a logarithmic time axis.

    cargo run --release -p aca-models --example 16_a_stiff_network > fit.txt
    peers/bin/python scripts/stiff_network.py fit.txt docs/images/stiff-network.png
"""
import re
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")


def main(source, target):
    with open(source) as file:
        rows = [[float(word) for word in NUMBER.findall(line)] for line in file if line.count("[") == 3]
    times, columns = [row[0] for row in rows], list(zip(*(row[1:] for row in rows)))
    plt.rcParams.update({"font.size": 11, "legend.frameon": False})
    figure, panels = plt.subplots(1, 3, figsize=(12.5, 4.2))
    titles = ("species 1", "species 2, in units of 3.6e-5", "species 3")
    for species, (axes, title) in enumerate(zip(panels, titles)):
        data, first, last = (columns[species + part] for part in (0, 3, 6))
        axes.semilogx(times, first, "--", color="#d55e00", label="network at the start")
        axes.semilogx(times, last, "-", color="#0072b2", linewidth=2, label="network after 600 steps")
        axes.semilogx(times, data, "o", color="black", markersize=3.5, label="data")
        axes.set(title=title, xlabel="time, s")
        axes.set_xticks([1e-4, 1e-2, 1, 1e2, 1e4])
        axes.grid(True, which="major", color="#e4e4e4")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    panels[0].set_ylabel("concentration")
    panels[0].legend(loc="lower left")
    figure.tight_layout()
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
