"""The page in a real browser: no error, no request, words that play, narrow and wide."""

import base64
import hashlib
import html
import io
import json
import re

import numpy as np
import pytest
import soundfile

from asr.explain.page import spectrogram, write_page

HOSTILE = "</script><script>document.title='broken'</script>"


@pytest.fixture
def page(tmp_path, explained):
    return write_page(tmp_path / "page.html", [explained()])


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_it_opens_without_errors_and_without_horizontal_scroll(page, browser, width, dark):
    browser.open(page, width, dark=dark)
    assert browser.errors() == [] and browser.requests() == []
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert browser.run("document.querySelector('canvas').height > 200")
    drawn = (
        "(c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size)"
        "(document.querySelector('canvas'))"
    )
    assert browser.run(drawn) > 50


RECORD = """
window.seen = []; window.lit = [];
const audio = document.querySelector("audio");
for (const kind of ["play", "pause"])
  audio.addEventListener(kind, () => seen.push([kind, audio.currentTime]));
new MutationObserver(all => all.forEach(({ target }) => {
  if (target.classList.contains("now")) lit.push(target.firstChild.textContent);
})).observe(document.querySelector(".words"), { attributes: true, subtree: true });
"""


@pytest.fixture
def recorded(page, browser):
    """The page in the browser, which records when its audio starts and stops."""
    browser.open(page, 1280)
    browser.wait("document.querySelector('audio').readyState >= 2")
    assert browser.run("document.querySelector('audio').paused")
    browser.run(RECORD)
    return browser


def test_a_click_on_a_word_plays_it_and_stops_at_its_end(recorded):
    recorded.click(".word:nth-child(2)")
    recorded.wait("seen.length === 2")
    (first, start_s), (last, end_s) = recorded.run("seen")
    assert (first, last) == ("play", "pause")
    assert start_s == pytest.approx(1.5, abs=0.05) and 2.5 <= end_s < 3.5
    assert "ON" in recorded.run("lit")
    assert recorded.errors() == []


def test_a_click_into_the_picture_plays_the_word_there(recorded):
    recorded.click("canvas")  # its middle, 2 s
    recorded.wait("seen.length > 0")
    assert recorded.run("seen[0]") == ["play", pytest.approx(1.5, abs=0.05)]
    assert recorded.run("document.querySelector('.word.chosen').textContent").startswith("ON")


def test_the_keyboard_chooses_and_plays_words(recorded):
    recorded.run("document.querySelector('.word').focus()")
    recorded.key("ArrowRight", 39)
    assert recorded.run("document.querySelector('.detail h3').textContent") == "ON"
    recorded.run("document.activeElement.click()")
    recorded.wait("seen.length > 0")
    assert recorded.run("seen[0]") == ["play", pytest.approx(1.5, abs=0.05)]


def test_it_says_in_words_what_it_shows(page, browser):
    browser.open(page, 1280)
    text = browser.run("document.body.innerText")
    for sentence in (
        "Attention is evidence of the alignment, not proof of what caused a letter.",
        "80 % of the relevance lies in the sound that got 90 % of the attention.",
        "low-confidence: the text is more likely wrong than right",
        "The whole text is right with a probability of 40 %.",
        "THE <b>: 1 %",  # another reading, escaped
    ):
        assert sentence in text
    assert "LIGHT" in browser.run("document.querySelector('.detail').innerText")  # the least sure


def test_a_hostile_text_is_text(tmp_path, explained, browser):
    found = [explained((HOSTILE,), name=HOSTILE, flags=(HOSTILE,)), explained()]
    path = write_page(tmp_path / "page.html", found)
    browser.open(path, 390)
    assert browser.errors() == [] and browser.run("document.title") != "broken"
    assert browser.run("document.querySelectorAll('nav li').length") == 2
    assert browser.run("document.querySelector('.word').textContent").startswith(HOSTILE)
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")


def test_the_policy_allows_its_own_script_alone(page):
    text = page.read_text()
    policy = re.search('Content-Security-Policy" content="([^"]*)"', text)[1]
    (script,) = re.findall("<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert not re.search(r"https?://|<link[^>]*href=\"(?!data:)", text)
    assert 'style="' not in text


def test_the_audio_is_in_the_page(page, explained):
    sound = re.search('data:audio/flac;base64,([^"]*)', page.read_text())[1]
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(sound)))
    expected = explained()
    assert rate == expected.rate
    np.testing.assert_allclose(samples, expected.waveform, atol=1e-4)


def test_numbers_of_the_page(page):
    block = re.search('<script type="application/json">(.*?)</script>', page.read_text())[1]
    data = json.loads(html.unescape(block))
    count = len(data["text"])
    assert [word["text"] for word in data["words"]] == ["TURN", "ON", "LIGHT"]
    assert len(base64.b64decode(data["attention"])) == 400 * count
    assert len(base64.b64decode(data["history"])) == count * count


def test_without_speech(tmp_path, explained, browser):
    from dataclasses import replace

    from asr.recognize.transcript import Transcript

    silent = replace(explained(), segments=(), transcript=Transcript(4.0))
    browser.open(write_page(tmp_path / "page.html", [silent]), 1280)
    assert browser.errors() == []
    assert "Nothing to explain: no speech found." in browser.run("document.body.innerText")


@pytest.mark.parametrize("samples", [1, 100, 30000])
def test_spectrogram_of_a_tone(samples):
    rate = 16000
    tone = np.sin(2 * np.pi * 1000 * np.arange(samples) / rate)
    found = spectrogram(tone, rate)
    assert found.min() >= 0 and found.max() <= 255
    if samples > 1000:
        peak = len(found) - 1 - found.mean(1).argmax()
        assert peak * rate / 400 == pytest.approx(1000, abs=60)
