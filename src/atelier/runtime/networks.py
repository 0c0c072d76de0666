"""The files that prompts name: found, looked at, and made part of the resolved request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from atelier.adapters.hypernetwork import open_hypernetwork
from atelier.adapters.identity import adapter_sha256, known_quoted, quoted_hash
from atelier.adapters.inversion import bundled, read_embedding, stored_name
from atelier.adapters.read import AdapterFile, matched, open_adapter
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.text import marks_of
from atelier.errors import BadFile, BadInput, UnknownName, nearest
from atelier.families.parts import UNET
from atelier.models.clip import TextSpec
from atelier.pipeline.networks import divides_networks
from atelier.pipeline.plan import texts
from atelier.prompt import Network, Warn, chunk, emphasis, inversions, parse, weighted
from atelier.prompt.networks import TYPES
from atelier.request.groups import Prompting
from atelier.request.infotext.networks import listed_name, squeezed
from atelier.request.infotext.resources import split_hashes
from atelier.request.resolved import AdapterRef, Resolved, ResolvedHires
from atelier.runtime.library import Library
from atelier.weights.archive import counted, open_any
from atelier.weights.hashes import SHORT_TENSORS, HashCache
from atelier.weights.tokenizer import ClipTokenizer

FOLDER = "embeddings"
HYPER = "hypernet"
KEYS = (".attn1.to_k.weight", ".attn2.to_k.weight")
"""What the names end with of the layers that keys are made with, in both layouts."""
MIN_DIGITS = 8
"""So few digits of a hash are too few to find a file by."""


class Networks:
    """Finds what the prompts of a request name, for the models of its passes; `again` is that of the second, the first
    one once more where no other is named.

    asked: where it is lenient, what cannot be used is told, and generated without; otherwise it is an error. Its hashes
    are those that the files should have.
    """

    def __init__(
        self,
        library: Library,
        hashes: HashCache,
        model: Checkpoint,
        again: Checkpoint,
        asked: Prompting,
        warn: Warn,
    ) -> None:
        self._library, self._hashes, self._model, self._again = library, hashes, model, again
        self._warn, self._lenient = warn, asked.lenient
        self._loras, self._embeddings = (dict(split_hashes(s or "")) for s in (asked.lora_hashes, asked.ti_hashes))

    def settle(self, resolved: Resolved) -> Resolved:
        """The resolved request with the files that its prompts name. Raises BadInput."""
        adapters = tuple(self._adapters(resolved))
        inversions = tuple(self._inversions(resolved, adapters))
        return resolved.model_copy(update={"adapters": adapters, "inversions": inversions})

    def _adapters(self, resolved: Resolved) -> Iterator[AdapterRef]:
        """Of every name with a tag in a prompt, its file."""
        for (kind, name), (network, models) in self._named(resolved).items():
            try:
                yield self._hypernetwork(name, models) if kind == HYPER else self._adapter(name, network, models)
            except UnknownName as error:
                near = f" ({nearest(name, error.known)})" if error.known else ""
                self._refuse(network, f"{kind} {name!r} is not there{near}")
            except BadInput as error:
                self._refuse(network, str(error))
        self._check_elsewhere(resolved)

    def _named(self, resolved: Resolved) -> dict[tuple[str, str], tuple[Network, list[Checkpoint]]]:
        """By kind and name, the first tag that can be used, and the models that it acts on."""
        found: dict[tuple[str, str], tuple[Network, list[Checkpoint]]] = {}
        for network, is_second in _tags(resolved):
            if self._can_be_used(network):
                model = self._again if is_second else self._model
                _, models = found.setdefault((network.type, network.name), (network, []))
                if not any(model is other for other in models):
                    models.append(model)
        return found

    def _check_elsewhere(self, resolved: Resolved) -> None:
        """Tags where none acts. Raises BadInput for one in the prompt of a region where attention alone is divided."""
        for prompt in _regions(resolved) if not divides_networks(resolved) else ():
            for network in parse(prompt).networks:
                self._refuse(network, f"{network} in the prompt of a region needs region_method latent")
        for negative in dict.fromkeys(negative for _, negative in _prompts(resolved)):
            for network in parse(negative).networks:
                self._warn(f"{network} has no effect in a negative prompt: put it into the prompt")

    def _can_be_used(self, network: Network) -> bool:
        """Whether a tag is one of a weight adapter whose arguments are known."""
        problem = None
        if network.type not in TYPES:
            problem = f"{network.type} {network.name!r} is not there"
        elif network.type == HYPER and network.named:
            problem = f"hypernet {network.name!r} knows a strength alone, not {next(iter(network.named))!r}"
        elif network.unknown:
            problem = f"lora {network.name!r} knows te, unet, dyn, lbw, start and end, not {network.unknown[0]!r}"
        if problem is not None:
            self._refuse(network, problem)
        return problem is None

    def _adapter(self, name: str, network: Network, models: Sequence[Checkpoint]) -> AdapterRef:
        """models: those that it acts on. Raises BadInput for a file that cannot be used."""
        path = self._hashed(name) or self._library.adapter(name)
        file = open_adapter(path)
        for model in models:
            self._match(name, file, model)
        network.strength(self._warn)
        digits = quoted_hash(path, file.metadata, self._hashes)[:SHORT_TENSORS].lower()
        reference = AdapterRef(name=name, path=str(path), sha256=adapter_sha256(path, self._hashes), digits=digits)
        self._compare(f"lora {name!r}", self._loras.get(listed_name(name)), reference)
        return reference

    def _hypernetwork(self, name: str, models: Sequence[Checkpoint]) -> AdapterRef:
        """models: those that it acts on. Raises BadInput for a file that cannot be used."""
        path = self._library.hypernetwork(name)
        file = open_hypernetwork(path)
        for model in models:
            if not file.widths & source_widths(model):
                read, own = (", ".join(map(str, sorted(widths))) for widths in (source_widths(model), file.widths))
                raise BadFile(path, f"changes states {own} wide; the attentions of {model.name} read {read or 'none'}")
        digest = self._hashes.sha256(path)
        return AdapterRef(name=name, path=str(path), sha256=digest, digits=digest[:SHORT_TENSORS], kind=HYPER)

    def _match(self, name: str, file: AdapterFile, model: Checkpoint) -> None:
        """Tells what the model does not take. Raises BadInput where it is for another."""
        try:
            found = matched(file, model)
        except BadFile as error:
            if model is self._model:
                raise
            raise BadInput(f"{error}; a hires_prompt without it spares the second pass") from error
        if found.unmatched:
            self._warn(f"lora {name!r}: {counted(found.unmatched)} left out, which no layer of {model.name} takes")

    def _hashed(self, name: str) -> Path | None:
        """The weight adapter that has the hash which is wanted of this name, where the name itself leads nowhere; only
        files whose hash is known or said are looked at."""
        wanted = (self._loras.get(listed_name(name)) or "").lower()
        if len(wanted) < MIN_DIGITS or not self._is_lost(name):
            return None
        for path in self._library.adapters().values():
            with suppress(BadFile):
                said = known_quoted(path, open_any(path).metadata, self._hashes)
                if said.lower().startswith(wanted):
                    self._warn(f"lora {name!r} is found by its hash: {path}")
                    return path
        return None

    def _is_lost(self, name: str) -> bool:
        try:
            self._library.adapter(name)
        except BadInput:
            return True
        return False

    def _compare(self, what: str, wanted: str | None, found: AdapterRef) -> None:
        """Tells where a file is not the one whose hash is wanted."""
        if wanted and not found.digits.startswith(wanted[:SHORT_TENSORS].lower()):
            self._warn(f"{what}: the hash {wanted} was asked for; {found.path} has {found.digits}")

    def _refuse(self, network: Network, problem: str) -> None:
        if not self._lenient:
            raise BadInput(f"prompt: {problem}: take {network} out, or generate without it with --lenient")
        self._warn(f"{problem}: generated without it")

    def _inversions(self, resolved: Resolved, adapters: Sequence[AdapterRef]) -> Iterator[AdapterRef]:
        """Those whose names are found among the tokens of the prompts; what a weight adapter brings comes first."""
        prompts = [text for pair in _prompts(resolved) for text in pair]
        squashed = [squeezed(text) for text in prompts]
        named = {
            name: path
            for name, path in {**embeddings(self._library), **brought(adapters)}.items()
            if squeezed(name) and any(squeezed(name) in text for text in squashed)
        }
        fitting, used = set[str](), set[str]()
        for model in (self._model,) if self._again is self._model else (self._model, self._again):
            own = dict(self._fitting(named, model))
            fitting |= own.keys()
            used |= _found(resolved, model, own) if own else set()
        for name, path in named.items():
            if name in used:
                digest = self._hashes.sha256(path)
                found = AdapterRef(name=name, path=str(path), sha256=digest, digits=digest[:SHORT_TENSORS])
                self._compare(f"embedding {name!r}", self._embeddings.get(listed_name(name)), found)
                yield found
        for name in self._embeddings.keys() - fitting:
            if any(squeezed(name) in text for text in squashed):
                self._miss(name)

    def _miss(self, name: str) -> None:
        """An embedding that an infotext says was used."""
        problem = f"embedding {name!r} is not there"
        if not self._lenient:
            raise BadInput(f"prompt: {problem}: put it into a folder {FOLDER!r} of the models, or use --lenient")
        self._warn(f"{problem}: its name is read as text")

    def _fitting(self, named: Mapping[str, Path], model: Checkpoint) -> Iterator[tuple[str, int]]:
        """(name, number of vectors) of those that are for a model."""
        specs = [model.spec(tower.part) for tower in model.towers]
        widths = [spec.width for spec in specs if isinstance(spec, TextSpec)]
        for name, path in named.items():
            try:
                embedding = read_embedding(path, name)
            except BadFile as error:
                self._warn(f"{error}; its name is read as text")
                continue
            found = embedding.fitting(widths)
            if found is None:
                needed = " and ".join(map(str, widths))
                told = f"has vectors {embedding.widths} wide, and {model.name} needs {needed}"
                self._warn(f"embedding {name!r} {told}; its name is read as text")
            else:
                yield name, len(found[0])


def source_widths(model: Checkpoint) -> frozenset[int]:
    """How wide what the attentions of a U-Net read is; nothing of another network."""
    if not model.has(UNET):
        return frozenset()
    shapes = model.parts[UNET.name].shapes()
    return frozenset(shape[1] for name, shape in shapes.items() if name.endswith(KEYS) and len(shape) > 1)


def embeddings(library: Library) -> Mapping[str, Path]:
    """Every textual inversion by name: a file's, or what an image that carries one says; files come first."""
    found = dict(library.embeddings())
    for path in library.embedding_images():
        name = stored_name(path)
        if name is not None:
            found.setdefault(name, path)
    return found


def brought(adapters: Sequence[AdapterRef]) -> Mapping[str, Path]:
    """The textual inversions in files of weight adapters, by name; the first file wins."""
    paths = [Path(own.path) for own in reversed(adapters)]
    return {name: path for path in paths for name in bundled(open_any(path))}


def _found(resolved: Resolved, model: Checkpoint, known: Mapping[str, int]) -> set[str]:
    """The names that are found where the prompts are cut into chunks, as the text encoders will."""
    mode = emphasis(resolved.prompting.emphasis)
    tokenizer = next((own for own in model.tokenizers if isinstance(own, ClipTokenizer)), None)
    if tokenizer is None:
        return set()
    lookup = inversions(known, tokenizer.encode)
    marks, found = marks_of(tokenizer), set[str]()
    for text in texts(resolved):
        chunks = chunk(weighted(text, mode), tokenizer.encode, marks, lookup).chunks
        found |= {patch.name for own in chunks for patch in own.patches}
    return found


def _prompts(resolved: Resolved) -> Iterator[tuple[str, str]]:
    """All pairs of prompts, each once."""
    hires = resolved.hires.prompts if isinstance(resolved.hires, ResolvedHires) else ()
    every = (own for sample in resolved.samples for own in (sample, *sample.regions))
    yield from dict.fromkeys((own.prompt, own.negative_prompt) for own in (*every, *hires))


def _tags(resolved: Resolved) -> Iterator[tuple[Network, bool]]:
    """(a tag, whether it is one of the second pass)."""
    again = resolved.hires.prompts if isinstance(resolved.hires, ResolvedHires) else ()
    for prompts, is_second in ((resolved.samples, False), (again, True)):
        regions = _regions(resolved) if prompts and divides_networks(resolved) else ()
        for prompt in dict.fromkeys((*(own.prompt for own in prompts), *regions)):
            yield from ((network, is_second) for network in parse(prompt).networks)


def _regions(resolved: Resolved) -> tuple[str, ...]:
    """The prompts of regions, each once. They are the same ones in both passes."""
    return tuple(dict.fromkeys(own.prompt for sample in resolved.samples for own in sample.regions))
