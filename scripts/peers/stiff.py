"""Stiff problems: error at the end over time, and gradients of Robertson's reaction; ours, scipy's, diffrax's and diffsol's.

    peers/bin/pip install scipy jax diffrax matplotlib
    cargo bench -p aca-models --bench stiff --no-run
    cargo build --release --manifest-path scripts/peers/diffsol/Cargo.toml --target-dir target/peers
    peers/bin/python scripts/peers/stiff.py target target/peers/release/diffsol-peer work-precision-stiff.png

Rows as aca-models/benches/stiff.rs has them. Times are medians without compilation; of five rounds over all programs each row
keeps its smallest. Errors are the largest relative ones of any number, against KVAERNO5 at 1e-13. scipy has the
analytic Jacobian. Absolute tolerances are the relative ones times 1e-6 (Robertson), 1e-3 (HIRES), 1 (van der Pol).
"""

import glob
import os
import statistics
import subprocess
import sys
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import diffrax
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from scipy.integrate import solve_ivp

jax.config.update("jax_enable_x64", True)
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

RATES = np.array([0.04, 3e7, 1e4])
HIRES = np.array(
    [
        [-1.71, 0.43, 8.32, 0, 0, 0, 0, 0],
        [1.71, -8.75, 0, 0, 0, 0, 0, 0],
        [0, 0, -10.03, 0.43, 0.035, 0, 0, 0],
        [0, 8.32, 1.71, -1.12, 0, 0, 0, 0],
        [0, 0, 0, 0, -1.745, 0.43, 0.43, 0],
        [0, 0, 0, 0.69, 1.71, -0.43, 0.69, 0],
        [0, 0, 0, 0, 0, 0, -1.81, 0],
        [0, 0, 0, 0, 0, 0, 1.81, 0],
    ]
)


def robertson(lib, y, k):
    speeds = k[0] * y[0], k[1] * y[1] * y[1], k[2] * y[1] * y[2]
    return lib.stack([speeds[2] - speeds[0], speeds[0] - speeds[1] - speeds[2], speeds[1]])


def robertson_jacobian(t, y):
    a, b, c, d = RATES[0], 2 * RATES[1] * y[1], RATES[2] * y[2], RATES[2] * y[1]
    return np.array([[-a, c, d], [a, -b - c, -d], [0, b, 0]])


def hires(t, y):
    dy = HIRES @ y
    speed = 280.0 * y[5] * y[7]
    dy[0] += 0.0007
    dy[5] -= speed
    dy[6] += speed
    dy[7] -= speed
    return dy


def hires_jacobian(t, y):
    jacobian = HIRES.copy()
    for row, sign in ((5, -1), (6, 1), (7, -1)):
        jacobian[row, 5] += sign * 280.0 * y[7]
        jacobian[row, 7] += sign * 280.0 * y[5]
    return jacobian


def oscillator(t, y):
    return np.array([y[1], 1000.0 * (1.0 - y[0] * y[0]) * y[1] - y[0]])


def oscillator_jacobian(t, y):
    return np.array([[0.0, 1.0], [-2000.0 * y[0] * y[1] - 1.0, 1000.0 * (1.0 - y[0] * y[0])]])


PROBLEMS = {
    "robertson": (lambda t, y: robertson(np, y, RATES), robertson_jacobian, [1.0, 0, 0], 1e5, 1e-6),
    "hires": (hires, hires_jacobian, [1.0, 0, 0, 0, 0, 0, 0, 0.0057], 321.8122, 1e-3),
    "vanderpol": (oscillator, oscillator_jacobian, [2.0, 0.0], 2000.0, 1.0),
}


def median(call, rounds):
    call()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def error(got, truth):
    return np.max(np.abs(np.asarray(got) / truth - 1))


def ours(target):
    found = glob.glob(f"{target}/release/deps/stiff-*")
    bench = max((path for path in found if os.access(path, os.X_OK)), key=os.path.getmtime)
    return lines([bench, "--bench"])


def lines(words):
    text = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return [line.split(",") for line in text.splitlines()]


def with_scipy(truths):
    for name, (field, jacobian, start, end, scale) in PROBLEMS.items():
        for method in ("Radau", "BDF"):
            for exponent in range(4, 11):
                tolerance = 10.0**-exponent

                def call():
                    return solve_ivp(
                        field, (0.0, end), start, method, jac=jacobian, rtol=tolerance, atol=scale * tolerance
                    )

                sol = call()
                off, ms = error(sol.y[:, -1], truths[name]), median(call, 5)
                numbers = f"{ms:.4f}", f"{off:.3e}", str(len(sol.t) - 1)
                yield ["precision", name, f"scipy {method}", f"1e-{exponent}", *numbers]
                if ms > 500:
                    break


def with_diffrax(truths, systems):
    made = 0.5 * np.arange(systems) / systems
    starts = jnp.asarray(np.stack([1 - made, 0 * made, made], axis=1))
    rates = jnp.asarray(RATES)
    # Its errors are some hundred times smaller than ours at the same tolerance.
    for exponent in range(2, 8) if systems == 1 else (2, 4):
        tolerance = 10.0**-exponent
        controller = diffrax.PIDController(rtol=tolerance, atol=1e-6 * tolerance)
        term = diffrax.ODETerm(lambda t, y, k: robertson(jnp, y, k))

        def solve(y, k):
            return diffrax.diffeqsolve(
                term, diffrax.Kvaerno5(), 0.0, 1e5, None, y, k, stepsize_controller=controller, max_steps=4096
            )

        def ends(y, k):
            return jax.vmap(lambda one: solve(one, k).ys[-1])(y) if systems > 1 else solve(y[0], k).ys[-1]

        forward = jax.jit(ends)
        both = jax.jit(jax.value_and_grad(lambda y, k: (ends(y, k) ** 2).sum(), argnums=1))
        off = error(np.ravel(forward(starts, rates)), truths[f"robertson {systems}"])
        gradient_off = error(both(starts, rates)[1], truths[f"gradient {systems}"])
        times = [
            median(lambda f=f: jax.block_until_ready(f(starts, rates)), 11 if systems == 1 else 5)
            for f in (forward, both)
        ]
        steps = int(solve(starts[0], rates).stats["num_accepted_steps"])
        yield [
            "gradient", f"{systems} diffrax", f"1e-{exponent}", f"{times[0]:.4f}", f"{times[1]:.4f}",
            f"{off:.3e}", f"{gradient_off:.3e}", str(steps),
        ]


def all_rows(target, diffsol):
    mine = ours(target)
    truths = {row[1]: np.array(row[2:], dtype=float) for row in mine if row[0] == "truth"}
    rows = [row for row in mine if row[0] != "truth"]
    rows += with_scipy(truths)
    both = np.concatenate([truths["robertson 1"], truths["gradient 1"]])
    rows += lines([diffsol, ",".join(f"{number:.17g}" for number in both)])
    for systems in (1, 100):
        rows += with_diffrax(truths, systems)
    return rows


def smallest(rounds):
    """The rows of several rounds, each time the smallest of them."""
    times = {"precision": (4,), "gradient": (3, 4), "batch": (2, 3)}
    keys = {"precision": 4, "gradient": 3, "batch": 2}
    merged = {}
    for row in (row for rows in rounds for row in rows):
        first = merged.setdefault(tuple(row[: keys[row[0]]]), row)
        for place in times[row[0]]:
            first[place] = min(first[place], row[place], key=float)
    return list(merged.values())


STYLES = {
    "kvaerno5": ("#0072b2", "-"),
    "auto": ("#56b4e9", "-"),
    "esdirk4": ("#0072b2", "--"),
    "kvaerno3": ("#0072b2", ":"),
    "tr_bdf2": ("#56b4e9", ":"),
    "scipy Radau": ("#d55e00", "-"),
    "scipy BDF": ("#d55e00", "--"),
    "diffsol bdf": ("#009e73", "-"),
    "diffrax kvaerno5": ("#cc79a7", "-"),
}


def draw(rows, target):
    titles = {"robertson": "Robertson to 1e5", "hires": "HIRES to 321.8", "vanderpol": "van der Pol, mu = 1000, to 2000"}
    plt.rcParams.update({"font.size": 11, "legend.frameon": False})
    figure, panels = plt.subplots(1, 3, figsize=(13.5, 5))
    for axes, (name, title) in zip(panels, titles.items()):
        curves = {}
        for row in rows:
            if row[0] == "precision" and row[1] == name:
                curves.setdefault(row[2], []).append((float(row[4]), float(row[5])))
            elif row[0] == "gradient" and name == "robertson" and row[1] in ("1 diffrax", "diffsol bdf"):
                method = "diffrax kvaerno5" if row[1] == "1 diffrax" else row[1]
                curves.setdefault(method, []).append((float(row[3]), float(row[5])))
        for method, (color, style) in STYLES.items():
            if method in curves:
                axes.loglog(*zip(*curves[method]), style, color=color, marker="o", markersize=3.5, label=method)
        axes.set(title=title, xlabel="time of a solve, ms")
        axes.grid(True, which="major", color="#e4e4e4")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    panels[0].set_ylabel("largest relative error at the end")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    figure.legend(handles, labels, loc="lower center", ncol=5)
    figure.savefig(target, dpi=110)


def main(target, diffsol, picture):
    rows = smallest([all_rows(target, diffsol) for _ in range(5)])
    for row in rows:
        print(",".join(row))
    draw(rows, picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
