"""Small helpers: fingerprints of files, days that show something."""

import hashlib

import numpy as np

from utils.common import files
from utils.common.files import file_hash
from utils.scores import metrics


def test_a_hash_is_kept_while_the_file_is_and_made_again_when_it_changes(tmp_path, monkeypatch):
    path, made = tmp_path / "data.nc", []
    compute = files._file_hash
    monkeypatch.setattr(files, "_file_hash", lambda *what: made.append(what) or compute(*what))
    monkeypatch.setattr(files, "_TICK", -1)  # as if the file had been there for long
    for content, expected in ((b"one", 1), (b"one", 1), (b"two", 2), (b"two", 2)):
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
        assert file_hash(path) == hashlib.sha256(content).hexdigest()
        assert len(made) == expected


def test_the_hash_of_a_new_file_is_not_kept(tmp_path):
    """It could change again within the same tick of the file system's clock."""
    path = tmp_path / "data.nc"
    for content in (b"one", b"two", b"six"):
        path.write_bytes(content)
        assert file_hash(path) == hashlib.sha256(content).hexdigest()


def test_the_hash_of_a_store_knows_its_names_and_its_files(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_TICK", -1)
    store = tmp_path / "data.zarr"
    (store / "a").mkdir(parents=True)
    (store / "a" / "0").write_bytes(b"x")
    first = file_hash(store)
    assert first == hashlib.sha256(b"a/0x").hexdigest()
    (store / "a" / "1").write_bytes(b"")
    assert file_hash(store) == hashlib.sha256(b"a/0xa/1").hexdigest()


def test_days_that_show_something_have_as_many_cells_as_half_of_all_days_with_any():
    assert list(metrics.well_covered(np.array([0.0, 1, 5, 9, 0]))) == [False, False, True, True, False]
