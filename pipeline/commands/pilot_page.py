"""The pilot's page: one file that opens offline, asks nobody for anything, and runs no script.

What a model wrote is text here and never markup: everything is escaped, pictures are data URIs
that this program encoded, and the page's own policy forbids the rest.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, StrictUndefined

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
pre { background: #f4f4f2; padding: 1rem; white-space: pre-wrap }
table { border-collapse: collapse; width: 100% }
td, th { border-top: 1px solid #ddd; padding: .6rem; text-align: left; vertical-align: top }
img { max-width: 15rem; height: auto }
.bad { color: #a00 }
small { color: #666; overflow-wrap: anywhere }
"""

TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<title>Pilot</title><style>{{ style|safe }}</style></head><body>
<h1>Pilot</h1>
<pre>{{ said|join("\n") }}</pre>
<table><tr><th>Image</th><th>Caption</th><th>Asked alone</th></tr>
{% for row in rows -%}
<tr><td>{% if row.picture %}<img src="{{ row.picture }}" alt=""><br>{% endif %}
<small>{{ row.image }}</small></td>
<td>{% if row.caption %}{{ row.caption }}{% else %}
<span class="bad">{{ row.code }}: {{ row.error }}</span>{% endif %}<br>
<small>{% if row.size > 1 %}in a pack of {{ row.size }}{% else %}alone{% endif %}</small></td>
<td>{% if row.alone is not none %}{{ row.alone }}<br><small>alike: {{ "%.2f"|format(row.alike) }}
</small>{% if row.misplaced %} <span class="bad">another image of its pack fits better</span>
{% endif %}{% endif %}</td></tr>
{% endfor -%}
</table>
{% if more %}<p>{{ more }} more in captions/ and failures/.</p>{% endif %}
</body></html>
"""


def page(said: Sequence[str], rows: Sequence[Mapping[str, Any]], *, more: int) -> str:
    """The HTML. said: the forecast's lines; more: rows that are not shown."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(TEMPLATE)
    return template.render(policy=policy, style=STYLE, said=said, rows=rows, more=more)
