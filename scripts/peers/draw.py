"""Pictures of precision.csv and stiffness.csv.

    peers/bin/pip install matplotlib
    peers/bin/python scripts/peers/draw.py precision.csv docs/images/precision.png
    peers/bin/python scripts/peers/draw.py stiffness.csv docs/images/stiffness.png
"""
import csv
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

COLORS = {"aca": "#0072b2", "diffrax": "#d55e00", "torchdiffeq": "#009e73", "torchode": "#cc79a7"}
STYLES = ("-", "--", ":")


def curves(rows, names, x, y):
    found = {}
    for row in rows:
        key = " ".join(row[name] for name in names)
        found.setdefault(key, []).append((float(row[x]), float(row[y])))
    return found


def draw(axes, found):
    used = {}
    for name, points in found.items():
        program = name.split()[0]
        style = STYLES[used.get(program, 0) % len(STYLES)]
        used[program] = used.get(program, 0) + 1
        axes.loglog(*zip(*points), style, color=COLORS[program], marker="o", markersize=4, label=name)
    axes.grid(True, which="major", color="#e4e4e4")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def main(source, target):
    with open(source) as file:
        rows = list(csv.DictReader(file))
    plt.rcParams.update({"font.size": 11, "legend.frameon": False})
    if "tolerance" in rows[0]:
        figure, axes = plt.subplots(figsize=(9, 5.6))
        draw(axes, curves(rows, ("program", "method"), "ms", "relative_error"))
        axes.set(xlabel="time of solve and gradient, ms", ylabel="relative error of the gradient")
        figure.suptitle("Three bodies: error of the gradient by the masses against time")
        axes.legend(loc=(0.64, 0.03))
    else:
        figure, panels = plt.subplots(1, 2, figsize=(11.5, 5))
        for axes, column in zip(panels, ("ms", "relative_error")):
            draw(axes, curves(rows, ("program",), "largest_mu", column))
            axes.set_xlabel("largest stiffness in the batch (the smallest is 1)")
        panels[0].set_ylabel("time of solve and gradient, ms")
        panels[1].set_ylabel("relative error of the gradient")
        figure.suptitle("256 van der Pol oscillators to t = 10 at a tolerance of 1e-6")
        panels[1].legend(loc="upper left")
    figure.tight_layout()
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
