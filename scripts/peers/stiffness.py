"""Van der Pol oscillators of spread stiffness: clocks of `aca` beside torchode and diffrax under `vmap`.

    python -m venv peers && peers/bin/pip install torch torchode jax diffrax
    cargo build --release -p aca-cli
    peers/bin/python scripts/peers/stiffness.py target/release/aca > stiffness.csv

Problem: 256 oscillators with stiffness from 1 to the largest over [0, 10], DOPRI5 at 1e-6, the mean square of the
last states, differentiated by every stiffness. The error is the distance to the gradient of diffrax's Dopri8 with a
clock for each oscillator at 1e-12, divided by its length. Times are medians, compilation not counted.
"""
import csv
import statistics
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
import torch

jax.config.update("jax_enable_x64", True)
import diffrax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import torchode  # noqa: E402

COUNT, END, TOLERANCE, REPS = 256, 10.0, 1e-6, 5
INDEX = np.arange(COUNT)
START = np.stack([1.5 + 0.5 * np.sin(INDEX), 0.5 * np.cos(INDEX)], -1)


def median_ms(run, reps=REPS):
    run()
    lengths = []
    for _ in range(reps):
        start = time.perf_counter()
        run()
        lengths.append(1e3 * (time.perf_counter() - start))
    return statistics.median(lengths)


def report(name, largest, milliseconds, error):
    print(f"{name},{largest:g},{milliseconds:.2f},{error:.2e}", flush=True)


def distance(gradient, exact):
    return np.linalg.norm(gradient - exact) / np.linalg.norm(exact)


def ours(program):
    """The rows of `aca gradcheck --problem samples`, whose problem this is."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["gradcheck", "--problem", "samples", "--reps", str(2 * REPS), "--out", folder]
        subprocess.run([program, *words], capture_output=True, check=True)
        with open(f"{folder}/samples.csv") as file:
            return list(csv.DictReader(file))


def diffrax_gradient(mu, own_clocks, solver, tolerance):
    def alone(t, y, m):
        return jnp.stack((y[1], m * (1 - y[0] ** 2) * y[1] - y[0]))

    def together(t, y, m):
        return jax.vmap(lambda state, one: alone(t, state, one))(y, m)

    def end(field, y, m):
        steps = diffrax.PIDController(rtol=tolerance, atol=tolerance)
        term = diffrax.ODETerm(field)
        solved = diffrax.diffeqsolve(
            term, solver, 0.0, END, None, y, args=m, stepsize_controller=steps, max_steps=2**17
        )
        return solved.ys[-1]

    def loss(m):
        if own_clocks:
            ends = jax.vmap(lambda y, one: end(alone, y, one))(jnp.asarray(START), m)
        else:
            ends = end(together, jnp.asarray(START), m)
        return (ends**2).mean()

    gradient = jax.jit(jax.grad(loss))
    return lambda: jax.block_until_ready(gradient(jnp.asarray(mu)))


def torchode_gradient(mu):
    stiffness = torch.tensor(mu, requires_grad=True)

    def field(t, y):
        x, v = y[..., 0], y[..., 1]
        return torch.stack((v, stiffness * (1 - x**2) * v - x), -1)

    def run():
        term = torchode.ODETerm(field)
        control = torchode.IntegralController(atol=TOLERANCE, rtol=TOLERANCE, term=term)
        solver = torchode.AutoDiffAdjoint(torchode.Dopri5(term=term), control)
        zeros = torch.zeros(COUNT, dtype=torch.float64)
        problem = torchode.InitialValueProblem(y0=torch.tensor(START), t_start=zeros, t_end=zeros + END)
        ends = solver.solve(problem).ys[:, -1]
        return torch.autograd.grad((ends**2).mean(), stiffness)[0].numpy()

    return run


def main(program):
    torch.set_num_threads(2)
    print("program,largest_mu,ms,relative_error")
    for row in ours(program):
        clocks = "own clocks" if row["own_clocks"] == "true" else "shared step"
        report(f"aca {clocks}", float(row["mu_max"]), float(row["ms"]), float(row["error"]))
    for largest in (1.0, 3.0, 10.0, 30.0, 100.0):
        mu = np.linspace(1.0, largest, COUNT)
        exact = np.asarray(diffrax_gradient(mu, True, diffrax.Dopri8(), 1e-12)())
        for name, own in (("diffrax shared step", False), ("diffrax vmap", True)):
            run = diffrax_gradient(mu, own, diffrax.Dopri5(), TOLERANCE)
            report(name, largest, median_ms(run), distance(np.asarray(run()), exact))
        run = torchode_gradient(mu)
        cost = median_ms(run, reps=1 if largest > 10 else 3)
        report("torchode", largest, cost, distance(run(), exact))


if __name__ == "__main__":
    main(sys.argv[1])
