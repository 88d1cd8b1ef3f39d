"""Cards: pages as Markdown for the Prefect UI and as HTML for the reports server. Also learning curves."""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from boat.render.charts import learning_curve_svg, validation_metric, values
from boat.render.page import page

_SHORT = 26
"""Cells up to this length, such as a metric with its interval, are not wrapped."""
_WIDE = 6
"""Tables with at least this many columns have a smaller font."""


@dataclass(frozen=True)
class Section:
    """A part of a card. Text, table and picture may be empty. Below a picture, the table is folded.

    Attributes:
        title: Heading.
        text: Plain text.
        table: Rows of cells. The first row is the head.
        picture: SVG.
    """

    title: str
    text: str = ""
    table: Sequence[Sequence[str]] = ()
    picture: str = ""


@dataclass(frozen=True)
class Card:
    """A page that can be written as Markdown and as HTML."""

    title: str
    lead: str
    sections: tuple[Section, ...]

    def markdown(self) -> str:
        """Return Markdown for an artifact in the Prefect UI."""
        parts = [f"# {self.title}", _markdown_text(self.lead)]
        for section in self.sections:
            parts += [f"## {section.title}", _markdown_text(section.text)]
            parts.append(_markdown_picture(section.title, section.picture))
            parts.append(_folded(f"\n\n{_markdown_table(section.table)}\n\n", section))
        return "\n\n".join(filter(None, parts)) + "\n"

    def html(self) -> str:
        """Return an HTML document for the reports server."""
        parts = [f'<h1>{escape(self.title)}</h1><p class="dim">{escape(self.lead)}</p>']
        for section in self.sections:
            parts.append(f"<h2>{escape(section.title)}</h2>")
            parts.append(f"<p>{escape(section.text)}</p>" if section.text else "")
            picture = f'<img alt="{escape(section.title)}" src="{_data(section.picture)}">'
            parts.append(picture if section.picture else "")
            parts.append(_folded(_html_table(section.table), section))
        return page(self.title, "".join(parts))


def learning_curve(curve: Sequence[Mapping[str, Any]]) -> str:
    """Return Markdown with the learning curve of the completed epochs."""
    if not curve:
        return "No epoch has ended yet."
    return f"{epoch_summary(curve)}\n\n{_markdown_picture('Learning curve', learning_curve_svg(curve))}"


def epoch_summary(curve: Sequence[Mapping[str, Any]]) -> str:
    """Return the number of epochs, their time, and the best value of the validation metric, as text."""
    seconds = f" in {curve[-1]['seconds']:.0f} s" if "seconds" in curve[-1] else ""
    epochs = f"{len(curve)} epoch{'s' if len(curve) > 1 else ''}{seconds}"
    name = validation_metric(curve)
    if not name:
        return f"{epochs}."
    best = (min if name.endswith("loss") else max)(filter(math.isfinite, values(curve, name)), default=math.nan)
    return f"{epochs}; best {name.replace('_', ' ')} {best:.4f}."


def _folded(table: str, section: Section) -> str:
    if not section.table or not section.picture:
        return table.strip()
    return f"<details><summary>Table</summary>{table}</details>"


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
    look = " class=keys" if not head else " class=wide" if len(rows[0]) >= _WIDE else ""
    return f"<table{look}>{head}{body}</table>"


def _cells(tag: str, cells: Iterable[str]) -> str:
    return "".join(f"<{tag}{_look(cell) if tag == 'td' else ''}>{escape(cell)}</{tag}>" for cell in cells)


def _look(cell: str) -> str:
    if cell == "NO":
        return " class=bad"
    return " class=short" if len(cell) <= _SHORT else ""


def _data(svg: str) -> str:
    # Prefect's UI does not render SVG elements, but it renders images with data URLs.
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
