// Lanes over time, one group per method: video, spectrogram, waveform, attention, windows.
const NOTE = 16; // pixels of the line of words above a lane

const mel = data.sound ? new Image() : null;
if (mel) {
  mel.onload = () => schedule();
  mel.src = "data:image/png;base64," + data.sound.mel_png;
}
const peaks = data.sound ? Int8Array.from(atob(data.sound.peaks), (c) => c.charCodeAt(0)) : null;

const lanesOf = (method) => {
  const lanes = [];
  if (method.video.at.length) lanes.push(["video", 44, drawVideoLane]);
  if (method.audio.at.length && mel) lanes.push(["audio", 52, drawMelLane], ["", 34, drawWaveLane]);
  else if (method.audio.at.length) lanes.push(["audio", 34, drawAudioLane]);
  if (method.report.attention) lanes.push(["attention", 58, drawAttentionLane]);
  if (method.marks.windows.length) lanes.push(["windows", 42, drawWindowLane]);
  return lanes;
};

const canvases = methods.map((method) => {
  const box = document.createElement("div");
  box.className = "run";
  const title = document.createElement("h3");
  title.textContent = method.name;
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  canvas.addEventListener("click", (event) => goTo(((event.offsetX - LABEL) / (canvas.clientWidth - LABEL)) * duration));
  box.append(title, canvas);
  $("lanes").append(box);
  return canvas;
});

const drawLanes = () => {
  const width = $("lanes").clientWidth;
  methods.forEach((method, index) => {
    const lanes = lanesOf(method);
    const height = lanes.reduce((sum, lane) => sum + lane[1] + 6, 0) + 20;
    const context = fit(canvases[index], width, height);
    let y = 0;
    for (const [name, tall, draw] of lanes) {
      context.fillStyle = colour("soft");
      context.fillText(name, 0, y + tall / 2, LABEL - 4);
      context.save();
      context.translate(LABEL, y);
      draw(context, method, width - LABEL, tall);
      context.restore();
      y += tall + 6;
    }
    drawAxis(context, width - LABEL, y);
    canvases[index].setAttribute("aria-label", method.name + ": " + describe(method));
  });
  drawWindow();
};

const drawAxis = (context, width, y) => {
  const ticks = Math.max(1, Math.min(10, Math.floor(width / 90)));
  context.fillStyle = colour("soft");
  for (let tick = 0; tick <= ticks; tick++) {
    context.textAlign = tick === 0 ? "left" : tick === ticks ? "right" : "center";
    context.fillText(clock((duration * tick) / ticks), LABEL + (width * tick) / ticks, y + 10);
  }
  context.textAlign = "left";
};

const drawVideoLane = (context, method, width, height) => {
  const { at, counts, cells, deep } = method.video;
  const run = method.runOf[state.layer];
  context.fillStyle = colour("gone");
  context.globalAlpha = 0.45;
  context.fillRect(0, 0, width, height);
  context.globalAlpha = 1;
  for (let grid = 0; grid < at.length; grid++) {
    const x = (at[grid] / duration) * width;
    const next = grid + 1 < at.length ? (at[grid + 1] / duration) * width : width;
    if (state.mode === "depth") {
      context.fillStyle = ramp(deep[grid]);
      context.fillRect(x, 0, Math.max(1, next - x), height);
    } else {
      const tall = (counts[run * at.length + grid] / cells) * height;
      context.fillStyle = colour("video");
      context.fillRect(x, height - tall, Math.max(0.75, next - x - (next - x > 4 ? 1 : 0)), tall);
    }
  }
};

// per pixel column: [share kept at this layer, mean share of layers reached]; -1 without a token
const audioColumns = (method, width) => {
  const { at, depth } = method.audio;
  const run = method.runOf[state.layer];
  const columns = Math.max(1, Math.floor(width));
  const key = run + "/" + columns;
  if (method.columns && method.columns.key === key) return method.columns.values;
  const [kept, deep, seen] = [new Float32Array(columns), new Float32Array(columns), new Float32Array(columns)];
  for (let token = 0; token < at.length; token++) {
    const x = Math.min(columns - 1, Math.floor((at[token] / duration) * columns));
    seen[x]++;
    if (depth[token] > run) kept[x]++;
    deep[x] += reach(method, depth[token]);
  }
  let before = [0, 0];
  const values = Array.from(seen, (count, x) => (before = count ? [kept[x] / count, deep[x] / count] : before));
  method.columns = { key, values };
  return values;
};

const drawMelLane = (context, method, width, height) => {
  const end = (data.sound.seconds / duration) * width;
  if (mel.complete && mel.naturalWidth) context.drawImage(mel, 0, 0, end, height);
  const shade = "rgb(" + colour("shade") + ")";
  audioColumns(method, width).forEach(([kept, deep], x) => {
    if (x > end) return;
    context.globalAlpha = state.mode === "depth" ? 0.6 : 0.82 * (1 - kept);
    context.fillStyle = state.mode === "depth" ? ramp(deep) : shade;
    context.fillRect(x, 0, 1, height);
  });
  context.globalAlpha = 1;
};

const drawWaveLane = (context, method, width, height) => {
  const bins = peaks.length / 2;
  const [on, off] = [colour("audio"), colour("gone")];
  audioColumns(method, width).forEach(([kept, deep], x) => {
    const second = (x / width) * duration;
    if (second > data.sound.seconds) return;
    const bin = Math.min(bins - 1, Math.floor((second / data.sound.seconds) * bins));
    const [low, high] = [peaks[2 * bin], peaks[2 * bin + 1]];
    const top = height / 2 - Math.max(0.5, (high / 254) * height);
    const tall = Math.max(1, ((high - low) / 254) * height);
    context.fillStyle = state.mode === "depth" ? ramp(deep) : kept >= 0.5 ? on : off;
    context.fillRect(x, top, 1, tall);
  });
};

const drawAudioLane = (context, method, width, height) => {
  audioColumns(method, width).forEach(([kept, deep], x) => {
    context.fillStyle = state.mode === "depth" ? ramp(deep) : colour("audio");
    const tall = state.mode === "depth" ? height : kept * height;
    context.fillRect(x, height - tall, 1, tall);
  });
};

// the last layer up to the chosen one in which the method computed attention
const attentionAt = (method) => {
  const found = method.report.attention.layers.filter((layer) => layer <= state.layer);
  return found.length ? found.length - 1 : -1;
};

const drawAttentionLane = (context, method, width, height) => {
  const attention = method.report.attention;
  const index = attentionAt(method);
  context.fillStyle = colour("soft");
  if (index < 0) {
    context.fillText("not computed up to this layer", 0, 6);
    return;
  }
  const [audio, video] = [attention.audio[index], attention.video[index]];
  const top = Math.max(1e-9, ...audio, ...video);
  const wide = (2 / duration) * width; // a chunk has two seconds
  const bar = (value, chunk, part, name) => {
    context.fillStyle = colour(name);
    const tall = (value / top) * (height - NOTE - 4);
    context.fillRect(chunk * wide + (part * wide) / 2, height - tall, Math.max(0.75, wide / 2 - 0.5), tall);
  };
  audio.forEach((value, chunk) => bar(value, chunk, 0, "audio"));
  video.forEach((value, chunk) => bar(value, chunk, 1, "video"));
  const key = method.marks.key_chunks.find(([layer]) => layer === attention.layers[index]);
  if (key) {
    context.strokeStyle = colour("mark");
    context.lineWidth = 2;
    context.strokeRect(key[1] * wide + 1, NOTE, Math.max(3, Math.min(wide, width - key[1] * wide) - 2), height - NOTE - 1);
  }
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  context.fillStyle = colour("soft");
  const asking = { query: "question", last: "last token", text: "text" }[attention.queries[index]] || attention.queries[index];
  const keyText = key ? "; frame: key chunk of temporal diversity" : "";
  context.fillText(`layer ${attention.layers[index]}, from the ${asking}: audio ${percent(sum(audio))}, video ${percent(sum(video))}${keyText}`, 0, 6, width);
};

const drawWindowLane = (context, method, width, height) => {
  const reached = method.marks.windows.filter(([layer]) => layer < state.layer || state.layer === layers - 1);
  const [layer, budgets] = reached.length ? reached[reached.length - 1] : method.marks.windows[0];
  const wide = (2 / duration) * width;
  const top = Math.max(1, ...budgets.map(([audio, video]) => audio + video));
  budgets.forEach(([audio, video], chunk) => {
    context.strokeStyle = colour("line");
    context.strokeRect(chunk * wide + 0.5, NOTE + 0.5, wide - 1, height - NOTE - 1);
    context.globalAlpha = 0.25 + (0.75 * (audio + video)) / top;
    context.fillStyle = colour("mark");
    context.fillRect(chunk * wide + 1, height - 4, wide - 2, 3);
    context.globalAlpha = 1;
    context.fillStyle = colour("soft");
    if (wide > 58) context.fillText(audio + " + " + video, chunk * wide + 4, (height + NOTE) / 2 - 1, wide - 8);
  });
  context.fillStyle = colour("soft");
  context.fillText(`audio + video tokens of every two seconds after layer ${layer}`, 0, 6, width);
};
