// Time, words, tables, and the events that change what is drawn.
const headLine = document.createElement("div");
headLine.className = "head";
headLine.hidden = true;
$("lanes").append(headLine);
const view = document.createElement("div");
view.className = "head";
const player = document.querySelector("video, audio");

const place = (second) => LABEL + (second / duration) * ($("lanes").clientWidth - LABEL);
const goTo = (second) => {
  const at = Math.min(duration, Math.max(0, second));
  if (film) $("film").scrollLeft = nearest(film.at_s, at) * (frameWidth() + GAP);
  if (player && player.readyState) player.currentTime = at + Number(player.dataset.offset);
  headLine.hidden = false;
  headLine.style.left = place(at) + "px";
};
const drawWindow = () => {
  if (!headLine.hidden && player && player.readyState) headLine.style.left = place(player.currentTime - Number(player.dataset.offset)) + "px";
};
if (player) {
  const follow = () => {
    headLine.hidden = false;
    headLine.style.left = place(player.currentTime - Number(player.dataset.offset)) + "px";
    if (!player.paused) requestAnimationFrame(follow);
  };
  player.addEventListener("play", follow);
  player.addEventListener("seeked", follow);
  player.addEventListener("error", () => {
    player.hidden = true;
    $("player-note").textContent = "The clip cannot be played from here; write the page with --embed-media.";
  });
}

const describe = (method) => {
  const entering = method.report.tokens.entering[state.layer];
  const prompt = method.report.tokens.prompt;
  const parts = [];
  if (prompt.audio) parts.push(`audio ${entering[1]} of ${prompt.audio}`);
  if (prompt.video) parts.push(`video ${entering[2]} of ${prompt.video}`);
  const media = prompt.audio + prompt.video;
  return `layer ${state.layer} sees ${percent(media ? (entering[1] + entering[2]) / media : 1)}: ${parts.join(", ")}`;
};

const row = (cells, tag) => {
  const line = document.createElement("tr");
  for (const cell of cells) {
    const box = document.createElement(tag);
    if (tag === "th") box.scope = "col";
    box.textContent = cell;
    line.append(box);
  }
  return line;
};
const tableOf = (method) => {
  const table = document.createElement("table");
  const attention = method.report.attention;
  const index = attention ? attentionAt(method) : -1;
  table.append(Object.assign(document.createElement("caption"), { textContent: method.name + ", layer " + state.layer }));
  const head = document.createElement("thead");
  const extra = index >= 0 ? ["attention audio", "attention video"] : [];
  head.append(row(["seconds", "audio kept", "of", "video kept", "of", ...extra], "th"));
  const body = document.createElement("tbody");
  const run = method.runOf[state.layer];
  const chunks = new Map();
  const count = (chunk, column, kept) => {
    if (!chunks.has(chunk)) chunks.set(chunk, [0, 0, 0, 0]);
    const cells = chunks.get(chunk);
    cells[column] += kept ? 1 : 0;
    cells[column + 1]++;
  };
  method.audio.depth.forEach((depth, token) => count(method.audio.chunk[token], 0, depth > run));
  method.video.depth.forEach((depth, token) => count(method.video.chunk[Math.floor(token / method.video.cells)], 2, depth > run));
  for (const chunk of [...chunks.keys()].sort((a, b) => a - b)) {
    const more = index >= 0 ? [attention.audio[index][chunk], attention.video[index][chunk]].map((value) => (value ?? 0).toPrecision(3)) : [];
    body.append(row([`${clock(2 * chunk)} to ${clock(Math.min(duration, 2 * chunk + 2))}`, ...chunks.get(chunk), ...more], "td"));
  }
  table.append(head, body);
  const box = document.createElement("div");
  box.className = "scroll";
  box.tabIndex = 0;
  box.append(table);
  return box;
};
const drawTables = () => {
  if ($("chunks").open) $("chunk-tables").replaceChildren(...methods.map(tableOf));
};

const draw = () => {
  drawFilm();
  if (scrolled) return;
  drawLanes();
  drawTables();
  $("layer").value = state.layer;
  $("layer-value").textContent = state.layer;
  $("layer").setAttribute("aria-valuetext", `layer ${state.layer} of ${layers}`);
  $("status").textContent = methods.map((method) => (methods.length > 1 ? method.name + ": " : "") + describe(method)).join("; ");
  $("legend-layer").hidden = state.mode !== "layer";
  $("legend-depth").hidden = state.mode !== "depth";
  for (const cursor of document.querySelectorAll(".curve .cursor")) {
    const { left, right } = cursor.dataset;
    const x = Number(left) + (layers > 1 ? ((Number(right) - Number(left)) * state.layer) / (layers - 1) : 0);
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
  }
};
let pending = false;
let scrolled = false; // nothing but the film strip's place changed since the last drawing
const schedule = (event) => {
  scrolled = (scrolled || !pending) && event !== undefined && event.type === "scroll";
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => {
    draw();
    pending = scrolled = false;
  });
};
const setLayer = (layer) => {
  state.layer = Math.min(layers - 1, Math.max(0, layer));
  schedule();
};
const setPlaying = (playing) => {
  clearInterval(state.timer);
  state.timer = playing ? setInterval(() => (state.layer >= layers - 1 ? setPlaying(false) : setLayer(state.layer + 1)), 450) : null;
  $("play").textContent = playing ? "Pause" : "Play";
  $("play").setAttribute("aria-pressed", String(playing));
};
const togglePlay = () => {
  if (state.timer === null && state.layer >= layers - 1) setLayer(0);
  setPlaying(state.timer === null);
};

$("layer").addEventListener("input", (event) => setLayer(Number(event.target.value)));
$("play").addEventListener("click", togglePlay);
$("mode").addEventListener("change", (event) => ((state.mode = event.target.value), schedule()));
$("zoom").addEventListener("change", (event) => ((state.zoom = Number(event.target.value)), schedule()));
$("film").addEventListener("scroll", schedule, { passive: true });
$("chunks").addEventListener("toggle", drawTables);
$("theme").addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  schedule();
});
$("save").addEventListener("click", () => {
  const { film: _film, sound: _sound, ...numbers } = data;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(numbers)], { type: "application/json" }));
  link.download = "omnidrop-explain.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(SELECT|TEXTAREA|VIDEO|AUDIO)$/.test(event.target.tagName)) return;
  if (event.key === ",") setLayer(state.layer - 1);
  else if (event.key === ".") setLayer(state.layer + 1);
  else if (event.key === "p") togglePlay();
});
window.addEventListener("resize", () => schedule());
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => schedule());

const scale = $("ramp").getContext("2d");
for (let x = 0; x < 160; x++) {
  scale.fillStyle = ramp(x / 159);
  scale.fillRect(x, 0, 1, 10);
}
if (!film) $("film").hidden = true;
draw();
