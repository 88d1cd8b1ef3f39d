"""Model cards and learning curves: markdown for an artifact in the Prefect UI, HTML for the reports server."""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from boat.charts import calibration_svg, learning_curve_svg, values, watched
from boat.evaluation.gate import Decision
from boat.page import page
from boat.registry import ModelVersion

_NAMES = {
    "hr_at_5": "HR@5",
    "hr_at_10": "HR@10",
    "hr_at_20": "HR@20",
    "mrr_at_20": "MRR@20",
    "coverage_at_20": "Coverage@20",
    "pr_auc": "PR-AUC",
    "roc_auc": "ROC-AUC",
    "log_loss": "Log-loss",
    "brier": "Brier score",
    "ece": "Calibration error (ECE)",
}
_PURPOSE = {
    "recommend": "Given a session, the products that come next. It knows products by their ids alone; a product that "
    "is new since the training is never recommended, and a session without a known product gets the most popular.",
    "intent": "Given a session, the chance that it ends with a purchase. It is a share of 1, not a yes or no, and "
    "holds for sessions like those of the training days.",
}


@dataclass(frozen=True)
class Section:
    """A part of a card: a sentence, a table whose first row is its head, a picture as SVG; each may be missing."""

    title: str
    text: str = ""
    table: Sequence[Sequence[str]] = ()
    picture: str = ""


@dataclass(frozen=True)
class Card:
    """A page about one thing, written twice: as markdown and as HTML."""

    title: str
    lead: str
    sections: tuple[Section, ...]

    def markdown(self) -> str:
        """For an artifact in the Prefect UI."""
        parts = [f"# {self.title}", _markdown_text(self.lead)]
        for section in self.sections:
            parts += [f"## {section.title}", _markdown_text(section.text), _markdown_table(section.table)]
            parts.append(_markdown_picture(section.title, section.picture))
        return "\n\n".join(filter(None, parts)) + "\n"

    def html(self) -> str:
        """For the reports server: a whole document."""
        parts = [f'<h1>{escape(self.title)}</h1><p class="dim">{escape(self.lead)}</p>']
        for section in self.sections:
            parts.append(f"<h2>{escape(section.title)}</h2>")
            parts.append(f"<p>{escape(section.text)}</p>" if section.text else "")
            parts.append(_html_table(section.table))
            parts.append(
                f'<img alt="{escape(section.title)}" src="{_data(section.picture)}">' if section.picture else ""
            )
        return page(self.title, "".join(parts))


def model_card(
    version: ModelVersion,
    figures: Mapping[str, Any],
    curve: Sequence[Mapping[str, Any]],
    decision: Decision | None = None,
) -> Card:
    """What there is to know of a model version.

    Args:
        version: As registered; its lineage says what it was made from.
        figures: What the evaluation wrote: figures by model, the challenger's first.
        curve: One mapping an epoch.
        decision: The gates, where it stood before them.
    """
    kind = "recommend" if "mrr_at_20" in figures.get("challenger", {}) else "intent"
    sections = [Section("What it is for", _PURPOSE[kind]), Section("On the test days", table=_compared(figures))]
    calibration = figures.get("challenger", {}).get("calibration")
    if calibration:
        text = "Sessions with a like prediction together: what was predicted, and what share did buy."
        sections.append(Section("Calibration", text, picture=calibration_svg(calibration)))
    if decision is not None:
        rows = [("Gate", "Passed", ""), *((gate.name, _yes(gate.passed), gate.text) for gate in decision.gates)]
        sections.append(Section("Gates", decision.text if decision.accepted else "Refused.", rows))
    if curve:
        sections.append(Section("Training", _epochs(curve), picture=learning_curve_svg(curve)))
    sections.append(Section("Made from", table=[("", ""), *_made_from(version)]))
    lead = f"Registered {version.created_at:%Y-%m-%d %H:%M} UTC; measured on days it was not trained on."
    return Card(f"{version.name}, version {version.version}", lead, tuple(sections))


def write_page(card: Card, version: ModelVersion, folder: Path) -> Path:
    """Write a version's card to `folder/cards/NAME-VERSION.html`; returns that path."""
    path = folder / "cards" / f"{version.name}-{version.version}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(card.html(), encoding="utf-8")
    return path


def learning_curve(curve: Sequence[Mapping[str, Any]]) -> str:
    """Markdown with the learning curve so far."""
    if not curve:
        return "No epoch has ended yet."
    return f"{_epochs(curve)}\n\n{_markdown_picture('Learning curve', learning_curve_svg(curve))}"


def _epochs(curve: Sequence[Mapping[str, Any]]) -> str:
    seconds = f" in {curve[-1]['seconds']:.0f} s" if "seconds" in curve[-1] else ""
    told = f"{len(curve)} epoch{'s' if len(curve) > 1 else ''}{seconds}"
    name = watched(curve)
    if not name:
        return f"{told}."
    best = (min if name.endswith("loss") else max)(filter(math.isfinite, values(curve, name)), default=math.nan)
    return f"{told}; best {name.replace('_', ' ')} {best:.4f}."


def _compared(figures: Mapping[str, Any]) -> list[list[str]]:
    """A row a figure, a column a model; figures that are no plain numbers are left out."""
    models = [name for name, values in figures.items() if isinstance(values, Mapping)]
    names = [
        name
        for name, value in figures.get("challenger", {}).items()
        if isinstance(value, int | float) and not name.endswith(("_low", "_high"))
    ]
    head = ["", *(("this version" if model == "challenger" else model.replace("_", " ")) for model in models)]
    return [
        head,
        *([_NAMES.get(name, _words(name)), *(_figure(figures[model], name) for model in models)] for name in names),
    ]


def _figure(values: Mapping[str, Any], name: str) -> str:
    value, low, high = (values.get(key) for key in (name, f"{name}_low", f"{name}_high"))
    if not isinstance(value, int | float):
        return ""
    between = f" ({low:.4f} to {high:.4f})" if low is not None and high is not None else ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}{between}"


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


def _markdown_text(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _markdown_table(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [f"| {' | '.join(_markdown_text(cell) for cell in row)} |" for row in rows]
    return "\n".join([lines[0], f"|{' --- |' * len(rows[0])}", *lines[1:]])


def _markdown_picture(title: str, svg: str) -> str:
    return f"![{title}]({_data(svg)})" if svg else ""


def _html_table(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    head = f"<tr>{_cells('th', rows[0])}</tr>" if any(rows[0]) else ""
    body = "".join(f"<tr>{_cells('td', row)}</tr>" for row in rows[1:])
    return f"<table>{head}{body}</table>"


def _html_picture(title: str, svg: str) -> str:
    return f'<img alt="{escape(title)}" src="{_data(svg)}">' if svg else ""


def _cells(tag: str, cells: Iterable[str]) -> str:
    return "".join(f"<{tag}{' class=bad' if cell == 'NO' else ''}>{escape(cell)}</{tag}>" for cell in cells)


def _data(svg: str) -> str:
    # Prefect's UI shows no SVG in place, but this.
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
