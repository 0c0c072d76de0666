"""ControlNets for Stable Diffusion 3 against diffusers': residuals, what the transformer makes of them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import hint_support as support
import tiny_sd3
from atelier.adapters.steering import Acting, Encode, open_steering
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.kind import identify, kinds
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.write import write_diffusers
from atelier.errors import BadFile
from atelier.families.parts import VAE
from atelier.families.parts.mmdit import MMDIT
from atelier.nn.ports import NOTHING, Conditioning, both
from atelier.weights.archive import open_any
from hint_support import drawn, hint
from weights_support import assert_close, fill

diffusers = pytest.importorskip("diffusers", reason="the reference extra is not installed")

X, T = drawn(2, 16, 8, 12), torch.tensor([70.0, 901.0])
COND = Conditioning(drawn(2, 5, tiny_sd3.T, seed=1), drawn(2, tiny_sd3.L + tiny_sd3.G, seed=2))
SIZES = {"with text": {}, "without text": {"joint_attention_dim": None, "use_pos_embed": False, "qk_norm": None}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("models") / "sd3"
    write_diffusers(tiny_sd3.modules(), folder)
    return open_checkpoint(folder)


@pytest.fixture(scope="module")
def transformer(model: Checkpoint) -> Any:
    net = diffusers.SD3Transformer2DModel.from_pretrained(model.path / "transformer")
    return net.eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def vae(model: Checkpoint) -> Any:
    return diffusers.AutoencoderKL.from_pretrained(model.path / "vae").eval().requires_grad_(requires_grad=False)


def control(transformer: Any, **config: object) -> Any:
    own = transformer.config
    shared = (
        "sample_size patch_size in_channels attention_head_dim num_attention_heads joint_attention_dim qk_norm "
        "caption_projection_dim pooled_projection_dim out_channels pos_embed_max_size dual_attention_layers"
    )
    given = {"num_layers": 2, **{key: own[key] for key in shared.split()}, **config}
    if given["joint_attention_dim"] is None:
        given["dual_attention_layers"] = ()
    return fill(diffusers.SD3ControlNetModel(**given)).requires_grad_(requires_grad=False)


def latent_of(shown: Tensor, vae: Any, *, plain: bool) -> Tensor:
    """As the pipeline of diffusers makes it, but for the noise around the mean."""
    shift = 0 if plain else vae.config.shift_factor
    return (vae.encode(shown * 2 - 1).latent_dist.mean - shift) * vae.config.scaling_factor


def encoder(model: Checkpoint) -> Encode:
    vae = model.load(VAE, torch.float32)
    return lambda image: vae.encode(image).mean


def said(theirs: Any, transformer: Any, latent: Tensor, x: Tensor, t: Tensor, *, plain: bool) -> list[Tensor]:
    alone = theirs.config.joint_attention_dim is None
    return theirs(
        hidden_states=transformer.pos_embed(x) if alone else x,
        timestep=t,
        encoder_hidden_states=None if alone else COND.tokens,
        pooled_projections=torch.zeros_like(COND.pooled) if plain else COND.pooled,
        controlnet_cond=latent,
        conditioning_scale=0.6,
        return_dict=False,
    )[0]


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_residuals_and_what_comes_of_them_are_those_of_diffusers(
    size: str, plain: bool, model: Checkpoint, transformer: Any, vae: Any, tmp_path: Path
) -> None:
    theirs = control(transformer, force_zeros_for_pooled_projection=plain, **SIZES[size])
    theirs.save_pretrained(tmp_path)
    net = open_steering(tmp_path, model, torch.float32)
    factor = model.latent.factor
    shown = hint(2, 8 * factor, 12 * factor)
    expected = said(theirs, transformer, latent_of(shown, vae, plain=plain), X, T, plain=plain)
    ports = net.ports(net.read(shown, "", encoder(model)), X, T, COND, Acting(weight=0.6))
    for ours, there in zip(ports.residuals, expected, strict=True):
        assert_close(ours, there)
    made = transformer(X, COND.tokens, COND.pooled, T, block_controlnet_hidden_states=expected).sample
    with torch.no_grad():
        assert_close(model.load(MMDIT, torch.float32)(X, T, COND, ports), made)
    assert model.load(VAE) is not None


OF_STABILITY = {
    "norm1.linear": "adaLN_modulation.1",
    "attn.to_out.0": "attn.proj",
    "ff.net.0.proj": "mlp.fc1",
    "ff.net.2": "mlp.fc2",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
}


def of_stability(theirs: Any) -> dict[str, Tensor]:
    """In the names of Stability AI's files, as diffusers' script of conversion reads them."""
    found, given = dict[str, Tensor](), theirs.state_dict()
    for name, tensor in given.items():
        if ".attn.to_q." in name:
            parts = [given[name.replace("to_q", own)] for own in ("to_q", "to_k", "to_v")]
            found[name.replace("to_q", "qkv")] = torch.cat(parts)
        elif ".attn.to_k." not in name and ".attn.to_v." not in name:
            old = next((own for own in OF_STABILITY if f"{own}." in name), "")
            found[name.replace(old, OF_STABILITY[old]) if old else name] = tensor
    return found


@pytest.mark.parametrize("kind", ["blur", "canny", "depth"])
def test_files_of_stability_for_the_large_3_5_are_read(
    kind: str, model: Checkpoint, transformer: Any, vae: Any, tmp_path: Path
) -> None:
    """The autoencoder sees a hint of edges as their program and diffusers' example for them show it."""
    theirs = control(transformer, force_zeros_for_pooled_projection=False, **SIZES["without text"])
    number = ["blur", "canny", "depth"].index(kind)
    beside = {"control_type": torch.tensor([number], dtype=torch.int32), "x_embedder.proj.bias": torch.ones(4)}
    save_file({**of_stability(theirs), **beside}, tmp_path / "8b.safetensors")
    identity = identify(open_any(tmp_path / "8b.safetensors"))
    assert identity is not None
    assert (identity.kind, identity.family, identity.variant) == ("controlnet", "sd3", "3.5-large-stability")
    net, factor = open_steering(tmp_path / "8b.safetensors", model, torch.float32), model.latent.factor
    shown = hint(2, 8 * factor, 12 * factor)
    seen = shown * 255 * 0.5 + 0.5 if kind == "canny" else shown * 2 - 1
    latent = (vae.encode(seen).latent_dist.mean - vae.config.shift_factor) * vae.config.scaling_factor
    expected = said(theirs, transformer, latent, X, T, plain=False)
    ports = net.ports(net.read(shown, "", encoder(model)), X, T, COND, Acting(weight=0.6))
    for ours, there in zip(ports.residuals, expected, strict=True):
        assert_close(ours, there)


def test_the_folder_of_diffusers_says_by_its_name_that_it_reads_edges(
    model: Checkpoint, transformer: Any, vae: Any, tmp_path: Path
) -> None:
    theirs = control(transformer, force_zeros_for_pooled_projection=False, **SIZES["without text"])
    folder, factor = tmp_path / "stable-diffusion-3.5-large-controlnet-canny", model.latent.factor
    theirs.save_pretrained(folder)
    net, shown = open_steering(folder, model, torch.float32), hint(2, 8 * factor, 12 * factor)
    latent = vae.encode(shown * 255 * 0.5 + 0.5).latent_dist.mean - vae.config.shift_factor
    expected = said(theirs, transformer, latent * vae.config.scaling_factor, X, T, plain=False)
    found = net.ports(net.read(shown, "", encoder(model)), X, T, COND, Acting(weight=0.6)).residuals
    for ours, there in zip(found, expected, strict=True):
        assert_close(ours, there)


def test_a_trajectory_is_that_of_diffusers(model: Checkpoint, transformer: Any, vae: Any, tmp_path: Path) -> None:
    theirs = control(transformer)
    theirs.save_pretrained(tmp_path)
    net, ours, factor = (
        open_steering(tmp_path, model, torch.float32),
        model.load(MMDIT, torch.float32),
        model.latent.factor,
    )
    shown, x = hint(1, 8 * factor, 12 * factor), drawn(1, 16, 8, 12, seed=9)
    latent, read = latent_of(shown, vae, plain=True).expand(2, -1, -1, -1), net.read(shown, "", encoder(model))

    def there(x: Tensor, t: Tensor) -> Tensor:
        found = said(theirs, transformer, latent, x, t, plain=True)
        return transformer(x, COND.tokens, COND.pooled, t, block_controlnet_hidden_states=found).sample

    @torch.no_grad()
    def here(x: Tensor, t: Tensor) -> Tensor:
        return ours(x, t, COND, net.ports(read, x, t, COND, Acting(weight=0.6)))

    assert_close(flowing(here, x), flowing(there, x))
    assert net.ports(read, x.expand(2, -1, -1, -1), T, COND, Acting(weight=0)) is NOTHING
    own = tuple(number + 1.0 for number in range(net.layers))
    made, free = (net.ports(read, x, T[:1], COND, acting).residuals for acting in (Acting(layers=own), Acting()))
    for factor, one, other in zip(own, made, free, strict=True):
        assert_close(one, factor * other)


@pytest.mark.parametrize("layers", [(1, 2), (2, 3), (3, 1)])
def test_two_of_different_depth_add_up(
    layers: tuple[int, int], model: Checkpoint, transformer: Any, vae: Any, tmp_path: Path
) -> None:
    """As in diffusers, where each block gets what each of them has for it."""
    factor, found, expected = model.latent.factor, list[Any](), list[list[Tensor]]()
    shown, ours = hint(2, 8 * factor, 12 * factor), model.load(MMDIT, torch.float32)
    for number, count in enumerate(layers):
        theirs = control(transformer, num_layers=count)
        theirs.save_pretrained(tmp_path / str(number))
        net = open_steering(tmp_path / str(number), model, torch.float32)
        found.append(net.ports(net.read(shown, "", encoder(model)), X, T, COND, Acting(weight=0.6)))
        expected.append(said(theirs, transformer, latent_of(shown, vae, plain=True), X, T, plain=True))
    depth = len(ours.blocks)
    by_block = [sum(each[i * len(each) // depth] for each in expected) for i in range(depth)]
    made = transformer(X, COND.tokens, COND.pooled, T, block_controlnet_hidden_states=by_block).sample
    with torch.no_grad():
        assert_close(ours(X, T, COND, both(*found)), made)
    assert len({id(tensor) for tensor in both(*found).residuals}) <= sum(layers) - 1


def test_without_an_encoder_it_reads_nothing(model: Checkpoint, transformer: Any, tmp_path: Path) -> None:
    control(transformer).save_pretrained(tmp_path)
    net = open_steering(tmp_path, model, torch.float32)
    with pytest.raises(ValueError, match="reads its hint as a latent"):
        net.read(hint(1, 64, 64))


def flowing(predict: Any, x: Tensor) -> Tensor:
    """Euler's method with guidance, from noise to none in four steps."""
    levels = torch.linspace(1, 0, support.STEPS + 1)
    for level, below in pairwise(levels):
        negative, positive = predict(x.expand(2, -1, -1, -1), (1000 * level).expand(2)).chunk(2)
        x = x + (below - level) * (negative + support.SCALE * (positive - negative))
    return x


def test_a_zero_initialized_one_changes_not_a_bit(model: Checkpoint, transformer: Any, tmp_path: Path) -> None:
    given = control(transformer)
    for out in given.controlnet_blocks:
        out.weight.zero_()
        out.bias.zero_()
    given.save_pretrained(tmp_path)
    net, ours, factor = (
        open_steering(tmp_path, model, torch.float32),
        model.load(MMDIT, torch.float32),
        model.latent.factor,
    )
    ports = net.ports(net.read(hint(1, 8 * factor, 12 * factor), "", encoder(model)), X, T, COND, Acting())
    with torch.no_grad():
        assert torch.equal(ours(X, T, COND, ports), ours(X, T, COND))


def test_rows_and_masks_count(model: Checkpoint, transformer: Any, tmp_path: Path) -> None:
    control(transformer).save_pretrained(tmp_path)
    net, factor, mask = open_steering(tmp_path, model, torch.float32), model.latent.factor, torch.zeros(1, 1, 8, 12)
    mask[..., 6:] = 1
    read = net.read(hint(1, 8 * factor, 12 * factor), "", encoder(model))
    kept = net.ports(read, X, T, COND, Acting(rows=torch.tensor([1]), mask=mask)).residuals
    free = net.ports(read, X, T, COND, Acting()).residuals
    for one, other in zip(kept, free, strict=True):
        one, other = one.reshape(2, 4, 6, -1), other.reshape(2, 4, 6, -1)  # noqa: PLW2901 - as a map
        assert not bool(one[0].any())
        assert not bool(one[1, :, :3].any())
        assert_close(one[1, :, 3:], other[1, :, 3:])


def test_it_is_known_and_others_are_refused(model: Checkpoint, transformer: Any, tmp_path: Path) -> None:
    control(transformer).save_pretrained(tmp_path / "control")
    identity = identify(open_any(tmp_path / "control" / "diffusion_pytorch_model.safetensors"))
    assert identity is not None
    assert (identity.kind, identity.family) == ("controlnet", "sd3")
    assert kinds()["controlnet"].reads(identity)
    other = support.both(tmp_path, "sd1").model
    with pytest.raises(BadFile, match=r"control.*ControlNet of Stable Diffusion 3, and sd1 is Stable Diffusion 1.x"):
        open_steering(tmp_path / "control", other, torch.float32)
    control(transformer, pooled_projection_dim=32).save_pretrained(tmp_path / "pooled")
    with pytest.raises(BadFile, match=r"pooled.*pooled 32, and sd3 has 64"):
        open_steering(tmp_path / "pooled", model, torch.float32)
    control(transformer, extra_conditioning_channels=1).save_pretrained(tmp_path / "masked")
    with pytest.raises(BadFile, match=r"masked.*a variant that is not read \(mask\)"):
        open_steering(tmp_path / "masked", model, torch.float32)
