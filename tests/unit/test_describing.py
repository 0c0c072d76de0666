"""What a trained adapter says of itself: the keys of the public list, and the values written out."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from atelier.adapters.describing import SAID, Base, Data, Folder, Made, described, sealed
from atelier.checkpoints.kind import Seen
from atelier.checkpoints.kinds.lora import family
from atelier.errors import BadInput
from atelier.weights.hashes import legacy_hash
from facts import FACTS

LIST = FACTS / "keys" / "safetensors_metadata_kohya_modelspec.json"

BASE = Base("sd1", "epsilon", "v1-5.safetensors", "ab" * 32, "81761151")
RECIPE = {
    "network_module": "networks.lora",
    "network_dim": 16,
    "network_alpha": 8.0,
    "network_args": {"conv_dim": "4"},
    "learning_rate": 1e-4,
    "seed": 7,
    "clip_skip": 2,
    "preset": "thing",
}
DATA = Data(
    sha256="cd" * 32,
    size=(512, 768),
    folders={"10_zwx person": Folder(5, 10)},
    regular={"1_person": Folder(50)},
    tags={"10_zwx person": {"zwx person": 5}},
)
MADE = Made("zwx", started=1_700_000_000.25, finished=1_700_000_060.5, said={"trigger_phrase": "zwx person"})


@pytest.mark.skipif(not LIST.is_file(), reason="the list of published keys is not here")
def test_the_keys_are_those_of_the_public_list():
    listed = json.loads(LIST.read_text())
    assert {f"ss_{key}" for key in SAID} == set(listed["ss_keys"])
    said = sealed({"a": torch.ones(2)}, described(BASE, RECIPE, DATA, MADE))
    own = {key for key in said if key.startswith("modelspec.")}
    assert own <= set(listed["modelspec_keys"])
    assert {key for key in said if key.startswith("sshs")} == set(listed["extra_hash_keys"])
    architecture, _, ending = said["modelspec.architecture"].partition("/")
    assert architecture in listed["modelspec_architectures"].values()
    assert f"/{ending}" in listed["modelspec_architecture_adapter_suffixes"]
    assert said["modelspec.implementation"] in listed["modelspec_implementations"].values()
    for key in listed["json_valued_keys"]:
        assert said[key] == "None" or isinstance(json.loads(said[key]), dict)


def test_every_value_is_text():
    said = described(BASE, RECIPE, DATA, MADE)
    wanted = {
        "format": "pt",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "16",
        "ss_network_alpha": "8.0",
        "ss_network_args": '{"conv_dim": "4"}',
        "ss_learning_rate": "0.0001",
        "ss_seed": "7",
        "ss_base_model_version": "sd_v1",
        "ss_v2": "False",
        "ss_sd_model_name": "v1-5.safetensors",
        "ss_sd_model_hash": "81761151",
        "ss_new_sd_model_hash": "ab" * 32,
        "ss_resolution": "(512, 768)",
        "ss_num_train_images": "50",
        "ss_num_reg_images": "50",
        "ss_dataset_dirs": '{"10_zwx person": {"n_repeats": 10, "img_count": 5}}',
        "ss_reg_dataset_dirs": '{"1_person": {"n_repeats": 1, "img_count": 50}}',
        "ss_tag_frequency": '{"10_zwx person": {"zwx person": 5}}',
        "ss_output_name": "zwx",
        "ss_training_started_at": "1700000000.25",
        "ss_training_finished_at": "1700000060.5",
        "ss_vae_name": "None",
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": "zwx",
        "modelspec.resolution": "512x768",
        "modelspec.date": "2023-11-14T22:14:20",
        "modelspec.prediction_type": "epsilon",
        "modelspec.encoder_layer": "2",
        "modelspec.trigger_phrase": "zwx person",
        "atelier.data_sha256": "cd" * 32,
        "atelier.base_sha256": "ab" * 32,
    }
    assert wanted.items() <= said.items()
    assert json.loads(said["atelier.recipe"]) == RECIPE
    assert said["atelier.recipe_sha256"] == hashlib.sha256(said["atelier.recipe"].encode()).hexdigest()
    assert "ss_preset" not in said


@pytest.mark.parametrize(
    ("base", "kind", "version", "architecture", "prediction"),
    [
        (("sd1", "velocity"), "lora", "sd_v1_v", "stable-diffusion-v1/lora", "v"),
        (("sd2", "epsilon"), "lora", "sd_v2", "stable-diffusion-v2-512/lora", "epsilon"),
        (("sd2", "velocity"), "lora", "sd_v2_v", "stable-diffusion-v2-768-v/lora", "v"),
        (("sdxl", "epsilon"), "lora", "sdxl_base_v1-0", "stable-diffusion-xl-v1-base/lora", "epsilon"),
        (("sd3", "flow"), "lora", "sd3_m", "stable-diffusion-3/lora", None),
        (("sd1", "epsilon"), "textual-inversion", "sd_v1", "stable-diffusion-v1/textual-inversion", "epsilon"),
    ],
)
def test_the_base_goes_by_its_public_names(
    base: tuple[str, str], kind: str, version: str, architecture: str, prediction: str | None
):
    made = Made("x", 0.0, 1.0, kind)  # pyright: ignore[reportArgumentType] - one of two
    own = Base(*base, "base", "00")  # pyright: ignore[reportArgumentType] - one of three
    said = described(own, {}, DATA, made)
    assert said["ss_base_model_version"] == version
    assert said["modelspec.architecture"] == architecture
    assert said.get("modelspec.prediction_type") == prediction
    assert said["ss_v2"] == str(base[0] == "sd2")
    is_original = base[0] in {"sdxl", "sd3"} or kind != "lora"
    assert said["modelspec.implementation"].startswith("https://github.com/Stability-AI") == is_original
    assert family(Seen({}, said)) == base[0]


def test_the_hashes_are_those_of_what_is_written():
    tensors = {"b": torch.arange(300_000, dtype=torch.float32), "a": torch.ones(3, dtype=torch.float16)}
    said = sealed(tensors, described(BASE, RECIPE, DATA, MADE))
    own = {key: value for key, value in said.items() if key.startswith("ss_")}
    content = save(tensors, own)
    body = content[8 + int.from_bytes(content[:8], "little") :]
    assert said["sshs_model_hash"] == hashlib.sha256(body).hexdigest()
    assert said["modelspec.hash_sha256"] == f"0x{said['sshs_model_hash']}"
    assert said["sshs_legacy_hash"] == hashlib.sha256(content[0x100000:0x110000]).hexdigest()[:8]


def test_the_older_hash_of_a_model_is_of_a_piece_of_its_file(tmp_path: Path):
    (tmp_path / "model").write_bytes(bytes(range(256)) * 8192)
    wanted = hashlib.sha256((bytes(range(256)) * 8192)[0x100000:0x110000]).hexdigest()[:8]
    assert legacy_hash(tmp_path / "model") == wanted


def test_a_key_that_is_no_callers_is_refused():
    with pytest.raises(BadInput, match=r"modelspec\.title: cannot be given; choose among author"):
        described(BASE, RECIPE, DATA, Made("x", 0.0, 1.0, said={"title": "other"}))
