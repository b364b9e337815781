"""The report on the machine and the installation."""

import json
import re
import sys
import tomllib

import numpy as np
import pytest

from asr.commands import doctor


def find(findings, name):
    return next(f for f in findings if f.name == name)


def test_report_on_this_machine(capsys):
    code = doctor.main([])
    said = capsys.readouterr().out
    assert ("everything is fine" in said) == (code == 0)
    assert "torch" in said
    for name in doctor.FORMATS:
        assert name in said


def test_json_agrees_with_the_exit_code(capsys):
    code = doctor.main(["--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] == (code == 0)
    assert report["ok"] == all(not f["remedy"] for f in report["findings"])


def test_every_package_that_the_project_needs_is_checked():
    needed = tomllib.loads((doctor.ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = [re.match(r"[\w-]+", line)[0].lower() for line in needed]
    assert sorted(names) == sorted(name.lower() for name in doctor.PACKAGES)


def test_missing_package_has_a_remedy(monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", ("torch", "no-such-package"))
    findings = list(doctor.versions())
    assert find(findings, "torch").remedy == ""
    assert find(findings, "no-such-package").remedy == "run egs/utils/setup.sh"


def test_a_library_that_cannot_be_loaded_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    findings = list(doctor.versions())
    assert find(findings, "import torchaudio").remedy == "run egs/utils/setup.sh"
    assert find(findings, "libsndfile").remedy == ""


def test_other_versions_than_pinned(tmp_path, monkeypatch):
    path = tmp_path / "constraints.txt"
    path.write_text("# comment\npytest==0.1\nnot-installed==1.0\n")
    (other,) = doctor.differences(path)
    assert other.startswith("pytest ") and other.endswith(" instead of 0.1")
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    finding = find(list(doctor.environment()), "constraints.txt")
    assert finding.remedy == "run egs/utils/setup.sh"
    assert "1 packages differ" in finding.value


def test_the_project_is_found():
    assert (doctor.ROOT / "constraints.txt").is_file()


def test_unreadable_format_is_reported(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "FORMATS", {"wav": ("WAV", "PCM_16"), "odd": ("WAV", "OPUS")})
    findings = {f.name: f for f in doctor.audio_formats()}
    assert findings["wav"].remedy == ""
    assert findings["odd"].remedy
    monkeypatch.setattr(doctor, "examine", lambda: list(findings.values()))
    assert doctor.main([]) == 1
    assert "    remedy: install soundfile's own wheel" in capsys.readouterr().out


def test_a_tone_that_changes_is_noticed(monkeypatch):
    import soundfile

    monkeypatch.setattr(soundfile, "read", lambda _: (np.zeros(16000), 16000))
    with pytest.raises(ValueError, match="came back"):
        doctor.round_trip("WAV", "PCM_16")


def test_full_disk(monkeypatch):
    monkeypatch.setattr(doctor, "NEED_DISK_GB", 1e9)
    assert all("free some space" in f.remedy for f in doctor.disk())


def test_broken_check_does_not_hide_the_others(monkeypatch):
    def disk():
        raise OSError("gone")

    monkeypatch.setattr(doctor, "disk", disk)
    findings = doctor.examine()
    assert find(findings, "disk").value == "failed: gone"
    assert find(findings, "wav").remedy == ""
