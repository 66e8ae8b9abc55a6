// The pictures of one stream: one JPEG per event holds all of them; a canvas shows the one that is chosen.
const BLINK_MS = 600;
const PAIRS = [['decoded', 'original'], ['decoded', 'without'], ['decoded', 'side']];
const NAMES = {
  decoded: 'Decoded', original: 'Original', side: 'Side view', without: 'Without side view', error: 'Error',
  error_without: 'Error without side view', blink: 'Blink',
};
const CALM = matchMedia('(prefers-reduced-motion: reduce)');

export class Pictures {
  constructor(card, index, group) {
    this.card = card;
    this.index = index;
    this.group = group;
    this.canvas = card.querySelector('canvas');
    this.choice = card.querySelector('.views');
    this.chosen = 'decoded';
    this.bitmap = null;
    this.phase = 0;
    this.fetching = false;
    this.names = '';
    card.querySelector('.screen').addEventListener('click', () => this.turn());
    setInterval(() => this.chosen === 'blink' && !CALM.matches && !document.hidden && this.turn(), BLINK_MS);
  }

  // What an event tells; fetched when nobody else is being fetched and somebody looks.
  async tell(picture) {
    this.wanted = picture;
    if (this.fetching || document.hidden || !picture || picture.number === this.shown?.number) return;
    this.fetching = true;
    try {
      const answer = await fetch(`dashboard/pictures/${this.index}/${picture.number}.jpg`);
      if (answer.status !== 200) return; // a newer one is there already, its event is on its way
      const bitmap = await createImageBitmap(await answer.blob());
      this.bitmap?.close();
      this.bitmap = bitmap;
      this.shown = picture;
      this.offer(picture.tiles.map((tile) => tile.name));
      this.draw();
    } catch {
      // The node is gone; the light says so.
    } finally {
      this.fetching = false;
    }
    if (this.wanted !== picture) this.tell(this.wanted);
  }

  again() {
    if (this.wanted) this.tell(this.wanted);
  }

  offer(names) {
    const blink = PAIRS.some((pair) => pair.every((name) => names.includes(name)));
    const all = [...names, ...(blink ? ['blink'] : [])];
    if (all.join() === this.names) return;
    // Frames that were decoded both ways come now and then; what they add stays on offer in between.
    if (this.names && all.every((name) => this.names.split(',').includes(name))) return;
    this.names = all.join();
    if (!all.includes(this.chosen)) this.chosen = all[0];
    this.choice.querySelectorAll('label').forEach((label) => label.remove());
    for (const name of all) {
      const [label, input, span] = ['label', 'input', 'span'].map((tag) => document.createElement(tag));
      Object.assign(input, {type: 'radio', name: `${this.group}-view`, value: name, checked: name === this.chosen});
      input.addEventListener('change', () => this.choose(name));
      span.textContent = NAMES[name] || name;
      label.append(input, span);
      this.choice.append(label);
    }
  }

  choose(name) {
    this.chosen = name;
    this.phase = 0;
    this.draw();
  }

  turn() {
    if (this.chosen !== 'blink') return;
    this.phase = 1 - this.phase;
    this.draw();
  }

  draw() {
    if (!this.bitmap) return;
    const tiles = new Map(this.shown.tiles.map((tile) => [tile.name, tile]));
    const pair = PAIRS.find((names) => names.every((name) => tiles.has(name)));
    const name = this.chosen === 'blink' ? (pair || ['decoded'])[this.phase] : this.chosen;
    const tile = tiles.get(name);
    if (!tile) return; // the last picture that had it stays
    if (this.canvas.width !== tile.width || this.canvas.height !== tile.height) {
      Object.assign(this.canvas, {width: tile.width, height: tile.height});
    }
    const {x, y, width, height} = tile;
    this.canvas.getContext('2d').drawImage(this.bitmap, x, y, width, height, 0, 0, width, height);
    this.canvas.setAttribute('aria-label', `${tile.title}, frame ${this.shown.frame_id}`);
    this.card.querySelector('.caption').textContent = tile.title;
    this.card.querySelector('.which').textContent = `frame ${this.shown.frame_id}`;
    this.card.querySelector('.about').textContent = this.about(name);
  }

  about(name) {
    if (name.startsWith('error')) return 'Mean error of the colours, black for none, bright for 40 of 255 and more.';
    if (this.chosen === 'blink') return CALM.matches ? 'Click or tap the picture to switch.' : 'Two pictures of one moment in turns: what jumps is what was lost.';
    return '';
  }
}
