"use strict";
(() => {
const $ = (id) => document.getElementById(id);
const content = JSON.parse($("content").textContent);
const END = content.start + content.seconds;
const GUTTER = 74; // pixels to the left of traces, for names
const SHORTEST = 0.5; // seconds that can be zoomed into
const NEAR = 2; // seconds before and after the moment, beside a contact
const VIEWS = {left: [-90, 0], front: [180, 0], right: [90, 0], above: [0, 89.9]};
const ROUND = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000]; // µV
const root = document.documentElement;

// State -------------------------------------------------------------------------------

const state = {
  from: content.start, to: Math.min(content.start + 10, END), t: content.start,
  derivation: "contacts", colour: "observability", band: "broad", contact: "",
  yaw: -130, pitch: 18, scalp: 1, virtual: 1,
};
let arrays = null;
const units = {}; // microvolts that are typical of a set of traces
let wanted = false;

function readHash() {
  for (const [name, text] of new URLSearchParams(location.hash.slice(1))) {
    if (!(name in state)) continue;
    const value = typeof state[name] === "number" ? Number(text) : text;
    if (typeof value === "string" || Number.isFinite(value)) state[name] = value;
  }
  if (!channels().length) state.derivation = "contacts";
  if (!(state.band in content.bands)) state.band = "broad";
  if (!$("colour").querySelector(`[value="${CSS.escape(state.colour)}"]`))
    state.colour = "observability";
  state.t = clamp(state.t, content.start, END - 1e-6);
  show(state.from, state.to);
  choose(state.contact);
}

function writeHash() {
  const hash = new URLSearchParams();
  for (const [name, value] of Object.entries(state))
    hash.set(name, typeof value === "number" ? Number(value.toFixed(3)) : value);
  try { history.replaceState(null, "", `#${hash}`); } catch { /* in a frame */ }
}

function channels() { return content.sets[state.derivation]?.channels ?? []; }
function chosen() { return channels().findIndex((c) => c.name === state.contact); }
function clamp(x, low, high) { return Math.min(Math.max(x, low), high); }
function second() {
  return clamp(Math.floor(state.t - content.start), 0, content.seconds - 1);
}

function show(from, to) {
  const span = clamp(to - from, SHORTEST, content.seconds);
  state.from = clamp(from, content.start, END - span);
  state.to = state.from + span;
}

function move(seconds) { show(state.from + seconds, state.to + seconds); redraw(); }

/** Choose a moment some seconds away, and keep it in view. */
function moveMoment(seconds) {
  state.t = clamp(state.t + seconds, content.start, END - 1e-6);
  const span = state.to - state.from;
  if (state.t < state.from || state.t > state.to)
    show(state.t - span / 2, state.t + span / 2);
  redraw();
}

function zoom(factor, around) {
  const at = around ?? (state.from + state.to) / 2;
  const span = clamp((state.to - state.from) * factor, SHORTEST, content.seconds);
  const share = (at - state.from) / (state.to - state.from);
  show(at - share * span, at + (1 - share) * span);
  redraw();
}

function choose(name) {
  const known = channels().some((c) => c.name === name);
  state.contact = known ? name : channels()[0].name;
}

function redraw() {
  if (wanted || !arrays) return;
  wanted = true;
  requestAnimationFrame(() => {
    wanted = false;
    drawAll();
    if (!root.dataset.firstPicture)
      root.dataset.firstPicture = Math.round(performance.now());
    writeHash();
  });
}

// Data --------------------------------------------------------------------------------

async function unpack() {
  const text = atob($("data").textContent);
  const bytes = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k++) bytes[k] = text.charCodeAt(k);
  const stream = new Blob([bytes]).stream();
  const inflated = stream.pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(inflated).arrayBuffer();
  const found = {};
  for (const [name, entry] of Object.entries(content.arrays)) {
    const size = entry.rows * entry.columns;
    if (entry.kind === "f4") {
      found[name] = {...entry, data: new Float32Array(buffer, entry.offset, size)};
      continue;
    }
    const data = new Uint8Array(buffer, entry.offset, size);
    for (let row = 0; row < entry.rows; row++) { // undo the differences
      const first = row * entry.columns;
      for (let k = first + 1; k < first + entry.columns; k++) data[k] += data[k - 1];
    }
    const signed = new Int8Array(buffer, entry.offset, size);
    found[name] = {...entry, data: entry.kind === "i1" ? signed : data};
  }
  for (const [name, array] of Object.entries(found))
    if (array.block) array.scales = found[`${name}/scales`].data;
  return found;
}

function valueAt(array, row, k) {
  const scale = array.scales[row * (array.columns / array.block) + ((k / array.block) | 0)];
  return array.data[row * array.columns + k] * scale;
}

function power(row, part) { // decibels; part 0 is the median, 1 and 2 are the ends
  const band = Object.keys(content.bands).indexOf(state.band), n = channels().length;
  const array = arrays[`${state.derivation}/power`];
  return array.data[((band * 3 + part) * n + row) * array.columns + second()] / 2;
}

function leftShare(row) {
  const band = Object.keys(content.bands).indexOf(state.band), n = channels().length;
  const array = arrays[`${state.derivation}/left`];
  const value = array.data[(band * n + row) * array.columns + second()];
  return value === 255 ? NaN : value / 200;
}

function spikeShare(row) {
  const array = arrays[`${state.derivation}/spikes`];
  return array.data[row * array.columns + second()] / 200;
}

function typical(array) { // median over rows of the root mean square
  const each = [];
  for (let row = 0; row < array.rows; row++) {
    let sum = 0, n = 0;
    for (let k = 0; k < array.columns; k += 5, n++) sum += valueAt(array, row, k) ** 2;
    each.push(Math.sqrt(sum / n));
  }
  return each.sort((a, b) => a - b)[each.length >> 1] || 1;
}

// Drawing traces ----------------------------------------------------------------------

function fit(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const w = Math.round(width * ratio), h = Math.round(height * ratio);
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
  const ctx = canvas.getContext("2d");
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  ctx.clearRect(0, 0, width, height);
  ctx.font = "12px system-ui, Helvetica, Arial, sans-serif";
  return ctx;
}

/** Smallest and largest value in each pixel, from..to in seconds. */
function extremes(array, row, rate, from, to, width, low, high) {
  const step = ((to - from) * rate) / width, first = (from - content.start) * rate;
  for (let x = 0; x < width; x++) {
    const a = clamp(Math.floor(first + x * step), 0, array.columns - 1);
    const b = clamp(Math.floor(first + (x + 1) * step), a, array.columns - 1);
    let min = Infinity, max = -Infinity;
    for (let k = a; k <= b; k++) {
      const value = valueAt(array, row, k);
      if (value < min) min = value;
      if (value > max) max = value;
    }
    low[x] = min; high[x] = max;
  }
}

function line(ctx, array, row, from, to, left, width, toY) {
  const rate = content.sfreq, step = ((to - from) * rate) / width;
  ctx.beginPath();
  if (step < 2) {
    const a = Math.max(Math.floor((from - content.start) * rate), 0);
    const b = Math.min(Math.ceil((to - content.start) * rate), array.columns - 1);
    for (let k = a; k <= b; k++)
      ctx.lineTo(left + (content.start + k / rate - from) / (to - from) * width,
        toY(valueAt(array, row, k)));
  } else {
    const n = Math.ceil(width), low = new Float32Array(n), high = new Float32Array(n);
    extremes(array, row, rate, from, to, n, low, high);
    for (let x = 0; x < n; x++) {
      ctx.lineTo(left + x, toY(low[x]));
      ctx.lineTo(left + x, toY(high[x]));
    }
  }
  ctx.stroke();
}

function shade(ctx, set, row, from, to, left, width, toY) {
  const rate = content.sfreq / content.pool, n = Math.ceil(width);
  const low = new Float32Array(n), high = new Float32Array(n), rest = new Float32Array(n);
  extremes(arrays[`${set}/low`], row, rate, from, to, n, low, rest);
  extremes(arrays[`${set}/high`], row, rate, from, to, n, rest, high);
  ctx.beginPath();
  for (let x = 0; x < n; x++) ctx.lineTo(left + x, toY(high[x]));
  for (let x = n - 1; x >= 0; x--) ctx.lineTo(left + x, toY(low[x]));
  ctx.closePath();
  ctx.fillStyle = `${content.colors.virtual}33`;
  ctx.fill();
}

class Panel {
  constructor(id, rowHeight) {
    this.box = $(id);
    this.rows = this.box.querySelector(".rows");
    this.canvas = this.box.querySelector("canvas");
    this.least = rowHeight;
    this.box.addEventListener("scroll", redraw);
    listen(this.canvas, (x, y) => this.pick(x, y));
  }
  get height() { return Math.max(this.least, this.box.clientHeight / this.names().length); }
  get width() { return this.box.clientWidth; }
  rowAt(y) { return Math.floor((y + this.box.scrollTop) / this.height); }
  pick(x, y) {
    if (x >= GUTTER) {
      state.t = clamp(timeAt(x, this.width), content.start, END - 1e-6);
    }
    this.picked(this.rowAt(y));
    redraw();
  }
  draw() {
    const {width, height} = this, names = this.names(), tall = this.box.clientHeight;
    this.rows.style.height = `${height * names.length}px`;
    this.canvas.style.height = `${tall}px`;
    const ctx = fit(this.canvas, width, tall);
    spans(ctx, width, tall, false);
    const top = this.box.scrollTop;
    const first = Math.floor(top / height);
    const last = Math.min(Math.ceil((top + tall) / height), names.length) - 1;
    const pixels = height / (this.room * units[this.shown]) * this.gain();
    ctx.save();
    ctx.beginPath(); ctx.rect(GUTTER, 0, width - GUTTER, tall); ctx.clip();
    for (let row = first; row <= last; row++) {
      const middle = (row + 0.5) * height - top;
      this.row(ctx, row, (value) => middle - value * pixels, middle);
    }
    ctx.restore();
    for (let row = first; row <= last; row++) this.name(ctx, row, (row + 0.5) * height - top);
    if (this.named) spans(ctx, width, tall, true);
    cursor(ctx, width, tall);
    bar(ctx, width, tall, pixels);
  }
}

class ScalpPanel extends Panel {
  get named() { return true; }
  get shown() { return "scalp"; }
  get room() { return 6; } // standard deviations in a row
  names() { return content.scalp.names; }
  gain() { return state.scalp; }
  picked() {}
  row(ctx, row, toY) {
    ctx.strokeStyle = "#333"; ctx.lineWidth = 0.8;
    line(ctx, arrays.scalp, row, state.from, state.to, GUTTER, this.width - GUTTER, toY);
  }
  name(ctx, row, y) {
    ctx.fillStyle = "#333"; ctx.textBaseline = "middle"; ctx.textAlign = "left";
    ctx.fillText(this.names()[row], 6, y, GUTTER - 10);
  }
}

class VirtualPanel extends Panel {
  get named() { return false; }
  get shown() { return state.derivation; }
  get room() { return 9; }
  names() { return channels(); }
  gain() { return state.virtual; }
  picked(row) { if (channels()[row]) state.contact = channels()[row].name; }
  row(ctx, row, toY, middle) {
    const width = this.width - GUTTER, set = state.derivation;
    const half = this.height / 2 - 0.5; // an interval stays in its row
    const inRow = (value) => clamp(toY(value), middle - half, middle + half);
    shade(ctx, set, row, state.from, state.to, GUTTER, width, inRow);
    ctx.strokeStyle = "#222"; ctx.lineWidth = row === chosen() ? 1.5 : 0.8;
    line(ctx, arrays[`${set}/draw`], row, state.from, state.to, GUTTER, width, toY);
  }
  name(ctx, row, y) {
    const channel = channels()[row];
    ctx.fillStyle = colourOf(row);
    ctx.fillRect(0, y - 5, 4, 10);
    ctx.fillStyle = "#222"; ctx.textBaseline = "middle"; ctx.textAlign = "left";
    ctx.font = `${row === chosen() ? "bold " : ""}12px system-ui, Helvetica, sans-serif`;
    ctx.fillText(channel.name, 8, y, GUTTER - 12);
  }
  reveal() {
    const y = chosen() * this.height;
    if (y < this.box.scrollTop || y + this.height > this.box.scrollTop + this.box.clientHeight)
      this.box.scrollTop = y - this.box.clientHeight / 2;
  }
}

function timeAt(x, width) {
  return state.from + (x - GUTTER) / (width - GUTTER) * (state.to - state.from);
}
function xAt(t, width) {
  return GUTTER + (t - state.from) / (state.to - state.from) * (width - GUTTER);
}

function spans(ctx, width, tall, named) {
  ctx.textAlign = "left"; ctx.textBaseline = "top";
  let line = -Infinity, free = GUTTER; // the last line, and where a name has room
  for (const [onset, duration, text, prior] of content.spans) {
    const a = xAt(onset, width), b = xAt(onset + duration, width);
    if (b < GUTTER || a > width) continue;
    if (prior) {
      ctx.fillStyle = "#f3d9d9";
      ctx.fillRect(Math.max(a, GUTTER), 0, Math.max(b - Math.max(a, GUTTER), 1), tall);
    }
    if (a >= GUTTER && a - line >= 5) {
      ctx.strokeStyle = prior ? "#c88" : "#a8811a"; ctx.lineWidth = 1;
      ctx.beginPath(); ctx.moveTo(a, 0); ctx.lineTo(a, tall); ctx.stroke();
      line = a;
    }
    const x = Math.max(a, GUTTER) + 3, room = ctx.measureText(text).width;
    if (!named || x < free) continue;
    ctx.fillStyle = "#fffd"; ctx.fillRect(x - 2, 1, room + 4, 15);
    ctx.fillStyle = prior ? "#8b1a1a" : "#6b5200"; ctx.fillText(text, x, 2);
    free = x + room + 6;
  }
}

function cursor(ctx, width, tall) {
  const x = xAt(state.t, width);
  if (x < GUTTER || x > width) return;
  ctx.strokeStyle = "#b00"; ctx.lineWidth = 1;
  ctx.beginPath(); ctx.moveTo(x, 0); ctx.lineTo(x, tall); ctx.stroke();
}

/** A bar of round length that says what amplitudes are. */
function bar(ctx, width, tall, pixels) {
  const length = ROUND.findLast((value) => value * pixels <= 0.25 * tall) ?? ROUND[0];
  const x = width - 10, y = tall - 8;
  ctx.fillStyle = "#fffc"; ctx.fillRect(width - 72, y - length * pixels - 4, 72, length * pixels + 12);
  ctx.strokeStyle = "#000"; ctx.lineWidth = 2;
  ctx.beginPath(); ctx.moveTo(x, y); ctx.lineTo(x, y - length * pixels); ctx.stroke();
  ctx.fillStyle = "#000"; ctx.textAlign = "right"; ctx.textBaseline = "bottom";
  ctx.fillText(`${length} µV`, x - 5, y + 2);
}

function drawAxis() {
  const canvas = $("axis"), width = canvas.clientWidth, ctx = fit(canvas, width, 24);
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120];
  const step = steps.find((s) => s / (state.to - state.from) * (width - GUTTER) > 70) ?? 120;
  ctx.fillStyle = ctx.strokeStyle = "#333"; ctx.textAlign = "center"; ctx.textBaseline = "top";
  for (let k = Math.ceil(state.from / step); k * step <= state.to + 1e-9; k++) {
    const x = xAt(k * step, width);
    ctx.beginPath(); ctx.moveTo(x, 0); ctx.lineTo(x, 5); ctx.stroke();
    ctx.fillText(Number((k * step).toFixed(1)), clamp(x, GUTTER, width - 20), 7);
  }
  ctx.textAlign = "left"; ctx.fillText("Time (s)", 4, 7);
}

function drawOverview() {
  const canvas = $("overview"), width = canvas.clientWidth, tall = 30;
  const ctx = fit(canvas, width, tall), toX = (t) => (t - content.start) / content.seconds * width;
  ctx.fillStyle = "#f0f0f0"; ctx.fillRect(0, 0, width, tall);
  for (const [onset, duration, , prior] of content.spans) {
    ctx.fillStyle = prior ? "#e0a0a0" : "#a8811a";
    ctx.fillRect(toX(onset), 0, prior ? Math.max(duration / content.seconds * width, 1) : 1, tall);
  }
  const array = arrays[`${state.derivation}/spikes`]; // the contact with most in a second
  ctx.fillStyle = "#555";
  for (let s = 0; s < array.columns; s++) {
    let most = 0;
    for (let row = 0; row < array.rows; row++)
      most = Math.max(most, array.data[row * array.columns + s]);
    const height = most / 200 * (tall - 4);
    ctx.fillRect(toX(content.start + s), tall - height, Math.max(width / content.seconds - 0.5, 0.7), height);
  }
  ctx.strokeStyle = content.colors.virtual; ctx.lineWidth = 2;
  ctx.fillStyle = `${content.colors.virtual}22`;
  const x = toX(state.from), w = Math.max((state.to - state.from) / content.seconds * width, 3);
  ctx.fillRect(x, 0, w, tall); ctx.strokeRect(x + 1, 1, w - 2, tall - 2);
  ctx.fillStyle = "#b00"; ctx.fillRect(toX(state.t) - 1, 0, 2, tall);
}

// The glass brain ---------------------------------------------------------------------

function colourFrom(map, share) {
  const stops = content.maps[map], at = clamp(share, 0, 1) * (stops.length - 1);
  const k = Math.min(Math.floor(at), stops.length - 2), rest = at - k;
  const part = (stop, i) => parseInt(stop.slice(1 + 2 * i, 3 + 2 * i), 16);
  const mixed = [0, 1, 2].map((i) =>
    Math.round(part(stops[k], i) * (1 - rest) + part(stops[k + 1], i) * rest));
  return `rgb(${mixed.join(",")})`;
}

function powerRange() { // of the band, over all that is shown
  const band = Object.keys(content.bands).indexOf(state.band), n = channels().length;
  const array = arrays[`${state.derivation}/power`], start = band * 3 * n * array.columns;
  const all = Array.from(array.data.subarray(start, start + n * array.columns));
  all.sort((a, b) => a - b);
  return [all[Math.floor(0.02 * all.length)] / 2, all[Math.floor(0.98 * all.length)] / 2];
}

/** Share of draws in which this contact's side has more power than the other. */
function ownSide(row) {
  const share = leftShare(row);
  return channels()[row].position[0] < 0 ? share : 1 - share;
}
function isClear(share) {
  return content.agreed !== null && Math.max(share, 1 - share) >= content.agreed - 1e-9;
}

let scale = null; // of colours, made once for each picture
function makeScale() {
  const values = channels().map((c) => c.observability ?? NaN).filter(Number.isFinite);
  if (state.colour === "power") scale = powerRange();
  else if (state.colour === "observability") scale = [0, Math.max(...values, 0.01)];
  else scale = [0, 1];
}

function colourOf(row) {
  const channel = channels()[row], [low, high] = scale;
  const mapped = (value) => Number.isFinite(value)
    ? colourFrom("viridis", (value - low) / (high - low || 1)) : "#bbb";
  switch (state.colour) {
    case "power": return mapped(power(row, 0));
    case "spikes": return mapped(spikeShare(row));
    case "observability": return mapped(channel.observability ?? NaN);
    case "side": {
      const share = ownSide(row);
      return isClear(share) ? colourFrom("RdBu_r", share) : "#bbb";
    }
    default: return content.colors[channel.structure.split("/")[0]] ?? "#7f7f7f";
  }
}

function drawKey() {
  const key = $("key");
  key.replaceChildren();
  const add = (tag, name, text) => {
    const element = document.createElement(tag);
    element.className = name; element.textContent = text ?? "";
    key.append(element);
    return element;
  };
  const patch = (colour, text) => {
    const element = add("span", "", "");
    const square = document.createElement("span");
    square.className = "patch"; square.style.background = colour;
    element.append(square, text);
  };
  const [low, high] = scale, about = {
    power: `median power, ${state.band}, dB re 1 µV²`,
    spikes: "share of draws with a sharp transient",
    observability: "share of variance that the scalp explains",
  }[state.colour];
  if (about) {
    if (state.colour === "observability" && state.derivation === "bipolar") {
      patch("#bbb", "Told for single contacts only.");
      return;
    }
    const stops = [0, 0.25, 0.5, 0.75, 1].map((share) => colourFrom("viridis", share));
    add("div", "ramp").style.background = `linear-gradient(90deg, ${stops.join(",")})`;
    const ends = add("div", "ends");
    for (const text of [low.toFixed(state.colour === "power" ? 0 : 2), about,
      high.toFixed(state.colour === "power" ? 0 : 2)]) {
      const span = document.createElement("span");
      span.textContent = text; ends.append(span);
    }
  } else if (state.colour === "side") {
    patch(colourFrom("RdBu_r", 1), `this side has more power (${state.band})`);
    patch(colourFrom("RdBu_r", 0), "the other side has more");
    patch("#bbb", "not clear: fewer than 9 in 10 draws agree");
  } else {
    for (const name of new Set(channels().map((c) => c.structure.split("/")[0])))
      patch(content.colors[name] ?? "#7f7f7f", name);
  }
}

const brain = {canvas: $("brain"), places: []};

function projector(width, tall) {
  const yaw = state.yaw * Math.PI / 180, pitch = state.pitch * Math.PI / 180;
  const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
  const zoomed = Math.min(width / 190, tall / 182);
  // Right, front, up in millimetres; seen from behind at yaw 0. The middle of the brain
  // is 18 mm behind and 12 mm above the origin.
  return (x, y, z) => {
    const front = y + 18, up = z - 12;
    const across = x * cy + front * sy, away = -x * sy + front * cy;
    return [width / 2 + zoomed * across, tall / 2 - zoomed * (up * cp + away * sp),
      away * cp - up * sp];
  };
}

/** Points of a surface, added up: where the line of sight runs along it, it is dense. */
function cloud(points, project, width, tall) {
  const sum = new Float32Array(width * tall), n = points.columns;
  const kernel = [0.14, 0.6, 1, 0.6, 0.14];
  for (let k = 0; k < n; k++) {
    const [x, y] = project(points.data[k], points.data[n + k], points.data[2 * n + k]);
    const a = Math.round(x), b = Math.round(y);
    if (a < 2 || b < 2 || a >= width - 2 || b >= tall - 2) continue;
    for (let i = -2; i <= 2; i++)
      for (let j = -2; j <= 2; j++)
        sum[(b + i) * width + a + j] += kernel[i + 2] * kernel[j + 2];
  }
  return sum;
}

function drawBrain() {
  const {canvas} = brain, width = canvas.clientWidth, tall = canvas.clientHeight;
  const ctx = fit(canvas, width, tall), project = projector(width, tall);
  const picture = new ImageData(width, tall);
  const cortex = cloud(arrays.cortex, project, width, tall);
  const deep = cloud(arrays.deep, project, width, tall);
  for (let k = 0; k < cortex.length; k++) {
    const grey = 1 - Math.exp(-0.12 * cortex[k]), dark = 1 - Math.exp(-0.12 * deep[k]);
    picture.data[4 * k] = 120 - 40 * dark;
    picture.data[4 * k + 1] = 130 - 30 * dark;
    picture.data[4 * k + 2] = 145 - 10 * dark;
    picture.data[4 * k + 3] = 255 * Math.min(0.6 * grey + 0.45 * dark, 0.9);
  }
  const plate = new OffscreenCanvas(width, tall);
  plate.getContext("2d").putImageData(picture, 0, 0);
  ctx.drawImage(plate, 0, 0, width, tall);
  ctx.fillStyle = "#555"; ctx.textAlign = "center"; ctx.textBaseline = "middle";
  for (const [text, x, y, z] of [["L", -82, -18, 12], ["R", 82, -18, 12], ["front", 0, 72, 12]]) {
    const [a, b] = project(x, y, z);
    if (Math.hypot(a - width / 2, b - tall / 2) > 40) ctx.fillText(text, a, b);
  }
  brain.places = channels().map((c, row) => [...project(...c.position), row]);
  brain.places.sort((a, b) => b[2] - a[2]); // the nearest last
  for (const [x, y, , row] of brain.places) {
    ctx.beginPath(); ctx.arc(x, y, row === chosen() ? 7 : 5, 0, 2 * Math.PI);
    ctx.fillStyle = colourOf(row); ctx.fill();
    ctx.strokeStyle = row === chosen() ? "#b00" : "#222";
    ctx.lineWidth = row === chosen() ? 2.5 : 0.8;
    ctx.stroke();
  }
}

function pickContact(x, y) {
  let best = null, nearest = 12;
  for (const [a, b, , row] of brain.places) {
    const away = Math.hypot(a - x, b - y);
    if (away <= nearest) { nearest = away; best = row; }
  }
  if (best === null) return;
  state.contact = channels()[best].name;
  panels.virtual.reveal();
  redraw();
}

// Beside a contact --------------------------------------------------------------------

function percent(share) { return `${Math.round(100 * share)} %`; }

function describe() {
  const row = chosen(), channel = channels()[row], s = content.start + second();
  const notes = content.spans.filter(([onset, duration]) =>
    state.t >= onset && state.t <= onset + duration).map((span) => span[2]);
  $("moment").textContent = `At ${state.t.toFixed(2)} s`
    + (notes.length ? `: ${notes.join(", ")}` : "");
  const [middle, low, high] = [0, 1, 2].map((part) => power(row, part).toFixed(0));
  const share = leftShare(row);
  const side = Number.isNaN(share) ? "No contacts of this structure on the other side"
    : `Left stronger in ${percent(share)} of draws: `
      + (isClear(share) ? (share > 0.5 ? "left" : "right") : "not clear");
  $("now").textContent = `In the second from ${s} to ${s + 1} s: ${state.band} power `
    + `${middle} dB re 1 µV² (90 % of draws ${low} to ${high}). ${side}. `
    + `Sharp transient in ${percent(spikeShare(row))} of draws.`;
  $("structure").textContent = channel.structure;
  fillTable($("facts"), {...channel.facts,
    "Position (MNI, mm)": channel.position.map((x) => x.toFixed(0)).join(", ")});
}

function fillTable(table, facts) {
  table.replaceChildren(...Object.entries(facts).map(([name, value]) => {
    const row = document.createElement("tr");
    const head = document.createElement("th"), cell = document.createElement("td");
    head.textContent = name; cell.textContent = value;
    row.append(head, cell);
    return row;
  }));
}

function drawNear() {
  const canvas = $("near"), width = canvas.clientWidth, tall = canvas.clientHeight;
  const ctx = fit(canvas, width, tall), left = 40, row = chosen(), set = state.derivation;
  const from = clamp(state.t - NEAR, content.start, END - 2 * NEAR), to = from + 2 * NEAR;
  const n = width - left, low = new Float32Array(n), high = new Float32Array(n);
  const rest = new Float32Array(n), rate = content.sfreq / content.pool;
  extremes(arrays[`${set}/low`], row, rate, from, to, n, low, rest);
  extremes(arrays[`${set}/high`], row, rate, from, to, n, rest, high);
  const most = 1.05 * Math.max(...high.map(Math.abs), ...low.map(Math.abs), 1);
  const toY = (value) => tall / 2 - value / most * (tall / 2 - 2);
  shade(ctx, set, row, from, to, left, n, toY);
  ctx.strokeStyle = "#222"; ctx.lineWidth = 1;
  line(ctx, arrays[`${set}/draw`], row, from, to, left, n, toY);
  const x = left + (state.t - from) / (to - from) * n;
  ctx.strokeStyle = "#b00";
  ctx.beginPath(); ctx.moveTo(x, 0); ctx.lineTo(x, tall); ctx.stroke();
  ctx.fillStyle = "#333"; ctx.textAlign = "right"; ctx.textBaseline = "middle";
  const tick = ROUND.findLast((value) => value <= 0.9 * most) ?? ROUND[0];
  for (const value of [tick, 0, -tick]) ctx.fillText(value, left - 4, toY(value));
}

function drawSpectrum() {
  const canvas = $("spectrum"), width = canvas.clientWidth, tall = canvas.clientHeight;
  const ctx = fit(canvas, width, tall), left = 40, foot = 18, row = chosen();
  const freqs = content.sets[state.derivation].freqs, n = channels().length;
  const array = arrays[`${state.derivation}/spectrum`];
  const part = (k) => array.data.subarray((k * n + row) * freqs.length, (k * n + row + 1) * freqs.length);
  const [middle, low, high] = [part(0), part(1), part(2)];
  const bottom = Math.floor(Math.min(...low) / 10) * 10, top = Math.ceil(Math.max(...high) / 10) * 10;
  const first = Math.log(freqs[0]), last = Math.log(freqs.at(-1));
  const toX = (f) => left + (Math.log(f) - first) / (last - first) * (width - left - 6);
  const toY = (v) => 8 + (top - v) / (top - bottom || 1) * (tall - foot - 12);
  ctx.strokeStyle = "#e4e4e4"; ctx.fillStyle = "#333"; ctx.lineWidth = 1;
  ctx.textAlign = "right"; ctx.textBaseline = "middle";
  for (let v = bottom; v <= top; v += 10) {
    ctx.beginPath(); ctx.moveTo(left, toY(v)); ctx.lineTo(width, toY(v)); ctx.stroke();
    ctx.fillText(v, left - 4, toY(v));
  }
  ctx.textAlign = "center"; ctx.textBaseline = "top";
  for (const f of [1, 2, 4, 8, 16, 32]) ctx.fillText(f === 32 ? "32 Hz" : f, toX(f), tall - foot + 4);
  ctx.beginPath();
  freqs.forEach((f, k) => ctx.lineTo(toX(f), toY(high[k])));
  for (let k = freqs.length - 1; k >= 0; k--) ctx.lineTo(toX(freqs[k]), toY(low[k]));
  ctx.fillStyle = `${content.colors.virtual}33`; ctx.fill();
  ctx.strokeStyle = content.colors.virtual; ctx.lineWidth = 1.5; ctx.beginPath();
  freqs.forEach((f, k) => ctx.lineTo(toX(f), toY(middle[k])));
  ctx.stroke();
}

// All together ------------------------------------------------------------------------

function drawAll() {
  makeScale();
  $("derivation").value = state.derivation;
  $("colour").value = state.colour;
  $("band").value = state.band;
  fillChosen();
  for (const panel of Object.values(panels)) panel.draw();
  drawAxis(); drawOverview(); drawBrain(); drawKey(); drawNear(); drawSpectrum(); describe();
}

function fillChosen() {
  const select = $("chosen");
  if (select.dataset.of !== state.derivation) {
    select.replaceChildren(...channels().map((c) => new Option(c.name)));
    select.dataset.of = state.derivation;
    $("kind").textContent = state.derivation === "bipolar" ? "Derivation" : "Contact";
  }
  select.value = state.contact;
}

/** Drag and wheel over traces; a click that did not move picks. */
function listen(canvas, pick) {
  let start = null;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    start = {x: event.clientX, from: state.from, to: state.to, moved: false};
    canvas.setPointerCapture?.(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!start) return;
    const away = event.clientX - start.x;
    if (Math.abs(away) > 4) start.moved = true;
    if (!start.moved) return;
    const seconds = away / (canvas.clientWidth - GUTTER) * (start.to - start.from);
    show(start.from - seconds, start.to - seconds);
    redraw();
  });
  canvas.addEventListener("pointerup", (event) => {
    if (start && !start.moved) pick(...within(event, canvas));
    start = null;
  });
  canvas.addEventListener("pointercancel", () => { start = null; });
  canvas.addEventListener("wheel", (event) => {
    const [x] = within(event, canvas);
    if (x < GUTTER) return; // over the names the rows scroll
    event.preventDefault();
    const span = state.to - state.from;
    const across = event.deltaX || (event.shiftKey ? event.deltaY : 0);
    if (across) move(span * across / 800);
    else zoom(Math.exp(event.deltaY * 0.002), timeAt(x, canvas.clientWidth));
  }, {passive: false});
}

function within(event, canvas) {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

function listenBrain() {
  const {canvas} = brain;
  let start = null;
  canvas.addEventListener("pointerdown", (event) => {
    start = {x: event.clientX, y: event.clientY, yaw: state.yaw, pitch: state.pitch};
    canvas.setPointerCapture?.(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!start) return;
    const [x, y] = [event.clientX - start.x, event.clientY - start.y];
    if (Math.hypot(x, y) > 4) start.moved = true;
    if (!start.moved) return;
    state.yaw = start.yaw - 0.5 * x;
    state.pitch = clamp(start.pitch + 0.5 * y, -90, 90);
    redraw();
  });
  canvas.addEventListener("pointerup", (event) => {
    if (start && !start.moved) pickContact(...within(event, canvas));
    start = null;
  });
  canvas.addEventListener("pointercancel", () => { start = null; });
}

function listenOverview() {
  const canvas = $("overview");
  const go = (event) => {
    if (event.type === "pointermove" && !(event.buttons & 1)) return;
    const at = content.start + within(event, canvas)[0] / canvas.clientWidth * content.seconds;
    const half = (state.to - state.from) / 2;
    show(at - half, at + half);
    redraw();
  };
  canvas.addEventListener("pointerdown", go);
  canvas.addEventListener("pointermove", go);
}

function listenControls() {
  const click = (id, act) => $(id).addEventListener("click", () => { act(); redraw(); });
  const span = () => state.to - state.from;
  click("back", () => move(-0.8 * span()));
  click("forward", () => move(0.8 * span()));
  click("wider", () => zoom(2));
  click("narrower", () => zoom(0.5));
  for (const name of ["scalp", "virtual"]) {
    click(`${name}-less`, () => { state[name] = Math.max(state[name] / 1.5, 0.05); });
    click(`${name}-more`, () => { state[name] = Math.min(state[name] * 1.5, 50); });
  }
  for (const name of ["colour", "band"])
    $(name).addEventListener("change", (event) => { state[name] = event.target.value; redraw(); });
  $("derivation").addEventListener("change", (event) => {
    state.derivation = event.target.value;
    choose(state.contact);
    redraw();
  });
  $("chosen").addEventListener("change", (event) => {
    state.contact = event.target.value;
    panels.virtual.reveal();
    redraw();
  });
  for (const button of document.querySelectorAll("[data-view]"))
    button.addEventListener("click", () => {
      [state.yaw, state.pitch] = VIEWS[button.dataset.view];
      redraw();
    });
  document.addEventListener("keydown", (event) => {
    // Only a select uses these keys. A button has the focus after a click on it.
    if (event.target.closest("select") || event.ctrlKey || event.metaKey) return;
    const step = event.shiftKey ? (sign) => moveMoment(sign) : (sign) => move(sign * 0.2 * span());
    const act = {ArrowLeft: () => step(-1), ArrowRight: () => step(1),
      "+": () => zoom(0.5), "-": () => zoom(2)}[event.key];
    if (act) { event.preventDefault(); act(); }
  });
  window.addEventListener("resize", redraw);
  window.addEventListener("hashchange", () => { readHash(); redraw(); });
}

function writeWords() {
  $("reasons").textContent = content.reasons;
  const {names, used} = content.scalp;
  $("scalp-about").textContent = `${used} electrodes`
    + (names.length < used ? `, of which ${names.length} are shown` : "")
    + ", average reference, 0.5–50 Hz";
  for (const [name, [low, high]] of Object.entries(content.bands))
    $("band").append(new Option(`${name}, ${low}–${high} Hz`, name));
  const refused = content.sets.bipolar.refused;
  if (refused) {
    const option = $("derivation").querySelector("[value=bipolar]");
    option.disabled = true; option.textContent = "bipolar (no shafts)"; option.title = refused;
  }
  fillTable($("provenance"), content.provenance);
  for (const text of content.found) {
    const line = document.createElement("p");
    line.textContent = `Found in the recording: ${text}`;
    $("found").append(line);
  }
}

function fail(text) {
  root.dataset.trouble = text;
  $("trouble").hidden = false;
  $("trouble").textContent = `This page could not be drawn: ${text}`;
}
window.addEventListener("error", (event) => fail(event.message));
window.addEventListener("unhandledrejection", (event) => fail(String(event.reason)));

const panels = {scalp: new ScalpPanel("scalp", 14), virtual: new VirtualPanel("virtual", 24)};

async function main() {
  if (!("DecompressionStream" in window))
    throw new Error("this browser is too old to unpack it; use one of 2023 or later.");
  writeWords();
  arrays = await unpack();
  units.scalp = typical(arrays.scalp);
  for (const set of ["contacts", "bipolar"])
    if (arrays[`${set}/draw`]) units[set] = typical(arrays[`${set}/draw`]);
  readHash();
  listenControls(); listenBrain(); listenOverview();
  redraw();
}
main();
})();
