// The path from above: where one is, where one came from, and the branches not taken.

export class PathMap {
  constructor(canvas) {
    this.canvas = canvas;
    this.brush = canvas.getContext("2d");
    this.clear();
  }

  clear() {
    this.nodes = new Map();
    this.path = [0];
    this.here = [0, 0, 0];
    this.box = [0, 0, 0, 0]; // left, right, near, far
    this.draw();
  }

  // Every fourth pose is enough for a line of this size.
  add(node, parent, poses) {
    this.nodes.set(node, { parent, poses: poses.filter((_, index) => index % 4 === 0 || index === poses.length - 1) });
    for (const [x, z] of poses) {
      const [left, right, near, far] = this.box;
      this.box = [Math.min(left, x), Math.max(right, x), Math.min(near, z), Math.max(far, z)];
    }
  }

  go(path, pose) { this.path = path; this.here = pose; this.draw(); }

  move(pose) { this.here = pose; this.draw(); }

  draw() {
    const { brush: b, canvas: { width, height } } = this;
    const [left, right, near, far] = this.box;
    const scale = 0.68 * width / Math.max(right - left, far - near, 1.5);
    const at = ([x, z]) => [width / 2 + scale * (x - (left + right) / 2), height / 2 - scale * (z - (near + far) / 2)];
    b.clearRect(0, 0, width, height);
    b.lineWidth = 1;
    b.strokeStyle = "#ffffff16";
    const grid = scale > 40 ? 0.5 : scale > 12 ? 2 : 10;
    for (let line = -40; line <= 40; line += 1) {
      const [x, z] = at([line * grid, line * grid]);
      b.beginPath(); b.moveTo(x, 0); b.lineTo(x, height); b.moveTo(0, z); b.lineTo(width, z); b.stroke();
    }
    const line = (poses, colour, thick) => {
      b.beginPath();
      poses.forEach((pose, index) => (index ? b.lineTo(...at(pose)) : b.moveTo(...at(pose))));
      Object.assign(b, { strokeStyle: colour, lineWidth: thick, lineJoin: "round", lineCap: "round" });
      b.stroke();
    };
    const walked = new Set(this.path);
    const ends = (parent) => this.nodes.get(parent)?.poses.at(-1) ?? [0, 0, 0];
    for (const [node, { parent, poses }] of this.nodes) if (!walked.has(node)) line([ends(parent), ...poses], "#ffffff38", 3);
    for (const node of this.path) {
      const found = this.nodes.get(node);
      if (found) line([ends(found.parent), ...found.poses], "#e0ae67", 4);
    }
    b.fillStyle = "#ffffffb0";
    b.beginPath(); b.arc(...at([0, 0]), 4, 0, 7); b.fill();
    const [x, y] = at(this.here);
    b.save();
    b.translate(x, y);
    b.rotate(this.here[2]);
    const glow = b.createRadialGradient(0, 0, 0, 0, 0, 46);
    glow.addColorStop(0, "#e0ae67a0"); glow.addColorStop(1, "#e0ae6700");
    b.fillStyle = glow;
    b.beginPath(); b.moveTo(0, 0); b.arc(0, 0, 46, -Math.PI / 2 - 0.52, -Math.PI / 2 + 0.52); b.fill();
    b.fillStyle = "#fff";
    b.beginPath(); b.moveTo(0, -10); b.lineTo(7, 8); b.lineTo(0, 4); b.lineTo(-7, 8); b.fill();
    b.restore();
  }
}
