"use strict";
// Charts as SVG: lines that step, read with the pointer or the arrow keys.

const SVG = "http://www.w3.org/2000/svg";
const COLOURS = 8;
const DASHES = ["", "7 3", "2 2", "8 3 2 3"];
const MARKERS = ["circle", "square", "triangle", "diamond"];

function element(name, attributes = {}, ...children) {
  const made = name.startsWith("svg:") ? document.createElementNS(SVG, name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  // Texts become text nodes, never markup.
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// As the pictures beside the page: colours first, then markers and dashes.
function style(number) {
  const again = Math.floor(number / COLOURS) % DASHES.length;
  return { colour: `var(--c${number % COLOURS})`, dash: DASHES[again], marker: MARKERS[again] };
}

function marker(x, y, look, size = 4) {
  const shapes = {
    circle: () => element("svg:circle", { cx: x, cy: y, r: size }),
    square: () => element("svg:rect", { x: x - size, y: y - size, width: 2 * size, height: 2 * size }),
    triangle: () => element("svg:path", { d: `M${x - size},${y + size}h${2 * size}l${-size},${-2 * size}z` }),
    diamond: () => element("svg:path", { d: `M${x},${y - size - 1}l${size + 1},${size + 1}l${-size - 1},${size + 1}l${-size - 1},${-size - 1}z` }),
  };
  const made = shapes[look.marker]();
  made.style.fill = look.colour;
  return made;
}

function swatch(number) {
  const look = style(number);
  const line = element("svg:line", { x1: 1, x2: 33, y1: 6, y2: 6, "stroke-width": 2, "stroke-dasharray": look.dash });
  line.style.stroke = look.colour;
  return element("svg:svg", { class: "swatch", viewBox: "0 0 34 12", "aria-hidden": "true" }, line, marker(17, 6, look));
}

function percent(value) {
  if (value === null || Number.isNaN(value)) return "-";
  const hundred = 100 * value;
  if (hundred === 0 || hundred >= 99.95) return `${hundred.toFixed(0)}%`;
  if (hundred >= 0.095) return `${hundred.toFixed(1)}%`;
  return hundred < 0.0095 ? "<0.01%" : `${hundred.toFixed(2)}%`;
}
// Of an axis or a heading: no more digits than needed.
const roundPercent = (value) => `${Number((100 * value).toPrecision(6))}%`;
const number = (value, digits = 3) => (value === null ? "-" : String(Number(value.toPrecision(digits))));
function time(seconds) {
  if (seconds === null) return "-";
  const [unit, size] = seconds >= 1 || seconds === 0 ? ["s", 1] : seconds >= 1e-3 ? ["ms", 1e-3] : ["µs", 1e-6];
  return `${number(seconds / size)} ${unit}`;
}

function axis(low, high, log) {
  if (log) {
    const ticks = [];
    const decades = Math.log10(high / low);
    const parts = decades > 3 ? [1] : decades > 1.2 ? [1, 3] : [1, 2, 5];
    const every = Math.max(1, Math.ceil(decades / 7));
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
      if (power % every === 0) ticks.push(...parts.map((part) => part * 10 ** power));
    }
    const place = (value) => Math.log(Math.max(value, low) / low) / Math.log(high / low);
    const inverse = (share) => low * (high / low) ** share;
    return { ticks: ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001), place, inverse };
  }
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((part) => part * power).find((each) => each >= rough);
  const ticks = [];
  for (let k = Math.ceil(low / step); k * step <= high * 1.0001; k += 1) ticks.push(Number((k * step).toPrecision(12)));
  return { ticks, place: (value) => (value - low) / (high - low), inverse: (share) => low + share * (high - low) };
}

// The last value at or before x; undefined before the first.
function valueAt(series, x) {
  let low = 0, high = series.x.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (series.x[middle] <= x) low = middle + 1; else high = middle;
  }
  return low ? series.y[low - 1] : undefined;
}

// series: [{name, style, x, y, width}]; options: {label, xLog, yLog, yLow, yHigh, height, direct}
function lineChart(host, series, options) {
  host.replaceChildren();
  const width = Math.max(280, host.clientWidth || 280);
  const height = options.height || Math.round(Math.min(440, Math.max(260, width * 0.48)));
  const drawn = series.filter((each) => each.x.length);
  const svg = element("svg:svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", tabindex: "0", "aria-label": options.label });
  host.append(svg);
  if (!drawn.length) {
    svg.append(element("svg:text", { x: width / 2, y: height / 2, "text-anchor": "middle", class: "empty" }, "Nothing to draw."));
    svg.setAttribute("aria-label", `${options.label} Nothing to draw.`);
    return;
  }
  const labels = options.direct && width >= 760;
  const box = { left: 58, right: width - (labels ? 190 : 16), top: 10, bottom: height - 42 };
  let low = Math.min(...drawn.map((each) => each.x[0])), high = Math.max(...drawn.map((each) => each.x[each.x.length - 1]));
  if (options.xLog) { low = Math.max(low, 1e-7); high = Math.max(high, low * 1.5); } else { low = 0; high = high || 1; }
  const across = axis(low, high, options.xLog), up = axis(options.yLow, options.yHigh, options.yLog);
  const px = (value) => box.left + across.place(value) * (box.right - box.left);
  const py = (value) => box.bottom - Math.min(1, Math.max(0, up.place(value))) * (box.bottom - box.top);
  for (const tick of up.ticks) {
    svg.append(element("svg:line", { class: "grid", x1: box.left, x2: box.right, y1: py(tick), y2: py(tick) }));
    svg.append(element("svg:text", { x: box.left - 7, y: py(tick) + 4, "text-anchor": "end" }, roundPercent(tick)));
  }
  let free = -Infinity;
  for (const tick of across.ticks) {
    svg.append(element("svg:line", { class: "grid", x1: px(tick), x2: px(tick), y1: box.top, y2: box.bottom }));
    if (px(tick) - free > 52) {
      svg.append(element("svg:text", { x: px(tick), y: box.bottom + 17, "text-anchor": "middle" }, time(tick)));
      free = px(tick);
    }
  }
  svg.append(element("svg:line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
  svg.append(element("svg:text", { x: (box.left + box.right) / 2, y: height - 5, "text-anchor": "middle" }, "seconds of a call, all samples of an instance together".slice(0, width < 420 ? 17 : 99)));
  const ends = [];
  const marks = drawn.map((each) => {
    const look = style(each.style);
    let path = `M${px(each.x[0]).toFixed(1)},${py(each.y[0]).toFixed(1)}`;
    for (let k = 1; k < each.x.length; k += 1) path += `H${px(each.x[k]).toFixed(1)}V${py(each.y[k]).toFixed(1)}`;
    const last = each.x.length - 1;
    const line = element("svg:path", { class: "course", d: path, "stroke-width": each.width || 2, "stroke-dasharray": look.dash, "data-name": each.name });
    line.style.stroke = look.colour;
    const end = marker(px(each.x[last]), py(each.y[last]), look);
    svg.append(line, end);
    ends.push({ name: each.name, look, x: px(each.x[last]), y: py(each.y[last]) });
    return [line, end];
  });
  if (labels) placeLabels(svg, ends, box);
  reading(host, svg, drawn, marks, { across, px, py, box, width, label: options.label });
}

// Names beside the ends of the lines, moved apart where they would overlap.
function placeLabels(svg, ends, box) {
  const room = Math.floor((box.bottom - box.top) / 14);
  const shown = [...ends].sort((a, b) => a.y - b.y).slice(0, room);
  const places = shown.map((end) => end.y);
  for (let k = 1; k < places.length; k += 1) places[k] = Math.max(places[k], places[k - 1] + 14);
  const over = places.length ? Math.max(0, places[places.length - 1] - box.bottom) : 0;
  for (let k = places.length - 1, limit = box.bottom; over && k >= 0; k -= 1, limit -= 14) places[k] = Math.min(places[k], limit);
  shown.forEach((end, k) => {
    const line = element("svg:line", { x1: end.x + 5, y1: end.y, x2: box.right + 10, y2: places[k], "stroke-width": 0.7, opacity: 0.55 });
    line.style.stroke = end.look.colour;
    const text = end.name.length > 26 ? `${end.name.slice(0, 25)}…` : end.name;
    svg.append(line, element("svg:text", { class: "label", x: box.right + 13, y: places[k] + 4 }, text));
  });
}

function reading(host, svg, drawn, marks, frame) {
  const { across, px, py, box, width } = frame;
  const cross = element("svg:line", { class: "cross", y1: box.top, y2: box.bottom, visibility: "hidden" });
  svg.append(cross);
  // What it says is read aloud by the live region.
  const tip = element("div", { class: "tip", hidden: true, "aria-hidden": "true" });
  const live = element("div", { class: "unseen", role: "status" });
  host.append(tip, live);
  let share = null;

  function read(at, near, aloud) {
    share = Math.min(1, Math.max(0, at));
    const x = across.inverse(share);
    const found = drawn.map((each, place) => ({ place, name: each.name, y: valueAt(each, x) })).filter((each) => each.y !== undefined);
    found.sort((a, b) => a.y - b.y);
    const nearest = near === null || !found.length ? null : found.reduce((a, b) => (Math.abs(py(b.y) - near) < Math.abs(py(a.y) - near) ? b : a));
    cross.setAttribute("x1", px(x)); cross.setAttribute("x2", px(x)); cross.setAttribute("visibility", "visible");
    marks.forEach((parts, place) => parts.forEach((part) => part.classList.toggle("dim", nearest !== null && nearest.place !== place)));
    const middle = nearest === null ? 0 : found.indexOf(nearest);
    const from = Math.max(0, Math.min(middle - 5, found.length - 11));
    const rows = found.slice(from, from + 11).map((each) => element("tr", { class: each === nearest ? "nearest" : null }, element("td", {}, swatch(drawn[each.place].style), each.name), element("td", {}, percent(each.y))));
    tip.replaceChildren(element("strong", {}, time(x)), element("table", {}, element("tbody", {}, ...rows)));
    if (!found.length) tip.append("nothing is known yet");
    if (found.length > 11) tip.append(`and ${found.length - 11} more`);
    tip.hidden = false;
    const scale = host.clientWidth / width;
    const left = px(x) * scale;
    tip.style.left = left > host.clientWidth / 2 ? "" : `${left + 14}px`;
    tip.style.right = left > host.clientWidth / 2 ? `${host.clientWidth - left + 14}px` : "";
    tip.style.top = "6px";
    if (aloud) live.textContent = `${time(x)}: ${found.slice(0, 5).map((each) => `${each.name} ${percent(each.y)}`).join(", ") || "nothing is known yet"}`;
  }

  function hide() {
    tip.hidden = true;
    cross.setAttribute("visibility", "hidden");
    marks.flat().forEach((part) => part.classList.remove("dim"));
  }

  svg.addEventListener("pointermove", (event) => {
    const frameBox = svg.getBoundingClientRect();
    const scale = width / frameBox.width;
    const x = (event.clientX - frameBox.left) * scale;
    read((x - box.left) / (box.right - box.left), (event.clientY - frameBox.top) * scale, false);
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: -0.025, ArrowRight: 0.025, Home: -2, End: 2 };
    if (event.key === "Escape") hide();
    if (!(event.key in moves)) return;
    event.preventDefault();
    read((share ?? 0.5) + moves[event.key], null, true);
  });
}

// Mean ranks from the best down, each with a bar to the last solver that it is not told apart from.
function rankChart(host, entries, critical) {
  host.replaceChildren();
  const width = Math.max(280, host.clientWidth || 280);
  const names = Math.min(230, width * 0.42), row = 24, bottom = entries.length * row + 8;
  const high = Math.max(2, ...entries.map((each) => each.rank));
  const px = (rank) => names + 14 + ((rank - 1) / (high - 1)) * (width - names - 34);
  const words = entries.map((each) => `${each.name} ${number(each.rank)}`).join(", ");
  const svg = element("svg:svg", { viewBox: `0 0 ${width} ${bottom + 36}`, height: bottom + 36, role: "img", "aria-label": `Mean ranks: ${words}` });
  const step = Math.max(1, Math.ceil((high - 1) / Math.max(2, Math.floor((width - names) / 60))));
  for (let rank = 1; rank <= high + 1e-9; rank += step) {
    svg.append(element("svg:line", { class: "grid", x1: px(rank), x2: px(rank), y1: 4, y2: bottom }));
    svg.append(element("svg:text", { x: px(rank), y: bottom + 16, "text-anchor": "middle" }, number(rank)));
  }
  svg.append(element("svg:text", { x: (names + width) / 2, y: bottom + 32, "text-anchor": "middle" }, "mean rank"));
  entries.forEach((each, place) => {
    const y = 4 + row * (place + 0.5);
    const end = Math.max(...entries.map((other) => other.rank).filter((rank) => rank <= each.rank + critical + 1e-12));
    const cut = Math.max(8, Math.floor(names / 7));
    svg.append(element("svg:text", { class: "label", x: names, y: y + 4, "text-anchor": "end" }, each.name.length > cut ? `${each.name.slice(0, cut - 1)}…` : each.name));
    svg.append(element("svg:line", { x1: px(each.rank), x2: px(end), y1: y, y2: y, class: "reach" }));
    const dot = marker(px(each.rank), y, style(each.style), 4.5);
    dot.append(element("svg:title", {}, `${each.name}: ${number(each.rank)}`));
    svg.append(dot);
  });
  host.append(svg);
}
