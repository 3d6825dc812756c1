"""The shared workloads on a GPU: `aca` beside torchdiffeq, in one run and without reduced precision.

    python gpu.py PROGRAM

PROGRAM is `aca`, built with the feature cuda (or cudnn). Workloads are built from formulas, so that both solve the same:
the k-th number of fill(shape, scale, phase) is scale * sin(phase + 0.7 k). Times are medians of a round-robin run, of a
forward pass and its gradient (three_body, mlp, conv) or of a training step of NODE18 on 128 images, which starts from
the same parameters in both. Losses are printed to show that the work is the same.
"""
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
import types

import torch
import torchdiffeq
from torch import nn
from torch.nn import functional as F

# NODE18 is shared with the comparison on the CPU, whose other contestant need not be here.
try:
    import TorchDiffEqPack  # noqa: F401
except ImportError:
    sys.modules["TorchDiffEqPack"] = types.SimpleNamespace(odesolve=None, odesolve_adjoint=None)
import training

# A contestant that takes longer than some seconds is run less often.
ROUNDS, REPS, SECONDS = 3, 7, 4
PERIOD = 79.91 * 365 * 24 * 3600 * 0.51
K1, K2 = 6.67408e-11 * PERIOD * 1.989e30 / (5.326e12**2 * 3e4), 3e4 * PERIOD / 5.326e12


def fill(shape, scale, phase):
    count = math.prod(shape)
    numbers = scale * torch.sin(phase + 0.7 * torch.arange(count, dtype=torch.float64))
    return numbers.reshape(shape).float()


def parameter(shape, scale, phase):
    return nn.Parameter(fill(shape, scale, phase))


class ThreeBody(nn.Module):
    method, tolerance = "dopri5", 1e-7

    def __init__(self):
        super().__init__()
        self.masses = nn.Parameter(torch.tensor([1.05, 0.95, 1.0], dtype=torch.float64))
        start = [0, 0.2, 0, 0.5, 0, 0.5, 0, 0, 0.5, 0, 0.1, 0, 0, 0, 0.1, 0.1, 0, 0]
        self.start = torch.tensor(start, dtype=torch.float64)[None]
        self.times = torch.linspace(0, 1, 1000, dtype=torch.float64)

    def forward(self, t, y):
        r, v, m = y[..., :9].reshape(-1, 3, 3), y[..., 9:], self.masses
        pulls = [x / x.norm(dim=-1, keepdim=True) ** 3 for x in (r[:, 1] - r[:, 0], r[:, 2] - r[:, 0], r[:, 2] - r[:, 1])]
        slopes = (m[1] * pulls[0] + m[2] * pulls[1], m[2] * pulls[2] - m[0] * pulls[0], -m[0] * pulls[1] - m[1] * pulls[2])
        return torch.cat((K2 * v, K1 * torch.cat(slopes, -1)), -1)

    def loss(self, ys):
        return (ys[..., :9] ** 2).mean()


class Mlp(nn.Module):
    method, tolerance = "dopri5", 1e-5

    def __init__(self):
        super().__init__()
        self.w1, self.b1 = parameter((256, 64), 0.15, 0.1), parameter((256,), 0.1, 0.2)
        self.w2, self.b2 = parameter((64, 256), 0.08, 0.3), parameter((64,), 0.1, 0.4)
        self.start, self.times = fill((256, 64), 1.0, 0.5), torch.tensor([0.0, 1.0])

    def forward(self, t, y):
        return F.linear(torch.tanh(F.linear(y, self.w1, self.b1)), self.w2, self.b2)

    def loss(self, ys):
        return (ys[-1] ** 2).mean()


class Conv(nn.Module):
    method, tolerance = "adaptive_heun", 1e-2

    def __init__(self):
        super().__init__()
        self.k1, self.k2 = parameter((64, 64, 3, 3), 0.05, 0.1), parameter((64, 64, 3, 3), 0.05, 0.2)
        self.n1, self.n2 = nn.BatchNorm2d(64, affine=False), nn.BatchNorm2d(64, affine=False)
        self.start, self.times = fill((16, 64, 32, 32), 1.0, 0.5), torch.tensor([0.0, 1.0])

    def forward(self, t, x):
        x = torch.relu(self.n1(F.conv2d(x, self.k1, padding=1)))
        return torch.relu(self.n2(F.conv2d(x, self.k2, padding=1)))

    def loss(self, ys):
        return (ys[-1] ** 2).mean()


def gradient_of(field, solve):
    options = dict(rtol=field.tolerance, atol=field.tolerance, method=field.method)

    def run():
        loss = field.loss(solve(field, field.start, field.times, **options))
        torch.autograd.grad(loss, list(field.parameters()))
        return loss.item()

    return run


def timed(run):
    """The median time of some seconds' runs in ms, and what the first of them found."""
    start = time.perf_counter()
    found, times = run(), []
    seconds = time.perf_counter() - start
    for _ in range(max(1, min(REPS, int(SECONDS / seconds)))):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times), found


def ours(program, workload, *options):
    words = [program, "bench", "--workload", workload, "--device", "cuda", "--reps", str(REPS), "--json", *options]
    row = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    return row.get("ms_step") or row["ms_gradient"], row["loss"]


def compare(workload, contestants):
    rows = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name, run in contestants.items():
            if not rows[name] or rows[name][0][0] < 1e3 * SECONDS:
                rows[name].append(run())
    costs = {name: statistics.median(cost for cost, _ in found) for name, found in rows.items()}
    for name, found in rows.items():
        print(f"{workload},{name},{costs[name]:.3f},{costs[name] / costs['aca']:.2f},{found[0][1]:.9g}", flush=True)


def main(program):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.set_default_device("cuda")
    print("workload,program,ms,times_as_long_as_aca,loss")
    solvers = {"torchdiffeq direct": torchdiffeq.odeint, "torchdiffeq adjoint": torchdiffeq.odeint_adjoint}
    for workload, field in (("mlp", Mlp()), ("conv", Conv()), ("three_body", ThreeBody())):
        peers = {name: gradient_of(field, solve) for name, solve in solvers.items()}
        contestants = {name: lambda run=run: timed(run) for name, run in peers.items()}
        attempt(workload, {"aca": lambda workload=workload: ours(program, workload), **contestants})
    training.IMAGES = 128
    torch.manual_seed(0)
    state = training.Node18().state_dict()
    with tempfile.NamedTemporaryFile(suffix=".pth") as file:
        torch.save({name: value.cpu() for name, value in state.items()}, file.name)
        contestants = {"aca": lambda: ours(program, "node18", "--pth", file.name)}
        for name, solve in (("torchdiffeq direct", training.direct), ("torchdiffeq adjoint", training.adjoint)):
            step = training.trainer(state)
            contestants[name] = lambda step=step, solve=solve: timed(lambda: step(solve)[1])
        attempt("node18", contestants)


def attempt(workload, contestants):
    """Compares, and says why where it cannot, so that the other workloads are not lost."""
    try:
        compare(workload, contestants)
    except subprocess.CalledProcessError as error:
        print(f"{workload}: {error.stderr.strip()}", flush=True)
    except Exception as error:
        print(f"{workload}: {error}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
