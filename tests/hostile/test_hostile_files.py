"""Every hostile file gets what the manifest says: read with its notes, or refused with its line."""

import pytest

from tests.hostile.outcomes import hostile_files, manifest, outcome_of

FILES = tuple(hostile_files())


def test_the_manifest_names_every_file_once():
    names = [file.name for file in FILES]
    assert len(names) >= 250
    assert sorted(names) == sorted(manifest())


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_a_hostile_file_gets_what_the_manifest_says(file, monkeypatch):
    assert outcome_of(file, monkeypatch) == manifest()[file.name]
