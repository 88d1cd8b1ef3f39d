"""The model card: a page with the results, the origin and the limitations of a model version."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from boat import kinds
from boat.errors import SettingError
from boat.evaluation.gate import Decision
from boat.evaluation.report import Difference, EvaluationReport, Metrics
from boat.kinds import KINDS, Kind
from boat.registry.versions import ModelVersion
from boat.render.cards import Card, Section, epoch_summary
from boat.render.charts import calibration_svg, graph_svg, learning_curve_svg, shortened, slices_svg
from boat.transform.lineage import Graph

_NAMES = {
    **{f"{name.lower()}_at_{k}": f"{name}@{k}" for name in ("HR", "MRR", "NDCG", "Recall") for k in (5, 10, 20)},
    "coverage_at_20": "Coverage@20",
    "pr_auc": "PR-AUC",
    "roc_auc": "ROC-AUC",
    "log_loss": "Log-loss",
    "brier": "Brier score",
    "ece": "Calibration error (ECE)",
    "unknown_targets": "Targets that are new products",
    "lift_at_10": "Lift of the top 10 %",
}
_MODELS = {"challenger": "this version", "co_occurrence": "co-occurrence"}
_EVIDENCE = "It was evaluated on sessions recorded without it. Only live metrics show how shoppers react to it."
_CONTACTS = {
    "contact_cost": "Cost of a contact",
    "sale_value": "Value of a sale",
    "threshold": "Contact if the chance is above",
    "contacted": "Contacted share of session starts",
    "buying_of_contacted": "Share of contacted starts with a purchase",
    "buyers_contacted": "Contacted share of buyers",
    "gain": "Gain per session start",
    "gain_contacting_all": "Gain if every start is contacted",
}


@dataclass(frozen=True)
class Origin:
    """The training, the tables and the flow run that a version comes from.

    Attributes:
        cost: Time and cost of the training job, as text.
        parameters: Parameters of the training.
        tables: The tables from which dbt builds the training examples, with the endpoint.
        steps: The completed steps of the flow run.
    """

    cost: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tables: Graph = field(default_factory=dict)
    steps: Graph = field(default_factory=dict)


@dataclass(frozen=True)
class Released:
    """The archive that is released if a version is promoted.

    Attributes:
        trained_until: Time of the newest event it was trained on, ISO 8601, UTC.
        text: Its comparison with the evaluated archive, or why the evaluated archive is released.
        cost: Time and cost of its training job, as text. Empty for the evaluated archive.
    """

    trained_until: str
    text: str
    cost: str = ""


def model_card(
    version: ModelVersion,
    report: EvaluationReport,
    curve: Sequence[Mapping[str, Any]],
    decision: Decision | None = None,
    origin: Origin | None = None,
    released: Released | None = None,
) -> Card:
    """Return the card of a model version.

    Args:
        version: The model version.
        report: Its evaluation.
        curve: One mapping for each epoch.
        decision: The decision of the gates, if they were checked.
        origin: The origin of the version, if it is known.
        released: The archive that is released, if it is known.
    """
    kind = _kind(version)
    origin = origin or Origin()
    sections = (
        Section("Intended use", kind.card.purpose, _owners(origin.tables)),
        *_gates(decision),
        *_released(version, released),
        Section("Test results", _protocol(kind, report), _compared(report)),
        *_slices(kind, report),
        *_moments(report),
        *_contacts(report),
        *_calibration(report),
        *_behaviour(report),
        *_training(curve, origin),
        *_data(report),
        *_graphs(origin),
        Section("Limitations", table=[("", ""), *kind.card.limits, ("Evidence", _EVIDENCE)]),
        Section("Origin", table=[("", ""), *_origin(version)]),
    )
    return Card(f"{version.name}, version {version.version}", _lead(version, kind, report, decision), sections)


def write_page(card: Card, version: ModelVersion, folder: Path) -> Path:
    """Write the card of a version to `folder/cards/NAME-VERSION.html`, and return that path."""
    path = folder / "cards" / f"{version.name}-{version.version}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(card.html(), encoding="utf-8")
    return path


def _kind(version: ModelVersion) -> Kind:
    name = kinds.kind_of(version.name)
    if name is None:
        raise SettingError(
            f"Cannot write the card of {version.name}: no kind of model has this name.",
            f"Kinds: {', '.join(KINDS)}.",
        )
    return kinds.load(name)


def _lead(version: ModelVersion, kind: Kind, report: EvaluationReport, decision: Decision | None) -> str:
    """Return one line with the metric that decides, and the decision."""
    name = kind.gates.metric
    parts = [f"{_NAMES.get(name, _words(name))} {_metric(report.challenger.metrics, name)}"]
    if name in report.challenger.above_champion:
        parts.append(f"difference to the champion {_signed(report.challenger.above_champion[name])}")
    if decision is not None:
        parts.append("passed all gates" if decision.accepted else "refused by its gates")
    return f"Registered {version.created_at:%Y-%m-%d %H:%M} UTC. {'; '.join(parts)}."


def _owners(tables: Graph) -> list[tuple[str, str]]:
    owners = {node.owner: None for node in tables.values() if node.owner}
    return [("", ""), ("Owner", ", ".join(owners))] if owners else []


def _gates(decision: Decision | None) -> Iterator[Section]:
    if decision is not None:
        rows = [("Gate", "Passed", ""), *((gate.name, _yes(gate.passed), gate.text) for gate in decision.gates)]
        yield Section("Gates", decision.text if decision.accepted else "Refused.", rows)


def _released(version: ModelVersion, released: Released | None) -> Iterator[Section]:
    """Yield the two archives of a version."""
    if released is None:
        return
    archive = version.released
    if archive.digest == version.digest:
        text = f"The evaluated archive is released: {released.text} All figures of this card belong to it."
    else:
        text = (
            "A promotion releases an archive with the same parameters that was also trained on the test days. All "
            f"figures of this card belong to the evaluated archive. Comparison of the two: {released.text}"
        )
    rows = [
        ("", "Evaluated", "Released"),
        ("Trained on events up to", version.lineage.get("trained_until", ""), released.trained_until),
        ("SHA-256", version.digest, archive.digest),
        ("Archive", version.uri, archive.uri),
        *([("Training job", "", released.cost)] if released.cost else []),
    ]
    yield Section("Release", text, rows)


def _protocol(kind: Kind, report: EvaluationReport) -> str:
    targets, total = (report.challenger.metrics.get(name, 0) for name in ("targets", "all_targets"))
    sample = f" {targets:,} of {total:,} targets were drawn at random." if targets < total else ""
    return f"{kind.card.protocol}{sample}"


def _compared(report: EvaluationReport) -> list[list[str]]:
    """Return a row for each metric and a column for each model."""
    challenger, models = report.challenger.metrics, report.models()
    names = [name for name in challenger if not name.endswith(("_low", "_high"))]
    names = [name for name in names if name != "all_targets" or challenger[name] != challenger.get("targets")]
    head = ["", *(_MODELS.get(model, model.replace("_", " ")) for model in models)]
    rows = [
        [_NAMES.get(name, _words(name)), *(_metric(model.metrics, name) for model in models.values())] for name in names
    ]
    difference = report.challenger.above_champion
    if difference:
        head.append("difference to champion")
        rows = [
            [*row, _signed(difference[name]) if name in difference else ""]
            for row, name in zip(rows, names, strict=True)
        ]
    return [head, *rows]


def _metric(metrics: Metrics, name: str) -> str:
    value, low, high = (metrics.get(key) for key in (name, f"{name}_low", f"{name}_high"))
    if value is None:
        return ""
    if low is not None and high is not None:
        return f"{value:.3f} ({low:.3f} to {high:.3f})"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _signed(difference: Difference) -> str:
    return f"{difference.value:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"


def _slices(kind: Kind, report: EvaluationReport) -> Iterator[Section]:
    slices = report.challenger.slices
    if not slices:
        return
    metric = kind.gates.metric
    names = [name for name in slices[0].metrics if not name.endswith(("_low", "_high"))]
    champion = {(part.by, part.name): part.metrics for part in report.champion.slices} if report.champion else {}
    head = ["", "segment", "targets", *(_NAMES.get(name, _words(name)) for name in names)]
    table = [[*head, *(["champion"] if champion else [])]]
    for before, part in zip([None, *slices], slices, strict=False):
        by = "" if before and before.by == part.by else part.by
        cells = [by, shortened(part.name), f"{part.targets:,}", *(_metric(part.metrics, name) for name in names)]
        table.append([*cells, *([_metric(champion.get((part.by, part.name), {}), metric)] if champion else [])])
    text = (
        f"{_NAMES.get(metric, _words(metric))} with 95 % intervals. The dotted line is the result of all targets. "
        "In brackets: the number of targets."
    )
    rows = [{"by": part.by, "slice": part.name, "targets": part.targets, **part.metrics} for part in slices]
    yield Section("Results by segment", text, table, slices_svg(rows, metric, report.challenger.metric(metric)))


def _moments(report: EvaluationReport) -> Iterator[Section]:
    """Yield the metrics by the moment of the session at which the model predicts."""
    moments = report.challenger.moments
    if moments:
        names = [name for name in next(iter(moments.values())) if not name.endswith(("_low", "_high"))]
        head = ["", *(_NAMES.get(name, _words(name)) for name in names)]
        rows = [[_moment(moment), *(_metric(metrics, name) for name in names)] for moment, metrics in moments.items()]
        yield Section("Results by moment of the session", table=[head, *rows])


def _moment(name: str) -> str:
    return f"after {name} event{'' if name == '1' else 's'}" if name.isdigit() else _words(name)


def _contacts(report: EvaluationReport) -> Iterator[Section]:
    """Yield the cost and gain of contacting shoppers."""
    contacts = report.challenger.contacts
    if contacts:
        text = "A contact pays if the chance of a purchase times the value of a sale exceeds the cost of the contact."
        rows = [(_CONTACTS.get(name, _words(name)), f"{value:.3g}") for name, value in contacts.items()]
        yield Section("Contacts", text, [("", ""), *rows])


def _calibration(report: EvaluationReport) -> Iterator[Section]:
    calibration = report.challenger.calibration
    if calibration:
        text = "Sessions are grouped by their prediction. The chart compares predicted and actual buyers by group."
        yield Section("Calibration", text, picture=calibration_svg([asdict(row) for row in calibration]))


def _behaviour(report: EvaluationReport) -> Iterator[Section]:
    results = report.challenger.behaviour
    if results:
        failed = [result for result in results if not result.passed]
        critical = sum(result.severity == "critical" for result in failed)
        text = (
            f"{len(results)} tests on the exported model; {len(failed)} failed, {critical} of them critical. "
            "A failed critical test prevents the promotion. Other failures are warnings."
        )
        rows = [
            (_words(result.name), result.severity, result.verdict, result.measured, result.limit, result.text)
            for result in sorted(results, key=lambda result: (result.passed, result.severity))
        ]
        yield Section("Behaviour tests", text, [("Test", "Severity", "Passed", "Value", "Limit", "Description"), *rows])


def _training(curve: Sequence[Mapping[str, Any]], origin: Origin) -> Iterator[Section]:
    parameters = [(_words(name), str(value)) for name, value in origin.parameters.items()]
    table = [("", ""), *parameters] if parameters else []
    text = " ".join(
        filter(None, [epoch_summary(curve) if curve else "", origin.cost and f"The job took {origin.cost}."])
    )
    if text or table:
        yield Section("Training", text, table, learning_curve_svg(curve) if curve else "")


def _data(report: EvaluationReport) -> Iterator[Section]:
    data = report.data
    if data:
        begin, stop, test, end = (
            f"{datetime.fromisoformat(time):%Y-%m-%d %H:%M}"
            for time in (data.first_session, data.validation_from, data.test_from, data.as_of)
        )
        rows = [
            ("Trained on", f"{begin} to {test}"),
            ("Validated from", stop),
            ("Tested on", f"{test} to {end}"),
            ("Split", data.split_rule),
            ("Sessions with two items or more", f"{data.sessions:,}"),
            *((f"Rows of {name}", f"{rows:,}") for name, rows in data.rows.items()),
        ]
        yield Section("Data", "Times are UTC.", [("", ""), *rows])


def _graphs(origin: Origin) -> Iterator[Section]:
    if origin.tables:
        yield Section("Data lineage", "dbt tables from the raw log to the endpoint.", picture=graph_svg(origin.tables))
    if origin.steps:
        text = "Tasks of the flow run before this card. A line leads from a task to the task that uses its result."
        yield Section("Flow run", text, picture=graph_svg(origin.steps))


def _origin(version: ModelVersion) -> list[tuple[str, str]]:
    return [
        *((_words(name), value) for name, value in version.lineage.items()),
        ("Snapshot URI", version.snapshot_uri),
        ("Archive", version.uri),
        ("Archive SHA-256", version.digest),
        ("MLflow run", version.run_id),
    ]


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _yes(passed: bool) -> str:
    return "yes" if passed else "NO"
