"""Everything that keeps the contract. A new mixer or model joins the laws by adding one line to `MIXERS`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from transferfn.core import TransferFunction
from transferfn.core.constrain import step_up
from transferfn.models import Backbone, Classifier, LanguageModel
from transferfn.nn import LRU, RTF, S4, S4D, S5, Attention, Block, Hyena, ImplicitFilter, ShortConvolution
from transferfn.nn.options import NumeratorKind
from transferfn.nn.realize import Form
from transferfn.nn.realize import build as build_form


@dataclasses.dataclass(frozen=True)
class Mixer:
    """A way to build a mixer.

    Attributes:
        name: What it is called in test ids.
        build: Makes one in PyTorch's default type, its randomness from PyTorch's default generator.
        channels: Number of channels of its input.
        mixes_channels: Whether an output depends on more than its own channel.
        vocabulary: Number of tokens it takes instead of samples with channels.
        causal: Whether it has the recurrent verbs.
        remembers_all: Whether its state grows with every sample.
        has_filters: Whether it has coefficients that are kept wide.
    """

    name: str
    build: Callable[[], Any]
    channels: int = 4
    mixes_channels: bool = False
    vocabulary: int | None = None
    causal: bool = True
    remembers_all: bool = False
    has_filters: bool = True

    def __str__(self) -> str:
        return self.name

    def make(self, dtype: torch.dtype = torch.float64, *, training: bool = False) -> Any:
        """Build it, always the same, with norms and biases away from their trivial start."""
        torch.manual_seed(0)
        mixer = self.build().to(dtype)
        for module in mixer.modules():
            if not holds_filters(module):
                for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                    if tensor.dim() == 1:
                        nn.init.uniform_(tensor, 0.5, 1.5)
        return mixer.train(training)

    def signal(self, batch: int, length: int, dtype: torch.dtype = torch.float64, *, seed: int = 0) -> Tensor:
        """An input, always the same: samples, or tokens."""
        generator = torch.Generator().manual_seed(seed)
        if self.vocabulary is not None:
            return torch.randint(self.vocabulary, (batch, length), generator=generator)
        return torch.randn(batch, length, self.channels, generator=generator, dtype=torch.float64).to(dtype)


def holds_filters(module: nn.Module) -> bool:
    """Whether a module has coefficients of its own: a bank of filters, a free response, or a state-space system."""
    return any(hasattr(module, name) for name in ("transfer_function", "kernel", "state_space"))


def reflections(
    channels: int,
    order: int,
    *,
    horizon: int,
    denominator_groups: int,
    numerator: NumeratorKind,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """An initialisation of stable filters with poles anywhere."""
    draw = partial(torch.randn, dtype=torch.float64, generator=generator)
    k = torch.tanh(0.4 * draw(denominator_groups, order))
    return draw(channels, order) / order**0.5, k if numerator == "lattice" else step_up(k), draw(channels)


def realized(form: Form, order: int = 4, *, groups: int = 2) -> Any:
    """Stable filters with poles anywhere, in one of the forms that decode."""
    draw = partial(reflections, 4, order, horizon=32, denominator_groups=groups, numerator="exact")
    _, a, _ = draw(generator=torch.Generator().manual_seed(0))  # how many modes there are depends on them
    b, _, h0 = draw(generator=None)
    return build_form(form, TransferFunction(b, a, h0), torch.float64)


rtf = partial(RTF, 4, 4, horizon=32, init="comb")
both = partial(rtf, bidirectional=True)
s5 = partial(S5, 4, 8, dt_min=0.02, dt_max=0.5)
lru = partial(LRU, 4, 6, r_min=0.3, r_max=0.98)
attention = partial(Attention, 4, heads=2)
implicit = partial(ImplicitFilter, horizon=71, features=5, width=8)
s4d = partial(S4D, 4, 6, dt_min=0.02, dt_max=0.5)
s4 = partial(S4, 4, 6, horizon=32, dt_min=0.02, dt_max=0.5)
Mix = partial(Mixer, mixes_channels=True)
Keep = partial(Mix, remembers_all=True)
Attend = partial(Mix, remembers_all=True, has_filters=False)


def model(head: str, mixer: Callable[[], Any] = rtf, **options: Any) -> Callable[[], Classifier]:
    return lambda: Classifier(Backbone(4, 2, mixer, **options), 3, head=head)  # pyright: ignore[reportArgumentType]


def language(mixer: Callable[[], Any]) -> Callable[[], LanguageModel]:
    return lambda: LanguageModel(Backbone(4, 2, mixer, vocabulary=11, norm="layer", gelu=False, glu=False, mlp=6))


MIXERS = [
    Mixer("rtf", rtf),
    Mixer("rtf-resonators", partial(RTF, 4, 4, horizon=32)),
    Mixer("rtf-exact-tied", partial(rtf, numerator="exact", denominator_groups=1, init=reflections)),
    Mixer("rtf-l1", partial(rtf, constraint="l1", denominator_groups=2, init="montel")),
    Mixer("rtf-reflection-fft", partial(rtf, constraint="reflection", method="fft", init=reflections)),
    Mixer("rtf-scan", partial(RTF, 6, 7, horizon=32, method="scan", denominator_groups=3, init=reflections), 6),
    Mixer("rtf-dropout", partial(rtf, kernel_dropout=0.25)),
    Mixer("rtf-long", partial(RTF, 2, 66, horizon=67, init="montel"), 2),
    Mixer("rtf-both", both, causal=False),
    Mixer(
        "rtf-both-scan",
        partial(both, numerator="exact", constraint="reflection", method="scan", init=reflections),
        causal=False,
    ),
    Mixer(
        "rtf-lattice",
        partial(rtf, numerator="lattice", constraint="reflection", denominator_groups=2, init=reflections),
    ),
    Mixer(
        "rtf-lattice-high",  # by its coefficients
        partial(RTF, 2, 20, horizon=32, numerator="lattice", constraint="reflection", init=reflections),
        2,
    ),
    Mixer(
        "rtf-lattice-both",
        partial(both, numerator="lattice", constraint="reflection", denominator_groups=2, init=reflections),
        causal=False,
    ),
    Mixer("realization", lambda: rtf(init=reflections).realize()),
    Mixer("sections-realization", partial(realized, "sections")),
    Mixer("sections-odd-realization", partial(realized, "sections", 5)),
    Mixer("modal-realization", partial(realized, "modal", 5, groups=4)),
    Mixer("lattice-realization", partial(realized, "lattice", 5)),
    Mix("s5", s5),
    Mix("s5-bilinear-blocks", partial(s5, blocks=2, discretization="bilinear", output_init="lecun_normal")),
    Mix("s5-full", partial(S5, 3, 9, blocks=3, conj_sym=False, clip_eigenvalues=True, dt_min=0.02), 3),
    Mix("s5-both", partial(s5, bidirectional=True, output_init="complex_normal"), causal=False),
    Mix("s5-both-apart", partial(s5, bidirectional=True, shared_sample=False), causal=False),
    Mix("s5-realization", lambda: s5().realize()),
    Mix("lru", lru),
    Mix("lru-both", partial(lru, bidirectional=True), causal=False),
    Mixer("short", lambda: ShortConvolution(4, 5)),
    Mixer("implicit", partial(implicit, 4), remembers_all=True),
    Mixer("implicit-realized", lambda: implicit(4, normalized=True).realize(), remembers_all=True),
    Keep("hyena-implicit", lambda: Hyena(4, filter=lambda: implicit(4, learned_features=True, shift=0.1))),
    Keep("hyena-implicit-3", lambda: Hyena(4, filter=implicit(8).split(2), order=3)),
    Mix("hyena-rtf", lambda: Hyena(4, filter=rtf)),
    Mix("hyena-rtf-3", lambda: Hyena(4, filter=partial(rtf, init=reflections), order=3, short_width=4)),
    Mix("hyena-s4d", lambda: Hyena(4, filter=s4d)),
    Mix("hyena-low-rank", lambda: Hyena(4, filter=rtf, rank=3)),
    Mix("hyena-both", lambda: Hyena(4, filter=both), causal=False),
    Attend("attention", attention),
    Attend("attention-no-positions", partial(attention, positions=None, bias=False)),
    Attend("attention-both", partial(attention, bidirectional=True), causal=False),
    Mixer("s4d", s4d),
    Mixer("s4d-bilinear-tied", partial(s4d, init="legs", discretization="bilinear", groups=2)),
    Mixer("s4d-real", partial(S4D, 4, 3, init="real", dt_min=0.02)),
    Mixer("s4d-both", partial(s4d, init="inv", bidirectional=True), causal=False),
    Mixer("s4d-realization", lambda: s4d().realize()),
    Mixer("s4", s4),
    Mixer("s4-tied", partial(s4, measure="lagt", groups=2)),
    Mixer("s4-rank-2", partial(s4, measure="legt", groups=1)),
    Mixer("s4-mixed", partial(s4, measure=("legt", "legs"), groups=2)),
    Mixer("s4-both", partial(s4, bidirectional=True), causal=False),
    Mixer("s4-realization", lambda: s4().realize()),
    Mix("block", lambda: Block(4, rtf())),
    Mix("block-s5", lambda: Block(4, s5())),
    Mix("block-post", lambda: Block(4, rtf(), norm="layer", prenorm=False)),
    Mix("block-mlp", lambda: Block(4, rtf(), mlp=6, norm="batch")),
    Mix("block-mlp-post", lambda: Block(4, rtf(), mlp=6, norm="layer", prenorm=False)),
    Mix("backbone-tokens", lambda: Backbone(4, 2, rtf, vocabulary=11, norm="layer"), vocabulary=11),
    Mix("model-mean", model("mean", inputs=2, prenorm=False), 2),
    Mix("model-last", model("last", vocabulary=11), vocabulary=11),
    Mix("model-steps", model("per_step", inputs=2), 2),
    Mix("model-both", model("mean", both, inputs=2), 2, causal=False),
    Mix("language-model", language(lambda: Hyena(4, filter=rtf)), vocabulary=11),
    Attend("language-model-attention", language(attention), vocabulary=11),
    Attend("model-attention", model("mean", attention, inputs=2), 2),
]
CAUSAL = [mixer for mixer in MIXERS if mixer.causal]
