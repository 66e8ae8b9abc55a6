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

  // As much room as the first picture will take, so that nothing moves when it comes.
  makeRoom({width, height}) {
    this.card.querySelector('.screen').style.aspectRatio = !this.shown && width && height ? `${width} / ${height}` : '';
  }

  // The number of a picture that there is; fetched when no other one is being fetched and somebody looks.
  async tell(number) {
    this.wanted = number;
    if (this.fetching || document.hidden || number === null || number === this.shown?.number) return;
    this.fetching = true;
    if (!this.shown) this.card.querySelector('.caption').textContent = 'Coming …';
    try {
      const answer = await fetch(`dashboard/pictures/${this.index}/${number}.jpg`);
      if (answer.headers.get('Content-Type') === 'image/jpeg' && answer.status === 200) {
        await this.take(number, answer);
      } else if (answer.status === 200) {
        this.card.querySelector('.about').textContent = await answer.text();
        this.card.querySelector('.caption').textContent = '';
      }
    } catch {
      // The node is gone; the light says so.
    } finally {
      this.fetching = false;
    }
    if (this.wanted !== number) this.tell(this.wanted);
  }

  async take(number, answer) {
    const described = JSON.parse(answer.headers.get('Sidecast-Picture'));
    const bitmap = await createImageBitmap(await answer.blob());
    this.bitmap?.close();
    this.bitmap = bitmap;
    this.shown = {number, ...described};
    this.offer(described.tiles.map((tile) => tile.name));
    this.draw();
  }

  // A recording has a picture of every frame, made when it is asked for.
  browse(count) {
    const slider = this.card.querySelector('.seek');
    slider.hidden = false;
    Object.assign(slider, {max: count - 1, value: 0});
    slider.addEventListener('input', () => this.tell(Number(slider.value)));
    this.tell(0);
  }

  again() {
    if (this.wanted !== undefined) this.tell(this.wanted);
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

  // The two that blink: the first pair that this picture has.
  pair() {
    const names = this.shown.tiles.map((tile) => tile.name);
    return PAIRS.find((pair) => pair.every((name) => names.includes(name)));
  }

  draw() {
    if (!this.bitmap) return;
    const tiles = new Map(this.shown.tiles.map((tile) => [tile.name, tile]));
    const name = this.chosen === 'blink' ? (this.pair() || ['decoded'])[this.phase] : this.chosen;
    const tile = tiles.get(name);
    if (!tile) return; // the last picture that had it stays
    if (this.canvas.width !== tile.width || this.canvas.height !== tile.height) {
      Object.assign(this.canvas, {width: tile.width, height: tile.height});
    }
    this.canvas.hidden = false;
    const {x, y, width, height} = tile;
    this.canvas.getContext('2d').drawImage(this.bitmap, x, y, width, height, 0, 0, width, height);
    this.canvas.setAttribute('aria-label', `${tile.title}, frame ${this.shown.frame_id}`);
    this.card.querySelector('.caption').textContent = tile.title;
    this.card.querySelector('.which').textContent = `frame ${this.shown.frame_id}`;
    this.card.querySelector('.about').textContent = this.about(name);
  }

  about(name) {
    if (name.startsWith('error')) return 'Mean error of the colours, black for none, bright for 40 of 255 and more.';
    if (this.chosen === 'blink') {
      const worth = this.pair()?.includes('original') ? 'what jumps is what was lost.'
        : this.pair()?.includes('without') ? 'what jumps is what the side view brought.' : 'what jumps is what lies between the cameras.';
      return `${CALM.matches ? 'Click or tap the picture to switch' : 'Two pictures of one moment in turns'}: ${worth}`;
    }
    return '';
  }
}
