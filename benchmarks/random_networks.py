"""Random networks in skcnn and in torch: outputs, predictions and the gradients of all weights.

    python benchmarks/random_networks.py                 # 2,000 networks, in half a minute
    python benchmarks/random_networks.py 100 --seed 7    # 100 others

Each network has one to six layers of any kind and any geometry, in float32 or float64. Two or three
batches of different sizes go through it in buffers that are used again, and after each the weights
take a step. Torch computes in float64. Errors are shares of the largest number in an array; if
one is above the tolerance, as rounding may have it next to a kink, the pass counts as sensitive,
and only what rounding does not explain counts as an error. See `tests/random_nets.py`.

Prints a table of the worst errors of the networks with layers of each kind, in passes that are not
sensitive, and every network that fails, whose number is then the exit status. Needs torch and
hypothesis.
"""

import argparse
import sys
import time
import warnings
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import torch_nets
from random_nets import kinds, nets
from random_passes import TOLERANCES, errors, least_gradient, passes

from skcnn._model.network import Network


class Summary:
    """What has come of all networks so far."""

    def __init__(self):
        self.networks, self.passes, self.sensitive = Counter(), Counter(), Counter()
        self.worst = {dtype: defaultdict(float) for dtype in TOLERANCES}
        self.failures = []

    def add(self, net):
        """Run a network in both, and note its errors."""
        named = names(net)
        self.networks.update(named | {"all"})
        for done in passes(net):
            found, is_sensitive = errors_of_pass(net, done)
            largest = max(found.values())
            self.passes[net.dtype] += 1
            self.sensitive[net.dtype] += is_sensitive
            if largest > TOLERANCES[net.dtype]:
                self.failures.append((net, found))
                return
            if not is_sensitive:
                for name in named | {"all"}:
                    worst = self.worst[net.dtype]
                    worst[name] = max(worst[name], largest)

    def show(self, seconds):
        """Print the table and the networks that fail."""
        print(f"{'':22} {'networks':>8} {'float64':>9} {'float32':>9}")
        for name, n_networks in sorted(self.networks.items()):
            worst = (f"{self.worst[dtype][name]:9.1e}" for dtype in ("float64", "float32"))
            print(f"{name:22} {n_networks:8}", *worst)
        for title, counts in (("passes", self.passes), ("sensitive passes", self.sensitive)):
            print(f"{title:22} {'':8} {counts['float64']:9} {counts['float32']:9}")
        print(f"{len(self.failures)} failures, {seconds:.0f} s")
        for net, found in self.failures:
            print(net, {name: error for name, error in found.items() if error > 0})


def names(net):
    """Return the kinds of a network's layers and of the kernels that compute its convolutions."""
    network = Network(net.layers, net.image_shape)
    steps = zip(network.steps, network.input_shapes, strict=False)
    kernels = [(step, step.kernel(shape)) for step, shape in steps if hasattr(step, "kernel")]
    named = [f"{type(step).__name__} by {type(kernel).__name__}" for step, kernel in kernels]
    return kinds(net.layers).union(named)


def errors_of_pass(net, done):
    """Return the errors of a pass and whether it is sensitive, as `random_nets.errors` does."""
    largest = max((np.abs(gradient).max() for gradient in done.gradients), default=0.0)
    gradients = {f"gradient {i}": gradient for i, gradient in enumerate(done.gradients)}
    found = {"outputs": done.outputs, "predictions": done.predictions} | gradients
    floors = dict.fromkeys(gradients, least_gradient(net, largest))
    return errors(found, partial(expected, net, done), net.dtype, floors)


def expected(net, done, rounding):
    """Return what torch makes of a pass; `rounding` is as in `random_nets.errors`."""

    def move(x):
        factors, shifts = map(torch.tensor, rounding(x.detach().numpy()))
        return x * factors + shifts

    move = None if rounding is None else move

    def tensor(array):
        x = torch.tensor(array.astype(np.float64))
        return x if move is None else move(x)

    def shard(shares, random, running):
        weights = zip(coefs, intercepts, strict=True)
        return torch_nets.Shard(weights, shares, random, running, move)

    # torch 2.13 computes wrong gradients from some maps that are not contiguous
    images, dy = (tensor(x).permute(0, 3, 1, 2).contiguous() for x in (done.images, done.dy))
    coefs, intercepts = (
        [tensor(array).requires_grad_() for array in arrays]
        for arrays in (done.coefs, done.intercepts)
    )
    outputs = torch_nets.run(net.layers, images, shard(tensor(done.shares), done.random(), None))
    gradients = torch.autograd.grad(outputs, coefs + intercepts, dy) if coefs else []
    running = iter([tuple(map(tensor, both)) for both in done.running])
    with torch.no_grad():
        predictions = torch_nets.run(net.layers, images, shard(None, None, running))
    maps = {"outputs": outputs.detach(), "predictions": predictions}
    maps = {name: x.permute(0, 2, 3, 1).numpy() for name, x in maps.items()}
    return maps | {f"gradient {i}": gradient.numpy() for i, gradient in enumerate(gradients)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("n_networks", type=int, nargs="?", default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "Using padding='same' with even kernel")
    summary = Summary()

    @seed(arguments.seed)
    @given(nets())
    @settings(
        max_examples=arguments.n_networks,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def run_all(net):
        summary.add(net)

    start = time.perf_counter()
    run_all()
    summary.show(time.perf_counter() - start)
    return min(len(summary.failures), 100)


if __name__ == "__main__":
    sys.exit(main())
