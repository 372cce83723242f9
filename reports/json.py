"""A document as JSON: its sentences and tables, and the answer that it was made of."""

from __future__ import annotations

import json
from typing import Any

from reports.document import Block, Document, Figure, Place, Sentence

SCHEMA = 1  # of the report's JSON; keys may be added, never renamed


def to_json(document: Document) -> str:
    """Return the document, and the data that it was made of, as JSON text."""
    places = document.places()
    answer = {
        "schema": SCHEMA,
        "kind": document.kind,
        "title": document.title,
        "sections": [
            {"title": s.title, "blocks": [_block_json(b, places) for b in s.blocks]}
            for s in document.sections
        ],
        "windows": {
            name: {
                "start_ns": place.start_ns,
                "end_ns": place.end_ns,
                "recording": place.recording,
                "address": place.address(document.base_url),
            }
            for place, name in places.items()
        },
        document.kind: document.data,
    }
    return json.dumps(answer, indent=1, allow_nan=False) + "\n"


def _block_json(block: Block, places: dict[Place, str]) -> dict[str, Any]:
    if isinstance(block, Sentence):
        fields = {"sentence": block.text, "kind": block.kind}
        return fields | _window_json(block.place, places)
    if isinstance(block, Figure):
        return {"figure": block.alt}
    return {
        "table": block.name,
        "columns": [{"name": c.name, "unit": c.unit} for c in block.columns],
        "rows": [
            [
                {"text": cell.text, "value": cell.value} | _window_json(cell.place, places)
                for cell in row
            ]
            for row in block.rows
        ],
    }


def _window_json(place: Place | None, places: dict[Place, str]) -> dict[str, str]:
    return {} if place is None else {"window": places[place]}
