// Keys, sticks and dragging, all as the eight keys of the model; dragging also as degrees to look.

const ALIAS = { ArrowUp: "w", ArrowDown: "s", ArrowLeft: "a", ArrowRight: "d" };
const DEGREES_A_PIXEL = 0.12;
const DEAD = 0.32;

export class Controls {
  constructor({ screen, move, look, held, change }) {
    this.change = change; // called with (keys, [degrees right, degrees up])
    this.keyboard = new Set();
    this.sticks = { move: new Set(), look: new Set() };
    this.live = false;
    this.marks = [...held.querySelectorAll("kbd")];
    addEventListener("keydown", (event) => this.key(event, true));
    addEventListener("keyup", (event) => this.key(event, false));
    addEventListener("blur", () => this.release());
    document.addEventListener("visibilitychange", () => document.hidden && this.release());
    this.stick(move, "move", { left: "j", right: "l", up: "w", down: "s" });
    this.stick(look, "look", { left: "a", right: "d", up: "i", down: "k" });
    this.drag(screen);
  }

  get keys() { return [...new Set([...this.keyboard, ...this.sticks.move, ...this.sticks.look])].sort().join(""); }

  release() {
    this.keyboard.clear();
    this.sticks.move.clear();
    this.sticks.look.clear();
    this.tell();
  }

  tell(look) {
    const keys = this.keys;
    for (const mark of this.marks) mark.classList.toggle("on", keys.includes(mark.dataset.key));
    if (this.live && (keys !== this.told || look)) this.change(keys, look ?? [0, 0]);
    this.told = keys;
  }

  key(event, down) {
    const key = ALIAS[event.key] ?? event.key.toLowerCase();
    if (!down && this.keyboard.delete(key)) this.tell(); // whatever else is held or has happened meanwhile
    if (!down || !this.live || key.length > 1 || !"wasdijkl".includes(key)) return;
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
    if (event.target.closest?.("#chunks") && event.key in ALIAS) return;
    event.preventDefault();
    if (event.repeat) return;
    this.keyboard.add(key);
    this.tell();
  }

  stick(place, name, directions) {
    const knob = place.querySelector("i");
    const turn = (event) => {
      const box = place.getBoundingClientRect();
      let x = (event.clientX - box.left) / box.width * 2 - 1;
      let y = (event.clientY - box.top) / box.height * 2 - 1;
      const length = Math.max(1, Math.hypot(x, y));
      [x, y] = [x / length, y / length];
      knob.style.transform = `translate(${34 * x}px, ${34 * y}px)`;
      const keys = [];
      if (Math.abs(x) > DEAD) keys.push(x < 0 ? directions.left : directions.right);
      if (Math.abs(y) > DEAD) keys.push(y < 0 ? directions.up : directions.down);
      this.sticks[name] = new Set(keys);
      this.tell();
    };
    const leave = () => { knob.style.transform = ""; this.sticks[name] = new Set(); this.tell(); };
    place.addEventListener("pointerdown", (event) => { place.setPointerCapture(event.pointerId); turn(event); });
    place.addEventListener("pointermove", (event) => place.hasPointerCapture(event.pointerId) && turn(event));
    place.addEventListener("lostpointercapture", leave);
  }

  drag(screen) {
    let last = null;
    let look = [0, 0];
    let timer = 0;
    const send = () => { timer = 0; this.tell(look); look = [0, 0]; };
    screen.addEventListener("pointerdown", (event) => { screen.setPointerCapture(event.pointerId); last = [event.clientX, event.clientY]; });
    screen.addEventListener("pointermove", (event) => {
      if (!last || !screen.hasPointerCapture(event.pointerId)) return;
      // The world is dragged along: to the left is to look to the right.
      look[0] -= DEGREES_A_PIXEL * (event.clientX - last[0]);
      look[1] += DEGREES_A_PIXEL * (event.clientY - last[1]);
      last = [event.clientX, event.clientY];
      timer ||= setTimeout(send, 50);
    });
    screen.addEventListener("lostpointercapture", () => { last = null; });
  }
}
