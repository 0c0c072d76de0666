"""Sampling latents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from PIL.Image import Image
from torch import Tensor

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.preview import RgbMatrix
from atelier.diffusion.catalogue import resolve_sampler
from atelier.diffusion.combine.handed_over import Due, by_calls, by_noise, handed_over
from atelier.diffusion.denoise import timed
from atelier.diffusion.first_noise import first_noises
from atelier.diffusion.levels import changed
from atelier.diffusion.rng import Stream
from atelier.diffusion.sampling import SamplerSpec
from atelier.diffusion.scheduling import run_sigmas
from atelier.diffusion.types import Denoiser, Levels, Step
from atelier.families.telling import Telling
from atelier.nn.net import Net
from atelier.pipeline.conditioning import States
from atelier.pipeline.coupling import Reads
from atelier.pipeline.decoding import not_finite, rough, sketched, thumbnail
from atelier.pipeline.denoising import (
    Judge,
    guided,
    noise_source,
    reads_guidance,
    sampler_options,
    schedule_options,
    seed_of,
)
from atelier.pipeline.layouts import Everywhere, Layout
from atelier.pipeline.lent import Lent, Need
from atelier.pipeline.prompted import NOWHERE, NoPorts, PortAdapter, PromptedNet, Several
from atelier.pipeline.resources import AUTOENCODER, DENOISER, IMAGE_TEXT, PLAIN, TINY, Adapted
from atelier.pipeline.sample import Sample
from atelier.pipeline.stage import Stage
from atelier.pipeline.starts import Beginning, FromNoise, Start, Wrap, wrapped
from atelier.pipeline.steering import is_on
from atelier.pipeline.steers import Given, Steer
from atelier.pipeline.values import Key, Latents, Values
from atelier.request.events import Event, Preview, Progress
from atelier.request.resolved import ModelRef, ResolvedGuidance, ResolvedNoise, ResolvedSampling, Size


@dataclass(frozen=True, slots=True)
class Regional:
    """The networks of one region. states: where its prompts are, encoded with the region's networks; adapted: what its
    denoiser is borrowed with."""

    states: Key[States]
    adapted: Adapted


@dataclass(frozen=True, slots=True)
class Refiner:
    """The model that takes over. states: where the prompts are that its text encoders read; switch_at: the share of the
    levels of noise, or of the calls where `by_calls`, that is left to the first one; adapted: what its denoiser is
    borrowed with; regional: what regions have in place of `states` and `adapted`, as in `Diffuse`."""

    model: ModelRef
    states: Key[States]
    switch_at: float
    by_calls: bool
    adapted: Adapted = PLAIN
    regional: tuple[Regional, ...] = ()


@dataclass(frozen=True, slots=True)
class _Acting:
    """A model that predicts: its denoiser, and where the prompts are that its text encoders read; of each region, if
    they have others. later: what takes the place of the denoiser once a share of the sampling is done, ascending."""

    net: Need[Net]
    states: Key[States]
    later: tuple[tuple[float, Need[Net]], ...] = ()
    regional: tuple[_Acting, ...] = ()

    def within(self, region: int | None) -> _Acting:
        """What acts in a region; None: where none is."""
        return self if region is None or not self.regional else self.regional[region]

    @property
    def nets(self) -> tuple[Need[Net], ...]:
        later = (net for _, net in self.later)
        return (self.net, *later, *(net for own in self.regional for net in own.nets))


def _acting(model: ModelRef, adapted: Adapted, states: Key[States], regional: Sequence[Regional]) -> _Acting:
    inside = tuple(_acting(model, own.adapted, own.states, ()) for own in regional)
    first, *later = ((share, Need(model, DENOISER, adapted.at(share))) for share in adapted.changes)
    return _Acting(first[1], states, tuple(later), inside)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diffuse(Stage):
    """Samples the latents of all these samples at once, and leaves them under `out`.

    Every sample has its own stream of noise, keyed by its seed; their prompts have the same weights of AND. start:
    where sampling starts from; inside: what is composed around the guided network of each region; layout: which prompts
    act where; combine: what is composed around all of it, from the inside out as well; adapter: what enters the network
    beside the prompts; steers: what else does, of files, as long as the first model predicts; states: where the encoded
    prompts are; channels: where what the network sees beside the latent is; image_scale: of the guidance by it;
    adapted: what the denoiser is borrowed with; regional: what each region has in place of `states` and `adapted`, none
    where all have these; previews: whether to show some, with the matrix where there is one, else with the tiny
    autoencoder beside the model where one is, else with the model's own. refiner: what takes over from `model`, the
    rest as before. shown: what networks are told of the image beside its size.
    """

    model: ModelRef
    samples: tuple[Sample, ...]
    size: Size
    sampling: ResolvedSampling
    guidance: ResolvedGuidance
    noise: ResolvedNoise
    states: Key[States]
    out: Key[Latents]
    start: Start = field(default_factory=FromNoise)
    inside: tuple[Wrap, ...] = ()
    layout: Layout = field(default_factory=Everywhere)
    combine: tuple[Wrap, ...] = ()
    adapter: PortAdapter = field(default_factory=NoPorts)
    steers: tuple[Steer, ...] = ()
    channels: Key[Tensor] | None = None
    image_scale: float = 1.0
    adapted: Adapted = PLAIN
    regional: tuple[Regional, ...] = ()
    previews: bool = False
    matrix: RgbMatrix | None = None
    tiny: bool = False
    refiner: Refiner | None = None
    shown: Telling = NOWHERE

    def needs(self) -> tuple[Need[object], ...]:
        needs: list[Need[Any]] = [net for own in self._models for net in own.nets]
        needs.extend(need for steer in self.steers for need in steer.needs(self.model))
        if self._is_judged:
            needs.extend(Need(own.net.model, part) for own in self._models for part in (IMAGE_TEXT, AUTOENCODER))
        decodes = self.previews and self.matrix is None
        if decodes and not self.tiny:
            needs.append(Need(self.model, AUTOENCODER))
        if decodes and self.tiny:
            needs.append(Need(self.model, TINY))
        return tuple(needs)

    @property
    def _models(self) -> tuple[_Acting, ...]:
        """The first model, and what takes over from it, if anything does."""
        first, later = _acting(self.model, self.adapted, self.states, self.regional), self.refiner
        if later is None:
            return (first,)
        return first, _acting(later.model, later.adapted, later.states, later.regional)

    @property
    def _is_judged(self) -> bool:
        return is_on("CLIP guidance", self.guidance)

    @property
    def _remembers(self) -> bool:
        """Whether what is composed around the network carries something from one call to the next: the directions of
        guidance with momentum, or that a refiner has taken over."""
        return self.refiner is not None or self.guidance.apg_momentum != 0

    @property
    def steps(self) -> int:
        return self.start.part(self.sampling.steps).run

    def perform(self, have: Lent, values: Values) -> Iterator[Event]:
        """Raises NotFinite at the first step that leaves the finite numbers."""
        latents, steps = self._sampled(have, values)
        for step in steps:
            if not bool(step.x.isfinite().all()):
                net = have.take(self._models[-1].net)
                raise not_finite(f"step {step.index + 1} of {step.total}: the latent", net.dtype, net)
            latents = step.x
            yield Progress(step.index + 1, step.total, self.samples[0].index)
            if step.index < step.total - 1:
                yield from self._previewed(step, have)
        values.put(self.out, self._by_index(latents))

    def _sampled(self, have: Lent, values: Values) -> tuple[Tensor, Iterator[Step]]:
        """(where sampling begins, its steps)."""
        model, sampling = have.checkpoint(self.model), self.sampling
        spec, schedule = resolve_sampler(sampling.sampler, sampling.scheduler)
        levels = self._levels(model)
        make = schedule.make(schedule_options(sampling, model.family.table))
        whole = run_sigmas(make, levels, self.start.part(sampling.steps).total, discard=sampling.discard_penultimate)
        given, drawn = self._given(spec, whole, model, have, values)
        x, sigmas = self.start.begin(given)
        noises = noise_source(spec, [s.seed for s in self.samples], drawn, x, whole, self.noise.source)
        denoise, *later = (self._denoiser(own, spec, given, sigmas, have, values) for own in self._models)
        for other in later:
            denoise = handed_over(other, self._due(levels))(denoise)
        denoise = wrapped(denoise, self.combine, given)
        calls = (len(sigmas) - 1) * spec.calls
        sampler = spec.make(sampler_options(sampling, levels))
        told = have.recorded(denoise, self.samples[0].index, remembers=self._remembers)
        return x, sampler(timed(told, calls), x, sigmas, noises) if calls else iter(())

    def _levels(self, model: Checkpoint) -> Levels:
        return changed(model.levels, is_downcast=self.sampling.downcast, is_zero_terminal=self.sampling.zero_terminal)

    def _due(self, levels: Levels) -> Due:
        """When the refiner takes over. levels: those of the first model."""
        assert self.refiner is not None
        return (
            by_calls(self.refiner.switch_at)
            if self.refiner.by_calls
            else by_noise(self.refiner.switch_at, levels.sigmas)
        )

    def _denoiser(
        self, own: _Acting, spec: SamplerSpec, given: Beginning, sigmas: Tensor, have: Lent, values: Values
    ) -> Denoiser:
        """What one model predicts all over the canvas. sigmas: those that are run through, descending. A refiner may
        see less beside the latent than the first one; a network that reads how strong guidance is has no other."""
        model, judge = have.checkpoint(own.net.model), self._judge(own, have)
        sees_more = self.channels is not None and model.ends.in_channels > model.latent.channels
        beside = values.read(self.channels) if self.channels is not None and sees_more else None
        scale, levels = self.image_scale if sees_more else 1.0, self._levels(model)
        wanted, strength = self.guidance, None
        if reads_guidance(model):
            wanted, strength = wanted.model_copy(update={"scale": 1 / spec.cfg}), wanted.scale - 1

        steers = self.steers if own == self._models[0] else ()
        steering = Given(self.model, have, values)
        everywhere = Several((self.adapter, *(steer.adapter(steering) for steer in steers)))

        def of(samples: Sequence[Sample], region: int | None = None) -> Denoiser:
            acting = own.within(region)
            net, reads = have.take(acting.net), Reads(samples, values.read(acting.states))
            reads = self.layout.reading(reads, given, model)
            adapter = Several((reads.adapter, everywhere))
            told = replace(self.shown, height=self.size.height, width=self.size.width)
            later = tuple((share, have.take(need)) for share, need in acting.later)
            prompted = PromptedNet(
                net, reads.samples, reads.states, adapter, beside, model.family.tell, told, strength, later
            )
            guiding = guided(prompted, wanted, spec, sigmas, model, levels, judge, scale)
            return wrapped(guiding, self.inside, given)

        return self.layout.laid_out(of, given)

    def _judge(self, own: _Acting, have: Lent) -> Judge | None:
        if not self._is_judged:
            return None
        return Judge(have.take(Need(own.net.model, IMAGE_TEXT)), have.take(Need(own.net.model, AUTOENCODER)))

    def _given(
        self, spec: SamplerSpec, whole: Tensor, model: Checkpoint, have: Lent, values: Values
    ) -> tuple[Beginning, tuple[Stream, ...]]:
        """What sampling can begin with, and the streams that the noise on the way comes from."""
        latent, noise = model.latent, self.noise
        shape = (latent.channels, self.size.height // latent.factor, self.size.width // latent.factor)
        seeds = [seed_of(sample, noise, latent.factor, shape) for sample in self.samples]
        first, drawn = first_noises(seeds, shape, noise.source)
        given = Beginning(
            noise=first.to(have.device),
            sigmas=whole,
            run=self.steps,
            raised=partial(spec.begin, unit=noise.unit_start),
            noised=model.parameterization.noised,
            samples=self.samples,
            values=values,
            factor=latent.factor,
        )
        return given, drawn

    def _previewed(self, step: Step, have: Lent) -> Iterator[Event]:
        image = have.preview(partial(self._thumbnail, step.clean[0], have)) if self.previews else None
        if image is not None:
            yield Preview(self.samples[0].index, image)

    def _thumbnail(self, clean: Tensor, have: Lent) -> Image:
        if self.matrix is not None:
            return rough(clean, self.matrix)
        latent = have.checkpoint(self.model).latent
        if self.tiny:
            return sketched(clean, have.take(Need(self.model, TINY)), latent)
        return thumbnail(clean, have.take(Need(self.model, AUTOENCODER)), latent)

    def _by_index(self, latents: Tensor) -> Mapping[int, Tensor]:
        return {sample.index: row for sample, row in zip(self.samples, latents.unbind(), strict=True)}
