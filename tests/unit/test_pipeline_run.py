"""Runs on a tiny random model: what they tell, what they leave, and that nothing but the request makes an image."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

import tiny
from atelier.checkpoints.text import TextEncoder
from atelier.errors import AtelierError, BadFile, BadInput, NotFinite, StorageFull, UnknownName
from atelier.nn.ports import Conditioning
from atelier.pipeline.run import run
from atelier.prompt import Chunk
from atelier.request import events
from atelier.request.infotext import pixel_hash, read, to_request
from atelier.request.resolved import Resolved
from atelier.runtime import store
from atelier.runtime.device import Device
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from atelier.runtime.words import Words
from atelier.weights.hashes import HashCache
from pipeline_support import CPU, PLENTY, TOGETHER, Lending, Watched, engine_on, happened, planned, request

STEPS = 3


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> Engine:
    return engine_on(tiny_folder, budget=PLENTY)


def pixels(engine: Engine, **fields: object) -> list[bytes]:
    return [picture.image.tobytes() for picture in engine.generate(request(**fields))]


@pytest.mark.parametrize("budget", [PLENTY, 0])
def test_a_model_that_was_replaced_is_read_again(budget: int, tmp_path: Path):
    path = tmp_path / "a.safetensors"
    tiny.single_file(path)
    engine = Engine(CPU, Library(), HashCache(), version="1", budget=budget)
    before = engine.generate(request(model=str(path)))[0]
    tiny.single_file(path, prediction="epsilon")
    after = engine.generate(request(model=str(path)))[0]
    anew = Engine(CPU, Library(), HashCache(), version="1").generate(request(model=str(path)))[0]
    assert (after.infotext, after.image.tobytes()) == (anew.infotext, anew.image.tobytes())
    assert after.image.tobytes() != before.image.tobytes()


@pytest.mark.parametrize("sampler", ["DPM++ 2M", "Euler a", "DPM++ SDE"])
def test_a_batch_is_its_pictures_bit_for_bit(engine: Engine, sampler: str):
    batch = pixels(engine, sampler=sampler, batch_size=4)
    alone = [pixels(engine, sampler=sampler, seed=7 + i)[0] for i in range(4)]
    assert batch == alone
    assert len(set(batch)) == 4
    assert pixels(engine, sampler=sampler, batch_count=2, batch_size=2) == batch


@pytest.mark.parametrize("sampler", ["Euler a", "DPM++ SDE"])
def test_together_is_alone_but_for_rounding(tiny_folder: Path, engine: Engine, sampler: str):
    """What a GPU does, on the CPU: one call for the whole batch."""
    together = engine_on(tiny_folder, device=TOGETHER)
    theirs = together.generate(request(sampler=sampler, batch_size=3))
    ours = engine.generate(request(sampler=sampler, batch_size=3))
    for a, b in zip(theirs, ours, strict=True):
        assert float((values(a.image) - values(b.image)).abs().max()) <= 1


def test_samplers_that_choose_their_steps_keep_pictures_apart(tiny_folder: Path, engine: Engine):
    together = engine_on(tiny_folder, device=TOGETHER)
    adaptive = {"sampler": "DPM adaptive", "cfg_scale": 1}
    assert pixels(together, batch_size=2, **adaptive)[1:] == pixels(together, seed=8, **adaptive)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 4.0), (torch.float16, 0.5)])
def test_half_precision_is_the_networks_own_affair(engine: Engine, dtype: torch.dtype, bound: float):
    """Latents stay in fp32 between calls: the image is about the one of full precision."""
    device = Device(torch.device("cpu"), dtype, dtype, max_batch=1, small_dtype=dtype)
    (half,) = Engine(device, engine.library, HashCache(), version="1").generate(request(sampler="Euler a"))
    (full,) = engine.generate(request(sampler="Euler a"))
    difference = values(half.image) - values(full.image)
    assert 0 < float(difference.abs().mean()) < bound


def test_levels_by_hand(engine: Engine):
    told = list(engine.events(request(sampler="Euler", scheduler="14.6, 7, 3, 1, 0", steps=20)))
    progress = [e for e in told if isinstance(e, events.Progress)]
    assert [(p.done, p.total) for p in progress] == [(i + 1, 4) for i in range(4)]


def test_what_is_asked_for_matters(engine: Engine):
    """Each field changes the image; fields that should not, do not."""
    plain = pixels(engine)[0]
    for fields in (
        {"prompt": "a dog"},
        {"negative_prompt": "a dog"},
        {"steps": STEPS + 1},
        {"sampler": "Euler"},
        {"scheduler": "Uniform"},
        {"cfg_scale": 3.0},
        {"seed": 8},
        {"rng": "cpu"},
        {"width": 128},
        {"prompt": "(a red:1.5) cat"},
        {"prompt": "a [red:blue:0.5] cat"},
        {"prompt": "a red cat AND a dog"},
        {"prompt": "a red cat BREAK a dog"},
        {"clip_skip": 2},
        {"variation_strength": 0.2, "variation_seed": 3},
        {"seed_resize": (64, 96)},
        {"cfg_rescale": 0.7},
        {"skip_early_cfg": 0.4},
        {"ngms": 100.0},
        {"sigma_min": 1.0},
        {"sigma_max": 10.0},
        {"rho": 3.0},
        {"discard_penultimate_sigma": True},
        {"sgm_noise_multiplier": True},
    ):
        assert pixels(engine, **fields)[0] != plain, fields
    assert pixels(engine, cfg_scale=1, negative_prompt="a dog") == pixels(engine, cfg_scale=1)
    assert pixels(engine) == [plain]
    assert pixels(engine, lenient=True, choices=False, ensd=3, eta=0.5, prompt="a red cat ") == [plain]


@pytest.mark.parametrize(
    ("sampler", "fields"),
    [
        ("Euler a", {"eta": 0.5}),
        ("Euler a", {"s_noise": 1.1}),
        ("Euler a", {"ensd": 31337}),
        ("Euler", {"s_churn": 10.0}),
        ("Euler", {"s_churn": 10.0, "s_tmin": 3.0}),
        ("Euler", {"s_churn": 10.0, "s_tmax": 3.0}),
        ("DPM2", {"discard_penultimate_sigma": False}),
        ("DDIM", {"eta_ddim": 1.0}),
        ("DDIM", {"eta": 1.0}),
        ("UniPC", {"unipc_order": 1}),
        ("UniPC", {"unipc_variant": "bh2"}),
        ("UniPC", {"unipc_lower_order_final": False}),
        ("Euler", {"scheduler": "Beta", "beta_alpha": 0.9}),
        ("Euler", {"scheduler": "Beta", "beta_beta": 0.9}),
    ],
)
def test_what_a_sampler_is_told_matters(engine: Engine, sampler: str, fields: dict[str, object]):
    asked = {name: fields[name] for name in ("s_churn", "scheduler") if len(fields) > 1 and name in fields}
    assert pixels(engine, sampler=sampler, **fields) != pixels(engine, sampler=sampler, **asked)


def test_prompts_of_the_second_pass_have_the_same_limit(engine: Engine):
    with pytest.raises(BadInput, match="hires_prompt has 16,001 characters"):
        engine.generate(request(hires_prompt="a" * 16_001))


def test_weights_of_one_and_an_empty_part_of_the_timeline_change_nothing(engine: Engine):
    assert pixels(engine, prompt="(a red cat:1)") == pixels(engine)
    assert pixels(engine, prompt="[a dog:a red cat:0]") == pixels(engine)
    assert pixels(engine, prompt="a red cat :1") == pixels(engine)
    assert pixels(engine, prompt="(a red:1.5) cat", emphasis="Ignore") == pixels(engine)


def test_prompts_of_different_lengths_are_painted_together(tiny_folder: Path, engine: Engine):
    """A long prompt beside a short negative one, and images whose choices differ in length."""
    long = "a red cat" + ", a red dog" * 30
    together = engine_on(tiny_folder, device=TOGETHER)
    wanted = {"prompt": "{" + long + "|a red cat}", "batch_size": 6}
    theirs, ours = together.generate(request(**wanted)), engine.generate(request(**wanted))
    for a, b in zip(theirs, ours, strict=True):
        assert float((values(a.image) - values(b.image)).abs().max()) <= 1
    assert {"red dog" in picture.infotext.partition("Template")[0] for picture in ours} == {True, False}
    again = engine.generate(to_request(read(ours[2].infotext)))
    assert again[0].image.tobytes() == ours[2].image.tobytes()


class Counted:
    """A text encoder of one tower that counts the chunks that it is given."""

    def __init__(self, encoder: TextEncoder) -> None:
        (self.tower,) = encoder.towers
        self.encoder, self.marks, self.seen = encoder, self.tower.marks, list[int]()
        self.inversions = self.tower.inversions

    @property
    def towers(self) -> tuple[Counted]:
        return (self,)

    def tokenize(self, text: str, /) -> list[int]:
        return self.tower.tokenize(text)

    def encode(self, chunks: list[Chunk], clip_skip: int, /) -> Conditioning:
        self.seen.append(len(chunks))
        return self.tower.encode(chunks, clip_skip)

    def join(self, states: list[Conditioning], /) -> Conditioning:
        return self.encoder.join(states)


def test_each_distinct_text_is_encoded_once(engine: Engine):
    made: list[Counted] = []

    def counted(encoder: TextEncoder) -> Counted:
        made.append(Counted(encoder))
        return made[-1]

    prompts = {"prompt": "[a cat|a dog] AND a [bird:fish:0.5]", "negative_prompt": "[a cat:a dog:1]"}
    happened(planned(engine, **prompts, batch_size=3), Lending(engine.resources, {"text": counted}))
    assert [encoder.seen for encoder in made] == [[1] * 4], "a cat, a dog, a bird, a fish"


def test_a_model_is_found_by_its_hash(tiny_file: Path, engine: Engine):
    """Once it was hashed; A1111's infotexts often say nothing else."""
    here = Engine(CPU, Library((tiny_file.parent,)), HashCache(), version="1")
    digest = here.resolve(request(model=str(tiny_file))).model.sha256
    for asked in ({"model": None}, {"model": "its old name"}):
        assert here.resolve(request(model_hash=digest[:10], **asked)).model.sha256 == digest
    with pytest.raises(UnknownName):
        here.resolve(request(model="its old name", model_hash="0" * 10))
    with pytest.raises(UnknownName):
        here.resolve(request(model="its old name", model_hash=digest[:7]))


def test_notes_come_first(engine: Engine):
    told = list(engine.events(request(prompt="a red <lora:x:1>cat", lenient=True, hires_steps=3)))
    assert told[0] == events.Warned("lora 'x' is not there: generated without it")
    assert isinstance(told[1], events.Warned)
    assert "hires_steps: no second pass is asked for" in told[1].message
    assert isinstance(told[2], events.Started)
    made = list(engine.events(request(denoising_strength=0.5)))
    assert isinstance(made[0], events.Warned)
    assert made[0].message.startswith("denoising_strength: needs an image to start from: name it with --image")
    lost = list(engine.events(request(model="nobody's", lenient=True)))
    assert isinstance(lost[0], events.Warned)
    assert "unknown model" in lost[0].message


def test_styles_and_wildcards_come_from_files(tiny_folder: Path, engine: Engine, tmp_path: Path):
    (tmp_path / "styles.csv").write_text('name,prompt,negative_prompt\nbig,"{prompt}, huge",tiny\n')
    (tmp_path / "animals.txt").write_text("cat\n")
    words = Words(tmp_path / "styles.csv", tmp_path)
    styled = Engine(CPU, engine.library, HashCache(), version="1", words=words)
    (picture,) = styled.generate(request(prompt="a red __animals__", styles=("big",)))
    assert picture.infotext.startswith("a red cat, huge\nNegative prompt: tiny\n")
    assert picture.image.tobytes() == pixels(engine, prompt="a red cat, huge", negative_prompt="tiny")[0]
    with pytest.raises(UnknownName, match="style 'bigg': did you mean big"):
        styled.generate(request(styles=("bigg",)))
    with pytest.raises(BadInput, match="unknown style 'big': choose one of Photograph, "):
        Engine(CPU, engine.library, HashCache(), version="1", words=Words(tmp_path / "no" / "styles.csv")).generate(
            request(styles=("big",))
        )


def test_both_layouts_paint_the_same(engine: Engine, tiny_file: Path):
    assert pixels(engine, model=str(tiny_file)) == pixels(engine)


def test_events_come_in_order(tiny_folder: Path, tmp_path: Path):
    engine, ready_and_saved = engine_on(tiny_folder, budget=PLENTY), [events.ImageReady, events.Saved]
    told = list(engine.events(request(batch_size=2, output=str(tmp_path))))
    assert told[0] == events.Started(2, 2 * STEPS)
    assert isinstance(told[-1], events.Finished)
    progress = [e for e in told if isinstance(e, events.Progress)]
    assert [(p.done, p.total, p.index) for p in progress] == [(i + 1, 2 * STEPS, i // STEPS) for i in range(2 * STEPS)]
    kinds = [type(e) for e in told[1:-1]]
    loading = [events.Loading] * 2
    painting = [events.Progress] * STEPS
    assert kinds == [*loading, *painting, events.Loading, *ready_and_saved, *painting, *ready_and_saved]
    assert [e for e in told if isinstance(e, events.Loading)] == [
        events.Loading("tiny", part) for part in ("text", "denoiser", "autoencoder")
    ]
    for ready, saved in zip(
        (e for e in told if isinstance(e, events.ImageReady)),
        (e for e in told if isinstance(e, events.Saved)),
        strict=True,
    ):
        with Image.open(saved.path) as image:
            assert image.tobytes() == ready.image.tobytes()
            assert image.info["parameters"] == ready.infotext
        assert saved.path.name == f"{ready.index + 1:05d}-{ready.seed}.png"
    again = list(engine.events(request(batch_size=2)))
    assert not [e for e in again if isinstance(e, events.Loading)], "all of it is in memory"


def test_the_infotext_is_true(engine: Engine):
    (picture,) = engine.generate(request(negative_prompt="blurry", width=72))
    digest = engine.resolve(request()).model.sha256[:10]
    assert picture.infotext == (
        "a red cat\nNegative prompt: blurry\n"
        f"Steps: {STEPS}, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.0, Seed: 7, Size: 72x64, "
        f"Model hash: {digest}, Model: tiny, RNG: portable, Dtype: fp32, Device: cpu, "
        f"Libraries: torch {torch.__version__}, Pixel hash: {pixel_hash(picture.image)}, Version: atelier-1"
    )
    assert picture.image.size == (72, 64)


def test_previews_change_nothing(engine: Engine):
    told = list(engine.events(request(), previews=0.0))
    previews = [e for e in told if isinstance(e, events.Preview)]
    assert previews
    assert all(p.index == 0 and p.image.size == (64, 64) for p in previews)
    assert [e.image.tobytes() for e in told if isinstance(e, events.ImageReady)] == pixels(engine)


def test_previews_of_large_pictures_are_small(engine: Engine):
    told = list(engine.events(request(width=256, height=192), previews=0.0))
    assert {e.image.size for e in told if isinstance(e, events.Preview)} == {(64, 48)}


@pytest.mark.parametrize("budget", [PLENTY, 0])
def test_closing_cancels_between_two_steps(tiny_folder: Path, budget: int):
    engine, net = engine_on(tiny_folder, budget=budget), Watched()
    have = Lending(engine.resources, {"denoiser": net.around})
    running = run(planned(engine, steps=50, batch_size=2, output="outputs", previews=True), have, previews=0.0)
    for event in running:
        if isinstance(event, events.Progress) and event.done == 2:
            break
    before = len(net.calls)
    running.close()
    assert before == len(net.calls) == 2
    assert have.saved == []
    assert sorted(have.log) == ["+autoencoder", "+denoiser", "+text", "-autoencoder", "-denoiser", "-text"]
    assert held(engine) == (set() if budget == 0 else {"text", "denoiser", "autoencoder"})


def test_parts_leave_memory_with_their_last_stage(tiny_folder: Path):
    engine = engine_on(tiny_folder)
    seen: dict[type, set[str]] = {}
    for event in engine.events(request(batch_size=2)):
        seen.setdefault(type(event), held(engine))
    assert seen[events.Progress] == {"denoiser"}
    assert seen[events.ImageReady] == {"denoiser", "autoencoder"}
    assert seen[events.Finished] == set()


def test_each_part_is_lent_once_and_given_back_after_its_last_stage(tiny_folder: Path):
    engine = engine_on(tiny_folder)
    have = Lending(engine.resources)
    happened(planned(engine, batch_size=3, output="outputs"), have)
    assert have.log == ["+text", "-text", "+denoiser", "+autoencoder", "-denoiser", "-autoencoder"]


def test_an_engine_keeps_what_fits(tiny_folder: Path, tiny_file: Path):
    roomy, tight = engine_on(tiny_folder, budget=PLENTY), engine_on(tiny_folder, budget=1)
    for engine, both in ((roomy, 6), (tight, 0)):
        engine.generate(request())
        engine.generate(request(model=str(tiny_file)))
        assert len(engine.resources.cache.held()) == both


def test_loading_one_part_does_not_drop_another_of_the_same_request(tiny_folder: Path, tiny_file: Path):
    """The budget holds one model, about as large as its file; the next plan begins with a part of another one."""
    engine = engine_on(tiny_folder, budget=tiny_file.stat().st_size)
    engine.generate(request())
    assert held(engine) == {"text", "denoiser", "autoencoder"}
    stages = planned(engine)
    other = planned(engine, model=str(tiny_file))[0]
    told = happened([other, *stages], engine.resources)
    assert [event for event in told if isinstance(event, events.Loading)] == [events.Loading("tiny", "text")]


@pytest.mark.parametrize("values", [1, None])
def test_numbers_that_are_none_are_named(values: int | None, engine: Engine):
    def broken(x: Tensor, t: Tensor, cond: Conditioning, ports: object) -> Tensor:
        del t, cond, ports
        given = x.clone()
        given.view(len(x), -1)[:, :values] = float("nan")
        return given

    told = happened(planned(engine), Lending(engine.resources, {"denoiser": lambda _: Watched(broken)}))
    assert isinstance(told[-1], events.Failed)
    error = told[-1].error
    assert isinstance(error, NotFinite)
    assert "step 1 of 3" in str(error)
    assert "the model's weights are damaged" in str(error)


def test_a_broken_decoder_is_named(tiny_folder: Path):
    engine = engine_on(tiny_folder)

    def spoiled(vae: torch.nn.Module) -> torch.nn.Module:
        list(vae.parameters())[-1].data.fill_(float("nan"))
        return vae

    told = happened(planned(engine), Lending(engine.resources, {"autoencoder": spoiled}))
    assert isinstance(told[-1], events.Failed)
    assert "the decoded image is not finite" in str(told[-1].error)


def test_each_image_is_saved_under_its_own_number(engine: Engine):
    have = Lending(engine.resources)
    told = happened(planned(engine, batch_size=3, max_batch=2, output="cats"), have)
    made = [(e.image, e.infotext, "cats", e.index, 3, e.seed) for e in told if isinstance(e, events.ImageReady)]
    assert have.saved == made
    assert [(index, seed) for *_, index, _, seed in made] == [(0, 7), (1, 8), (2, 9)]
    assert [e.index for e in told if isinstance(e, events.Saved)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (StorageFull("full"), StorageFull),
        (MemoryError(), BadInput),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), BadInput),
        (torch.OutOfMemoryError("CUDA out of memory"), BadInput),
    ],
)
def test_what_goes_wrong_is_the_last_event(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, expected: type[AtelierError]
):
    def fails(*_: object, **__: object) -> Path:
        raise raised

    monkeypatch.setattr(store.Destination, "save", fails)
    told = list(engine.events(request(output=str(tmp_path))))
    assert isinstance(told[-1], events.Failed)
    assert type(told[-1].error) is expected
    assert "\n" not in str(told[-1].error)


def test_faults_of_our_own_are_not_hidden(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(*_: object, **__: object) -> Path:
        raise RuntimeError("a fault")

    monkeypatch.setattr(store.Destination, "save", fails)
    with pytest.raises(RuntimeError, match="a fault"):
        list(engine.events(request(output=str(tmp_path))))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sampler": "Eular"}, "Euler"),
        ({"scheduler": "Karas"}, "Karras"),
        ({"model": "tyni"}, "tiny"),
        ({"model": "no/such/file.safetensors"}, "no/such/file.safetensors"),
        ({"output": "cat.gif"}, "cat.png"),
    ],
)
def test_bad_requests_are_refused_at_the_call(engine: Engine, fields: dict[str, str], words: str):
    with pytest.raises(BadInput, match=words) as caught:
        engine.events(request(**fields))
    assert "\n" not in str(caught.value)


def test_a_model_of_unknown_channels_is_refused(tmp_path: Path, engine: Engine):
    path = tiny.single_file(tmp_path / "odd.safetensors", in_channels=6)
    with pytest.raises(BadInput, match=r"odd.safetensors: expects 6 channels where a latent has 4: known are 4, 5"):
        engine.events(request(model=str(path)))


def values(image: Image.Image) -> torch.Tensor:
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).float()


def held(engine: Engine) -> set[str]:
    return {key.part for key in engine.resources.cache.held()}


def test_a_request_that_was_resolved_and_stored_is_the_same_image(engine: Engine, tiny_folder: Path):
    """A job in a queue is a Resolved: what its JSON form says is enough, also for another engine."""
    asked = request(sampler="Euler a", eta=0.5, batch_size=2, prompt="a [red:blue:0.5] cat")
    wanted = engine.generate(asked)
    stored = engine.resolve(asked).to_json()
    other = engine_on(tiny_folder)
    made = [e for e in other.run(Resolved.from_json(stored)) if isinstance(e, events.ImageReady)]
    assert [(e.image.tobytes(), e.infotext) for e in made] == [(i.image.tobytes(), i.infotext) for i in wanted]


def test_a_resolved_request_is_refused_where_the_weights_have_changed(tmp_path: Path):
    path = tiny.single_file(tmp_path / "a.safetensors")
    resolved = Engine(CPU, Library(), HashCache(), version="1").resolve(request(model=str(path)))
    tiny.single_file(path, prediction="epsilon")
    with pytest.raises(BadFile, match="has changed since the request was resolved"):
        Engine(CPU, Library(), HashCache(), version="1").run(resolved)


def test_resolving_writes_nothing_and_knows_the_layers_of_the_text_encoder(engine: Engine, tmp_path: Path):
    engine.resolve(request(output=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()
    with pytest.raises(BadInput, match=r"clip skip 12: this model's text encoder has \d layers"):
        engine.resolve(request(clip_skip=12))


def test_weights_are_said_to_be_hashed_before_they_are_and_only_once(tiny_file: Path):
    engine = Engine(CPU, Library((tiny_file.parent,)), HashCache(), version="1")
    asked = request(model=str(tiny_file))
    assert engine.hashing(asked) == (events.Hashing(tiny_file.stem),)
    engine.resolve(asked)
    assert engine.hashing(asked) == ()


def test_a_link_that_leads_nowhere_beside_a_model_is_nobodys_business(tmp_path: Path):
    folder = tiny.folder(tmp_path / "model")
    (folder / "README.md").symlink_to(tmp_path / "nowhere")
    assert len(Engine(CPU, Library(), HashCache(), version="1").generate(request(model=str(folder)))) == 1
