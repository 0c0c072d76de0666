"""A very small Stable Diffusion 3 with random weights, in the shapes of its three sizes."""

from __future__ import annotations

from dataclasses import replace

import tiny
from atelier.checkpoints.write import Modules
from atelier.families.facts import Facts
from atelier.families.sd3 import SD3
from atelier.models.clip import ClipText, TextSpec
from atelier.models.mmdit import MMDiT, MMDiTSpec
from atelier.models.t5 import T5Encoder, T5Spec
from atelier.models.vae import AutoencoderKL, VaeSpec
from atelier.weights.unigram import UnigramTokenizer
from unigram_support import PIECES, charsmap

SIZE = 64
L, G, T = 24, 40, 80
"""Widths of the three text encoders."""
ALL = ("text", "text2", "t5")


def t5_words() -> UnigramTokenizer:
    extra = [(f"<extra_id_{number}>", 0.0) for number in range(99, -1, -1)]
    pieces = tuple((piece, score) for piece, score, _ in PIECES)
    return UnigramTokenizer((*pieces, *extra), charsmap(), positions=9)


def _clip(width: int, act: str, layers: int) -> ClipText:
    words = tiny.tokenizer()
    spec = TextSpec(
        vocab=words.size,
        width=width,
        layers=layers,
        heads=2,
        mlp=48,
        positions=words.positions,
        act=act,  # pyright: ignore[reportArgumentType] - one of two
        projection=width,
        eos=words.eos,
    )
    return ClipText(spec)


def modules(
    encoders: tuple[str, ...] = ALL, *, qk_norm: bool = True, dual: tuple[int, ...] = (0,), depth: int = 3
) -> Modules:
    """encoders: the parts that are there. The first one's projection changes nothing, as in published folders."""
    size = MMDiTSpec(
        width=32, depth=depth, heads=4, context=T, pooled=L + G, side=12, qk_norm=qk_norm, dual=dual, in_channels=16
    )
    words = tiny.tokenizer()
    net = MMDiT(size)
    vae = AutoencoderKL(VaeSpec(widths=(16, 16, 32, 32), latent=16, blocks=1, groups=8, quant_conv=False))
    t5 = T5Encoder(T5Spec(vocab=128, width=T, layers=2, heads=3, inner=24, mlp=48))
    first, second = _clip(L, "quick_gelu", 3), _clip(G, "gelu", 4)
    networks = {"transformer": net, "vae": vae, "text": first, "text2": second, "t5": t5}
    for number, network in enumerate(networks.values()):
        tiny.randomize(network, number)
    assert first.projection is not None
    first.projection.weight.data = first.projection.weight.data.new_zeros(L, L).fill_diagonal_(1)
    tokenizers = {"text": words, "text2": replace(words, pad_token="!"), "t5": t5_words()}
    facts = Facts(prediction="flow", size=SIZE, latent_scale=1.5305, latent_shift=0.0609, flow_shift=3.0)
    there = {name: network for name, network in networks.items() if name not in ALL or name in encoders}
    return Modules(SD3, there, tuple(tokenizers[name] for name in encoders), facts)
