"""The config reader: numbers of YAML 1.2, marks, duplicates, overrides, environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmops.core.errors import ConfigError
from llmops.core.yamlfile import read_document


def written(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4), ("1.5", 1.5), ("1E5", 1e5), ("-2", -2), ("1_000", 1000), ("no", "no"), ("on", "on"),
        ("true", True), ("'3e-4'", "3e-4"), ("1.2.3", "1.2.3"), ("1e", "1e"), ("null", None), ("30d", "30d"),
    ],
)  # fmt: skip
def test_scalars_mean_what_they_look_like(tmp_path: Path, text: str, value: object) -> None:
    assert read_document(written(tmp_path, f"a: {text}\n")).data == {"a": value}


def test_duplicate_keys_are_all_reported_with_their_lines(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_document(written(tmp_path, "a: 1\nb: {c: 1, c: 2}\na: 3\n"))
    places = [mistake.where.rsplit("/", 1)[1] for mistake in caught.value.mistakes]
    assert places == ["config.yaml:3:1", "config.yaml:2:11"] or places == ["config.yaml:2:11", "config.yaml:3:1"]


def test_marks_lead_to_the_key(tmp_path: Path) -> None:
    document = read_document(written(tmp_path, "train:\n  epochs: 4\n  list:\n    - a: 1\n"))
    place, shown = document.where(("train", "list", 0, "a"))
    assert place.endswith("config.yaml:4:7")
    assert shown.splitlines()[1].index("^") == shown.splitlines()[0].index("a: 1")


def test_overrides_are_yaml_and_reach_into_lists(tmp_path: Path) -> None:
    document = read_document(written(tmp_path, "a: {b: [1, 2]}\n"), ["a.b.1=3e-4", "x.y=no"])
    assert document.data == {"a": {"b": [1, 3e-4]}, "x": {"y": "no"}}
    assert document.where(("x", "y"))[0] == "--set x.y=no"


@pytest.mark.parametrize("override", ["a", "=1", "a..b=1", "a.b.9=1", "a.b=[1"])
def test_bad_overrides_are_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_document(written(tmp_path, "a: {b: [1]}\n"), [override])
    assert override in caught.value.mistakes[0].where


def test_environment_stays_a_name_in_raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_TEST_SECRET", "hush")
    document = read_document(written(tmp_path, "a: 'x-${LLMOPS_TEST_SECRET}'\n"))
    assert document.data == {"a": "x-hush"}
    assert document.raw == {"a": "x-${LLMOPS_TEST_SECRET}"}
    monkeypatch.delenv("LLMOPS_TEST_SECRET")
    with pytest.raises(ConfigError, match="wrong"):
        read_document(written(tmp_path, "a: ${LLMOPS_TEST_SECRET}\n"))


@pytest.mark.parametrize(
    "text", ["", "[1]", "a: [", "\ta: 1", "a: !!python/object:os.system x", "&a a: *b", "a: 1\n---\nb: 2"]
)
def test_unusable_files_are_config_errors(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_document(written(tmp_path, text))
    assert caught.value.mistakes[0].what


def test_missing_binary_and_huge_files(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(ConfigError):
            read_document(path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"a: \xff\xfe")
    with pytest.raises(ConfigError) as caught:
        read_document(binary)
    assert "UTF-8" in caught.value.mistakes[0].what
    huge = tmp_path / "huge.yaml"
    huge.write_bytes(b"a: 1\n" * 300_000)
    with pytest.raises(ConfigError):
        read_document(huge)
