"""The autoencoder against diffusers': key sets at true size, numbers at tiny sizes, old and new spellings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from atelier.families.facts import PartFacts
from atelier.families.parts import autoencoder
from atelier.families.shapes import Shapes
from atelier.models.vae import AutoencoderKL, VaeSpec
from atelier.weights.archive import Stored, open_file
from atelier.weights.load import load_into, read
from atelier.weights.names.vae import names
from weights_support import assert_close, fill, published, stored

SD1 = 83_653_863
PREFIX = "first_stage_model."
OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

TINY: Mapping[str, dict[str, Any]] = {
    "like SD 1": {"block_out_channels": (16, 32, 48, 48), "layers_per_block": 2, "norm_num_groups": 8},
    "factor 4, one block, three latent channels": {
        "block_out_channels": (24, 48, 48),
        "layers_per_block": 1,
        "norm_num_groups": 12,
        "latent_channels": 3,
    },
    "like SD 3: no quantisation convolutions, no attention": {
        "block_out_channels": (16, 32),
        "layers_per_block": 2,
        "norm_num_groups": 4,
        "latent_channels": 16,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "mid_block_add_attention": False,
    },
}


def _foreign(config: dict[str, Any]) -> Any:
    from diffusers import AutoencoderKL as Theirs

    levels = len(config["block_out_channels"])
    down, up = ("DownEncoderBlock2D",) * levels, ("UpDecoderBlock2D",) * levels
    return fill(Theirs(down_block_types=down, up_block_types=up, **config))


def _loaded(part: Stored, groups: int) -> AutoencoderKL:
    spec = autoencoder.infer(Shapes.of(part), PartFacts(groups=groups))
    return load_into(lambda: AutoencoderKL(spec), read(part, names(spec)))


def test_true_size_has_the_published_names_and_shapes() -> None:
    with torch.device("meta"):
        net = AutoencoderKL(VaeSpec())
    listed = list(names(net.spec))
    assert sum(parameter.numel() for parameter in net.parameters()) == SD1
    assert {name.ours for name in listed} == net.state_dict().keys()
    required = {key: shape for key, shape in published("sd1_ldm_required").items() if key.startswith(PREFIX)}
    assert {PREFIX + name.ldm for name in listed} == required.keys()
    for name in listed:
        ours = tuple(net.get_parameter(name.ours).shape)
        assert required[PREFIX + name.ldm] == (ours if name.rule is None else (*ours, 1, 1))
    old = published("vae_diffusers_old_names")
    assert {next(s for s in name.spellings("diffusers") if s in old) for name in listed} == old.keys()


@pytest.mark.parametrize("config", TINY.values(), ids=TINY)
def test_numbers_are_those_of_diffusers(config: dict[str, Any], tmp_path: Path) -> None:
    theirs = _foreign(config)
    ours = _loaded(stored(theirs, tmp_path), config["norm_num_groups"])
    assert ours.spec.factor == 2 ** (len(config["block_out_channels"]) - 1)
    image = torch.rand(2, 3, 32, 48) * 2 - 1
    with torch.no_grad():
        expected, found = theirs.encode(image).latent_dist, ours.encode(image)
        assert_close(found.mean, expected.mean)
        assert_close(found.logvar, expected.logvar)
        latent = torch.randn_like(expected.mean)
        assert_close(ours.decode(latent), theirs.decode(latent).sample)


def test_the_old_spelling_and_convolutions_are_read_too(tmp_path: Path) -> None:
    config = TINY["like SD 1"]
    part = stored(_foreign(config), tmp_path)
    new = _loaded(part, config["norm_num_groups"]).state_dict()
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in load_file(part.archive.path).items():
        old = name
        for ours, theirs in OLD.items():
            old = old.replace(f"attentions.0.{ours}.", f"attentions.0.{theirs}.")
        tensors[old] = tensor[:, :, None, None].contiguous() if old != name and tensor.ndim == 2 else tensor
    save_file(tensors, tmp_path / "old.safetensors")
    found = _loaded(Stored(open_file(tmp_path / "old.safetensors"), "diffusers"), config["norm_num_groups"])
    assert all(torch.equal(tensor, new[name]) for name, tensor in found.state_dict().items())
