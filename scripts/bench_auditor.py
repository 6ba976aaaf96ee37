"""Time our SVM layer beside one cvxpylayers program a class and fold, built anew at each step as the paper's code does.

`python scripts/bench_auditor.py` prints a Markdown table, with the reference where cvxpylayers is installed. Both solve
the same regularised problems on one CPU thread, or ours on `--device`, forward and backward through the held-out hinge.
The reference is timed on some of a batch's problems and its time scaled to all of them, as it solves them one after
another. `warm` starts ours from its answer to features a fiftieth of a deviation away, as an audit step could from the
one before.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from advunlearn.auditors.svm import LOSSES, fit_svm
from advunlearn.runtime.settings import Settings

try:
    import cvxpy
    from cvxpylayers.torch import CvxpyLayer
except ImportError:  # as on most machines with a GPU: ours is then timed alone
    cvxpy = None

REPEATS = 15  # of ours, which takes milliseconds
LARGEST = 2000  # rows that the reference is given: its memory grows with their square, to 18 GB at 10,000
SIZES = [(30, 140, 11), (300, 14, 101), (1, 1400, 11), (1, 10_000, 11), (1, 50_000, 11)]
HINGES: dict[str, Callable[[Any], Any]] = {
    "squared_hinge": lambda gaps: cvxpy.square(cvxpy.pos(gaps)),
    "huber_hinge": lambda gaps: cvxpy.huber(cvxpy.pos(gaps)) / 2,
    "hinge": lambda gaps: cvxpy.pos(gaps),
}
TIGHT = {"eps_abs": 1e-10, "eps_rel": 1e-10, "max_iters": 200_000, "mode": "dense"}


def draw(b: int, n: int, d: int, device: torch.device, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return features (b, n, d) and labels (b, n) like an auditor's: two overlapping clouds of about unit scale."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.where(torch.arange(n) % 2 == 0, 1.0, -1.0).double().expand(b, n).contiguous()
    features = torch.randn(b, n, d, generator=generator, dtype=torch.float64)
    return (features + 0.3 * labels[..., None]).to(device), labels.to(device)


def reference(features: Tensor, labels: Tensor, loss: str, regularization: float, solver: dict[str, object]) -> Tensor:
    """Return weights and bias (d + 1) of one problem (n, d) by a program that is built here and now."""
    n, d = features.shape
    weights, bias, rows = cvxpy.Variable(d), cvxpy.Variable(1), cvxpy.Parameter((n, d))
    gaps = 1 - cvxpy.multiply(labels.numpy(), rows @ weights + bias)
    objective = cvxpy.sum(HINGES[loss](gaps)) / n + regularization / 2 * cvxpy.sum_squares(weights)
    layer = CvxpyLayer(cvxpy.Problem(cvxpy.Minimize(objective)), parameters=[rows], variables=[weights, bias])
    return torch.cat(layer(features, solver_args=solver))


def step(features: Tensor, test: Tensor, labels: Tensor, fit: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    """Return the gradient of the held-out hinge by the features that the machines are fitted to."""
    features = features.clone().requires_grad_()
    weights, bias = fit(features)
    hinge = (1 - labels * ((test @ weights[..., None])[..., 0] + bias[:, None])).clamp(min=0)
    (gradient,) = torch.autograd.grad(hinge.sum(), features)
    return gradient


def seconds(work: Callable[[], Tensor], repeats: int) -> float:
    """Return the median time of some repeats after one that warms up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work().sum().item()  # waits for a GPU
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def compare(size: tuple[int, int, int], loss: str, regularization: float, programs: int, device: torch.device) -> str:
    """Return one line of the table; gradients are compared where the reference can afford its dense derivative."""
    b, n, d = size
    features, labels = draw(b, n, d, device)
    test, _ = draw(b, n, d, device, seed=1)

    def ours(x: Tensor, start: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        return fit_svm(x, labels[: len(x)], regularization=regularization, loss=loss, start=start)

    def theirs(x: Tensor, solver: dict[str, object]) -> tuple[Tensor, Tensor]:
        found = torch.stack([reference(rows, labels[0], loss, regularization, solver) for rows in x])
        return found[:, :-1], found[:, -1]

    earlier = ours(features + 0.02 * draw(b, n, d, device, seed=2)[0])
    fast = seconds(lambda: step(features, test, labels, ours), REPEATS)
    warm = ""  # the hinge's solver uses no start
    if loss != "hinge":
        warm = f"{1e3 * seconds(lambda: step(features, test, labels, lambda x: ours(x, earlier)), REPEATS):.1f}"
    cells = f"| {b} x ({n} x {d}) | {loss} | {1e3 * fast:.1f} | {warm} |"
    if n > LARGEST or cvxpy is None:
        return f"{cells} | | |"
    features, test, labels = features.cpu(), test.cpu(), labels.cpu()
    some = slice(0, min(b, programs))
    slow = seconds(lambda: step(features[some], test[some], labels[some], lambda x: theirs(x, {})), 1)
    slow *= b / min(b, programs)
    agreement = ""
    if n <= 140:
        first = features[:1], test[:1], labels[:1]
        exact, wanted = step(*first, ours), step(*first, lambda x: theirs(x, TIGHT))
        agreement = f"{(exact - wanted).norm() / wanted.norm():.1e}"
    return f"{cells} {1e3 * slow:.0f} | {slow / fast:.0f} | {agreement} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--regularization", type=float, default=0.1)
    parser.add_argument("--programs", type=int, default=10, help="that the reference is timed on")
    parser.add_argument("--device", default="auto", help="of ours, as in a run: auto, cpu, cuda or cuda:N")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    device = Settings(device=options.device).torch_device()
    peer = "no cvxpylayers" if cvxpy is None else f"cvxpy {cvxpy.__version__}"
    print(f"torch {torch.__version__}, {device}, {peer}, regularization {options.regularization}\n")
    print("| problems | loss | ours (ms) | warm (ms) | reference (ms) | ratio | gradients differ by |")
    print("|---|---|---|---|---|---|---|")
    for size in SIZES:
        for loss in LOSSES:
            print(compare(size, loss, options.regularization, options.programs, device), flush=True)


if __name__ == "__main__":
    main()
