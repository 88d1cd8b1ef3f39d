"""The HTML frame of all pages of Boat's servers, without scripts or external files."""

from html import escape

_STYLE = """
:root{color-scheme:light dark;--ink:#1d2733;--dim:#5b6b7c;--line:#dfe5ec;--soft:#f4f6f9;--link:#0b62c4;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e4e9ef;--dim:#9aa8b7;--line:#33404d;--soft:#222c36;--link:#7db4f5;
--bad:#ff8a80}body{background:#171e26}}
body{font:16px/1.55 system-ui,sans-serif;color:var(--ink);max-width:62rem;margin:2.5rem auto;padding:0 1.25rem}
h1{font-size:1.7rem;margin:0 0 .25rem}h2{font-size:1.15rem;margin:2.2rem 0 .6rem}a{color:var(--link)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th{color:var(--dim);font-weight:600;font-size:.85rem}
td,th{text-align:left;vertical-align:top;padding:.42rem .8rem .42rem 0;border-bottom:1px solid var(--line);
overflow-wrap:anywhere}
th{overflow-wrap:normal}.short{white-space:nowrap}.keys td:first-child{width:17rem}.wide{font-size:.82rem}
summary{color:var(--link);cursor:pointer}
.figures td+td,.figures th+th{text-align:right}
code,pre{font-size:.87em;background:var(--soft);border-radius:4px;padding:.1rem .3rem}
pre{padding:.9rem;overflow-x:auto}img{max-width:100%;border-radius:6px}
.dim{color:var(--dim)}.bad{color:var(--bad);font-weight:600}
"""


def page(title: str, body: str) -> str:
    """Return an HTML document.

    Args:
        title: Plain text.
        body: HTML. The caller has escaped all data in it.
    """
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style><body>{body}</body></html>"
    )
