"""For those who compare: a trained S4D is a bank of transfer functions. Convert it, see its poles, decode it as one.

python examples/convert.py
"""

from __future__ import annotations

import torch

from transferfn import S4D, Realization, Stream

CHANNELS, STATES, LENGTH = 8, 16, 400


def train(layer: S4D) -> float:
    """Learn to delay a signal by twelve samples; return the error that is left."""
    optimizer = torch.optim.AdamW(layer.param_groups(lr=3e-3, weight_decay=0.0), lr=2e-2)
    error = torch.tensor(0.0)
    for _ in range(150):
        u = torch.randn(4, LENGTH, CHANNELS)
        error = (layer(u) - u.roll(12, 1))[:, 12:].square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    return error.item()


def main() -> None:
    """Train, convert, stream and meet the limit."""
    torch.manual_seed(0)
    layer = S4D(CHANNELS, STATES, dt_min=0.1, dt_max=0.3)
    print(f"trained: mean square error {train(layer):.2f} (1 for a layer that knows nothing)")

    system, error = layer.to_transfer_function(LENGTH)
    print(f"as transfer functions of order {system.order}: responses off by {error.max():.0e} at most")
    print(f"{system.stability()}")

    u = torch.randn(1, LENGTH, CHANNELS)
    parallel = layer(u).detach()
    stream = Stream(Realization(system), batch_size=1)  # what an RTF decodes with
    streamed = torch.cat([stream(block) for block in u.float().split(50, 1)], 1)
    print(f"streamed in blocks of 50 with its state in float32: {(streamed - parallel).abs().max():.0e} from the layer")

    slow = S4D(1, 16, dt_min=1e-3, dt_max=1e-3)
    try:
        slow.to_transfer_function(LENGTH)
    except ArithmeticError as refused:
        print(f"steps of 0.001: {refused}")
    decoder = slow.realize()  # the modal form always works
    print(f"its modal form is {decoder}")


if __name__ == "__main__":
    main()
