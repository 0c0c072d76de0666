"""Our networks of Stable Diffusion 3 against diffusers' and transformers' at their true size, same random weights.

    python benchmarks/golden_true_sd3.py [--size medium|3.5-medium|3.5-large] [--blocks N] [--layers N] [--tiny]

Prints a table of max |ours - theirs| / std(theirs) in fp32 and of parameter counts; exits 1 if a difference is above
1e-4 or a count is wrong. Both sides share their weights: about 9 GB of memory for medium, 33 GB for large, 20 GB for
T5's encoder. `--blocks` and `--layers` take so many of the transformer's blocks and of T5's layers, for less memory;
counts are then not compared. `--latent` is the side of the latent, `--tokens` how many text
states there are. Not a timing.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import needs  # isort: split

import torch
from torch import Tensor, nn

from atelier.diffusion.catalogue import resolve_sampler
from atelier.diffusion.denoise import denoiser, timed
from atelier.diffusion.guidance.cfg import CfgOptions, cfg
from atelier.diffusion.levels import FlowLevels
from atelier.diffusion.parameterization import FLOW
from atelier.diffusion.rng import silent
from atelier.diffusion.sampling import Options
from atelier.diffusion.scheduling import SCHEDULE_DEFAULTS
from atelier.diffusion.types import Moment
from atelier.models.mmdit import MMDiT, MMDiTSpec, position_table
from atelier.models.t5 import T5Encoder, T5Spec
from atelier.models.vae import AutoencoderKL, VaeSpec
from atelier.nn.ports import Conditioning
from atelier.weights.load import arrange, load_into
from atelier.weights.names import mmdit, t5, vae
from atelier.weights.names.name import Name
from golden_true_size import BOUND, SCALE, STEPS, Result, result, show
from reference import randomise, without_values

TRUE = {
    "medium": (MMDiTSpec(), 2_028_328_000),
    "3.5-medium": (MMDiTSpec(side=384, qk_norm=True, dual=tuple(range(13))), 2_243_171_520),
    "3.5-large": (MMDiTSpec(width=2432, depth=38, heads=38, qk_norm=True), 8_056_627_520),
}
COUNTS = {"T5 encoder": 4_762_310_656, "autoencoder": 83_819_683}
SHIFT = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=TRUE, default="medium")
    parser.add_argument("--blocks", type=int)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--latent", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=154)
    parser.add_argument("--tiny", action="store_true", help="shrink everything, to see that the script runs")
    options = parser.parse_args()
    needs.modules("diffusers", "transformers")
    spec, count = TRUE[options.size]
    depth = options.blocks or spec.depth
    spec = replace(spec, depth=depth, dual=tuple(own for own in spec.dual if own < depth))
    text, images = replace(T5Spec(), layers=options.layers or T5Spec().layers), VaeSpec(latent=16, quant_conv=False)
    if options.tiny:
        spec = replace(spec, width=32, heads=4, depth=3, context=48, pooled=20, side=24, dual=spec.dual[:1])
        text = T5Spec(vocab=100, width=48, layers=2, heads=4, inner=32, mlp=64)
        images = replace(images, widths=(32, 32, 64, 64), blocks=1)
    with torch.no_grad():
        results = [*transformer(spec, options.latent, options.tokens), *encoder(text), *autoencoder(images)]
    show(results)
    counts = {**COUNTS, "transformer": count}
    partial = options.tiny or options.blocks is not None or options.layers is not None
    counted = partial or all(found.parameters == counts[found.part] for found in results)
    sys.exit(0 if counted and all(found.difference <= BOUND for found in results) else 1)


def shared(theirs: nn.Module, listed: list[Name]) -> dict[str, Tensor]:
    """Their tensors under our names, not copied but where they have to be rearranged."""
    state = theirs.state_dict()
    return {name.ours: arrange(state[name.diffusers].detach(), name, "diffusers") for name in listed}


def transformer(spec: MMDiTSpec, latent: int, tokens: int) -> Iterator[Result]:
    theirs = without_values(lambda: transformer_of(spec)).eval()
    theirs.get_buffer("pos_embed.pos_embed").copy_(position_table(spec.side, spec.width))
    randomise(theirs, seed=2)
    ours = load_into(lambda: MMDiT(spec), shared(theirs, list(mmdit.names(spec))))
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, spec.in_channels, latent, latent + 8, generator=generator)
    states = torch.randn(2, tokens, spec.context, generator=generator)
    pooled, t = torch.randn(2, spec.pooled, generator=generator), torch.tensor([17.0, 901.0])
    cond = Conditioning(states, pooled)
    yield result("transformer", "output", ours, ours(x, t, cond), theirs(x, states, pooled, t, return_dict=False)[0])
    yield result("transformer", f"{STEPS} steps", ours, our_steps(ours, x[:1], cond), steps(theirs, x[:1], cond))
    del theirs, ours
    gc.collect()


def transformer_of(spec: MMDiTSpec) -> Any:
    """diffusers' transformer of this shape."""
    from diffusers import SD3Transformer2DModel

    return SD3Transformer2DModel(
        sample_size=128,
        patch_size=spec.patch,
        in_channels=spec.in_channels,
        num_layers=spec.depth,
        attention_head_dim=spec.head_width,
        num_attention_heads=spec.heads,
        joint_attention_dim=spec.context,
        caption_projection_dim=spec.width,
        pooled_projection_dim=spec.pooled,
        out_channels=spec.out_channels,
        pos_embed_max_size=spec.side,
        dual_attention_layers=spec.dual,
        qk_norm="rms_norm" if spec.qk_norm else None,
    )


def our_steps(net: MMDiT, noise: Tensor, cond: Conditioning) -> Tensor:
    """A trajectory of Euler's, the first row of the conditioning as the negative prompt."""
    levels = FlowLevels(SHIFT)

    def told(x: Tensor, t: Tensor, _: Moment) -> Tensor:
        return net(x, t, cond)

    guided = cfg(denoiser(told, FLOW, levels), CfgOptions(SCALE))
    sampler, schedule = resolve_sampler("Euler", "Uniform")
    sigmas = schedule.make(SCHEDULE_DEFAULTS)(levels, STEPS)
    x = noise
    for step in sampler.make(Options(levels=levels))(timed(guided, STEPS), x, sigmas, silent):
        x = step.x
    return x


def steps(net: Any, noise: Tensor, cond: Conditioning) -> Tensor:
    """The same in diffusers."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=SHIFT)
    scheduler.set_timesteps(STEPS)
    x = noise
    for t in scheduler.timesteps:
        out = net(torch.cat([x, x]), cond.tokens, cond.pooled, t.expand(2), return_dict=False)[0]
        without, with_text = out.chunk(2)
        x = scheduler.step(without + SCALE * (with_text - without), t, x).prev_sample
    return x


def encoder(spec: T5Spec) -> Iterator[Result]:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=spec.vocab,
        d_model=spec.width,
        d_kv=spec.inner // spec.heads,
        d_ff=spec.mlp,
        num_layers=spec.layers,
        num_heads=spec.heads,
        feed_forward_proj="gated-gelu",
    )
    theirs = without_values(lambda: T5EncoderModel(config)).eval()
    theirs.encoder.embed_tokens = theirs.shared
    randomise(theirs, seed=4)
    ours = load_into(lambda: T5Encoder(spec), shared(theirs, list(t5.names(spec))))
    tokens = torch.randint(0, spec.vocab, (2, 77), generator=torch.Generator().manual_seed(5))
    yield result("T5 encoder", "states", ours, ours(tokens), theirs(tokens).last_hidden_state)
    del theirs, ours
    gc.collect()


def autoencoder(spec: VaeSpec) -> Iterator[Result]:
    from diffusers import AutoencoderKL as Reference

    theirs = Reference(
        latent_channels=spec.latent,
        block_out_channels=spec.widths,
        layers_per_block=spec.blocks,
        down_block_types=("DownEncoderBlock2D",) * len(spec.widths),
        up_block_types=("UpDecoderBlock2D",) * len(spec.widths),
        norm_num_groups=spec.groups,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ).eval()
    randomise(theirs, seed=6)
    ours = load_into(lambda: AutoencoderKL(spec), shared(theirs, list(vae.names(spec))))
    generator = torch.Generator().manual_seed(7)
    image = torch.rand(1, 3, 128, 128, generator=generator) * 2 - 1
    wanted = theirs.encode(image).latent_dist.mean
    yield result("autoencoder", "encode, mean", ours, ours.encode(image).mean, wanted)
    latent = torch.randn(wanted.shape, generator=generator)
    yield result("autoencoder", "decode", ours, ours.decode(latent), theirs.decode(latent, return_dict=False)[0])


if __name__ == "__main__":
    main()
