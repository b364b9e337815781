"use strict";
// Draws the pictures of asr/explain/page.py from the numbers in the page, and plays words.
const GUTTER = 8, ROOT = 0.7, WAVE = 56, TONES = 110, WORDS = 46, AXIS = 22, PER_SECOND = 120;
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const rgb = name => css(name).match(/[0-9a-f]{2}/gi).map(pair => parseInt(pair, 16));
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const percent = x => x >= 0.095 || x === 0 ? Math.round(100 * x) + " %" : (100 * x).toPrecision(1) + " %";
const add = (parent, tag, text, kind) => {
  const made = parent.appendChild(document.createElement(tag));
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
};

class Picture {
  constructor(section, data, player) {
    Object.assign(this, { section, data, player, chosen: -1, show: "both" });
    for (const key of ["attention", "relevance", "history", "tones", "wave"]) this[key] = bytes(data[key]);
    this.box = section.querySelector(".picture");
    this.canvas = add(this.box, "canvas");
    this.cursor = add(this.box, "div", "", "cursor");
    this.cursor.hidden = true;
    this.buttons = [...section.querySelectorAll(".word")];
    this.buttons.forEach((button, i) => {
      button.onclick = () => { this.choose(i); player.play(data.words[i].start, data.words[i].end); };
      button.onfocus = () => this.choose(i);
      button.onkeydown = event => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (step && this.buttons[i + step]) { event.preventDefault(); this.buttons[i + step].focus(); }
      };
    });
    for (const radio of section.querySelectorAll(".show input"))
      radio.onchange = () => { this.show = radio.value; this.draw(); };
    this.canvas.onclick = event => {
      const time = this.time(event.offsetX), at = this.wordAt(time);
      if (at >= 0) this.choose(at);
      player.play(at >= 0 ? data.words[at].start : time, at >= 0 ? data.words[at].end : data.end);
    };
    this.choose(data.words.reduce((worst, word, i) => word.sure < data.words[worst].sure ? i : worst, 0));
  }

  x(time) { return GUTTER + (time - this.data.start) * this.scale; }
  time(x) { return this.data.start + Math.max(0, x - GUTTER) / this.scale; }
  wordAt(time) { return this.data.words.findIndex(word => word.start <= time && time < word.end); }

  choose(i) {
    if (i === this.chosen) return;
    this.chosen = i;
    this.buttons.forEach((button, k) => button.classList.toggle("chosen", k === i));
    this.explain(this.data.words[i]);
    this.draw();
    this.reveal(this.data.words[i].start, this.data.words[i].end);
  }

  reveal(start, end) {
    const frame = this.box.parentElement, left = this.x(start) - 20, right = this.x(end) + 20;
    if (left < frame.scrollLeft || right > frame.scrollLeft + frame.clientWidth) frame.scrollLeft = left;
  }

  explain(word) {
    const panel = this.section.querySelector(".detail"), { text } = this.data;
    panel.replaceChildren();
    add(panel, "h3", word.text);
    add(panel, "p", `${word.start.toFixed(2)} to ${word.end.toFixed(2)} s`, "soft");
    add(panel, "h3", "How each letter became probable");
    for (const [name, value] of [["uniform guess", word.uniform], ["from the letters before it, without sound", word.language], ["with the sound", word.probability]]) {
      const step = add(panel, "div", undefined, "step");
      add(step, "span", name);
      add(step, "span", percent(value));
      add(add(step, "div", "", "bar"), "i").style.width = `${100 * value}%`;
    }
    const parts = `So ${percent(word.sound)} of this word comes from its sound and ${percent(1 - word.sound)} from the text before it, by the logarithm of the probability.`;
    add(panel, "p", word.probability > word.uniform ? parts : "The decoder finds these letters no more probable than a uniform guess.");
    add(panel, "h3", "Other readings that it considered");
    for (const [other, share] of word.others)
      add(panel, "p", `${other || "(nothing)"}: ${percent(share)}`);
    if (!word.others.length) add(panel, "p", "none", "soft");
    if (word.first === 0) return;
    add(panel, "h3", "Earlier letters that it leaned on");
    add(panel, "p", "The stronger the colour of a letter, the less probable this word gets when another letter stands there.", "soft");
    const letters = add(panel, "div", undefined, "letters"), [r, g, b] = rgb("--relevance");
    for (let j = 0; j < word.end_letter; j++) {
      const letter = add(letters, j < word.first ? "span" : "b", text[j]);
      let most = 0;
      for (let i = word.first; i < word.end_letter; i++) most = Math.max(most, this.history[i * text.length + j]);
      if (j < word.end_letter - 1) letter.style.backgroundColor = `rgba(${r},${g},${b},${most / 255})`;
    }
  }

  draw() {
    const { data, box, canvas } = this, seconds = data.end - data.start;
    const width = Math.max(box.parentElement.clientWidth, seconds * PER_SECOND + 2 * GUTTER);
    this.scale = (width - 2 * GUTTER) / seconds;
    this.row = Math.max(5, Math.min(18, 640 / data.text.length));
    const height = WAVE + TONES + WORDS + this.row * data.text.length + AXIS, dots = devicePixelRatio || 1;
    this.section.querySelector(".hint").hidden = width <= box.parentElement.clientWidth;
    box.style.width = canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    canvas.width = Math.round(width * dots);
    canvas.height = Math.round(height * dots);
    const pen = this.pen = canvas.getContext("2d");
    pen.scale(dots, dots);
    this.drawWave();
    this.drawTones();
    this.drawWords();
    this.drawMaps();
    this.drawAxis(height);
  }

  drawWave() {
    const { pen, wave } = this, count = wave.length / 2, width = this.x(this.data.end) - GUTTER;
    pen.fillStyle = css("--soft");
    for (let i = 0; i < count; i++) {
      const low = wave[2 * i] - 128, high = wave[2 * i + 1] - 128;
      pen.fillRect(GUTTER + i * width / count, WAVE / 2 - high * WAVE / 256, width / count + 0.3, Math.max(1, (high - low) * WAVE / 256));
    }
    this.label("sound wave", 2);
  }

  drawTones() {
    const back = rgb("--back"), ink = rgb("--text"), rows = this.data.tone_rows, columns = this.tones.length / rows;
    this.image(columns, rows, WAVE, TONES, i => back.map((value, k) => value + (ink[k] - value) * this.tones[i] / 255));
    this.curve(this.attention, "--attention");
    this.curve(this.relevance, "--relevance");
    this.label(`pitch: high tones at the top; the lines belong to ${this.data.words[this.chosen].text}`, WAVE + 2);
  }

  curve(map, colour) {
    if (this.show !== "both" && `--${this.show}` !== colour) return;
    const { pen, data } = this, word = data.words[this.chosen], columns = map.length / data.text.length, sums = new Float32Array(columns);
    for (let i = word.first; i < word.end_letter; i++)
      for (let t = 0; t < columns; t++) sums[t] += (map[i * columns + t] / 255) ** (1 / ROOT);
    const most = Math.max(1e-6, ...sums), width = this.x(data.end) - GUTTER;
    pen.beginPath();
    sums.forEach((sum, t) => pen.lineTo(GUTTER + (t + 0.5) * width / columns, WAVE + TONES - 2 - sum / most * (TONES - 22)));
    pen.strokeStyle = css(colour);
    pen.lineWidth = 2.5;
    pen.stroke();
  }

  drawWords() {
    const { pen, data } = this, top = WAVE + TONES;
    pen.textAlign = "center";
    data.words.forEach((word, k) => {
      const left = this.x(word.start), right = this.x(word.end);
      pen.fillStyle = css(`--${word.grade}`);
      pen.fillRect(left + 1, top + 4, right - left - 2, 22);
      if (k === this.chosen) { pen.strokeStyle = css("--text"); pen.lineWidth = 1.5; pen.strokeRect(left + 1, top + 4, right - left - 2, 22); }
      pen.fillStyle = css("--text");
      pen.font = "12px system-ui, sans-serif";
      pen.fillText(word.text, (left + right) / 2, top + 19, right - left - 4);
      pen.font = "10px system-ui, sans-serif";
      pen.fillStyle = pen.strokeStyle = css("--soft");
      pen.lineWidth = 0.6;
      for (const [letter, from, to] of word.letters) {
        pen.fillText(letter, this.x((from + to) / 2), top + 41);
        pen.beginPath();
        pen.moveTo(this.x(from), top + 27);
        pen.lineTo(this.x(from), top + 31);
        pen.stroke();
      }
    });
    pen.textAlign = "left";
  }

  drawMaps() {
    const { pen, data, row } = this, top = WAVE + TONES + WORDS, rows = data.text.length, columns = this.attention.length / rows;
    const back = rgb("--back"), inks = [rgb("--attention"), rgb("--relevance")];
    const on = [this.show !== "relevance", this.show !== "attention"];
    this.image(columns, rows, top, rows * row, i => back.map((value, k) => {
      let left = value;
      [this.attention[i], this.relevance[i]].forEach((weight, m) => { if (on[m]) left += (inks[m][k] - value) * weight / 255; });
      return left;
    }));
    pen.fillStyle = css("--text");
    pen.font = `600 ${Math.min(12, row + 2)}px ui-monospace, monospace`;
    pen.strokeStyle = css("--back");
    pen.lineWidth = 3;
    for (const { letters, first } of data.words)
      letters.forEach(([letter, from, to], k) => {  // each letter stands where it is heard
        const place = [letter, this.x((from + to) / 2) - 3, top + (first + k + 0.85) * row];
        pen.strokeText(...place);
        pen.fillText(...place);
      });
    const word = data.words[this.chosen];
    pen.strokeStyle = css("--text");
    pen.lineWidth = 1;
    pen.setLineDash([3, 3]);
    pen.strokeRect(0.5, top + word.first * row, this.x(data.end) + GUTTER - 1, (word.end_letter - word.first) * row);
    pen.setLineDash([]);
  }

  drawAxis(height) {
    const { pen, data } = this, step = this.scale > 60 ? 0.5 : 1;
    pen.fillStyle = css("--soft");
    pen.font = "11px system-ui, sans-serif";
    pen.textAlign = "center";
    for (let time = Math.ceil(data.start / step) * step; time <= data.end; time += step) {
      pen.fillRect(this.x(time), height - AXIS, 1, 4);
      pen.fillText(`${time.toFixed(1)} s`, Math.min(this.x(data.end) - 6, Math.max(14, this.x(time))), height - 4);
    }
    pen.textAlign = "left";
  }

  image(columns, rows, top, height, colour) {
    const image = new ImageData(columns, rows), sheet = document.createElement("canvas");
    for (let i = 0; i < columns * rows; i++) {
      const [r, g, b] = colour(i);
      image.data.set([r, g, b, 255], 4 * i);
    }
    Object.assign(sheet, { width: columns, height: rows }).getContext("2d").putImageData(image, 0, 0);
    this.pen.imageSmoothingEnabled = false;
    this.pen.drawImage(sheet, GUTTER, top, this.x(this.data.end) - GUTTER, height);
  }

  label(text, top) {
    const { pen } = this;
    pen.font = "12px system-ui, sans-serif";
    pen.fillStyle = css("--back");
    pen.globalAlpha = 0.75;
    pen.fillRect(GUTTER, top, pen.measureText(text).width + 8, 16);
    pen.globalAlpha = 1;
    pen.fillStyle = css("--text");
    pen.fillText(text, GUTTER + 4, top + 12);
  }

  follow(time, playing) {
    const inside = playing && time >= this.data.start && time <= this.data.end;
    this.cursor.hidden = !inside;
    if (inside) {
      this.cursor.style.left = `${this.x(time)}px`;
      this.reveal(time, time);
    }
    const now = inside ? this.wordAt(time) : -1;
    this.buttons.forEach((button, i) => button.classList.toggle("now", i === now));
  }
}

class Player {
  constructor(section) {
    this.audio = section.querySelector("audio");
    this.pictures = [];
    this.until = Infinity;
    this.audio.onplay = () => requestAnimationFrame(() => this.follow());
    this.audio.onpause = () => { this.until = Infinity; };
  }

  play(start, end) {
    for (const other of document.querySelectorAll("audio")) if (other !== this.audio) other.pause();
    this.audio.currentTime = start;
    this.until = end;
    this.audio.play().catch(() => {});
  }

  follow() {
    const { audio } = this;
    if (audio.currentTime >= this.until) audio.pause();
    for (const picture of this.pictures) picture.follow(audio.currentTime, !audio.paused);
    if (!audio.paused) requestAnimationFrame(() => this.follow());
  }
}

const pictures = [];
for (const section of document.querySelectorAll(".recording")) {
  const player = new Player(section);
  for (const segment of section.querySelectorAll(".segment")) {
    const data = JSON.parse(segment.querySelector("script").textContent);
    player.pictures.push(new Picture(segment, data, player));
  }
  pictures.push(...player.pictures);
}
const redraw = () => pictures.forEach(picture => picture.draw());
addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  redraw();
  pictures.forEach(picture => picture.explain(picture.data.words[picture.chosen]));
});
