"""For the engineer: prefill, blocks, samples, rows of different lengths, resets, and the same numbers throughout.

python examples/stream.py
"""

from __future__ import annotations

import torch

from transferfn import RTF, Stream
from transferfn.models import Backbone, Classifier


def main() -> None:
    """Run one model in every mode and print the differences."""
    torch.manual_seed(0)
    backbone = Backbone(32, 3, lambda: RTF(32, 8, horizon=1000, constraint="reflection"), inputs=2)
    model = Classifier(backbone, classes=5).eval()
    signal = torch.randn(4, 1000, 2)
    whole = model(signal)

    decoder = model.decoder()  # exact coefficients, computed once
    stream = Stream(decoder, batch_size=4)
    for block in signal[:, :900].split(128, dim=1):  # blocks of any size ...
        stream(block)
    for t in range(900, 1000):  # ... or single samples
        scores = stream(signal[:, t])
    print(f"streamed in blocks and samples: largest difference {(scores - whole).abs().max():.0e}")

    lengths = torch.tensor([1000, 613, 1, 0])  # right padding: nothing in it counts, not even NaN
    padded = signal.clone()
    for row, length in enumerate(lengths):
        padded[row, length:] = torch.nan
    together = model(padded, lengths=lengths)
    alone = model(signal[1:2, :613])
    print(f"a row of 613 in a padded batch, and alone: largest difference {(together[1:2] - alone).abs().max():.0e}")

    resets = torch.zeros(1, 1000, dtype=torch.bool)  # two recordings packed into one row
    resets[0, 400] = True
    packed, _ = decoder.extend(signal[:1], resets=resets)
    second, _ = decoder.extend(signal[:1, 400:])
    print(f"after a reset, and from a fresh start: largest difference {(packed - second).abs().max():.0e}")

    _, state = decoder.extend(signal[:2])  # a state is a value: keep it, branch from it, move it to another batch
    one, _ = decoder.step(torch.zeros(2, 2), state)
    two, _ = decoder.step(torch.ones(2, 2), state)
    size = sum(leaf.numel() * leaf.element_size() for leaf in torch.utils._pytree.tree_leaves(state)) / 2
    print(
        f"two continuations of one state differ by {(one - two).abs().max():.0e}; a row's state takes {size:,.0f} bytes"
    )


if __name__ == "__main__":
    main()
