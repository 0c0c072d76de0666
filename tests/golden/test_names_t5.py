"""The T5 encoder against transformers': key set at true size, numbers at tiny sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from atelier.families.facts import NO_FACTS
from atelier.families.parts import t5
from atelier.families.shapes import Shapes
from atelier.models.t5 import T5Encoder, T5Spec, distance_buckets
from atelier.weights.archive import Stored
from atelier.weights.load import load_into, read
from atelier.weights.names.t5 import TIED, names
from atelier.weights.save import stored_as
from key_lists import key_list
from weights_support import assert_close, fill, stored

XXL = 4_762_310_656
"""Parameters: 32128 x 4096 for tokens, 32 x 64 for distances, 24 layers of 4 x 4096^2 + 3 x 10240 x 4096 + 2 x 4096,
and the last norm."""


def foreign(**config: Any) -> Any:
    from transformers import T5Config, T5EncoderModel

    sizes: dict[str, Any] = {
        "vocab_size": 50,
        "d_model": 24,
        "d_kv": 8,
        "num_heads": 5,
        "d_ff": 36,
        "num_layers": 3,
        "feed_forward_proj": "gated-gelu",
    }
    return fill(T5EncoderModel(T5Config(**(sizes | config))))


def loaded(part: Stored) -> T5Encoder:
    spec = t5.infer(Shapes.of(part), NO_FACTS)
    return load_into(lambda: T5Encoder(spec), read(part, names(spec)))


@pytest.fixture(scope="module")
def meta() -> T5Encoder:
    with torch.device("meta"):
        return T5Encoder(T5Spec())


def test_true_size_has_the_published_parameters(meta: T5Encoder) -> None:
    assert sum(parameter.numel() for parameter in meta.parameters()) == XXL


@pytest.mark.parametrize(
    ("listed", "prefix"), [("sd3_medium_comfy", "text_encoders.t5xxl."), ("text_encoder_t5xxl", "")]
)
def test_true_size_has_the_published_names_and_shapes(listed: str, prefix: str, meta: T5Encoder) -> None:
    keys = key_list(listed)
    expected = {key.removeprefix(prefix): shape for key, shape in keys.items() if key.startswith(prefix)}
    expected.pop("logit_scale", None)
    layout = "ldm" if prefix else "diffusers"
    written = stored_as(meta.state_dict(), names(T5Spec()), layout)
    assert {key: tuple(tensor.shape) for key, tensor in written.items()} == expected
    assert t5.infer(Shapes("file", layout, expected), NO_FACTS) == T5Spec()


@pytest.mark.parametrize("config", [{}, {"num_layers": 1, "relative_attention_num_buckets": 8}], ids=["32", "8"])
def test_numbers_are_those_of_transformers(config: dict[str, Any], tmp_path: Path) -> None:
    theirs = foreign(**config)
    ours = loaded(stored(_untied(theirs), tmp_path))
    tokens = torch.randint(0, 50, (2, 150), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert_close(ours(tokens), theirs(tokens).last_hidden_state)


def _untied(theirs: Any) -> Any:
    """What transformers saves: the embedding once, as `shared`."""

    class Saved(torch.nn.Module):
        def state_dict(self) -> dict[str, torch.Tensor]:  # type: ignore[override]
            return {name: tensor for name, tensor in theirs.state_dict().items() if name != TIED}

    return Saved()


def test_distances_are_counted_both_ways() -> None:
    """From transformers' rule, written out: 8 near ones each way, then wider and wider up to 128."""
    found = distance_buckets(200, 32, torch.device("cpu"))
    assert found[0, :9].tolist() == [0, 17, 18, 19, 20, 21, 22, 23, 24]
    assert found[:9, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert [int(found[0, d]) - 16 for d in (11, 12, 15, 16, 22, 23, 31, 32, 45, 46, 63, 64, 90, 91, 127, 128, 199)] == [
        *(8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15, 15, 15)
    ]


def test_half_precision_does_not_overflow(tmp_path: Path) -> None:
    ours = loaded(stored(_untied(foreign()), tmp_path))
    with torch.no_grad():
        ours.layers[0].mlp.out.weight *= 6e4
        tokens = torch.arange(12)[None]
        expected = ours(tokens)
        found = ours.half()(tokens)
    assert bool(found.isfinite().all())
    alike = torch.corrcoef(torch.stack([found.float().flatten(), expected.flatten()]))[0, 1]
    assert float(alike) > 0.9
