"""A training step of NODE18 on 32 images: `aca` beside torchdiffeq and TorchDiffEqPack.

    python -m venv peers && peers/bin/pip install torch torchdiffeq torchdiffeqpack matplotlib
    cargo build --release -p aca-cli
    peers/bin/python scripts/peers/training.py target/release/aca

All start from the same parameters, which PyTorch draws and `aca` reads from its checkpoint; images and labels are
formulas. Heun-Euler steps at rtol = atol = 1e-2 over [0, 1], forward, gradient and update; the learning rate is so
small that every step does the same work. Times are medians of one round-robin run.
"""
import json
import statistics
import subprocess
import sys
import tempfile
import time

import torch
import torchdiffeq
import TorchDiffEqPack
from torch import nn
from torch.nn import functional as F

IMAGES, REPS = 32, 7


class Block(nn.Module):
    def __init__(self, inputs, channels, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class Field(nn.Module):
    nfe = 0

    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, t, x):
        Field.nfe += 1
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class Continuous(nn.Module):
    solve = None

    def __init__(self, channels):
        super().__init__()
        self.odefunc = Field(channels)

    def forward(self, x):
        return Continuous.solve(self.odefunc, x)


class Node18(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64)
        inputs = 64
        for i, channels in enumerate((64, 128, 256, 512), start=1):
            plain = Block(inputs, channels, 1 if i == 1 else 2)
            setattr(self, f"layer{i}_1", nn.Sequential(plain))
            setattr(self, f"layer{i}_2", nn.Sequential(Continuous(channels)))
            inputs = channels
        self.linear = nn.Linear(512, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        for i in (1, 2, 3, 4):
            x = getattr(self, f"layer{i}_2")(getattr(self, f"layer{i}_1")(x))
        return self.linear(x.mean((2, 3)))


def direct(field, x):
    times = torch.tensor([0.0, 1.0])
    return torchdiffeq.odeint(field, x, times, rtol=1e-2, atol=1e-2, method="adaptive_heun")[-1]


def adjoint(field, x):
    times = torch.tensor([0.0, 1.0])
    return torchdiffeq.odeint_adjoint(field, x, times, rtol=1e-2, atol=1e-2, method="adaptive_heun")[-1]


def pack(solve):
    options = dict(method="RK12", h=None, t0=0.0, t1=1.0, rtol=1e-2, atol=1e-2, print_neval=False)
    options.update(neval_max=10**6, safety=None, interpolation_method="cubic")
    return lambda field, x: solve(field, x, dict(options))


PEERS = {
    "torchdiffeq direct": direct,
    "torchdiffeq adjoint": adjoint,
    "TorchDiffEqPack ACA": pack(TorchDiffEqPack.odesolve_adjoint),
    "TorchDiffEqPack fast": pack(TorchDiffEqPack.odesolve),
}


def trainer(state):
    network = Node18()
    network.load_state_dict(state)
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-6, momentum=0.9, weight_decay=5e-4)
    images = (torch.arange(IMAGES * 3 * 32 * 32, dtype=torch.float64) * 0.7 + 0.5).sin().float()
    images, labels = images.reshape(IMAGES, 3, 32, 32), torch.arange(IMAGES) % 10

    def step(solve):
        Continuous.solve, Field.nfe = staticmethod(solve), 0
        start = time.perf_counter()
        optimiser.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimiser.step()
        return 1e3 * (time.perf_counter() - start), loss.item(), Field.nfe

    return step


def ours(program, path):
    words = [program, "bench", "--workload", "node18", "--pth", path, "--reps", "1", "--json"]
    row = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    return row["ms_step"], row["loss"], row["nfe"]


def main(program):
    torch.set_num_threads(2)
    torch.manual_seed(0)
    state = Node18().state_dict()
    with tempfile.NamedTemporaryFile(suffix=".pth") as file:
        torch.save(state, file.name)
        steps = {name: trainer(state) for name in PEERS}
        runs = {name: [] for name in ("aca", *PEERS)}
        for _ in range(REPS + 1):
            runs["aca"].append(ours(program, file.name))
            for name, solve in PEERS.items():
                runs[name].append(steps[name](solve))
    print("program,ms_step,images_per_second,nfe,loss")
    for name, rows in runs.items():
        # The first round warms up.
        cost = statistics.median(row[0] for row in rows[1:])
        print(f"{name},{cost:.1f},{1e3 * IMAGES / cost:.1f},{rows[-1][2]},{rows[0][1]:.6f}")


if __name__ == "__main__":
    main(sys.argv[1])
