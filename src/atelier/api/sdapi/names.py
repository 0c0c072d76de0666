"""Names of models, samplers, schedules and upscalers as clients of A1111 say them, looked up among those there are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from atelier.api.errors import Problem, Refused
from atelier.api.service import Catalogue, ModelEntry, NamedEntry, SamplerEntry, SchedulerEntry
from atelier.errors import nearest
from atelier.registry import folded
from atelier.request.infotext.sampler import AUTOMATIC, TIMESTEP_SAMPLERS, chooses_levels, split_name

HASH_DIGITS = 10
"""Of a model's SHA-256, as A1111 shows it behind its name."""
_TITLED = re.compile(r"(?P<name>.+?)(?<!\s)\s*+\[(?P<hash>[0-9a-fA-F]{4,64})\]")
_HASH = re.compile(r"[0-9a-fA-F]{8,64}")
_ENDINGS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
NO_UPSCALER = NamedEntry("None", "", {})
FILTER = "Lanczos"
NONE = frozenset({"", "none", "automatic", "default"})
"""Words, folded, that name nothing of one's own."""


def title(model: ModelEntry) -> str:
    """A model as A1111 lists it: its file, and the first digits of its hash where it is known."""
    return f"{model.file} [{model.sha256[:HASH_DIGITS]}]" if model.sha256 else model.file


def find_model(catalogue: Catalogue, said: str) -> ModelEntry | None:
    """The listed model that a title, a name, a file's name or a hash means; None where there is none."""
    text = said.strip().replace("\\", "/").rpartition("/")[2]
    titled = _TITLED.fullmatch(text)
    name, digits = (titled["name"], titled["hash"]) if titled else (text, text if _HASH.fullmatch(text) else "")
    for model in catalogue.models:
        if folded(_stem(name)) in {folded(model.name), folded(_stem(model.file))}:
            return model
    hashed = (m for m in catalogue.models if digits and m.sha256 and m.sha256.startswith(digits.casefold()))
    return next(hashed, None)


def find_autoencoder(catalogue: Catalogue, said: str) -> NamedEntry | None:
    """The listed autoencoder of a name, with the file's ending and folders or without; None where there is none."""
    wanted = folded(_stem(said.strip().replace("\\", "/").rpartition("/")[2]))
    return next((own for own in catalogue.autoencoders if folded(_stem(own.file)) == wanted), None)


def find_control(catalogue: Catalogue, said: str) -> NamedEntry | None:
    """The listed network that steers by its name, with a file's ending, folders and a hash or without; else by that
    hash. None where there is none."""
    text = said.strip().replace("\\", "/").rpartition("/")[2]
    titled = _TITLED.fullmatch(text)
    name, digits = (titled["name"], titled["hash"].casefold()) if titled else (text, "")
    for entry in catalogue.controls:
        if folded(_stem(name)) == folded(entry.name):
            return entry
    return next((entry for entry in catalogue.controls if digits and entry.more.get("hash") == digits), None)


def control_title(entry: NamedEntry) -> str:
    """A network that steers as A1111 lists it."""
    digits = entry.more.get("hash")
    return f"{entry.name} [{digits}]" if digits else entry.name


def model_named(catalogue: Catalogue, said: str, field: str) -> str:
    """The name of a listed model. Raises Refused (422)."""
    found = find_model(catalogue, said)
    if found is None:
        raise Refused(Problem(422, "RuntimeError", f"{field}: model {said[:200]!r} not found", field))
    return found.name


def find_sampler(catalogue: Catalogue, said: str) -> tuple[str, str | None] | None:
    """(sampler, schedule in its name): `DPM++ 2M Karras` is DPM++ 2M and Karras. None where nobody knows it."""
    if found := _entry(catalogue.samplers, said):
        return found, None
    bare, schedule = split_name(said)
    found = _entry(catalogue.samplers, bare)
    return None if found is None else (found, schedule)


def method(catalogue: Catalogue, sampler: str, scheduler: str | None, field: str) -> tuple[str, str | None, str | None]:
    """(sampler, schedule, warning). A schedule in the sampler's name comes first, one that nobody knows is Automatic,
    and DDIM and its like, DPM fast and DPM adaptive take none: A1111's rules. Raises Refused (400) for a sampler that
    nobody knows."""
    found = find_sampler(catalogue, sampler)
    if found is None:
        known = [entry.name for entry in catalogue.samplers]
        message = f"Sampler not found: {field} {sampler[:80]!r}; {nearest(sampler, known)}"
        raise Refused(Problem(400, "HTTPException", message, field))
    name, written = found
    if name in TIMESTEP_SAMPLERS or chooses_levels(name):
        return name, None, None
    if written is not None:
        return name, _entry(catalogue.schedulers, written) or written, None
    return (name, *schedule(catalogue, scheduler))


def schedule(catalogue: Catalogue, said: str | None) -> tuple[str | None, str | None]:
    """(schedule, warning); None is the sampler's own."""
    if said is None or said.strip().casefold() in NONE or said.strip().casefold().startswith("use same"):
        return None, None
    found = _entry(catalogue.schedulers, said)
    if found == AUTOMATIC:
        return None, None
    if found is None:
        return None, f"scheduler {said!r} is not known here: the sampler's own is used"
    return found, None


def upscalers(catalogue: Catalogue) -> tuple[NamedEntry, ...]:
    """All of images as A1111 lists them: the first one is None."""
    return (NO_UPSCALER, *(entry for entry in catalogue.upscalers if entry.name != NO_UPSCALER.name))


def upscaler_named(catalogue: Catalogue, said: str, field: str, *, latent: bool = False) -> str:
    """The name of a listed upscaler; what A1111 calls None is Lanczos, with which it comes to the size. Raises Refused
    (422)."""
    if folded(said) == folded(NO_UPSCALER.name):
        return FILTER
    known = [entry.name for entry in catalogue.upscalers] + (list(catalogue.latent_upscalers) if latent else [])
    for name in known:
        if folded(_stem(said)) == folded(_stem(name)):
            return name
    message = f"{field}: could not find upscaler named {said[:80]!r}; {nearest(said, known)}"
    raise Refused(Problem(422, "Exception", message, field))


def known_styles(catalogue: Catalogue, said: Iterable[str]) -> tuple[list[str], list[str]]:
    """(those that are saved, those that are not)."""
    saved = {style.name for style in catalogue.styles}
    given = list(said)
    return [name for name in given if name in saved], [name for name in given if name not in saved]


def _entry(entries: Sequence[SamplerEntry] | Sequence[SchedulerEntry], said: str) -> str | None:
    for entry in entries:
        label = entry.label if isinstance(entry, SchedulerEntry) else entry.name
        if folded(said) in {folded(text) for text in (entry.name, label, *entry.aliases)}:
            return entry.name
    return None


def _stem(name: str) -> str:
    return next((name[: -len(end)] for end in _ENDINGS if name.casefold().endswith(end)), name)
