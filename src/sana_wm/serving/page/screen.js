// Shows the frames of a chunk paced while the next chunk is made.

const SLOWEST = 4; // frames a second, below which motion is no motion

export class Screen {
  constructor(canvas, shown) {
    this.canvas = canvas;
    this.brush = canvas.getContext("2d");
    this.shown = shown; // called with (batch, index) when a frame is drawn
    this.fps = 16;
    this.frames = [];
    this.times = []; // when the last frames were drawn
    this.every = 0; // smoothed seconds from one chunk to the next
    this.making = false;
    this.next = 0;
    this.clock = 0;
    this.adding = Promise.resolve();
    const tick = (now) => { this.tick(now); requestAnimationFrame(tick); };
    requestAnimationFrame(tick);
  }

  size(width, height, fps) {
    Object.assign(this.canvas, { width, height });
    document.documentElement.style.setProperty("--wide", width / height);
    this.fps = fps;
  }

  clear() {
    for (const { picture } of this.frames) picture.close();
    this.frames = [];
    this.clock += 1;
  }

  // One picture instead of all that wait.
  async still(data) {
    const clock = this.clock;
    const picture = await createImageBitmap(data);
    if (clock === this.clock && !this.frames.length) this.brush.drawImage(picture, 0, 0, this.canvas.width, this.canvas.height);
    picture.close();
  }

  took(seconds) { this.every = this.every ? 0.6 * this.every + 0.4 * seconds : seconds; }

  // Batch after batch, however long their pictures take, and none after `clear`.
  add(batch) {
    const clock = this.clock;
    const unpacked = Promise.all(batch.pictures.map((part) => createImageBitmap(part)));
    this.adding = this.adding.then(async () => {
      for (const [index, picture] of (await unpacked).entries()) {
        if (clock === this.clock) this.frames.push({ picture, batch, index }); else picture.close();
      }
    });
  }

  // Seconds a frame stays: as long as it lasts, or longer if the next chunk would else come too late.
  pace() {
    const own = 1 / this.fps;
    const last = this.frames.at(-1);
    if (!this.making || !last) return own;
    const spread = Math.min(1 / SLOWEST, Math.max(own, this.every / last.batch.num_frames));
    return this.frames.length > 1.5 * last.batch.num_frames ? own : spread;
  }

  tick(now) {
    if (!this.frames.length || now < this.next) return;
    const { picture, batch, index } = this.frames.shift();
    this.brush.drawImage(picture, 0, 0, this.canvas.width, this.canvas.height);
    picture.close();
    const pace = 1000 * this.pace();
    this.next = Math.max(this.next + pace, now + pace / 2);
    this.times = [...this.times.filter((time) => now - time < 2000), now];
    this.shown(batch, index, now);
  }

  rate(now) {
    const recent = this.times.filter((time) => now - time < 2000);
    return recent.length < 2 ? 0 : (recent.length - 1) / ((recent.at(-1) - recent[0]) / 1000);
  }
}
