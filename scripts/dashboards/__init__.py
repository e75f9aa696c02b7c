"""The dashboards of the monitoring stack, in Python: what is looked at, apart from how Grafana says it.

``overview``, ``models`` and ``usage`` hold a dashboard each, as a list of sections, lines and panels;
``grafana`` turns that into Grafana's JSON. Run ``python -m scripts.dashboards`` after a change: it
writes ``src/homeport/stack/files/grafana/dashboards/``. A test compares the files with ``documents()``.

What a panel may ask: metrics that a gateway really shows, columns that the usage table really has.
tests/stack runs each question on a real Prometheus and a real PostgreSQL.
"""

import json

from scripts.dashboards import models, overview, usage
from scripts.dashboards.grafana import document


def documents() -> dict[str, str]:
    """Each file's name and text."""
    made = (overview.DASHBOARD, models.DASHBOARD, usage.DASHBOARD)
    return {
        f"{each.name}.json": json.dumps(document(each), indent=2, ensure_ascii=False) + "\n"
        for each in made
    }
