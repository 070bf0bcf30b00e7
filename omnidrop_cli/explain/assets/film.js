// The film strip: thumbnails with the patches that were dropped, drawn for the visible part only.
const GAP = 4;
const CAPTION = 18;
const pictures = new Map();
const picture = (index) => {
  if (!pictures.has(index)) {
    const image = new Image();
    image.onload = () => schedule({ type: "scroll" });
    image.src = "data:image/jpeg;base64," + film.jpegs[index];
    pictures.set(index, image);
  }
  return pictures.get(index);
};
const frameWidth = () => Math.round((state.zoom * film.size[0]) / film.size[1]);
const nearest = (times, second) => {
  let low = 0;
  let high = times.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < second) low = middle + 1;
    else high = middle;
  }
  return low > 0 && second - times[low - 1] < times[low] - second ? low - 1 : low;
};

const drawFilm = () => {
  if (!film) return;
  const box = $("film");
  const step = frameWidth() + GAP;
  const rowHeight = state.zoom + CAPTION;
  $("film-space").style.width = step * film.at_s.length + "px";
  const width = Math.min(box.clientWidth, step * film.at_s.length);
  const context = fit($("film-canvas"), width, rowHeight * methods.length);
  const first = Math.max(0, Math.floor(box.scrollLeft / step));
  const last = Math.min(film.at_s.length - 1, Math.floor((box.scrollLeft + width) / step));
  methods.forEach((method, row) => {
    for (let frame = first; frame <= last; frame++) drawFrame(context, method, frame, frame * step - box.scrollLeft, row * rowHeight);
  });
  const shown = `frames from ${clock(film.at_s[first])} to ${clock(film.at_s[last])}`;
  $("film-canvas").setAttribute("aria-label", `${shown}: ${methods.map((method) => method.name + " " + describe(method)).join("; ")}`);
};

const drawFrame = (context, method, frame, x, y) => {
  const [width, height] = [frameWidth(), state.zoom];
  const image = picture(frame);
  context.fillStyle = colour("gone");
  if (image.complete && image.naturalWidth) context.drawImage(image, x, y + CAPTION, width, height);
  else context.fillRect(x, y + CAPTION, width, height);
  context.fillStyle = colour("soft");
  const video = method.video;
  if (!video.at.length) return;
  const grid = nearest(video.at, film.at_s[frame]);
  const run = method.runOf[state.layer];
  const share = video.counts[run * video.at.length + grid] / video.cells;
  const name = methods.length > 1 ? method.name + " " : "";
  context.fillText(name + clock(film.at_s[frame]) + "  " + percent(share), x + 2, y + CAPTION / 2, width);
  const [cellWidth, cellHeight] = [width / video.columns, height / video.rows];
  const shade = "rgb(" + colour("shade") + ")";
  for (let cell = 0; cell < video.cells; cell++) {
    const depth = video.depth[grid * video.cells + cell];
    if (state.mode === "layer" && depth > run) continue;
    context.globalAlpha = state.mode === "layer" ? 0.8 : 0.62;
    context.fillStyle = state.mode === "layer" ? shade : ramp(reach(method, depth));
    const left = x + Math.round((cell % video.columns) * cellWidth);
    const top = y + CAPTION + Math.round(Math.floor(cell / video.columns) * cellHeight);
    const right = x + Math.round(((cell % video.columns) + 1) * cellWidth);
    const bottom = y + CAPTION + Math.round((Math.floor(cell / video.columns) + 1) * cellHeight);
    context.fillRect(left, top, right - left, bottom - top);
  }
  context.globalAlpha = 1;
};
