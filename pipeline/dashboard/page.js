// The page: one EventSource brings everything at first and news each second; what is shown is derived from that.
import {number} from './charts.js';
import {Stream, put} from './stream.js';

const SILENT_MS = 2500;
const AGAIN_MS = 5000;
const byId = (id) => document.getElementById(id);
const page = {streams: [], heard: 0, silent: false, ended: false, refused: null, drawing: false};

function connect() {
  const source = new EventSource('dashboard/events');
  const on = (name, take) => source.addEventListener(name, (message) => {
    page.heard = performance.now();
    page.refused = null;
    take(JSON.parse(message.data));
    draw();
  });
  on('whole', (data) => begin(data));
  on('news', (data) => data.streams.forEach((news, i) => page.streams[i]?.news(news)));
  on('refused', (data) => { page.refused = data.sentence; });
  on('end', (data) => {
    // The server is closing: a picture could not be fetched any more.
    data.streams.forEach((news, i) => page.streams[i]?.news({...news, picture: undefined}));
    page.ended = true;
    source.close();
    setTimeout(connect, AGAIN_MS);
  });
  source.addEventListener('error', () => {
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, AGAIN_MS);
  });
}

function begin(data) {
  page.ended = false;
  page.data = data;
  put(byId('node'), data.node);
  byId('metrics').hidden = data.kind === 'recording';
  if (page.streams.length === data.streams.length) {
    data.streams.forEach((stream, i) => page.streams[i].whole(stream));
    return;
  }
  page.streams = data.streams.map((stream, i) => new Stream(i, stream));
  byId('streams').replaceChildren(...page.streams.map((stream) => stream.node));
}

function draw() {
  if (page.drawing || document.hidden) return;
  page.drawing = true;
  requestAnimationFrame(() => {
    page.drawing = false;
    page.streams.forEach((stream) => stream.draw(page.silent));
    drawBar();
  });
}

function drawBar() {
  const bar = byId('connection');
  const quiet = Math.round((performance.now() - page.heard) / 1000);
  const text = page.refused ?? (page.ended ? 'The run has ended' : page.silent ? `No news for ${quiet} s` : page.heard ? 'Up to date' : 'Connecting …');
  put(bar, text);
  bar.dataset.bad = String(Boolean(page.refused) || page.silent);
  const first = page.streams[0]?.state;
  if (!first) return;
  const light = page.silent ? 'No news' : first.light.word;
  const rate = first.now.kbps === null ? '' : ` ${number(first.now.kbps, 0)} kbit/s ·`;
  const title = `${light} ·${rate} ${page.data.node} – sidecast`;
  if (document.title !== title) document.title = title;
}

setInterval(() => {
  const silent = !page.ended && !page.refused && page.heard > 0 && performance.now() - page.heard > SILENT_MS;
  if (silent || page.silent) {
    page.silent = silent;
    draw();
  }
}, 250);
document.addEventListener('visibilitychange', () => {
  draw();
  page.streams.forEach((stream) => stream.pictures.again());
});
addEventListener('resize', draw);
connect();
