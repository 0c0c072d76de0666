"""From the texts that steer a request to networks found in files, and images named by what they hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from atelier.adapters.control_types import ControlType, control_type, drawn_type
from atelier.adapters.image_features import ENCODERS, suits_spec
from atelier.adapters.photomaker import MERGES_FROM, photomaker_lora, photomaker_spec
from atelier.adapters.port.ip_adapter import ONLY, face_lora
from atelier.adapters.read import matched
from atelier.adapters.steering import Needs, Prepared, prepared
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.image_encoder import image_encoder_spec
from atelier.checkpoints.kind import identify
from atelier.errors import BadFile, BadInput, UnknownName, about
from atelier.families.parts import UNET, VISION
from atelier.pipeline.persons import NEEDED, has_trigger
from atelier.pipeline.steering import attentions
from atelier.prompt import Warn
from atelier.registry import folded
from atelier.request.controls import (
    MAX_WEIGHT,
    NO_CONTROL,
    PREVIOUS,
    Control,
    Face,
    Reference,
    Shown,
    When,
    parse_control,
    parse_face,
    parse_reference,
)
from atelier.request.model import Request
from atelier.request.resolved import (
    AllOver,
    ImageRef,
    InNetwork,
    MaskPlace,
    NetworkRef,
    NoIdentity,
    NoNetwork,
    NotRead,
    PersonImage,
    Resolved,
    ResolvedControl,
    ResolvedExample,
    ResolvedFace,
    ResolvedHires,
    ResolvedIdentity,
    ResolvedPerson,
    ResolvedReference,
)
from atelier.request.spoken import number
from atelier.runtime.library import Library, hash_in
from atelier.vision.annotate import FOLDER as ANNOTATORS
from atelier.vision.annotate import annotator, check_beside, completed
from atelier.vision.annotating import Annotator, NeedsFile
from atelier.vision.faces import DOES, PACKS, PHOTOMAKER
from atelier.vision.hints import INPAINT
from atelier.vision.onnx import check_installed
from atelier.weights.archive import open_any

W = TypeVar("W", bound=When)
S = TypeVar("S", bound=Shown)
FOLDER = "ControlNet"
"""Below a folder of models: where networks that steer go, of all the names that such a folder may have."""
ENCODER_FOLDER = "clip_vision"
"""The same of encoders of images."""
FACE_FOLDER = "insightface"
"""The same of packs that find faces."""
IDENTITY = ("instantid", "instant id", "identity")
"""Of which one stands in the name of the ControlNet beside an image prompt of faces, or of the folder that it is in."""
READS: Mapping[type[When], str] = {Control: "a hint", Reference: "an image as a prompt", Face: "a face"}
OPTIONS: Mapping[str, str] = {"a hint": "--control", "an image as a prompt": "--reference", "a face": "--face"}
GONE = "sha256:"
"""What stands in infotexts for an image that was a data: URI."""
UNION = "union"
"""What the names of files say that read hints of several types."""


@dataclass(frozen=True, slots=True)
class Steerings:
    """What can steer on this machine. hash_of: the SHA-256 (hex) of a network's file; model, again: of the first pass,
    and of the second; refer: fixes what lies in an image file."""

    library: Library
    hash_of: Callable[[Path], str]
    model: Checkpoint
    again: Checkpoint
    refer: Callable[[str], ImageRef]
    warn: Warn

    def settle(self, resolved: Resolved, request: Request) -> Resolved:
        """The resolved request with what steers it. Raises BadInput for what is not there, or cannot be used."""
        wanted, twice = request.steering, isinstance(resolved.hires, ResolvedHires)
        with about("controls"):
            hints = check_passes([parse_control(text) for text in wanted.controls], twice=twice)
            controls = tuple(self._control(hint, request) for hint in hints)
        with about("references"):
            prompts = check_passes([parse_reference(text) for text in wanted.references], twice=twice)
            references = tuple(self._reference(first, more, request) for first, *more in joined(prompts))
        with about("faces"):
            faces = check_passes([parse_face(text) for text in wanted.faces], twice=twice)
            people = tuple(self._faces(joined(faces), request, resolved))
        return resolved.model_copy(update={"steering": (*controls, *references, *people)})

    def _control(self, control: Control, request: Request) -> ResolvedControl:
        kind, maker = kind_of(control), maker_of(control)
        if maker.name == INPAINT and request.inpaint is None:
            raise BadInput("inpaint: its hint leaves out what the mask shows: give --mask, and --image")
        return ResolvedControl(
            type=control.type if kind is None else kind.name,
            network=self._network(control, kind, control.type),
            image=self._image(control, request),
            annotator=maker.name,
            annotator_file=annotator_file(maker, self.library, self.hash_of),
            options=tuple(completed(maker, dict(control.options)).items()),
            resolution=control.resolution,
            resize=control.resize,
            mode=control.mode,
            layers=control.layers,
            weight=control.weight,
            start=control.start or 0,
            end=control.end,
            place=self._place(control),
            passes=control.passes,
        )

    def _image(self, when: When, request: Request) -> ImageRef:
        if when.image:
            return self._referred(when.image)
        if request.source is None:
            raise BadInput("a control without an image reads the one to start from: name one, or give --image")
        return self.refer(request.source.image)

    def _referred(self, name: str) -> ImageRef:
        if name.startswith(GONE):
            raise BadInput(f"{name}: an image that came with a request is in no infotext: give it again")
        return self.refer(name)

    def _place(self, when: When) -> AllOver | MaskPlace:
        return MaskPlace(image=self._referred(when.mask)) if when.mask else AllOver()

    def _reference(
        self, reference: Reference, more: Sequence[Reference], request: Request
    ) -> ResolvedReference | ResolvedExample:
        """more: those that are one prompt with it. Raises BadInput."""
        if reference.method == "example":
            if more:
                raise BadInput(f"with={PREVIOUS}: an example is one image: leave it out")
            return self._example(reference, request)
        network = self._network(reference, None, "image prompt")
        return ResolvedReference(
            network=network,
            encoder=self._encoder(Path(network.path), reference),
            image=self._image(reference, request),
            weight=reference.weight,
            start=reference.start or 0,
            end=reference.end,
            place=self._place(reference),
            passes=reference.passes,
            blocks=tuple(self._blocks(reference).items()),
            more=tuple(self._image(own, request) for own in more),
        )

    def _example(self, reference: Reference, request: Request) -> ResolvedExample:
        for model in self._models(reference):
            if not model.has(UNET):
                raise BadInput(f"method=example needs a U-Net, which {model.name} has not: leave it out")
        return ResolvedExample(
            image=self._image(reference, request),
            weight=reference.weight,
            start=reference.start or 0,
            end=reference.end,
            passes=reference.passes,
            fidelity=reference.fidelity,
        )

    def _faces(
        self, wanted: Sequence[Sequence[Face]], request: Request, resolved: Resolved
    ) -> Iterator[ResolvedFace | ResolvedPerson]:
        """Each by itself, but those that a PhotoMaker reads are one person. Raises BadInput."""
        persons: list[tuple[Path, Face]] = []
        for face, *more in wanted:
            path = self._person_file(face)
            if path is None:
                yield self._face(face, more, request)
            else:
                persons += [(path, own) for own in (face, *(replace(face, image=o.image, which=o.which) for o in more))]
        if persons:
            check_prompts(resolved)
            yield self._person(persons, request)

    def _person_file(self, face: Face) -> Path | None:
        """The PhotoMaker that a face names; None where it names another file, or none."""
        path = self.library.control(face.model) if face.model else None
        identity = identify(open_any(path)) if path is not None and path.is_file() else None
        return path if identity is not None and identity.kind == "photomaker" else None

    def _person(self, shown: Sequence[tuple[Path, Face]], request: Request) -> ResolvedPerson:
        """All images of it. Raises BadInput where they do not say the same."""
        (path, first), *others = shown
        for other_path, other in others:
            alike = replace(other, image=first.image, which=first.which)
            if (other_path, alike) != (path, first):
                raise BadInput(f"{path.stem}: reads images of one person: say the same of each but image and which")
        _check_person(path, first)
        reads_faces = {photomaker_spec(path, model).face is not None for model in self._models(first)}
        sha256 = self.hash_of(path)
        return ResolvedPerson(
            network=NetworkRef(name=path.stem, path=str(path), sha256=sha256),
            reader=InNetwork(file=self._reader(path, PHOTOMAKER)) if any(reads_faces) else NoNetwork(),
            images=tuple(PersonImage(image=self._image(own, request), which=own.which) for _, own in shown),
            weight=first.weight,
            start=MERGES_FROM if first.start is None else first.start,
            passes=first.passes,
            lora=first.lora if photomaker_lora(open_any(path)) is not None else 0,
        )

    def _face(self, face: Face, more: Sequence[Face], request: Request) -> ResolvedFace:
        network = self._network(face, None, "face")
        path = Path(network.path)
        needs = self._needs(path, face)
        return ResolvedFace(
            network=network,
            reader=self._reader(path, PACKS[needs.face or "unit"]),
            encoder=NotRead() if needs.image is None else self._encoder(path, face),
            image=self._image(face, request),
            which=face.which,
            weight=face.weight,
            start=face.start or 0,
            end=face.end,
            place=self._place(face),
            passes=face.passes,
            blocks=tuple(self._blocks(face).items()),
            lora=face.lora if self._has_lora(path, face) else 0,
            identity=self._identity(face, network, needs),
            more=tuple(PersonImage(image=self._image(own, request), which=own.which) for own in more),
        )

    def _needs(self, network: Path, when: When) -> Needs:
        needs = prepared(network, self._models(when)[0]).needs
        assert needs is not None  # as was checked
        return needs

    def _reader(self, network: Path, pack: str) -> NetworkRef:
        """The folder of what finds faces for a network. Raises BadInput where it is not there."""
        check_installed(DOES)
        path = self.library.faces(pack)
        if path is None:
            raise BadInput(
                f"{network.stem}: the networks that find faces are not there: put the folder {pack} with the .onnx "
                f"files of insightface into the folder {FACE_FOLDER} of a folder of models"
            )
        return NetworkRef(name=pack, path=str(path), sha256=self.hash_of(path))

    def _has_lora(self, path: Path, face: Face) -> bool:
        """Whether a file brings a LoRA for the whole U-Net. Raises BadFile for one that does not suit the models."""
        brought = [face_lora(open_any(path), model) for model in self._models(face)] if path.is_file() else []
        for lora, model in zip(brought, self._models(face), strict=False):
            if lora is not None:
                matched(lora, model)
        return any(lora is not None for lora in brought)

    def _identity(self, face: Face, network: NetworkRef, needs: Needs) -> NoIdentity | ResolvedIdentity:
        """The ControlNet beside a face, where the network has one. Raises BadInput."""
        if needs.face != "raw" or face.control == NO_CONTROL:
            if face.control not in {"", NO_CONTROL} or face.pose or face.control_weight is not None:
                told = "control, control_weight and pose are for InstantID: leave them out"
                raise BadInput(f"{network.name}: has no ControlNet beside it; {told}")
            return NoIdentity()
        path = self.library.control(face.control) if face.control else self._beside(face, network)
        for model in self._models(face):
            if prepared(path, model).needs is not None:
                raise BadFile(path, "is no ControlNet: name one with control=")
        weight = face.weight if face.control_weight is None else face.control_weight
        found = NetworkRef(name=path.stem if path.is_file() else path.name, path=str(path), sha256=self.hash_of(path))
        return ResolvedIdentity(network=found, weight=weight, pose=self._referred(face.pose or face.image))

    def _beside(self, face: Face, network: NetworkRef) -> Path:
        """The first ControlNet that is called as those beside faces. Raises BadInput."""
        for name, path in self.library.controls().items():
            if _says(name, IDENTITY) or _says(path.parent.name, IDENTITY):
                with suppress(BadFile):
                    if all(prepared(path, model).needs is None for model in self._models(face)):
                        return path
        raise BadInput(
            f"{network.name}: its ControlNet is not there: put it into the folder instantid of a folder of models, "
            f"name it with control=, or do without: control={NO_CONTROL}"
        )

    def _encoder(self, network: Path, when: When) -> NoNetwork | InNetwork:
        """What sees images for an image prompt: the models' own where it fits, or a file's. Raises BadInput."""
        models, needs = self._models(when), self._needs(network, when)
        if all(model.has(VISION) and suits_spec(model.spec(VISION), needs) for model in models):
            return NoNetwork()
        for name, path in self.library.image_encoders().items():
            with suppress(BadFile):
                if suits_spec(image_encoder_spec(path), needs):
                    return InNetwork(file=NetworkRef(name=name, path=str(path), sha256=self.hash_of(path)))
        known = ENCODERS.get((needs.image or "", needs.width))
        told = f" (CLIP {known})" if known else ""
        raise BadInput(
            f"{network.stem}: needs an encoder of images whose {needs.image} has {needs.width} numbers{told}: put it "
            f"into the folder {ENCODER_FOLDER} of a folder of models"
        )

    def _blocks(self, reference: Reference | Face) -> Mapping[str, float]:
        """Factors by block. Raises BadInput, also for a block that the model does not have."""
        said, model = reference.blocks, self._models(reference)[0]
        if not said:
            return {}
        presets = ONLY.get(model.family.name, {})
        if said in presets:
            return presets[said]
        paths = attentions(model, "attn2")
        pairs = [part.partition("=") for part in said.split(",")]
        factors = {block.strip(): number(factor) for block, _, factor in pairs}
        if not all(abs(factor) <= MAX_WEIGHT for factor in factors.values()):
            names = ", ".join((*presets, "factors such as up.1=0.5,down.2=0"))
            raise BadInput(f"blocks {said!r}: choose {names}")
        for block in factors:
            if not any(path.startswith(block) for path in paths):
                known = ", ".join(dict.fromkeys(path.partition(".attention")[0] for path in paths))
                raise BadInput(f"blocks {block!r}: {model.name} reads text in {known}")
        return factors

    def _network(self, when: When, kind: ControlType | None, named: str) -> NetworkRef:
        """The file of a control's network: the one that is named, or one of its type for the model."""
        path = self.library.control(when.model) if when.model else self._of_type(when, kind, named)
        for model in self._models(when):
            _check(path, prepared(path, model), when, named if kind is None else kind.name)
        found = NetworkRef(name=path.stem if path.is_file() else path.name, path=str(path), sha256=self.hash_of(path))
        wanted = hash_in(when.model).lower()
        if wanted and not found.sha256.startswith(wanted):
            self.warn(f"{found.name}: the hash {wanted} was asked for; {path} has {found.sha256[: len(wanted)]}")
        return found

    def _models(self, when: When) -> Sequence[Checkpoint]:
        """Those of the passes in which it acts."""
        both = {"both": (self.model, self.again), "first": (self.model,), "second": (self.again,)}[when.passes]
        return both if both[0] is not both[-1] else both[:1]

    def _of_type(self, when: When, kind: ControlType | None, named: str) -> Path:
        """The first file for the models whose name says the type, or else a union that knows it; of image prompts the
        first one that can be used. Raises BadInput."""
        words, task = ((named,), named) if kind is None else (kind.words, kind.name)
        for wanted in (words, (UNION,)) if isinstance(when, Control) else ((),):
            for name, path in self.library.controls().items():
                if (not wanted or _says(name, wanted)) and self._suits(path, when, task):
                    return path
        models = " and ".join(model.name for model in self._models(when))
        raise BadInput(
            f"{named}: there is no network of this type for {models}: put one into the folder {FOLDER} of a folder of "
            "models, or name its file with model="
        )

    def _suits(self, path: Path, when: When, task: str) -> bool:
        try:
            for model in self._models(when):
                _check(path, prepared(path, model), when, task)
            return isinstance(when, Control) or self._can_see(path, when)
        except BadInput:
            return False

    def _can_see(self, path: Path, when: When) -> bool:
        """Whether an encoder is there for an image prompt that needs one. Raises BadInput where it is not."""
        return self._needs(path, when).image is None or bool(self._encoder(path, when))


def check_passes(wanted: Sequence[W], *, twice: bool) -> Sequence[W]:
    """All of it. Raises BadInput for what acts in a second pass alone where there is none; twice: whether there is."""
    if not twice and any(when.passes == "second" for when in wanted):
        raise BadInput(
            "pass=second has no effect without a second pass: leave it out, or ask for one (--hires-upscale)"
        )
    return wanted


def joined(wanted: Sequence[S]) -> list[list[S]]:
    """Images that are one prompt, together. Raises BadInput for one without any before it."""
    groups: list[list[S]] = []
    for own in wanted:
        if not own.joined:
            groups.append([own])
        elif groups:
            groups[-1].append(own)
        else:
            raise BadInput(f"with={PREVIOUS}: there is none before it: leave it out of the first one")
    return groups


def check_prompts(resolved: Resolved) -> None:
    """Raises BadInput for an image in whose prompts no word is a person."""
    again = resolved.hires.prompts if isinstance(resolved.hires, ResolvedHires) else resolved.samples
    for first, second in zip(resolved.samples, again, strict=True):
        if not any(has_trigger(own.prompt) for own in (first, second, *first.regions)):
            raise BadInput(NEEDED)


def _check_person(path: Path, face: Face) -> None:
    """Raises BadInput for what has no effect on what a PhotoMaker does."""
    unused = {"end": face.end != 1, "mask": bool(face.mask), "blocks": bool(face.blocks), "pose": bool(face.pose)}
    unused |= {"control": face.control not in {"", NO_CONTROL}, "control_weight": face.control_weight is not None}
    said = [name for name, is_said in unused.items() if is_said]
    if said:
        raise BadInput(f"{path.stem}: changes the prompt alone: leave out {', '.join(said)}")


def _check(path: Path, found: Prepared, when: When, task: str) -> None:
    """Raises BadFile for a file that reads something else than was given, and for a union of other types."""
    reads, wanted = _reads(found), READS[type(when)]
    if reads != wanted:
        raise BadFile(path, f"reads {reads}: give it as {OPTIONS[reads]}")
    if found.tasks and task not in found.tasks:
        raise BadFile(path, f"reads no hints of the type {task}: it knows {', '.join(found.tasks)}")


def _reads(found: Prepared) -> str:
    """Of the values of READS."""
    if found.needs is None:
        return "a hint"
    return "an image as a prompt" if found.needs.face is None else "a face"


def _says(name: str, words: Sequence[str]) -> bool:
    """Whether one of the words stands in a name, not as a part of another: color is no recolor."""
    parts = f" {folded(name)} "
    return any(re.search(rf"(?<![a-z]){re.escape(folded(word))}", parts) for word in words)


def kind_of(control: Control) -> ControlType | None:
    """What its network reads: the type that it names, or else that of the annotator that it names."""
    kind = control_type(control.type)
    if kind is None:
        with suppress(UnknownName):
            maker = annotator(control.type)
            kind = drawn_type((maker.name, *maker.aliases))
    return kind


def maker_of(control: Control) -> Annotator:
    """What makes the hint of a control: what it names, or else the usual one of its type. Raises UnknownName."""
    if control.annotator:
        return annotator(control.annotator)
    kind = control_type(control.type)
    return annotator(kind.annotators[0] if kind is not None and kind.is_called(control.type) else control.type)


def annotator_file(maker: Annotator, library: Library, hash_of: Callable[[Path], str]) -> NoNetwork | InNetwork:
    """The file of an annotator that is a network. Raises BadInput where it is not there."""
    if not isinstance(maker.draw, NeedsFile):
        return NoNetwork()
    path = file_of(maker.draw, library)
    if path is None:
        raise BadInput(
            f"annotator {maker.name}: its file {maker.draw.files[0]} is not there: put it into the folder {ANNOTATORS} "
            "of a folder of models, or give an image that is a hint with annotator=none"
        )
    check_beside(maker, path)
    return InNetwork(file=NetworkRef(name=maker.name, path=str(path), sha256=hash_of(path)))


def file_of(needs: NeedsFile, library: Library) -> Path | None:
    """Where the file of an annotator is, under any of its names; None where it is not there."""
    return next((path for path in map(library.annotator, needs.files) if path is not None), None)
