"""A job writes below its own folder, the current one or where a folder is, and over nothing of others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.jobs import load, refused


@pytest.mark.parametrize("key", ["output.path", "run.metrics"])
def test_no_folder_is_made_outside_of_the_jobs_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """One that is there may be written into."""
    folder, elsewhere = tmp_path / "job", tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    section, name = key.split(".")
    for path in (elsewhere / "new" / "x", Path("../../a-folder-that-is-not-there/x")):
        code, words = refused(folder, f"{section}: {{{name}: {path}}}\n")
        assert (code, words[:10]) == (78, "job.yaml:2")
        assert f"{key}: " in words
        assert "there is no such folder" in words
        assert not elsewhere.exists()
    elsewhere.mkdir()
    for path in (elsewhere / "x", Path("deep/er/x"), folder / "other" / "x"):
        load(folder, f"{section}: {{{name}: {path}}}\n")


def test_a_link_out_of_the_folder_is_outside(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    assert refused(folder, f"output: {{path: {folder}/link/new/x}}\n")[0] == 78


def test_metrics_go_over_no_file_of_others(tmp_path: Path) -> None:
    """A metrics file of ours, an empty one, or none; never a link, a folder or another's."""
    path = tmp_path / "m.prom"
    more = f"run: {{metrics: {path}}}\n"
    for fits in (b"", b"# HELP caption_pipeline_images Images of the manifest by state.\n"):
        path.write_bytes(fits)
        load(tmp_path, more)
    for other in (b"notes\n", b"# HELP node_load1 load\n"):
        path.write_bytes(other)
        code, words = refused(tmp_path, more)
        assert code == 78
        assert "never written over" in words
        assert path.read_bytes() == other
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    assert refused(tmp_path, more)[0] == 78
    path.unlink()
    path.mkdir()
    assert refused(tmp_path, more)[0] == 78


def test_a_dataset_of_others_is_never_written_over(tmp_path: Path) -> None:
    """73 before anything is made beside it; one of ours without its state is another matter."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipeline.captioning.output_location import refuse_strangers
    from pipeline.errors import OutputError
    from pipeline.schema import METADATA

    dataset = tmp_path / "dataset.parquet"
    table = pa.table({"x": [1]})
    pq.write_table(table, dataset)
    with pytest.raises(OutputError, match="never written over"):
        refuse_strangers(tmp_path)
    pq.write_table(table.replace_schema_metadata(METADATA), dataset)
    refuse_strangers(tmp_path)
    dataset.write_bytes(b"PAR1 damaged PAR1")
    refuse_strangers(tmp_path)
