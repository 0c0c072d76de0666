"""Models are found by name or path."""

from __future__ import annotations

from pathlib import Path

import pytest

from atelier.checkpoints.embedded import EMBEDDED, embedded_folder
from atelier.errors import BadFile, UnknownName
from atelier.runtime.library import Library, Model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photo.safetensors").write_bytes(b"photo")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "Anime v2.safetensors").write_bytes(b"anime")
    (tmp_path / "sub" / "notes.txt").touch()
    model = tmp_path / "folder-model"
    (model / "unet").mkdir(parents=True)
    (model / "model_index.json").write_text("{}")
    (model / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"unet")
    return tmp_path


def test_models_are_the_embedded_one_and_what_lies_in_the_folders(folder: Path):
    models = Library((folder, folder / "missing")).models()
    assert [m.name for m in models] == [EMBEDDED, "Anime v2", "folder-model", "photo"]
    assert models[0].path == embedded_folder()


UPSCALERS = ["upscalers", "upscale_models", "ESRGAN", "RealESRGAN", "BSRGAN", "SwinIR", "ScuNET", "DAT", "HAT", "LDSR"]
ADAPTERS = ["Lora", "loras", "LyCORIS", "LoCon", "weight_adapters"]
EMBEDDINGS = ["embeddings", "embedding", "textual_inversion", "textual-inversion"]


@pytest.mark.parametrize("name", [*UPSCALERS, *ADAPTERS, *EMBEDDINGS])
def test_folders_of_other_kinds_hold_no_models(tmp_path: Path, name: str):
    """As the folders are called here, in ComfyUI, and in A1111 and its extensions; also what lies deeper in them."""
    place = tmp_path / name / "mine"
    place.mkdir(parents=True)
    (place / "ink.safetensors").write_bytes(b"ink")
    library = Library((tmp_path,))
    assert [model.name for model in library.models()] == [EMBEDDED]
    found = {"ink": place / "ink.safetensors"}
    assert dict(library.adapters()) == (found if name in ADAPTERS else {})
    assert dict(library.embeddings()) == (found if name in EMBEDDINGS else {})


def test_endings_of_weight_adapters(tmp_path: Path):
    for ending in ("safetensors", "ckpt", "pt", "pth", "bin", "txt"):
        (tmp_path / "lora" / f"a-{ending}.{ending}").parent.mkdir(exist_ok=True)
        (tmp_path / "lora" / f"a-{ending}.{ending}").write_bytes(b"ink")
    assert set(Library((tmp_path,)).adapters()) == {"a-safetensors", "a-ckpt", "a-pt", "a-pth", "a-bin"}


IN_FOLDERS = {
    "adapter_model": "adapter_model.safetensors",
    "both/text_encoder": "both/text_encoder/adapter_model.safetensors",
    "both/unet": "both/unet/adapter_model.safetensors",
    "ink": "ink/adapter_model.safetensors",
    "other": "ink/other.safetensors",
    "Wash": "of me/Wash/pytorch_lora_weights.bin",
}


def test_adapters_of_peft_and_diffusers_are_called_as_their_folders(tmp_path: Path):
    loras = tmp_path / "loras"
    for place in IN_FOLDERS.values():
        (loras / place).parent.mkdir(parents=True, exist_ok=True)
        (loras / place).write_bytes(b"ink")
    library = Library((tmp_path,))
    assert dict(library.adapters()) == {name: loras / place for name, place in IN_FOLDERS.items()}
    asked = {**{name: name for name in IN_FOLDERS}, "INK": "ink", "of me/wash": "Wash", str(loras / "ink"): "ink"}
    for name, own in asked.items():
        assert library.adapter(name) == loras / IN_FOLDERS[own]
    assert library.adapter("ink/adapter_model") == loras / IN_FOLDERS["ink"]
    for where, name in ((library, "of me"), (Library((tmp_path,), by_path=False), "ink")):
        with pytest.raises(UnknownName):
            where.adapter(str(loras / name))


def test_of_a_training_only_what_it_made_is_a_model(folder: Path):
    run = folder / "run"
    (run / "checkpoints" / "step-00000009").mkdir(parents=True)
    (run / "checkpoints" / "step-00000009" / "unet.safetensors").touch()
    (run / "recipe.json").touch()
    (run / "part.safetensors").touch()
    (run / "model").mkdir()
    (run / "model" / "model_index.json").touch()
    assert [m.name for m in Library((folder,)).models()] == [EMBEDDED, "Anime v2", "folder-model", "model", "photo"]


def test_what_is_half_written_is_no_model(folder: Path):
    half = folder / f".tmp-{'a' * 32}"
    (half / "unet").mkdir(parents=True)
    (half / "unet" / "diffusion_pytorch_model.safetensors").touch()
    (half / "model_index.json").touch()
    (folder / ".hidden.safetensors").touch()
    assert [m.name for m in Library((folder,)).models()] == [EMBEDDED, "Anime v2", "folder-model", "photo"]


def test_a_text_that_can_be_no_file_is_an_unknown_name(folder: Path):
    with pytest.raises(UnknownName, match="unknown model 'xxx"):
        Library((folder,)).find("x" * 300)


def test_a_path_that_exists_comes_before_a_name(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder / "sub")
    Path("photo").mkdir()
    assert Library((folder,)).find("photo").path == Path("photo")


def test_the_first_folder_wins(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    other = tmp_path_factory.mktemp("other")
    (other / "photo.safetensors").write_bytes(b"other")
    assert Library((other, folder)).find("photo").path.parent == other


def test_finding(folder: Path):
    library = Library((folder,))
    assert library.find(None).name == library.find("Embedded").name == EMBEDDED
    assert library.find("PHOTO").path == folder / "photo.safetensors"
    assert library.find(str(folder / "folder-model")) == Model("folder-model", folder / "folder-model")
    assert library.find(str(folder / "sub" / "Anime v2.safetensors")).name == "Anime v2"


@pytest.mark.parametrize(
    "written",
    [
        "photo.safetensors",
        "Photo.SafeTensors",
        "photo.safetensors [c0d1994c73]",
        "photo [c0d1994c]",
        " photo ",
        "./photo.safetensors",
    ],
)
def test_a_model_written_with_its_ending_or_its_hash(folder: Path, written: str):
    assert Library((folder,)).find(written) == Model("photo", folder / "photo.safetensors")


@pytest.mark.parametrize("written", ["sub/anime v2", "sub\\Anime v2", "SUB/Anime v2.safetensors", "sub//Anime v2"])
def test_a_model_written_with_its_folder(folder: Path, written: str):
    assert Library((folder,)).find(written) == Model("Anime v2", folder / "sub" / "Anime v2.safetensors")


def test_a_folder_tells_models_of_one_name_apart(folder: Path):
    for name in ("sd1", "xl", "deep/xl2"):
        (folder / name).mkdir(parents=True)
        (folder / name / "same.safetensors").touch()
    library = Library((folder,))
    assert library.find("xl/same").path == folder / "xl" / "same.safetensors"
    assert library.find("xl2\\same.safetensors").path == folder / "deep" / "xl2" / "same.safetensors"
    assert [model.name for model in library.models()].count("same") == 1
    assert [place for place, _ in library.everything() if "same" in place] == [
        "deep/xl2/same.safetensors",
        "sd1/same.safetensors",
        "xl/same.safetensors",
    ]


def test_the_embedded_model_and_a_folder_of_diffusers_are_found_as_others_write_them(folder: Path):
    library = Library((folder,))
    assert library.find("embedded.safetensors").path == embedded_folder()
    assert library.find("./folder-model").path == folder / "folder-model"


def test_an_ending_in_capitals_is_one(folder: Path):
    (folder / "LOUD.SAFETENSORS").touch()
    assert Library((folder,)).find("loud").path == folder / "LOUD.SAFETENSORS"


def test_links_to_folders_are_followed_and_loops_are_not(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    other = tmp_path_factory.mktemp("disk")
    (other / "far.safetensors").touch()
    (folder / "disk").symlink_to(other)
    (other / "back").symlink_to(folder)
    (folder / "itself").symlink_to("itself")
    assert Library((folder,)).find("disk/far").path == folder / "disk" / "far.safetensors"
    assert [m.name for m in Library((folder,)).models()] == [EMBEDDED, "Anime v2", "far", "folder-model", "photo"]


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("phto", UnknownName, "photo"),
        ("phto.safetensors", BadFile, "did you mean photo?"),
        ("other/photo.safetensors", BadFile, "other/photo.safetensors: there is no such file"),
        ("~nobody-of-that-name/photo", BadFile, "a user that is not known here: write the whole path"),
        ("/photo.safetensors", BadFile, "/photo.safetensors: there is no such file"),
        ("nowhere/at/all", BadFile, "nowhere/at/all"),
        ("missing.safetensors", BadFile, "missing.safetensors"),
    ],
)
def test_what_is_not_there(folder: Path, name: str, error: type[Exception], words: str):
    with pytest.raises(error, match=words) as caught:
        Library((folder,)).find(name)
    assert "\n" not in str(caught.value)


def control_folder(path: Path, *files: str) -> Path:
    path.mkdir(parents=True)
    for file in ("config.json", *files):
        (path / file).write_bytes(b"{}")
    return path


def test_folders_of_diffusers_with_one_network_are_controls_by_their_names(tmp_path: Path):
    """Whatever weights lie in them; a file of its own stays one."""
    place = tmp_path / "ControlNet"
    canny = control_folder(place / "sd-controlnet-canny", "diffusion_pytorch_model.safetensors")
    both = ("diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.bin")
    depth = control_folder(place / "lllyasviel" / "Depth.v2", *both)
    shards = control_folder(place / "large", "diffusion_pytorch_model-00001-of-00002.safetensors")
    (place / "mine.safetensors").write_bytes(b"x")
    (place / "bare").mkdir()
    (place / "bare" / "diffusion_pytorch_model.safetensors").write_bytes(b"x")
    library = Library((tmp_path,))
    found = {name: path for name, path in library.controls().items() if tmp_path in path.parents}
    assert found == {
        "Depth.v2": depth,
        "diffusion_pytorch_model": place / "bare" / "diffusion_pytorch_model.safetensors",
        "large": shards,
        "mine": place / "mine.safetensors",
        "sd-controlnet-canny": canny,
    }
    assert library.control("SD-ControlNet-Canny") == library.control("ControlNet/sd-controlnet-canny") == canny
    assert library.control("depth.v2") == depth
    with pytest.raises(UnknownName, match="did you mean sd-controlnet-canny"):
        library.control("sd-controlnet-cany")
    own = control_folder(tmp_path / "other" / "ControlNet", "diffusion_pytorch_model.safetensors")
    found = Library((tmp_path / "other",)).controls()
    assert found["diffusion_pytorch_model"] == own / "diffusion_pytorch_model.safetensors"
    assert "ControlNet" not in found


def test_all_at_once_looks_at_each_folder_once(folder: Path, monkeypatch: pytest.MonkeyPatch):
    control_folder(folder / "ControlNet" / "canny", "diffusion_pytorch_model.safetensors")
    for name in ("Lora", "embeddings", "ESRGAN", "annotators", "vae", "clip_vision"):
        (folder / name).mkdir()
        (folder / name / f"{name}.safetensors").write_bytes(b"x")
    (folder / "annotators" / "table5_pidinet.pth").write_bytes(b"x")
    plain, looked = Library((folder,)), list[Path]()
    listing = Path.iterdir

    def counted(self: Path):
        looked.append(self)
        return listing(self)

    monkeypatch.setattr(Path, "iterdir", counted)
    once = plain.at_once()
    first = len(looked)
    assert first == len(set(looked)) > 8
    for ask in (
        Library.models, Library.controls, Library.adapters, Library.embeddings, Library.upscalers,
        Library.autoencoders, Library.image_encoders, lambda own: own.annotator("TABLE5_pidinet.pth"),
        lambda own: list(own.everything()), lambda own: list(own.files()), lambda own: own.find("photo"),
    ):  # fmt: skip
        answer = ask(once)
        assert len(looked) == first
        assert answer == ask(plain)
        del looked[first:]
    (folder / "later.safetensors").write_bytes(b"x")
    assert "later" not in [model.name for model in once.models()]
    assert "later" in [model.name for model in plain.models()]
