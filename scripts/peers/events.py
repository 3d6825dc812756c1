"""Ten bounces of a ball, and eight of each of 256: torchdiffeq's odeint_event, diffrax's Event, and ours.

Run: events.py TARGET, the folder of `cargo bench -p aca-models --bench events --no-run`, or without for the peers alone.
Prints rows of workload, library, milliseconds forward, and of solve and gradient together: medians, double precision,
tolerances 1e-8, Dormand and Prince's fifth order.
"""

import glob
import os
import statistics
import subprocess
import sys
import time

os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import diffrax
import jax
import jax.numpy as jnp
import optimistix
import torch
from torchdiffeq import odeint, odeint_event

TOL = 1e-8
BOUNCES = 10


def median(call, rounds):
    call()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


class Fall(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.theta = torch.nn.Parameter(torch.tensor([9.81, 0.8], dtype=torch.float64))

    def forward(self, t, y):
        return torch.stack([y[1], -self.theta[0]])


def torch_bounces(ball, y0):
    t, y = torch.tensor(0.0, dtype=torch.float64), y0
    for _ in range(BOUNCES):
        t, ys = odeint_event(
            ball, y, t, event_fn=lambda t, y: y[0], reverse_time=False, rtol=TOL, atol=TOL,
            method="dopri5", odeint_interface=odeint,
        )
        y = torch.stack([torch.full((), 1e-12, dtype=torch.float64), -ball.theta[1] * ys[-1][1]])
    return t


def torch_rows():
    ball = Fall()
    y0 = torch.tensor([5.0, 0.0], dtype=torch.float64, requires_grad=True)

    def both():
        torch_bounces(ball, y0).backward()

    with torch.no_grad():
        forward = median(lambda: torch_bounces(ball, y0), 5)
    print(f"one,torchdiffeq,{forward:.4f},{median(both, 5):.4f}", flush=True)


def jax_bounces(theta, y0, count):
    term = diffrax.ODETerm(lambda t, y, theta: jnp.stack([y[1], -theta[0]]))
    event = diffrax.Event(lambda t, y, args, **_: y[0], optimistix.Newton(1e-10, 1e-10), direction=False)
    controller = diffrax.PIDController(rtol=TOL, atol=TOL)

    def step(carry, _):
        t, y = carry
        sol = diffrax.diffeqsolve(
            term, diffrax.Dopri5(), t, 100.0, None, y, theta, stepsize_controller=controller, event=event,
            max_steps=256,
        )
        y = sol.ys[-1]
        after = jnp.stack([jnp.zeros_like(y[0]), -theta[1] * y[1]])
        return (sol.ts[-1], after), sol.ts[-1]

    (_, _), times = jax.lax.scan(step, (jnp.zeros(()), y0), None, length=count)
    return times


def jax_rows():
    theta, y0 = jnp.array([9.81, 0.8]), jnp.array([5.0, 0.0])
    last = lambda theta, y0: jax_bounces(theta, y0, BOUNCES)[-1]
    forward, both = jax.jit(last), jax.jit(jax.value_and_grad(last, argnums=(0, 1)))
    times = [median(lambda f=f: jax.block_until_ready(f(theta, y0)), 21) for f in (forward, both)]
    print(f"one,diffrax,{times[0]:.4f},{times[1]:.4f}", flush=True)
    many = jnp.stack([1.0 + 0.05 * jnp.arange(256.0), jnp.zeros(256)], axis=1)
    total = lambda theta, y0: jax.vmap(lambda y: jax_bounces(theta, y, 8))(y0).sum()
    forward, both = jax.jit(total), jax.jit(jax.value_and_grad(total, argnums=(0, 1)))
    times = [median(lambda f=f: jax.block_until_ready(f(theta, many)), 7) for f in (forward, both)]
    print(f"256,diffrax,{times[0]:.4f},{times[1]:.4f}", flush=True)


if len(sys.argv) > 1:
    found = glob.glob(f"{sys.argv[1]}/release/deps/events-*")
    bench = max((path for path in found if os.access(path, os.X_OK)), key=os.path.getmtime)
    subprocess.run([bench, "--bench"], check=True)
torch_rows()
jax_rows()
