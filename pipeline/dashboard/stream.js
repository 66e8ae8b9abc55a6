// One stream: a column of the page, its state, and how it is drawn.
import {bitrate, clockTime, duration, gains, histogram, number, scatter} from './charts.js';
import {Pictures} from './pictures.js';

const FRAMES = 300;
const UNKNOWN = 'unknown here';
const NOT_YET = 'not yet';
const LONG_MS = 10_000;

const NOW = [
  ['kbps', 'Bitrate', 'kbit/s', 1],
  ['bpp', 'Bits per pixel', 'bpp', 4],
  ['ratio', 'Raw to coded', ': 1', 0],
  ['psnr_db', 'PSNR', 'dB', 2],
  ['ms_ssim', 'MS-SSIM', '', 4],
  ['age_p95_ms', 'Age, p95', 'ms', 0],
  ['fps', 'Frames through', '/s', 1],
];
// A recording has no moment, and who sends never sees what becomes of its frames.
const NOW_WITHOUT_END = [...NOW.slice(0, 5), ['capture_fps', 'Frames captured', '/s', 1]];

const RANGES = {300: '5 min', 3600: '1 h', 86400: '24 h'};

export class Stream {
  constructor(index, data) {
    this.index = index;
    this.node = document.getElementById('stream').content.firstElementChild.cloneNode(true);
    this.find = (selector) => this.node.querySelector(selector);
    this.cells = new Map();
    this.level = 0;
    this.cursor = null;
    this.find('.title').id = `title-${index}`;
    this.node.setAttribute('aria-labelledby', `title-${index}`);
    this.pictures = new Pictures(this.find('.pictures'), index, `stream-${index}`);
    this.makeCursor();
    this.whole(data);
  }

  whole(data) {
    this.state = data;
    this.levels = data.levels.map((level) => ({...level, rows: new Map(level.rows.map((row) => [row[0], row]))}));
    this.frames = new Map(data.frames.map((frame) => [frame[0], frame]));
    this.begin = data.begin_s ?? 0;
    put(this.find('.title'), data.title);
    this.makeRanges();
    this.makeNow(data.sends || data.pictures ? NOW_WITHOUT_END : NOW);
    this.node.classList.toggle('recording', Boolean(data.pictures));
    if (data.pictures) put(this.find('.run h3'), 'In all');
    this.node.classList.toggle('sender', Boolean(data.sends));
    if (data.pictures) this.pictures.browse(data.pictures);
    else this.pictures.tell(data.picture);
  }

  news(data) {
    Object.assign(this.state, data);
    data.news.forEach((rows, i) => {
      const level = this.levels[i];
      for (const row of rows) level.rows.set(row[0], row);
      const newest = Math.max(...level.rows.keys());
      for (const place of level.rows.keys()) if (place <= newest - level.count) level.rows.delete(place);
    });
    for (const frame of data.frames) this.frames.set(frame[0], frame);
    for (const key of this.frames.keys()) {
      if (this.frames.size <= FRAMES) break;
      this.frames.delete(key);
    }
    if (data.picture !== undefined) this.pictures.tell(data.picture);
  }

  // What is made once.

  makeNow(figures) {
    this.shown = figures;
    this.cells.clear();
    this.find('.now').replaceChildren();
    for (const [key, name] of figures) {
      const [box, dt, dd, note] = ['div', 'dt', 'dd', 'dd'].map((tag) => document.createElement(tag));
      dt.textContent = name;
      dd.dataset.figure = `now.${key}`;
      note.className = 'note';
      note.dataset.note = key;
      box.append(dt, dd, note);
      this.find('.now').append(box);
    }
  }

  makeRanges() {
    const choice = this.find('.range');
    const named = (level) => RANGES[Math.round(level.width_s * level.count)];
    choice.querySelectorAll('label').forEach((label) => label.remove());
    if (this.levels.length < 2) return;
    this.levels.forEach((level, i) => {
      const [label, input, span] = ['label', 'input', 'span'].map((tag) => document.createElement(tag));
      Object.assign(input, {type: 'radio', name: `range-${this.index}`, checked: i === this.level});
      input.addEventListener('change', () => { this.level = i; this.cursor = null; this.drawBitrate(); });
      span.textContent = named(level) || duration(level.width_s * level.count);
      label.append(input, span);
      choice.append(label);
    });
  }

  makeCursor() {
    const svg = this.find('.bitrate .chart');
    const move = (place) => { this.cursor = place; this.drawBitrate(); };
    svg.addEventListener('pointermove', (event) => {
      if (this.drawn?.placeAt) move(this.drawn.placeAt(event.offsetX));
    });
    svg.addEventListener('pointerleave', () => move(null));
    svg.addEventListener('blur', () => move(null));
    svg.addEventListener('keydown', (event) => {
      const step = {ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10}[event.key];
      const points = this.drawn?.points || [];
      if (event.key === 'Escape') move(null);
      if (!step || !points.length) return;
      event.preventDefault();
      const [first, last] = [points[0].place, points.at(-1).place];
      move(this.cursor === null ? last : Math.max(first, Math.min(last, this.cursor + step)));
    });
  }

  // What is drawn each time.

  draw(silent) {
    const {state} = this;
    this.early = !state.pictures && !state.run.frames_out && !state.light.word.startsWith('Ended');
    this.drawLight(state.light, silent);
    const frames = [...this.frames.values()].map(([n, at, status, bytes, bpp, psnr, without, offset, age]) => (
      {n, at, status, bytes, bpp, psnr, without, offset, age}));
    put(this.find('.facts'), facts(state.facts));
    this.pictures.makeRoom(state.facts);
    this.drawNow();
    this.drawBitrate();
    this.drawGain(frames);
    scatter(this.find('.rd .chart'), frames, this.early ? 'No frame is through yet' : 'Unknown here: no original to compare with');
    put(this.find('.rd .about'), frames.some((f) => f.psnr !== null)
      ? `Last ${frames.length} frames; ringed: the newest${frames.some((f) => f.without !== null) ? '; hollow: without the side view' : ''}.` : '');
    this.drawSizes(frames);
    this.drawCauses();
    this.drawPairing(frames);
    this.drawRun();
  }

  drawLight(light, silent) {
    const shown = silent ? {colour: 'red', word: 'No news', sentence: 'This node has sent nothing for more than 2.5 s.'} : light;
    this.find('.light').dataset.colour = shown.colour;
    put(this.find('.word'), shown.word);
    put(this.find('.sentence'), shown.sentence);
    this.node.classList.toggle('stale', silent || shown.word === 'Silent');
  }

  drawNow() {
    const {now, budget_kbps: budget} = this.state;
    for (const [key, , unit, digits] of this.shown) {
      const value = now[key];
      const fine = key === 'ratio' && value < 10 ? 1 : digits;
      const [text, unitText] = unit === 'ms' ? time(value, digits) : [number(value, fine), unit];
      this.figure(`now.${key}`, value, value === null ? UNKNOWN : text, unitText);
    }
    const notes = {
      kbps: budget ? `${number((100 * (now.kbps || 0)) / budget, 0)} % of ${number(budget, 0)}` : this.state.span ?? 'last 10 s',
      fps: now.capture_fps ? `captured ${number(now.capture_fps, 1)}` : '',
      age_p95_ms: now.age_p95_ms === null ? '' : '95 % are younger',
      ratio: now.bpp ? `${number(100 / now.ratio, 2)} % of raw` : '',
    };
    for (const [key, text] of Object.entries(notes)) {
      const note = this.find(`[data-note="${key}"]`);
      if (!note) continue;
      put(note, text);
      note.dataset.bad = String(key === 'kbps' && Boolean(budget) && now.kbps > budget);
    }
  }

  drawBitrate() {
    const {origin_s: origin, facts: known, edge_s: edge, budget_kbps: budget} = this.state;
    const wall = known.clock === 'wall';
    const nameOf = wall ? (at) => clockTime(at + origin) : (at) => duration(at);
    nameOf.offset = wall ? origin - new Date(origin * 1000).getTimezoneOffset() * 60 : 0;
    const level = this.levels[this.level];
    const begin = level.rows.size ? Math.min(...level.rows.keys()) : 0;
    this.drawn = bitrate(this.find('.bitrate .chart'), {
      level, edge, begin, budget, nameOf, cursor: this.cursor, least: this.state.pictures ? 3 : 6, recorded: !wall,
    });
    const p = this.drawn.points.find((q) => q.place === this.cursor);
    put(this.find('.readout'), p ? readout(p, nameOf, level) : this.legend(level, wall));
  }

  legend(level, wall) {
    const marks = this.state.run.unpaired || Object.keys(this.state.run.drops).length
      ? ' Marks on the axis: dropped (tall), unpaired (low).' : '';
    return `Each point: ${level.width_s < 60 ? `${level.width_s} s` : `${level.width_s / 60} min`} of ${wall ? '' : 'capture '}time, headers and resends included.${marks}`;
  }

  drawGain(frames) {
    const {gain} = this.state;
    this.figure('gain.gain_db', gain.gain_db, gain.gain_db === null ? UNKNOWN
      : `${gain.gain_db < 0 ? '' : '+'}${number(gain.gain_db, 2)}`, 'dB at the same bits');
    const svg = this.find('.gain .chart');
    svg.toggleAttribute('hidden', !gain.samples);
    svg.style.display = gain.samples ? '' : 'none';
    if (gain.samples) gains(svg, frames);
    put(this.find('.gain .about'), gain.samples
      ? `${gain.samples} ${gain.samples === 1 ? 'frame' : 'frames'} decoded both ways: ${number(gain.with_db, 2)} dB with the side view, ${number(gain.without_db, 2)} dB without.`
      : 'Known where decode has without_side_every and quality knows the originals.');
  }

  drawSizes(frames) {
    const whole = frames.filter((f) => f.bytes !== null).map((f) => f.bytes);
    const [unitName, per, digits] = Math.max(...whole) < 2000 ? ['bytes', 1, 0] : ['kB', 1000, 2];
    const found = histogram(this.find('.sizes .chart'), whole.map((n) => n / per), {unit: unitName, digits, name: 'Frame sizes'});
    put(this.find('.sizes .about'), found
      ? `${this.chosen(whole.length)}: median ${number(found.median, digits)} ${unitName}, 95 % up to ${number(found.p95, digits)} ${unitName}.` : '');
  }

  chosen(count) {
    return this.state.pictures ? `${count} of ${number(this.state.run.frames_in, 0)} frames` : `Last ${count} frames`;
  }

  drawCauses() {
    const {causes} = this.state;
    const total = causes.reduce((sum, [, ms]) => sum + ms, 0);
    bars(this.find('.causes .bars'), causes.map(([name, ms]) => (
      {name: name.replaceAll('_', ' '), text: time(ms, ms < 10 ? 1 : 0, total).join(' '), share: total ? ms / total : 0})));
    put(this.find('.causes .about'), causes.length ? `Means of the last 10 s, ${time(total, 0).join(' ')} together.`
      : this.early ? 'No frame is through yet.' : `Age ${UNKNOWN}: it is measured where frames come out.`);
  }

  // What became of every frame, and how far its side view was from it.
  drawPairing(frames) {
    const {run, sends} = this.state;
    put(this.find('.pairing h3'), sends ? 'Frames' : 'Frames and pairs');
    const offsets = frames.filter((f) => f.offset !== null).map((f) => f.offset);
    const dropped = Object.entries(run.drops);
    const alone = run.unpaired - (run.drops.unpaired || 0);
    const fates = offsets.length || alone
      ? [['with side view', run.frames_out - alone], ['without side view', alone, alone ? 'warn' : '']]
      : [[sends ? 'sent and decoded' : 'through', run.frames_out]];
    if (run.pending) fates.push(['on their way', run.pending, 'wait']);
    for (const [why, n] of dropped) fates.push([`dropped: ${why}`, n, 'bad']);
    bars(this.find('.pairing .bars'), fates.map(([name, n, kind]) => (
      {name, text: count(n), share: run.frames_in ? n / run.frames_in : 0, kind})));
    const svg = this.find('.pairing .chart');
    const apart = Math.max(...offsets) - Math.min(...offsets) >= 0.1;
    svg.style.display = apart ? '' : 'none';
    const found = apart ? histogram(svg, offsets, {unit: 'ms', digits: 1, name: 'Offset of the side view', zero: true}) : null;
    put(this.find('.pairing .about'), sends ? '' : found
      ? `Side view minus primary view: median ${signed(found.median)} ms, from ${signed(found.low)} to ${signed(found.high)}.`
      : offsets.length ? `Side view minus primary view: ${signed(offsets[0])} ms, for each of ${this.state.pictures ? '' : 'the last '}${offsets.length} frames.`
        : this.early ? 'No pair yet.' : `Offset of the side view ${UNKNOWN}.`);
  }

  drawRun() {
    const {run, link} = this.state;
    const drops = Object.entries(run.drops);
    const rows = [
      ['frames_in', 'Frames in', count(run.frames_in)],
      ['frames_out', 'Frames out', count(run.frames_out)],
      ['dropped', 'Dropped', drops.length ? drops.map(([why, n]) => `${count(n)} ${why}`).join(', ') : '0', drops.length > 0],
      ['unpaired', 'Unpaired', count(run.unpaired)],
      ['payload_bytes', 'Coded', bytes(run.payload_bytes)],
      ['wire_bytes', 'On the wire', bytes(run.wire_bytes)],
      ...(run.side_bytes ? [['side_bytes', 'Side view on the wire', bytes(run.side_bytes)]] : []),
      ...(run.reference_bytes ? [['reference_bytes', 'Originals on the wire', bytes(run.reference_bytes)]] : []),
      ['kbps', 'Mean bitrate', unit(run.kbps, 1, 'kbit/s')],
      ['bpp', 'Mean bits per pixel', unit(run.bpp, 4, 'bpp')],
      ['psnr_db', 'Mean PSNR', unit(run.psnr_db, 2, 'dB')],
      ['ms_ssim', 'Mean MS-SSIM', unit(run.ms_ssim, 4, '')],
      ['psnr_without_side_db', 'PSNR without side view', unit(run.psnr_without_side_db, 2, 'dB')],
      ['duration_s', 'Captured', run.duration_s === null ? UNKNOWN : duration(run.duration_s)],
      ...(link && link.resent !== null ? [['resent', 'Sent again', count(link.resent), link.resent > 0]] : []),
      ...(link && link.reconnects !== null ? [['reconnects', 'Reconnects', count(link.reconnects)]] : []),
      ...(link && link.wire_errors !== null ? [['wire_errors', 'Refused messages', count(link.wire_errors), link.wire_errors > 0]] : []),
      ...(link && link.clock_offset_ms !== null ? [['clock_offset_ms', 'Clock offset', `${signed(link.clock_offset_ms)} ms`]] : []),
    ];
    const table = this.find('.table');
    const keys = rows.map(([key]) => key).join();
    if (table.dataset.keys !== keys) {
      table.dataset.keys = keys;
      table.replaceChildren(...rows.map(([key, name]) => {
        const [row, dt, dd] = ['div', 'dt', 'dd'].map((tag) => document.createElement(tag));
        dt.textContent = name;
        dd.dataset.figure = `run.${key}`;
        row.append(dt, dd);
        return row;
      }));
      this.cells.clear();
    }
    for (const [key, , text, bad] of rows) {
      this.figure(`run.${key}`, run[key] ?? link?.[key] ?? null, text, '');
      this.cells.get(`run.${key}`).dataset.bad = String(Boolean(bad));
    }
  }

  // A figure with its exact value for whoever reads the page by program.
  figure(name, value, text, unitText) {
    if (!this.cells.has(name)) this.cells.set(name, this.find(`[data-figure="${name}"]`));
    const cell = this.cells.get(name);
    if (text === UNKNOWN && this.early && !(this.state.sends && /psnr|ssim/.test(name))) text = NOT_YET;
    const known = text !== UNKNOWN && text !== NOT_YET;
    const shown = known ? `${text}\u0000${unitText}` : text;
    if (cell.dataset.value !== String(value)) cell.dataset.value = String(value);
    if (cell.shown === shown) return;
    cell.shown = shown;
    cell.classList.toggle('unknown', !known);
    cell.textContent = text;
    if (unitText && known) {
      const small = document.createElement('small');
      small.textContent = `\u2009${unitText}`;
      cell.append(small);
    }
  }
}

// Rows are {name, text, share of the whole, kind}.
function bars(list, rows) {
  while (list.children.length > rows.length) list.lastChild.remove();
  while (list.children.length < rows.length) {
    const li = document.createElement('li');
    li.append(...['span', 'b', 'i'].map((tag) => document.createElement(tag)));
    list.append(li);
  }
  rows.forEach(({name, text, share, kind}, i) => {
    const [label, value, bar] = list.children[i].children;
    list.children[i].className = kind || '';
    put(label, name);
    put(value, text);
    bar.style.setProperty('--share', share);
  });
}

// A duration in ms as [number, unit], in the unit that the longest one beside it has.
const time = (ms, digits, longest = ms) => (longest < LONG_MS ? [number(ms, digits), 'ms'] : [number(ms / 1000, 1), 's']);
const count = (n) => number(n, 0);
const unit = (value, digits, name) => (value === null ? UNKNOWN : `${number(value, digits)}${name ? ` ${name}` : ''}`);
const signed = (value) => number(Math.abs(value) < 0.05 ? 0 : value, 1);

function bytes(n) {
  if (n === null) return UNKNOWN;
  if (n < 1e6) return `${number(n / 1e3, 1)} kB`;
  return n < 1e9 ? `${number(n / 1e6, 2)} MB` : `${number(n / 1e9, 2)} GB`;
}

function facts({model, quality, width, height, device, encode_device: encoder, clock}) {
  const size = width && height ? `${width} × ${height}` : null;
  const on = device || encoder;
  return [model, quality === null ? null : `quality ${quality}`, size, on, clock === 'wall' ? 'live' : clock === 'recorded' ? 'recorded source' : null]
    .filter((part) => part !== null && part !== undefined).join(' · ');
}

function readout(p, nameOf, level) {
  const parts = [nameOf(p.place * level.width_s), `${number(p.kbps, 1)} kbit/s`, `${count(p.frames)} frames`];
  if (p.psnr !== null) parts.push(`${number(p.psnr, 2)} dB`);
  if (p.dropped) parts.push(`${count(p.dropped)} dropped`);
  if (p.unpaired) parts.push(`${count(p.unpaired)} unpaired`);
  return parts.join(' · ');
}

export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
