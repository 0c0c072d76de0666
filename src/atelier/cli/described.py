"""What `models inspect` says, for people to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atelier.checkpoints.inspecting import FileReport, Hashes
    from atelier.checkpoints.report import PartReport, Report
    from atelier.checkpoints.soundness import Soundness


def described(found: FileReport, digests: Hashes | None = None, sound: Soundness | None = None) -> str:
    """A line for each thing that is known; what a file says of itself is made safe to print."""
    lines = _identity(found) | _model(found.report) | {"parameters": f"{found.parameters:,}"}
    for name, part in found.parts.items():
        lines[f"  {_safe(name)}"] = _part(part)
    lines["on disk"] = megabytes(found.bytes)
    lines |= _stated(found)
    if found.report is not None and found.report.ignored:
        lines["unused"] = _unused(found.report)
    if found.notes:
        lines["unusual"] = "; ".join(found.notes)
    if digests is not None:
        lines["hash"] = f"{digests.short} (sha256 {digests.sha256}, AutoV3 {digests.autov3 or 'none'})"
    if sound is not None:
        lines["numbers"] = _numbers(sound)
    width = max(map(len, lines))
    return "\n".join(f"{key:{width}}  {value}" for key, value in lines.items())


def _identity(found: FileReport) -> dict[str, str]:
    own = found.identity
    usable = "yes" if found.supported else f"no: it {found.problem}" if found.problem else "no, recognised by name only"
    lines = {
        "name": _safe(found.name),
        "path": printable(str(found.path)),
        "kind": own.kind,
        "family": own.title if found.report is None else found.report.title,
        "variant": own.variant or "none",
        "supported": usable,
        "dtype": found.dtype,
    }
    return lines | ({"also for": ", ".join(own.fits)} if own.fits else {})


def _model(report: Report | None) -> dict[str, str]:
    if report is None:
        return {}
    latent = f"{report.latent_channels} channels, factor {report.latent_factor}, scale {report.latent_scale:g}"
    return {
        "layout": report.layout,
        "prediction": report.prediction,
        "size": f"{report.size} px",
        "channels": f"{report.in_channels} into the denoiser, text states {report.context} wide",
        "latent": latent,
    }


def _stated(found: FileReport) -> dict[str, str]:
    """What the author says."""
    said = {"licence": found.licence, "made from": found.base_model, "trigger words": ", ".join(found.trigger_words)}
    return {key: _safe(value) for key, value in said.items() if value}


def _part(part: PartReport) -> str:
    return f"{part.parameters:,} in {part.tensors} tensors, {megabytes(part.bytes)}, {', '.join(part.dtypes)}"


def _unused(report: Report) -> str:
    from atelier.weights.archive import counted

    return f"{counted(report.ignored)}, left over from training"


def _numbers(sound: Soundness) -> str:
    from atelier.weights.archive import counted

    told = {"not finite": sound.not_finite, "all zero": sound.zero}
    return "; ".join(f"{counted(names)} {what}" for what, names in told.items() if names) or "all finite"


def _safe(text: str) -> str:
    from atelier.weights.formats.safetensors import shown

    return shown(text)


def printable(text: str) -> str:
    """Names of files may hold line breaks, and what terminals obey."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
