import pytest

from asr.text.names import spelled_on_disk


@pytest.mark.parametrize("path", ["e\u0301/a.wav", "e\u0301/\u00e9.wav", "plain/b.wav"])
def test_a_name_is_found_in_either_form(tmp_path, path):
    file = tmp_path / path
    file.parent.mkdir()
    file.touch()
    for form in (path, path.replace("e\u0301", "\u00e9"), path.replace("\u00e9", "e\u0301")):
        assert spelled_on_disk(f"{tmp_path}/{form}") == str(file)


@pytest.mark.parametrize("path", ["", "\u00e9", "/nowhere/\u00e9.wav", "\u00e9\0", "\u00e9" * 5000])
def test_a_missing_path_is_unchanged(path):
    assert spelled_on_disk(path) == path
