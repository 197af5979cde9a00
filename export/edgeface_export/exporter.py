"""From a checkpoint to a verified bundle."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx

from edgeface.bundle import Bundle, Manifest
from edgeface.errors import ArchitectureError, GateFailedError, InvalidInputError
from edgeface_export.architectures.network import Network, Output
from edgeface_export.architectures.recognition import Recognition, recognise
from edgeface_export.bundle_writer import require_free, write_bundle
from edgeface_export.checkpoints import Checkpoint, read_checkpoint
from edgeface_export.cpu_artefacts import CPU_INT8, SPEED_BUDGET_S, CpuArtefacts
from edgeface_export.cpu_gate import left_out, make_cpu_artefacts
from edgeface_export.crop_sets import ActivationCrops, CropLoader, choose_crops
from edgeface_export.export_record import ExportRecord
from edgeface_export.failure import report_path, write_report
from edgeface_export.gate_limits import limits_for
from edgeface_export.gates import (
    GateResult,
    figures_of,
    measure_spread,
    parity_gate,
    quantiser_gates,
    spread_gates,
)
from edgeface_export.graph.emit import emit
from edgeface_export.graph.mirror import NONE, with_mirror
from edgeface_export.graph.session import EmbeddingSession
from edgeface_export.html_report import render_report
from edgeface_export.int8 import Int8Source, make_int8
from edgeface_export.intake.opening import Intake
from edgeface_export.loss_facts import known_training, sentences_of
from edgeface_export.manifests import build_manifest, points_of, verdict_of
from edgeface_export.mirror_gate import (
    SECOND_RUN,
    measure_mirror,
    mirror_gates,
    size_with_mirror,
)
from edgeface_export.pair_evidence import PairEvaluator, tar_gates
from edgeface_export.parity import measure_parity
from edgeface_export.preparation import Preparation, prepare
from edgeface_export.progress import Progress, no_progress
from edgeface_export.quantise import Quantised, QuantiseOptions
from edgeface_export.report_data import build_report
from edgeface_export.statistics_gate import measure_statistics, statistics_gates

__all__ = [
    "ActivationCrops",
    "CropLoader",
    "ExportInputs",
    "ExportOptions",
    "ExportResult",
    "export_checkpoint",
    "export_recognised",
]

_FP32, _INT8 = "fp32", "int8"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How to export.

    ``name`` is the name in the manifest, by default the file's. ``int8`` adds the INT8 artefact;
    ``int8_only`` leaves the float ones out of the bundle, after they have served as its measure.
    ``overwrite`` replaces a bundle that stands at the output. ``limits`` are limits of the gates
    that differ from the defaults, by their name in
    :class:`edgeface_export.gate_limits.GateLimits`. ``report`` is where the page of a failed
    export goes, by default ``NAME.failed-report.html`` beside the output. Artefacts are timed for
    about ``speed_budget_s``. ``preparation`` is what is known, or to be found out, about the
    preprocessing, ``intake`` what :func:`edgeface_export.export_model` is told of a file that does
    not describe its network.
    """

    name: str = ""
    int8: bool = False
    int8_only: bool = False
    overwrite: bool = False
    limits: Mapping[str, float] = field(default_factory=dict)
    quantise: QuantiseOptions = field(default_factory=QuantiseOptions)
    report: Path | None = None
    speed_budget_s: float = SPEED_BUDGET_S
    preparation: Preparation = field(default_factory=Preparation)
    intake: Intake = field(default_factory=Intake)


@dataclass(frozen=True, slots=True)
class ExportInputs:
    """What an export is given besides the checkpoint; see :func:`export_checkpoint`."""

    activation_set: CropLoader | None = None
    pairs: PairEvaluator | None = None
    progress: Progress = no_progress


@dataclass(frozen=True, slots=True, eq=False)
class ExportResult:
    """A written bundle, what was recognised, the gates passed, and the seconds it took."""

    bundle: Bundle
    recognition: Recognition
    gates: tuple[GateResult, ...]
    report: dict[str, Any]
    seconds: float


def export_checkpoint(
    path: Path,
    output: Path,
    *,
    options: ExportOptions | None = None,
    activation_set: CropLoader | None = None,
    pairs: PairEvaluator | None = None,
    progress: Progress = no_progress,
) -> ExportResult:
    """Return the bundle made from the checkpoint at ``path`` and written to ``output``.

    ``activation_set`` gives the crops that set the INT8 ranges; without it they come from built-in
    synthetic faces and the verdict says data-free. ``pairs`` measures every artefact on labelled
    pairs: what INT8 costs there is a gate, and the operating points are fitted to them.
    ``progress`` may draw a bar.

    Raises:
        CheckpointError: The file cannot be read.
        ArchitectureError: No known network fits its tensors.
        ActivationSetError: The activation set is unusable.
        GateFailedError: The result was measured and is not good enough. No bundle is written; a
            report says what was tried, and the message where it is.
        InvalidInputError: ``output`` is taken, an activation set is given without INT8, a limit is
            unknown, or the pairs are unusable.
    """
    _require_use(activation_set, options or ExportOptions())
    checkpoint = read_checkpoint(path)
    recognition = recognise({name: t.array for name, t in checkpoint.tensors.items()})
    return export_recognised(
        checkpoint,
        recognition,
        output,
        options=options,
        inputs=ExportInputs(activation_set, pairs, progress),
    )


def export_recognised(
    checkpoint: Checkpoint,
    recognition: Recognition,
    output: Path,
    *,
    options: ExportOptions | None = None,
    inputs: ExportInputs | None = None,
) -> ExportResult:
    """Return the bundle made of a checkpoint that was read and recognised already.

    Raises:
        ArchitectureError, ActivationSetError, GateFailedError, InvalidInputError: As
            :func:`export_checkpoint`; also when the network gives no embeddings.
    """
    options, inputs = options or ExportOptions(), inputs or ExportInputs()
    output, started = Path(output), time.monotonic()
    _require_use(inputs.activation_set, options)
    _require_embeddings(recognition)
    require_free(output, overwrite=options.overwrite)
    tensors = {name: tensor.array for name, tensor in checkpoint.tensors.items()}
    prepared = prepare(recognition, options.preparation, tensors)
    recognition = prepared.recognition
    crops = choose_crops(inputs.activation_set, recognition.network)
    record = ExportRecord(recognition, crops, limits_for(crops.kind, options.limits))
    training = known_training(checkpoint, recognition, options.preparation.loss)
    record.training = replace(training, flip_in_graph=options.preparation.flip)
    record.notes += (*prepared.notes, *sentences_of(record.training))
    record.discovery = prepared.discovery
    # The graph is called after the layout, not after the bundle: its bytes are the identity.
    job = _Job(checkpoint, record, emit(recognition.network, name=recognition.layout.name), options)
    try:
        job.judge_float()
        job.make(inputs.progress)
        job.judge_mirror()
        if inputs.pairs is not None:
            job.compare(inputs.pairs)
    except GateFailedError as exc:
        record.refusal = record.refusal or str(exc)
        raise GateFailedError(f"{record.refusal}. {_reported(job, output)}") from exc
    report = build_report(record)
    bundle = write_bundle(
        output,
        job.manifest(),
        job.shipped(),
        report,
        overwrite=options.overwrite,
        page=lambda final: render_report(report, final),
    )
    # That of an earlier attempt would contradict the bundle.
    for stale in (report_path(output), report_path(output).with_suffix(".json")):
        stale.unlink(missing_ok=True)
    seconds = time.monotonic() - started
    return ExportResult(bundle, recognition, tuple(record.gates), report, seconds)


def _require_use(activation_set: CropLoader | None, options: ExportOptions) -> None:
    if activation_set is not None and not options.int8:
        raise InvalidInputError(
            "an activation set sets INT8 ranges, but no INT8 artefact is asked for; "
            "set int8 in the options, or leave the activation set out"
        )
    if options.int8_only and not options.int8:
        raise InvalidInputError("int8_only leaves nothing in the bundle without int8; set both")


def _require_embeddings(recognition: Recognition) -> None:
    if recognition.network.output is not Output.EMBEDDING:
        raise ArchitectureError(
            f"{recognition.layout.name} gives {recognition.network.output.value}, no embeddings; "
            "export it with `edgeface export` or edgeface_export.export_model"
        )


def _reported(job: _Job, output: Path) -> str:
    """Return where the report of the failure is, after writing it."""
    page = report_path(output, job.options.report)
    try:
        written = write_report(page, build_report(job.record), job.manifest())
    except OSError as exc:
        return f"The report could not be written to {page}: {exc}"
    return f"What was tried is in {written[0]} and {written[1]}"


class _Job:
    """One export under way: what was made, and the record of what was found."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        record: ExportRecord,
        fp32: onnx.ModelProto,
        options: ExportOptions,
    ) -> None:
        self.record = record
        self.options = options
        self._checkpoint = checkpoint
        self._network = record.recognition.network
        held_out = record.crops.held_out
        expected = EmbeddingSession(fp32).embed(held_out)
        self._source = Int8Source(self._network, fp32, record.crops, expected)
        self._int8: onnx.ModelProto | None = None
        self._cpu = CpuArtefacts()

    def judge_float(self) -> None:
        """Judge the float graph, and whether the crops are what the network was trained on.

        Raises:
            GateFailedError: A gate failed.
        """
        record, source = self.record, self._source
        parity = measure_parity(self._network, source.fp32, record.crops.held_out)
        record.judge([parity_gate(parity, record.limits)], figures_of(parity))
        ranging = record.crops.ranging
        if ranging is not None and not record.crops.data_free:
            fit = measure_statistics(self._network, source.fp32, ranging)
            if fit is None:
                record.notes.append("no BatchNorm tells what the model was trained on")
            else:
                record.judge(statistics_gates(fit, record.limits), fit.figures())
        if record.crops.show_faces:
            spread = measure_spread(source.expected)
            record.judge(spread_gates(spread, record.limits), spread.figures())

    def make(self, progress: Progress) -> None:
        """Make the other artefacts and judge them.

        Raises:
            GateFailedError: The INT8 artefact failed a gate, or a float rewrite is not equal.
        """
        record, options = self.record, self.options
        if options.int8:
            made = make_int8(
                self._source, options=options.quantise, limits=record.limits, progress=progress
            )
            record.int8, self._int8 = made, made.quantised.model
            gates = quantiser_gates(made.figures, record.limits)
            figures = made.figures.named() | _cost_figures(self._network, made.quantised)
            record.judge(gates, figures, made.refusal)
        cpu = make_cpu_artefacts(
            self._source,
            record.int8,
            options=options.quantise,
            limits=record.limits,
            budget_s=options.speed_budget_s,
        )
        self._keep(cpu)
        figures = dict(cpu.figures)
        for end in ("", "_batch8"):
            if f"int8_qdq_speed_ratio{end}" in figures:
                figures[f"int8_speed_ratio{end}"] = figures.pop(f"int8_qdq_speed_ratio{end}")
        record.figures |= figures

    def judge_mirror(self) -> None:
        """Judge whether the graphs join a crop and its mirror image as they should.

        Raises:
            GateFailedError: One does not.
        """
        flip, record = self.options.preparation.flip, self.record
        if flip != NONE:
            fit = measure_mirror(self._models(), record.crops.held_out, flip)
            record.judge(mirror_gates(fit), fit.figures())
            record.notes.append(SECOND_RUN)

    def compare(self, pairs: PairEvaluator) -> None:
        """Judge every artefact by labelled pairs.

        Raises:
            GateFailedError: INT8 loses too much, or an artefact does no better than guessing.
            InvalidInputError: The pairs are unusable.
        """
        record = self.record
        with tempfile.TemporaryDirectory(prefix="edgeface-") as folder:
            draft = Path(folder) / "draft.edgeface"
            record.pairs = pairs(write_bundle(draft, self.manifest(), self.content(), {}))
        record.judge(tar_gates(record.pairs, _INT8, record.limits), record.pairs.figures())
        failed = [
            gate.sentence
            for gate in tar_gates(record.pairs, CPU_INT8, record.limits)
            if not gate.passed
        ]
        if failed:
            self._keep(left_out(self._cpu, "; ".join(failed)))

    def _keep(self, cpu: CpuArtefacts) -> None:
        self._cpu = cpu
        self.record.speed, self.record.cpu_notes = cpu.speed, cpu.notes

    def _models(self) -> dict[str, onnx.ModelProto]:
        models = {_FP32: self._source.fp32}
        models |= {} if self._int8 is None else {_INT8: self._int8}
        return models | self._cpu.models

    def content(self) -> dict[str, bytes]:
        """Return the artefacts by name."""
        flip = self.options.preparation.flip
        return {
            key: with_mirror(model, flip).SerializeToString(deterministic=True)
            for key, model in self._models().items()
        }

    def shipped(self) -> dict[str, bytes]:
        """Return the artefacts that the bundle gets, by name."""
        content = self.content()
        if not self.options.int8_only:
            return content
        return {name: model for name, model in content.items() if _INT8 in name}

    def manifest(self) -> Manifest:
        """Return the manifest of what was made and found so far."""
        record, content = self.record, self.content()
        # A threshold of a model that was refused would look like a licence to use it.
        points = () if record.refusal else points_of(record, tuple(self.shipped()))
        manifest = build_manifest(
            self._checkpoint,
            record.recognition,
            content[_FP32],
            name=self.options.name or self._checkpoint.path.stem,
            verdict=verdict_of(record, points),
            points=points,
        )
        # Mirrored crops may have doubled the rows of the graph.
        size = size_with_mirror(manifest.embedding_size, self.options.preparation.flip)
        return replace(manifest, training=record.training, embedding_size=size)


def _cost_figures(network: Network, quantised: Quantised) -> dict[str, float]:
    costs = network.multiply_adds()
    total = sum(costs.values())
    return {
        "multiply_adds": float(total),
        "int8_share": sum(costs[name] for name in quantised.placement.nodes) / total,
    }
