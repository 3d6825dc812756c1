"""Three bodies: what a gradient of a given accuracy costs, `aca` beside diffrax and torchdiffeq.

    python -m venv peers && peers/bin/pip install torch torchdiffeq jax diffrax
    cargo build --release -p aca-cli
    peers/bin/python scripts/peers/precision.py target/release/aca > precision.csv

Loss and field are those of `aca bench --workload three_body`: 1000 outputs over [0, 1], the mean square of the
positions, differentiated by the three masses. The error is the distance to an eighth-order gradient at 1e-13,
divided by its length. Times are medians, compilation not counted.
"""
import json
import statistics
import subprocess
import sys
import time

import jax
import numpy as np
import torch

jax.config.update("jax_enable_x64", True)
import diffrax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import torchdiffeq  # noqa: E402

REFERENCE = np.array([-0.10444943715604288, 0.05341189039383215, 0.09448121579681523])
SECONDS = 79.91 * 365 * 24 * 3600 * 0.51
K1 = 6.67408e-11 * SECONDS * 1.989e30 / (5.326e12**2 * 30000.0)
K2 = 30000.0 * SECONDS / 5.326e12
START = np.array([0, 0.2, 0, 0.5, 0, 0.5, 0, 0, 0.5, 0, 0.1, 0, 0, 0, 0.1, 0.1, 0, 0.0])
TIMES = np.linspace(0.0, 1.0, 1000)
MASSES = np.array([1.05, 0.95, 1.0])
REPS = 7


def accelerations(lib, position, m):
    a, b, c = position[0:3], position[3:6], position[6:9]
    pull = lambda d: d / (d * d).sum() ** 1.5
    ab, ac, bc = pull(b - a), pull(c - a), pull(c - b)
    return K1 * lib.concatenate((m[1] * ab + m[2] * ac, m[2] * bc - m[0] * ab, -m[0] * ac - m[1] * bc))


def report(name, method, tolerance, milliseconds, gradient):
    error = np.linalg.norm(np.asarray(gradient) - REFERENCE) / np.linalg.norm(REFERENCE)
    print(f"{name},{method},{tolerance:g},{milliseconds:.3f},{error:.3e}", flush=True)


def median_ms(run, reps=REPS):
    run()
    lengths = []
    for _ in range(reps):
        start = time.perf_counter()
        run()
        lengths.append(1e3 * (time.perf_counter() - start))
    return statistics.median(lengths)


def ours(program, method, tolerance):
    text = f"{tolerance:g}"
    words = ["bench", "--workload", "three_body", "--method", method, "--rtol", text, "--atol", text]
    words += ["--reps", str(2 * REPS), "--json"]
    line = subprocess.run([program, *words], capture_output=True, text=True, check=True).stdout
    row = json.loads(line.strip().splitlines()[-1])
    report("aca", method, tolerance, row["ms_gradient"], row["grad_head"])


def with_diffrax(method, solver, tolerance):
    def field(t, y, m):
        return jnp.concatenate((K2 * y[9:], accelerations(jnp, y[:9], m)))

    def loss(m):
        steps = diffrax.PIDController(rtol=tolerance, atol=tolerance)
        saved = diffrax.SaveAt(ts=jnp.asarray(TIMES))
        term = diffrax.ODETerm(field)
        solved = diffrax.diffeqsolve(
            term, solver, 0.0, 1.0, None, jnp.asarray(START), args=m, saveat=saved, stepsize_controller=steps
        )
        return (solved.ys[:, :9] ** 2).mean()

    gradient = jax.jit(jax.value_and_grad(loss))
    masses = jnp.asarray(MASSES)
    cost = median_ms(lambda: jax.block_until_ready(gradient(masses)))
    report("diffrax", method, tolerance, cost, gradient(masses)[1])


def with_torchdiffeq(tolerance):
    times, start = torch.tensor(TIMES), torch.tensor(START)
    masses = torch.tensor(MASSES, requires_grad=True)

    def gradient():
        field = lambda t, y: torch.cat((K2 * y[9:], accelerations(torch, y[:9], masses)))
        ys = torchdiffeq.odeint(field, start, times, rtol=tolerance, atol=tolerance, method="dopri5")
        return torch.autograd.grad((ys[:, :9] ** 2).mean(), masses)[0]

    cost = median_ms(gradient, reps=1)
    report("torchdiffeq", "dopri5", tolerance, cost, gradient().numpy())


def main(program):
    torch.set_num_threads(2)
    print("program,method,tolerance,ms,relative_error")
    for exponent in (5, 6, 7, 8, 9, 10, 11, 12):
        tolerance = 10.0**-exponent
        for method in ("dopri5", "tsit5", "dop853"):
            ours(program, method, tolerance)
        solvers = {"dopri5": diffrax.Dopri5(), "tsit5": diffrax.Tsit5(), "dopri8": diffrax.Dopri8()}
        for method, solver in solvers.items():
            with_diffrax(method, solver, tolerance)
        if exponent % 2 == 1:
            with_torchdiffeq(tolerance)


if __name__ == "__main__":
    main(sys.argv[1])
