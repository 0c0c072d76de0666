"""kohya's file about training images."""

from __future__ import annotations

from pathlib import Path

import pytest

from atelier.errors import BadFile
from atelier.train.data.buckets import Buckets
from atelier.train.data.dataset_toml import read_toml
from atelier.train.data.subsets import Subset
from atelier.train.data.wording import Wording
from teaching_support import save

WHOLE = """
[general]
enable_bucket = true
shuffle_caption = true
caption_extension = ".tags"
color_aug = false

[[datasets]]
resolution = [768, 512]
batch_size = 3
bucket_reso_steps = 32
min_bucket_reso = 128
max_bucket_reso = 2048
bucket_no_upscale = true

  [[datasets.subsets]]
  image_dir = "one"
  class_tokens = "zwx person"
  num_repeats = 4
  keep_tokens = 1
  keep_tokens_separator = "|||"
  secondary_separator = ";;"
  enable_wildcard = true
  caption_prefix = "p"
  caption_suffix = "s"
  caption_separator = ";"
  caption_dropout_rate = 0.25
  caption_dropout_every_n_epochs = 5
  caption_tag_dropout_rate = 0.125
  flip_aug = true
  random_crop = true
  token_warmup_min = 2
  token_warmup_step = 0.5
  conditioning_data_dir = "masks"

[[datasets]]
resolution = 256
batch_size = 3
enable_bucket = false

  [[datasets.subsets]]
  image_dir = "two"
  is_reg = true
  class_tokens = "person"
  shuffle_caption = false
  alpha_mask = true

  [[datasets.subsets]]
  metadata_file = "meta.json"
  image_dir = "three"
"""


def _write(folder: Path, text: str) -> Path:
    path = folder / "data.toml"
    path.write_text(text)
    return path


def test_everything_that_a_file_says(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        save(tmp_path / name / "a.png")
    save(tmp_path / "masks" / "a.png")
    (tmp_path / "one" / "a.tags").write_text("x; y")
    (tmp_path / "meta.json").write_text('{"a": {"caption": "from the table"}}')
    described = read_toml(_write(tmp_path, WHOLE))
    assert described.batch == 3
    one, two, three = described.examples
    assert (one.path, one.caption, one.mask) == (tmp_path / "one" / "a.png", "x; y", tmp_path / "masks" / "a.png")
    assert one.subset == Subset(
        shape=Buckets(768 * 512, 32, 128, 2048, upscale=False),
        words="zwx person",
        repeats=4,
        wording=Wording("p", "s", 0.25, 5, True, True, 1, "|||", ";", ";;", 0.125, 0.5, 2),
        flip=True,
        random_crop=True,
        masks=tmp_path / "masks",
        endings=(".tags",),
    )
    assert (two.caption, two.mask) == ("person", two.path)
    assert two.subset == Subset(shape=(256, 256), words="person", is_class=True, alpha_mask=True, endings=(".tags",))
    assert three.caption == "from the table"
    assert three.subset == Subset(shape=(256, 256), wording=Wording(shuffle=True), endings=(".tags",))


def test_kohyas_defaults(tmp_path: Path) -> None:
    save(tmp_path / "d" / "a.png")
    (tmp_path / "d" / "a.txt").write_text("words")
    plain = 'resolution = 512\n[[datasets.subsets]]\nimage_dir = "d"\n'
    (example,) = read_toml(_write(tmp_path, f"[[datasets]]\n{plain}")).examples
    assert example.subset == Subset((512, 512))
    assert example.caption == "words"
    described = read_toml(_write(tmp_path, f"[[datasets]]\nenable_bucket = true\n{plain}"))
    assert described.batch is None
    assert described.examples[0].subset.shape == Buckets(512 * 512, 64, 256, 1024)


SUBSET = '[[datasets]]\nresolution = 64\n{}\n[[datasets.subsets]]\nimage_dir = "d"\n{}'


@pytest.mark.parametrize(
    "key",
    [
        "color_aug",
        "face_crop_aug_range",
        "random_crop_padding_percent",
        "cache_info",
        "network_multiplier",
        "validation_seed",
        "validation_split",
        "skip_image_resolution",
        "custom_attributes",
        "resize_interpolation",
    ],
)
def test_keys_that_mean_nothing_here(tmp_path: Path, key: str) -> None:
    save(tmp_path / "d" / "a.png", caption="x")
    with pytest.raises(
        BadFile, match=rf"data\.toml: datasets\.0\.subsets\.0: {key} is not taken \([a-z].+\): take it out"
    ):
        read_toml(_write(tmp_path, SUBSET.format("", f"{key} = 1")))
    assert len(read_toml(_write(tmp_path, SUBSET.format("", f"{key} = 0"))).examples) == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x = [", "is no TOML"),
        ("[generals]", "generals is no table of training images: did you mean general"),
        ("general = 5", "general is no table of keys"),
        ("", r"has no \[\[datasets\]\]"),
        ("datasets = [1]", "datasets is no table of keys"),
        ("[[datasets]]\nresolution = 5", r"has no \[\[datasets\.0\.subsets\]\]"),
        (SUBSET.format("", "num_repeat = 2"), r"datasets\.0\.subsets\.0: num_repeat is no key .* mean num_repeats"),
        (SUBSET.format("", "color_aug = true"), r"datasets\.0\.subsets\.0: color_aug is not taken \(colours are never"),
        (SUBSET.format("", "num_repeats = 0"), r"num_repeats = 0: input should be greater than 0"),
        (SUBSET.format("", 'flip_aug = "yes"'), r'flip_aug = "yes": input should be a valid boolean'),
        (SUBSET.format("resolution = 9", ""), "is no TOML"),
        ('[[datasets]]\n[[datasets.subsets]]\nimage_dir = "d"', "resolution = null: field required"),
        (
            SUBSET.format("enable_bucket = true", ""),
            r"data\.toml: buckets of 4096 pixels|min_bucket_reso|holds no|no such",
        ),
        (SUBSET.format("enable_bucket = true\nbucket_reso_steps = 48", ""), "multiples of the step, 48"),
        ("[[datasets]]\nresolution = 64\n[[datasets.subsets]]", "has neither image_dir nor metadata_file"),
        (SUBSET.format("", ""), "d: no such folder"),
        (
            SUBSET.format("batch_size = 2", "") + "\n[[datasets.subsets]]\nbatch_size = 1",
            "several values of batch_size",
        ),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(BadFile, match=problem) as caught:
        read_toml(_write(tmp_path, text))
    assert "\n" not in str(caught.value).removesuffix("\n")
