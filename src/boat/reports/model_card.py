"""The model card: what there is to know of a version."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from boat import kinds
from boat.errors import SettingError
from boat.evaluation.gate import Decision, behaviour
from boat.kinds import KINDS, Kind
from boat.registry.versions import ModelVersion
from boat.render.cards import Card, Section, epochs
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
    "unknown_targets": "Of new products",
    "lift_at_10": "Lift of the top 10 %",
}
_MODELS = {"challenger": "this version", "co_occurrence": "co-occurrence"}
_EVIDENCE = "It was measured on what shoppers did without it. What they do with it, only the live figures tell."
_CONTACTS = {
    "contact_cost": "A contact costs",
    "sale_value": "A sale is worth",
    "threshold": "So contact from a chance of",
    "contacted": "Share of starts contacted",
    "buying_of_contacted": "Share of these that buys",
    "buyers_contacted": "Share of buyers reached",
    "gain": "Gain for each start",
    "gain_contacting_all": "Gain if all were contacted",
}


@dataclass(frozen=True)
class Making:
    """How a version came about.

    Attributes:
        cost: Time and money of the training job, in words.
        parameters: What the training was told.
        tables: What dbt made the training examples from, up to the endpoint.
        steps: Steps of the flow run so far.
    """

    cost: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tables: Graph = field(default_factory=dict)
    steps: Graph = field(default_factory=dict)


def model_card(
    version: ModelVersion,
    figures: Mapping[str, Any],
    curve: Sequence[Mapping[str, Any]],
    decision: Decision | None = None,
    making: Making | None = None,
) -> Card:
    """What there is to know of a model version.

    Args:
        version: As registered; its lineage says what it was made from.
        figures: What the evaluation wrote: figures by model, the challenger's first.
        curve: One mapping an epoch.
        decision: The gates, where it stood before them.
        making: How it came about, where that is known.
    """
    kind = _kind(version)
    making = making or Making()
    sections = (
        Section("What it is for", kind.card.purpose, _people(making.tables)),
        *_gates(decision),
        Section("On the test days", _protocol(kind, figures), _compared(figures)),
        *_slices(kind, figures),
        *_moments(figures),
        *_contacts(figures),
        *_calibration(figures),
        *_behaviour(figures),
        *_training(curve, making),
        *_data(figures),
        *_graphs(making),
        Section("Limits", table=[("", ""), *kind.card.limits, ("Evidence", _EVIDENCE)]),
        Section("Made from", table=[("", ""), *_made_from(version)]),
    )
    return Card(f"{version.name}, version {version.version}", _lead(version, kind, figures, decision), sections)


def write_page(card: Card, version: ModelVersion, folder: Path) -> Path:
    """Write a version's card to `folder/cards/NAME-VERSION.html`; returns that path."""
    path = folder / "cards" / f"{version.name}-{version.version}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(card.html(), encoding="utf-8")
    return path


def _kind(version: ModelVersion) -> Kind:
    name = kinds.kind_of(version.name)
    if name is None:
        raise SettingError(f"The model {version.name} is of no known kind.", f"Known kinds: {', '.join(KINDS)}.")
    return kinds.load(name)


def _lead(version: ModelVersion, kind: Kind, figures: Mapping[str, Any], decision: Decision | None) -> str:
    """What somebody reads who reads one line."""
    name = kind.gates.metric
    said = [f"{_NAMES[name]} {_figure(figures.get('challenger', {}), name)}"]
    difference = (figures.get("challenger", {}).get("above_champion") or {}).get(name)
    if difference:
        said.append(f"{_signed(difference)} beside the champion")
    if decision is not None:
        said.append("passes all gates" if decision.accepted else "refused by its gates")
    return f"Registered {version.created_at:%Y-%m-%d %H:%M} UTC. {'; '.join(said)}."


def _people(tables: Graph) -> list[tuple[str, str]]:
    owners = {node.owner: None for node in tables.values() if node.owner}
    return [("", ""), ("Owner", ", ".join(owners))] if owners else []


def _gates(decision: Decision | None) -> Iterator[Section]:
    if decision is not None:
        rows = [("Gate", "Passed", ""), *((gate.name, _yes(gate.passed), gate.text) for gate in decision.gates)]
        yield Section("Gates", decision.text if decision.accepted else "Refused.", rows)


def _protocol(kind: Kind, figures: Mapping[str, Any]) -> str:
    challenger = figures["challenger"]
    asked, every = challenger.get("targets", 0), challenger.get("all_targets", 0)
    drawn = f" {asked:,} of {every:,} targets were drawn at random." if asked < every else ""
    return f"{kind.card.protocol}{drawn}"


def _compared(figures: Mapping[str, Any]) -> list[list[str]]:
    """A row a figure, a column a model; figures that are no plain numbers are left out."""
    challenger = figures.get("challenger", {})
    models = [name for name, values in figures.items() if isinstance(values, Mapping) and name != "data"]
    asked = challenger.get("targets")
    names = [name for name, value in challenger.items() if _is_figure(name, value)]
    names = [name for name in names if name != "all_targets" or challenger[name] != asked]
    difference = challenger.get("above_champion") or {}
    head = ["", *(_MODELS.get(model, model.replace("_", " ")) for model in models)]
    rows = [[_NAMES.get(name, _words(name)), *(_figure(figures[model], name) for model in models)] for name in names]
    if difference:
        head.append("beside the champion")
        rows = [
            [*row, _signed(difference[name]) if name in difference else ""]
            for row, name in zip(rows, names, strict=True)
        ]
    return [head, *rows]


def _is_figure(name: str, value: Any) -> bool:
    return isinstance(value, int | float) and not name.endswith(("_low", "_high"))


def _figure(values: Mapping[str, Any], name: str) -> str:
    value, low, high = (values.get(key) for key in (name, f"{name}_low", f"{name}_high"))
    if not isinstance(value, int | float):
        return ""
    if low is not None and high is not None:
        return f"{value:.3f} ({low:.3f} to {high:.3f})"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _signed(difference: Sequence[float]) -> str:
    value, low, high = difference
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"


def _slices(kind: Kind, figures: Mapping[str, Any]) -> Iterator[Section]:
    rows = figures.get("challenger", {}).get("slices")
    if not rows:
        return
    figure = kind.gates.metric
    champions = {(row["by"], row["slice"]): row for row in (figures.get("champion") or {}).get("slices", ())}
    head = ["", "slice", "targets", "HR@20", _NAMES[figure], *(["champion's"] if champions else [])]
    table = [head]
    for before, row in zip([None, *rows], rows, strict=False):
        by = "" if before and before["by"] == row["by"] else row["by"]
        cells = [by, shortened(row["slice"]), f"{row['targets']:,}"]
        cells += [_figure(row, "hr_at_20"), _figure(row, figure)]
        champion = champions.get((row["by"], row["slice"]), {})
        table.append([*cells, *([_figure(champion, figure)] if champions else [])])
    text = f"{_NAMES[figure]} with 95 % intervals; the dotted line is that of all targets, their number in brackets."
    yield Section("For whom and what", text, table, slices_svg(rows, figure, figures["challenger"][figure]))


def _moments(figures: Mapping[str, Any]) -> Iterator[Section]:
    """Intent by how much of the session was shown."""
    after = figures.get("challenger", {}).get("after")
    if after:
        names = [name for name, value in next(iter(after.values())).items() if _is_figure(name, value)]
        head = ["", *(_NAMES.get(name, _words(name)) for name in names)]
        rows = [[_moment(when), *(_figure(values, name) for name in names)] for when, values in after.items()]
        yield Section("How early it knows", table=[head, *rows])


def _moment(when: str) -> str:
    return f"after {when} event{'' if when == '1' else 's'}" if when.isdigit() else _words(when)


def _contacts(figures: Mapping[str, Any]) -> Iterator[Section]:
    """Whom to contact where that costs something."""
    told = figures.get("challenger", {}).get("decision")
    if told:
        text = (
            "A session is worth a contact where its chance times the worth of a sale is above what the contact costs."
        )
        rows = [(_CONTACTS.get(name, _words(name)), f"{value:.3g}") for name, value in told.items()]
        yield Section("Whom to contact", text, [("", ""), *rows])


def _calibration(figures: Mapping[str, Any]) -> Iterator[Section]:
    calibration = figures.get("challenger", {}).get("calibration")
    if calibration:
        text = "Sessions with a like prediction together: what was predicted, and what share did buy."
        yield Section("Calibration", text, picture=calibration_svg(calibration))


def _behaviour(figures: Mapping[str, Any]) -> Iterator[Section]:
    results = behaviour(figures)
    if results:
        failed = [result for result in results if not result.passed]
        critical = sum(result.severity == "critical" for result in failed)
        text = (
            f"{len(results)} tests on the exported model; {len(failed)} failed, {critical} of them critical. "
            "A critical one refuses the promotion, the others are warnings."
        )
        rows = [
            (_words(each.name), each.severity, _yes(each.passed), each.measured, each.wanted, each.text)
            for each in sorted(results, key=lambda result: (result.passed, result.severity))
        ]
        yield Section("Behaviour", text, [("Test", "Severity", "Passed", "Value", "Wanted", "What it asks"), *rows])


def _training(curve: Sequence[Mapping[str, Any]], making: Making) -> Iterator[Section]:
    told = [(_words(name), str(value)) for name, value in making.parameters.items()]
    table = [("", ""), *told] if told else []
    text = " ".join(filter(None, [epochs(curve) if curve else "", making.cost and f"The job took {making.cost}."]))
    if text or table:
        yield Section("Training", text, table, learning_curve_svg(curve) if curve else "")


def _data(figures: Mapping[str, Any]) -> Iterator[Section]:
    data = figures.get("data")
    if data:
        times = ("first_session", "validation_from", "test_from", "as_of")
        begin, stop, test, end = (f"{datetime.fromisoformat(data[name]):%Y-%m-%d %H:%M}" for name in times)
        rows = [
            ("Trained on", f"{begin} to {test}"),
            ("of these, to know when to stop, from", stop),
            ("Measured on", f"{test} to {end}"),
            ("Cut", data["split_rule"]),
            ("Sessions with two items", f"{data['sessions']:,}"),
            *((f"Rows of {name}", f"{rows:,}") for name, rows in data["rows"].items()),
        ]
        yield Section("Data", "Times are UTC.", [("", ""), *rows])


def _graphs(making: Making) -> Iterator[Section]:
    if making.tables:
        yield Section("Tables behind it", "From the raw log to the endpoint, by dbt.", picture=graph_svg(making.tables))
    if making.steps:
        text = "Of the flow run that made it, up to this card; the lines say what was handed on."
        yield Section("Steps", text, picture=graph_svg(making.steps))


def _made_from(version: ModelVersion) -> list[tuple[str, str]]:
    return [
        *((_words(name), value) for name, value in version.lineage.items()),
        ("Archive", version.uri),
        ("Archive SHA-256", version.digest),
        ("MLflow run", version.run_id),
    ]


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _yes(passed: bool) -> str:
    return "yes" if passed else "NO"
