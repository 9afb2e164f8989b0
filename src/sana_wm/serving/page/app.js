// The page: one session at a time, from the form to the last download.

import { Controls } from "./controls.js";
import { Link, address } from "./link.js";
import { PathMap } from "./map.js";
import { Screen } from "./screen.js";

const $ = (id) => document.getElementById(id);
const THUMB = [96, 58];
const LARGEST = 1600; // pixels of the longer side of a picture that is sent
const map = new PathMap($("map"));
const screen = new Screen($("screen"), shown);
let link = null;
let world = null;
let about = null;
let picture = null;

const controls = new Controls({
  screen: $("screen"), move: $("stick-move"), look: $("stick-look"), held: $("held"),
  change(keys, look) {
    if (!world) return;
    world.seq += 1;
    world.pressed.set(world.seq, performance.now());
    link.say("event", { camera_actions: keys, look, seq: world.seq });
  },
});

const hint = (text) => { $("hint").textContent = text; };
const seconds = (value) => (value < 10 ? `${value.toFixed(2)} s` : `${value.toFixed(0)} s`);

function begin(event) {
  event.preventDefault();
  const own = document.querySelector("[name=source]:checked").value === "own";
  if (own && !picture) { $("wrong").textContent = "Choose a picture first."; return; }
  $("wrong").textContent = "";
  $("begin").disabled = true;
  $("begin").textContent = "Beginning…";
  link?.close();
  link = new Link(hear);
  const speed = Number($("speed").value);
  const fov = Number($("fov").value);
  const init = {
    prompt: $("prompt").value,
    seed: Number($("seed").value),
    condition_inputs: { translation_speed: 0.025 * speed, rotation_speed_deg: 0.6 * speed, ...(fov ? { fov } : {}) },
    ...(own ? { first_frame: picture } : {}),
  };
  link.opened.then(() => link.say("init", init), (error) => stop(error.message));
}

const LISTEN = {
  queued({ position }) { $("begin").textContent = `Waiting, place ${position}…`; },

  ready(message) {
    world = { ...message, seq: 0, pressed: new Map(), nodes: new Map([[0, { parent: null }]]), path: [0], tape: null, tapes: new Map() };
    world.keeps = new Set(message.kept);
    screen.clear();
    screen.size(message.width, message.height, message.fps);
    map.clear();
    face("walk");
    for (const id of ["numbers", "bar", "past"]) $(id).hidden = false;
    for (const id of ["fps", "latency", "delay"]) $(id).textContent = "–";
    taping();
    press("pause", false);
    controls.live = true;
    hint("Press W, or use the sticks");
    $("screen").focus();
    list();
  },

  async frame_batch(batch) {
    const { node, parent } = batch;
    if (node) {
      map.add(node, parent, batch.poses);
      world.path = [...world.path.slice(0, world.path.indexOf(parent) + 1), node];
      world.nodes.set(node, { parent });
    }
    screen.add(batch);
    const found = world.nodes.get(node);
    found.last = batch.pictures.at(-1); // to show when one goes back to it
    found.thumb = await createImageBitmap(found.last, { resizeWidth: THUMB[0], resizeHeight: THUMB[1] });
    list();
  },

  chunk_started({ chunk }) {
    screen.making = true;
    world.began = performance.now();
    world.making = chunk;
    hint("");
  },

  chunk_stats(message) {
    screen.making = false;
    const whole = Object.values(message.seconds).reduce((sum, value) => sum + value, 0);
    screen.took((performance.now() - world.began) / 1000);
    world.began = null;
    $("latency").textContent = seconds(whole);
    keep(message.kept);
    world.tape?.push(message.node);
    list();
  },

  waiting({ paused }) {
    screen.making = false;
    world.began = null;
    hint(paused ? "Paused" : world.path.length > 1 ? "The world waits for you" : "Press W, or use the sticks");
  },

  rewound(message) {
    screen.clear();
    screen.making = false;
    world.began = null;
    world.path = message.path;
    keep(message.kept);
    if (world.tape) world.tape = world.tape.filter((node) => world.path.includes(node));
    const { last } = world.nodes.get(message.node);
    if (last) screen.still(last);
    map.go(world.path, message.pose);
    list();
  },

  paused({ paused }) { press("pause", paused); if (!paused) hint(""); },

  error({ message, fatal }) { if (fatal || !world) stop(message); else hint(message); },

  closed({ reason }) { stop(ENDS[reason] ?? `The session has ended (${reason}).`); },

  gone({ reason }) { stop(`The connection is gone (${reason}).`); },
};

const ENDS = {
  max_chunks: "This world has as many chunks as the server allows.",
  idle: "The session ended because nothing was said for long.",
  session_over: "The time of this session is over.",
};

function hear(message) { LISTEN[message.type]?.(message); }

// The form, or the world; who cannot see it is not led to the other one.
function face(state) {
  document.body.dataset.state = state;
  document.querySelector("main").inert = state === "start";
  Object.assign($("begin"), { disabled: false, textContent: "Begin" });
}

function stop(text) {
  link?.close();
  controls.release();
  controls.live = false;
  screen.clear();
  screen.making = false;
  world = null;
  face("start");
  $("wrong").textContent = text;
  for (const id of ["bar", "past"]) $(id).hidden = true;
  $("begin").focus();
}

// Which states the server still has; the pictures of others are never shown again.
function keep(nodes) {
  world.keeps = new Set(nodes);
  for (const [node, found] of world.nodes) if (!world.keeps.has(node)) found.last = null;
}

function go(node) {
  controls.release();
  link.say("rewind", { node });
  $("screen").focus();
}

function shown(batch, index, now) {
  if (!world) return;
  const pose = batch.poses[index];
  if (batch.node && index === 0) map.go(world.path, pose); else map.move(pose);
  if (batch.seq === undefined) return;
  const since = world.pressed.get(batch.seq);
  if (since !== undefined && index === (batch.first_frame === 0 ? 1 : 0)) {
    $("delay").textContent = seconds((now - since) / 1000);
    for (const seq of world.pressed.keys()) if (seq <= batch.seq) world.pressed.delete(seq);
  }
}

function list() {
  if (!world) return;
  const old = new Map([...$("chunks").children].map((item) => [Number(item.dataset.node), item]));
  const current = world.path.at(-1);
  const items = world.path.map((node, place) => {
    const item = old.get(node) ?? chip(node, place);
    const button = item.firstChild;
    button.disabled = !world.keeps.has(node);
    button.classList.toggle("taped", [...world.tapes.values(), world.tape ?? []].some((tape) => tape.includes(node)));
    button.setAttribute("aria-current", node === current);
    const { thumb } = world.nodes.get(node);
    if (thumb && !item.drawn) { button.firstChild.getContext("2d").drawImage(thumb, 0, 0); item.drawn = true; }
    return item;
  });
  const same = items.length === $("chunks").children.length && items.every((item, index) => item === $("chunks").children[index]);
  if (!same) {
    $("chunks").replaceChildren(...items);
    items.at(-1)?.scrollIntoView({ block: "nearest", inline: "end" });
  }
  const parents = new Set([...world.nodes.values()].map(({ parent }) => parent));
  const leaves = [...world.nodes.keys()].filter((node) => node && !parents.has(node));
  $("branches").replaceChildren(...(leaves.length < 2 ? [] : leaves.map((node, index) => {
    const button = document.createElement("button");
    button.textContent = String.fromCharCode(65 + index % 26) + (index > 25 ? Math.floor(index / 26) : "");
    button.title = `Branch ${button.textContent}`;
    button.disabled = !world.keeps.has(node);
    button.setAttribute("aria-pressed", world.path.includes(node));
    button.onclick = () => go(node);
    return button;
  })));
  $("video").disabled = $("walk").disabled = world.path.length < 2;
}

function chip(node, place) {
  const item = document.createElement("li");
  item.dataset.node = node;
  const button = document.createElement("button");
  const canvas = Object.assign(document.createElement("canvas"), { width: THUMB[0], height: THUMB[1] });
  const label = document.createElement("span");
  label.textContent = place ? `${(place * world.frames_a_chunk / world.fps).toFixed(1)} s` : "start";
  button.setAttribute("aria-label", place ? `Go back to the end of chunk ${place}` : "Go back to the beginning");
  button.append(canvas, label);
  button.onclick = () => go(node);
  item.append(button);
  return item;
}

const press = (id, on) => $(id).setAttribute("aria-pressed", on);

function record() {
  if (world.tape) {
    if (world.tape.length) world.tapes.set(world.tapes.size, world.tape);
    world.tape = null;
    hint(world.tapes.size ? "Recorded; Video and JSON download it" : "Nothing was recorded");
  } else {
    world.tape = [];
    hint("Recording from the next chunk on");
  }
  taping();
  list();
}

function taping() {
  press("record", Boolean(world.tape));
  $("record").lastChild.textContent = world.tape ? "Stop" : "Record";
}

// What was recorded last, as far as it lies on this path; else the whole path.
function clip() {
  const tape = (world.tape?.length ? world.tape : [...world.tapes.values()].at(-1)) ?? [];
  if (!tape.length) return { node: world.path.at(-1) };
  let [place, node] = [0, tape[0]];
  while (node) { node = world.nodes.get(node).parent; place += 1; }
  return { node: tape.at(-1), from_chunk: place - 1 };
}

async function download(kind, name) {
  const anchor = document.createElement("a");
  try {
    const answer = await fetch(address(`v1/sessions/${world.session}/${kind}`, clip()));
    if (!answer.ok) { hint((await answer.json()).detail); return; }
    anchor.href = URL.createObjectURL(await answer.blob());
  } catch {
    hint("The download failed");
    return;
  }
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 60000);
}

async function choose(file) {
  if (!file) return;
  try {
    const found = await createImageBitmap(file);
    const scale = Math.min(1, LARGEST / Math.max(found.width, found.height));
    const canvas = Object.assign(document.createElement("canvas"), { width: Math.round(found.width * scale), height: Math.round(found.height * scale) });
    const brush = canvas.getContext("2d");
    brush.fillStyle = "#fff"; // behind what is transparent, as the server does
    brush.fillRect(0, 0, canvas.width, canvas.height);
    brush.drawImage(found, 0, 0, canvas.width, canvas.height);
    found.close();
    picture = canvas.toDataURL("image/jpeg", 0.94).split(",")[1];
    $("own").src = `data:image/jpeg;base64,${picture}`;
    $("own").hidden = false;
    $("own-name").textContent = file.name;
    document.querySelector("[value=own]").checked = true;
    $("wrong").textContent = "";
    if ($("prompt").value === about?.example_prompt) $("prompt").value = "";
    $("prompt").focus();
  } catch {
    $("wrong").textContent = `${file.name} is no picture that this browser can read.`;
  }
}

$("start").onsubmit = begin;
$("file").onchange = (event) => choose(event.target.files[0]);
for (const kind of ["dragover", "drop", "dragleave"]) {
  $("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") choose(event.dataTransfer.files[0]);
  });
}
document.querySelector("[value=example]").onchange = () => { $("prompt").value = about?.example_prompt ?? ""; };
$("record").onclick = record;
$("pause").onclick = () => link.say("pause", { paused: $("pause").getAttribute("aria-pressed") !== "true" });
$("video").onclick = () => download("video", "walk.mp4");
$("walk").onclick = () => download("walk", "walk.json");
$("again").onclick = () => stop("");
$("example").src = address("v1/example");
$("example").onload = () => screen.brush.drawImage($("example"), 0, 0, screen.canvas.width, screen.canvas.height);

setInterval(() => {
  if (!world) return;
  const now = performance.now();
  const rate = screen.rate(now);
  $("fps").textContent = rate ? rate.toFixed(1) : "–";
  $("making").hidden = !world.began;
  if (world.began) $("making").firstChild.style.width = `${Math.min(97, 100 * (now - world.began) / 1000 / (screen.every || 4))}%`;
}, 120);

fetch(address("v1/model")).then(async (answer) => {
  if (!answer.ok) { $("wrong").textContent = "This server wants a token: add ?token=… to the address."; return; }
  about = await answer.json();
  $("model").textContent = `${about.model} · ${about.width}×${about.height} · ${about.denoising_steps} steps`;
  $("prompt").value ||= about.example_prompt;
  $("fov").placeholder = "auto";
  screen.size(about.width, about.height, about.fps);
  if ($("example").complete) $("example").onload();
}).catch(() => { $("wrong").textContent = "The server cannot be reached."; });
face("start");
