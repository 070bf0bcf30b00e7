// The page's data: decoded from the JSON element, with the helpers that every drawing uses.
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const LABEL = 64; // pixels left of the lanes, for their names

const repeated = (pairs, type) => {
  const out = new type(pairs.reduce((sum, pair) => sum + pair[1], 0));
  let at = 0;
  for (const [value, count] of pairs) out.fill(value, at, (at += count));
  return out;
};
const progressed = (triples) => triples.flatMap(([start, step, count]) => Array.from({ length: count }, (_, i) => start + step * i));

const decode = (report, marks) => {
  const kept = report.kept;
  const runs = kept.layer_runs;
  const runOf = report.tokens.entering.map((_, layer) => runs.findIndex(([first, last]) => first <= layer && layer <= last));
  const video = { ...kept.video, at: progressed(kept.video.seconds), depth: repeated(kept.video.depth, Uint16Array) };
  video.cells = video.rows * video.columns;
  video.counts = countsByMoment(video.depth, Math.max(1, video.cells), video.at.length, runs.length);
  const reached = runs.map(([, last]) => (last + 1) / report.tokens.entering.length);
  video.deep = video.at.map((_, grid) => {
    let sum = 0;
    for (let cell = 0; cell < video.cells; cell++) sum += reached[video.depth[grid * video.cells + cell] - 1] || 0;
    return sum / video.cells;
  });
  const audio = { ...kept.audio, at: progressed(kept.audio.seconds), depth: repeated(kept.audio.depth, Uint16Array) };
  video.chunk = repeated(kept.video.chunks, Int32Array);
  audio.chunk = repeated(kept.audio.chunks, Int32Array);
  return { report, runs, runOf, video, audio, marks, name: report.pruning.method };
};

// counts[run * moments + moment]: tokens of a moment that are in that run of layers
const countsByMoment = (depth, cells, moments, runs) => {
  const counts = new Uint16Array(runs * moments);
  for (let token = 0; token < depth.length; token++) {
    const moment = (token / cells) | 0;
    for (let run = 0; run < depth[token]; run++) counts[run * moments + moment]++;
  }
  return counts;
};

const methods = data.reports.map((report, index) => decode(report, data.marks[index]));
const start = data.reports[0].media.start_s;
const duration = Math.max(data.reports[0].media.used_s, 0.001);
const layers = data.reports[0].tokens.entering.length;
const state = { layer: 0, mode: "layer", zoom: 140, timer: null };
const film = data.film && data.film.at_s.length ? data.film : null;

const clock = (seconds) => {
  const tenths = Math.round((start + seconds) * 10);
  const fine = duration < 10 ? "." + (tenths % 10) : "";
  const whole = Math.floor(tenths / 10);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return (h ? h + ":" + String(m).padStart(2, "0") : m) + ":" + String(s).padStart(2, "0") + fine;
};
const percent = (share) => (share * 100).toFixed(share > 0 && share < 0.0095 ? 1 : 0) + " %";
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

// cividis, which reads the same with and without colour vision
const STOPS = [[0, 32, 77], [52, 66, 108], [101, 104, 112], [140, 138, 119], [180, 172, 112], [221, 208, 91], [253, 234, 69]];
const ramp = (share) => {
  const place = Math.min(0.9999, Math.max(0, share)) * (STOPS.length - 1);
  const [low, high, part] = [STOPS[Math.floor(place)], STOPS[Math.floor(place) + 1], place % 1];
  return "rgb(" + low.map((value, i) => Math.round(value + (high[i] - value) * part)).join() + ")";
};
// share of the layers that a token of `depth` layer runs enters
const reach = (method, depth) => (depth ? (method.runs[depth - 1][1] + 1) / layers : 0);

const fit = (canvas, width, height) => {
  const ratio = Math.min(2, window.devicePixelRatio || 1);
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = width + "px";
    canvas.style.height = height + "px";
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = "12px system-ui, sans-serif";
  context.textBaseline = "middle";
  return context;
};
