"""Writes the files."""

from pathlib import Path

from scripts.dashboards import documents

FOLDER = Path(__file__).resolve().parents[2] / "src/homeport/stack/files/grafana/dashboards"

FOLDER.mkdir(parents=True, exist_ok=True)
for name, text in documents().items():
    (FOLDER / name).write_text(text, "utf-8")
