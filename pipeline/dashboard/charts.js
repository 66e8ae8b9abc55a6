// Charts as SVG, drawn anew in the pixels they have: no library, no resampled text.
const NS = 'http://www.w3.org/2000/svg';
const numbers = new Map();

export function number(value, digits) {
  if (!numbers.has(digits)) {
    numbers.set(digits, new Intl.NumberFormat('en', {minimumFractionDigits: digits, maximumFractionDigits: digits}));
  }
  return numbers.get(digits).format(value).replace('-', '−');
}

export function clockTime(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString('en-GB');
}

export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n) => String(n).padStart(2, '0');
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

class Plot {
  constructor(svg, {left = 46, right = 8, top = 8, bottom = 22} = {}) {
    this.svg = svg;
    this.width = svg.clientWidth || 300;
    this.height = svg.clientHeight || 150;
    Object.assign(this, {left, top, inner: this.width - left - right, tall: this.height - top - bottom});
    this.parts = [];
  }
  add(name, attributes, text) {
    const element = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    this.parts.push(element);
    return element;
  }
  text(x, y, text, anchor = 'middle', kind = '') {
    return this.add('text', {x, y, 'text-anchor': anchor, class: kind}, text);
  }
  line(x1, y1, x2, y2, kind) {
    return this.add('line', {x1, y1, x2, y2, class: kind});
  }
  done(label) {
    this.svg.setAttribute('viewBox', `0 0 ${this.width} ${this.height}`);
    this.svg.setAttribute('aria-label', label);
    this.svg.replaceChildren(...this.parts);
  }
  nothing(text) {
    this.text(this.width / 2, this.height / 2, text, 'middle', 'hint');
    this.done(text);
  }
}

// Round steps for about so many ticks between two values.
function ticks(low, high, wanted) {
  const raw = (high - low) / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const found = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-6; v += step) found.push(v);
  return {step, values: found};
}

function timeStep(span, wanted) {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 604800];
  return steps.find((s) => span / s <= wanted) || steps.at(-1);
}

const digitsFor = (step) => [0, 1, 2, 3].find((d) => Math.abs(step * 10 ** d - Math.round(step * 10 ** d)) < 1e-6) ?? 4;
const spread = (values) => values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);

// One point for each bucket that is over; rows are [place, frames, dropped, unpaired, bytes, psnr].
function bitratePoints({width_s: width, rows}, first, edge, recorded) {
  const last = Math.floor(edge / width);
  const points = [];
  const add = (place, seconds) => {
    const [, frames, dropped, unpaired, bytes, psnr] = rows.get(place) || [place, 0, 0, 0, 0, null];
    points.push({place, at: (place + 0.5) * width, frames, dropped, unpaired, psnr, kbps: (bytes * 8) / 1000 / seconds});
  };
  for (let place = first; place < last; place++) add(place, width);
  // The last bucket of a recorded source is as full as its frames reach; it may be all that there is.
  const frames = rows.get(last)?.[1];
  const seconds = ((edge - last * width) * frames) / (frames - 1);
  if (recorded && seconds > width / 2) add(last, Math.min(seconds, width));
  return points;
}

// Returns the points, for the cursor.
export function bitrate(svg, {level, edge, begin, least, budget, nameOf, cursor, recorded}) {
  const plot = new Plot(svg, {left: 52, right: 10, top: 12, bottom: 24});
  const {width_s: width, count} = level;
  const last = Math.floor(edge / width);
  const span = Math.min(count, Math.max(least, last + 1 - begin)) * width;
  const [from, to] = [Math.max(0, (last + 1) * width - span), Math.max(span, (last + 1) * width)];
  const points = bitratePoints(level, Math.round(from / width), edge, recorded);
  if (!points.some((p) => p.kbps)) {
    plot.nothing('Too short to draw yet');
    return {points: []};
  }
  const graded = points.filter((p) => p.psnr !== null);
  const strip = graded.length > 1 ? 56 : 0;
  const tall = plot.tall - (strip ? strip + 28 : 0);
  const highest = Math.max(...points.map((p) => p.kbps));
  const peak = Math.max(highest, budget || 0);
  const scale = ticks(0, peak * 1.05, 4);
  const high = scale.values.at(-1) < peak * 1.02 ? scale.values.at(-1) + scale.step : scale.values.at(-1);
  const x = (at) => plot.left + ((at - from) / (to - from)) * plot.inner;
  const y = (kbps) => plot.top + tall - (kbps / high) * tall;
  for (let v = 0; v <= high * 1.0001; v += scale.step) {
    plot.line(plot.left, y(v), plot.left + plot.inner, y(v), v ? 'grid-line' : 'axis');
    plot.text(plot.left - 8, y(v) + 4, number(v, digitsFor(scale.step)), 'end');
  }
  const step = timeStep(to - from, plot.inner / 90);
  const offset = nameOf.offset % step;
  for (let at = Math.ceil((from + offset) / step) * step - offset; at <= to; at += step) {
    const atEnd = x(at) > plot.left + plot.inner - 24;
    plot.text(atEnd ? plot.left + plot.inner : Math.max(plot.left + 14, x(at)), plot.height - 6, nameOf(at), atEnd ? 'end' : 'middle');
  }
  // The first and the last point stand for the whole of their buckets.
  const ends = [points[0].at - width / 2, points.at(-1).at + width / 2].map((at) => x(at).toFixed(1));
  const heights = points.map((p) => y(p.kbps).toFixed(1));
  const line = points.map((p, i) => `L${x(p.at).toFixed(1)} ${heights[i]}`).join('');
  const path = `M${ends[0]} ${heights[0]}${line}L${ends[1]} ${heights.at(-1)}`;
  plot.add('path', {d: `${path}L${ends[1]} ${y(0)}L${ends[0]} ${y(0)}Z`, class: 'area'});
  plot.add('path', {d: path, class: 'line'});
  if (budget) {
    plot.line(plot.left, y(budget), plot.left + plot.inner, y(budget), 'budget');
    plot.text(plot.left + plot.inner, y(budget) - 5, `budget ${number(budget, 0)}`, 'end', 'budget-name');
  }
  marks(plot, points, x, y(0), Math.max(2, (plot.inner * width) / (to - from) - 1));
  if (strip) psnrStrip(plot, graded, x, plot.top + tall + 28, strip);
  if (cursor !== null) {
    const p = points.find((q) => q.place === cursor);
    if (p) plot.line(x(p.at), plot.top, x(p.at), plot.height - 24, 'cursor');
  }
  const mean = points.reduce((sum, p) => sum + p.kbps, 0) / points.length;
  plot.text(plot.left, plot.top - 2, 'kbit/s', 'start');
  plot.done(`Bitrate over ${duration(to - from)}: mean ${number(mean, 0)}, highest ${number(highest, 0)} kbit/s`
    + (budget ? `, budget ${number(budget, 0)}` : '') + '. Arrow keys read single values.');
  return {points, placeAt: (px) => Math.floor((from + ((px - plot.left) / plot.inner) * (to - from)) / width)};
}

function marks(plot, points, x, ground, width) {
  for (const p of points) {
    for (const [kind, height] of [['unpaired', 4], ['dropped', 8]]) {
      if (p[kind]) plot.add('rect', {x: x(p.at) - width / 2, y: ground - height, width, height, class: kind});
    }
  }
}

function psnrStrip(plot, points, x, top, tall) {
  let [low, high] = spread(points.map((p) => p.psnr));
  [low, high] = [Math.floor(low - 0.25), Math.ceil(high + 0.25)];
  const y = (v) => top + tall - ((v - low) / (high - low)) * tall;
  for (const v of [low, high]) {
    plot.line(plot.left, y(v), plot.left + plot.inner, y(v), 'grid-line');
    plot.text(plot.left - 8, y(v) + 4, number(v, 0), 'end');
  }
  plot.text(plot.left, top - 5, 'PSNR, dB', 'start');
  const path = points.map((p, i) => `${i ? 'L' : 'M'}${x(p.at).toFixed(1)} ${y(p.psnr).toFixed(1)}`).join('');
  plot.add('path', {d: path, class: 'line psnr'});
}

// Frames are {bpp, psnr, without}; those decoded both ways have a hollow dot below.
export function scatter(svg, frames, nothing) {
  const plot = new Plot(svg, {left: 40, right: 14, top: 10, bottom: 34});
  const known = frames.filter((f) => f.bpp !== null && f.psnr !== null);
  if (!known.length) return plot.nothing(nothing);
  const [x, y, xs, ys] = [...axes(plot, spread(known.map((f) => f.bpp)),
    spread(known.flatMap((f) => (f.without === null ? [f.psnr] : [f.psnr, f.without]))))];
  xs('bits per pixel');
  ys('dB');
  for (const f of known.filter((f) => f.without !== null)) {
    plot.line(x(f.bpp), y(f.without), x(f.bpp), y(f.psnr), 'saved');
    plot.add('circle', {cx: x(f.bpp), cy: y(f.without), r: 2.75, class: 'dot without'});
  }
  known.forEach((f, i) => {
    const newest = i === known.length - 1;
    const opacity = (0.25 + (0.75 * (i + 1)) / known.length).toFixed(2);
    plot.add('circle', {cx: x(f.bpp), cy: y(f.psnr), r: newest ? 4.5 : 2.75, opacity, class: `dot${newest ? ' newest' : ''}`});
  });
  const f = known.at(-1);
  return plot.done(`Rate and distortion of the last ${known.length} frames; the newest has ${number(f.bpp, 4)} bpp and ${number(f.psnr, 2)} dB`);
}

function axes(plot, [x0, x1], [y0, y1]) {
  const wide = (low, high, least) => {
    const room = Math.max((high - low) * 0.1, least);
    return [low - room, high + room];
  };
  const [lx, hx] = wide(x0, x1, Math.max(1e-4, x1 * 0.01));
  const [ly, hy] = wide(y0, y1, 0.2);
  const x = (v) => plot.left + ((v - lx) / (hx - lx)) * plot.inner;
  const y = (v) => plot.top + plot.tall - ((v - ly) / (hy - ly)) * plot.tall;
  const drawX = (name) => {
    const scale = ticks(lx, hx, plot.inner / 70);
    for (const v of scale.values) plot.text(x(v), plot.top + plot.tall + 15, number(v, digitsFor(scale.step)));
    plot.line(plot.left, plot.top + plot.tall, plot.left + plot.inner, plot.top + plot.tall, 'axis');
    plot.text(plot.left + plot.inner, plot.top + plot.tall + 30, name, 'end');
  };
  const drawY = (name) => {
    const scale = ticks(ly, hy, plot.tall / 36);
    for (const v of scale.values) {
      plot.line(plot.left, y(v), plot.left + plot.inner, y(v), 'grid-line');
      plot.text(plot.left - 6, y(v) + 4, number(v, digitsFor(scale.step)), 'end');
    }
    plot.text(plot.left + 2, plot.top + 2, name, 'start');
  };
  return [x, y, drawX, drawY];
}

// One line per frame that was decoded both ways, from without to with.
export function gains(svg, frames) {
  const plot = new Plot(svg, {left: 34, right: 8, top: 8, bottom: 18});
  const both = frames.filter((f) => f.psnr !== null && f.without !== null).slice(-40);
  if (!both.length) return plot.nothing('Unknown here');
  const [, y, , ys] = axes(plot, [0, 1], spread(both.flatMap((f) => [f.psnr, f.without])));
  ys('dB');
  const step = plot.inner / Math.max(12, both.length);
  both.forEach((f, i) => {
    const x = plot.left + plot.inner - (both.length - i - 0.5) * step;
    plot.line(x, y(f.without), x, y(f.psnr), 'saved');
    plot.add('circle', {cx: x, cy: y(f.without), r: 3, class: 'dot without'});
    plot.add('circle', {cx: x, cy: y(f.psnr), r: 3.25, class: 'dot'});
  });
  plot.line(plot.left, plot.top + plot.tall, plot.left + plot.inner, plot.top + plot.tall, 'axis');
  plot.text(plot.left + plot.inner, plot.height - 3, 'newest', 'end');
  const gain = both.reduce((sum, f) => sum + f.psnr - f.without, 0) / both.length;
  return plot.done(`PSNR with and without the side view of ${both.length} frames; with it ${number(gain, 2)} dB more on average`);
}

export function histogram(svg, values, {unit, digits, name, zero = false}) {
  const plot = new Plot(svg, {left: 34, right: 14, top: 18, bottom: 34});
  if (values.length < 2) return plot.nothing(name);
  let [low, high] = spread(values);
  if (high - low < 1e-9) [low, high] = [low - 0.5, high + 0.5];
  if (zero) [low, high] = [Math.min(low, 0), Math.max(high, 0)];
  const bins = new Array(Math.max(8, Math.min(32, Math.floor(plot.inner / 12)))).fill(0);
  for (const v of values) bins[Math.min(bins.length - 1, Math.floor(((v - low) / (high - low)) * bins.length))]++;
  const peak = Math.max(...bins);
  const x = (v) => plot.left + ((v - low) / (high - low)) * plot.inner;
  const wide = plot.inner / bins.length;
  const scale = ticks(0, peak, 2);
  for (const v of scale.values.filter((v) => v && Number.isInteger(v))) {
    const at = plot.top + plot.tall - (v / peak) * plot.tall;
    plot.line(plot.left, at, plot.left + plot.inner, at, 'grid-line');
    plot.text(plot.left - 6, at + 4, number(v, 0), 'end');
  }
  bins.forEach((n, i) => {
    const tall = n ? Math.max(1.5, (n / peak) * plot.tall) : 0;
    plot.add('rect', {x: plot.left + i * wide + 0.75, y: plot.top + plot.tall - tall, width: Math.max(1, wide - 1.5), height: tall, class: 'bar-fill'});
  });
  plot.line(plot.left, plot.top + plot.tall, plot.left + plot.inner, plot.top + plot.tall, 'axis');
  const named = ticks(low, high, plot.inner / 70);
  for (const v of named.values) plot.text(x(v), plot.top + plot.tall + 15, number(v, digitsFor(named.step)));
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  plot.line(x(at(0.5)), plot.top, x(at(0.5)), plot.top + plot.tall, 'mark');
  plot.text(plot.left + plot.inner, plot.top + plot.tall + 30, unit, 'end');
  plot.text(plot.left, plot.top - 5, 'frames', 'start');
  plot.done(`${name}: median ${number(at(0.5), digits)}, 95 % up to ${number(at(0.95), digits)} ${unit}`);
  return {median: at(0.5), p95: at(0.95), low: sorted[0], high: sorted.at(-1)};
}
