#!/usr/bin/env python3
"""Predicts how data-parallel training of NODE18 scales; docs/distributed.md explains every number.

    scripts/scaling.py          prints the tables of that page
"""
from dataclasses import dataclass
from math import log, sqrt

PARAMETERS = 11_173_962
BYTES = 4 * PARAMETERS
BUCKET = 4 << 22

# Operations of a training step for one image, 2 a multiplication and addition. A 3x3 convolution has
# as many in every stage; a backward pass has two products for each of the forward one.
CONV = 2 * 64 * 64 * 9 * 32 * 32
PLAIN = 2 * CONV + 3 * (CONV / 2 + CONV) + 2 * 3 * 64 * 9 * 32 * 32
FORWARD, BACKWARD = 56, 52  # evaluations of all ODE blocks, measured
FLOPS = 3 * PLAIN + 2 * CONV * (FORWARD + 3 * BACKWARD)

# Deviation of a rank's work from the mean, as a share of it; measured on digits.
SPREAD = 0.03


@dataclass
class Machine:
    name: str
    seconds: float  # of a step
    images: int  # of a rank's batch
    node: int  # ranks of a node
    inner: float  # bytes a second of a rank to those of its node
    outer: float  # and to others
    message: float  # seconds that a message costs beyond its bytes


def gpu(name: str, outer: float) -> Machine:
    images, rate = 128, 0.3 * 67e12
    return Machine(name, images * FLOPS / rate, images, 8, 450e9, outer, 2e-6)


MACHINES = [
    gpu("GPUs, 400 Gb/s each", 50e9),
    gpu("GPUs, 100 Gb/s a node", 12.5e9 / 8),
    Machine("2 CPU cores a rank, 10 Gb/s each", 2.333, 32, 1, 10e9, 1.25e9, 20e-6),
]


def reduction(machine: Machine, ranks: int) -> float:
    """Seconds of a sum over ranks: parts to their owners, sums back."""
    inside = min(machine.node, ranks) - 1
    outside = ranks - 1 - inside
    share = BYTES / ranks
    bytes_ = 2 * share * (inside / machine.inner + outside / machine.outer)
    # Buckets, the tallies beside them, and whether to stop.
    messages = 2 * (ranks - 1) * (-(-BYTES // BUCKET) + 2)
    return bytes_ + messages * machine.message


def efficiency(machine: Machine, ranks: int) -> float:
    slowest = machine.seconds * (1 + SPREAD * sqrt(2 * log(ranks)))
    return machine.seconds / (slowest + reduction(machine, ranks))


def main() -> None:
    print(f"{FLOPS / 1e9:.1f} GFLOP an image, {BYTES / 1e6:.1f} MB of gradients\n")
    print("| ranks |", " | ".join(f"{machine.name}: ms reduced, efficiency" for machine in MACHINES), "|")
    print("|---|" + "---|" * len(MACHINES))
    for power in range(1, 11):
        ranks = 2**power
        cells = (f"{1e3 * reduction(m, ranks):.1f}, {efficiency(m, ranks):.2f}" for m in MACHINES)
        print(f"| {ranks} |", " | ".join(cells), "|")
    print()
    for machine in MACHINES:
        print(f"{machine.name}: a step of {machine.images} images takes {1e3 * machine.seconds:.0f} ms")


if __name__ == "__main__":
    main()
