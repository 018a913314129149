"use strict";
const at = (id) => document.getElementById(id);
const every = (selector) => [...document.querySelectorAll(selector)];
const dark = matchMedia("(prefers-color-scheme: dark)");
const touch = matchMedia("(pointer: coarse)");
const state = { world: 0, metric: "", against: "", band: "iqm", runs: true, arms: new Set() };
const near = new Set(); // charts on the screen or close to it
const pieces = new Map(); // unpacked parts of the page's data
let data, current = {}, turn = 0;

async function unpacked(id) {
  const packed = Uint8Array.from(atob(at(id).textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

function piece(name) {
  if (!pieces.has(name)) pieces.set(name, unpacked(name).then(JSON.parse));
  return pieces.get(name);
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function readable(figure) { // black lines are white on a dark page
  const text = JSON.stringify(figure);
  return JSON.parse(dark.matches ? text.replaceAll("#000000", "#ffffff").replaceAll("rgba(0,0,0,", "rgba(255,255,255,") : text);
}

function axis(own) {
  const ink = { gridcolor: colour("rule"), zerolinecolor: colour("faint"), linecolor: colour("rule") };
  return { automargin: true, zeroline: true, ...ink, ...own };
}

function wrapped(text, letters) { // lines break after commas
  const lines = [""];
  text.split(/(?<=, )/).forEach((word) => {
    const last = lines.at(-1);
    if (last && last.length + word.trimEnd().length > letters) lines.push(word);
    else lines[lines.length - 1] = last + word;
  });
  return lines.join("<br>");
}

function notes(own, width) { // a note with a name is the label of that arm
  return (own.annotations ?? []).filter(({ name }) => !name || state.arms.has(Number(name)))
    .map((note) => note.name ? { ...note, text: wrapped(note.text, width / 7) } : note);
}

function themed(own, annotations) {
  const paper = "rgba(0,0,0,0)";
  return {
    paper_bgcolor: paper, plot_bgcolor: paper, showlegend: false,
    font: { family: "system-ui, sans-serif", size: 12, color: colour("ink") },
    margin: { l: 40, r: 14, t: 26, b: 40 },
    hoverlabel: { namelength: -1, bgcolor: colour("wash"), bordercolor: colour("rule"), font: { color: colour("ink") } },
    dragmode: touch.matches ? false : "zoom", // a finger scrolls the page
    ...own,
    xaxis: axis(own.xaxis), yaxis: axis(own.yaxis), annotations,
  };
}

function shown({ meta = {} }) {
  return (meta.arm === undefined || state.arms.has(meta.arm)) && (!meta.band || meta.band === state.band) && (!meta.run || state.runs);
}

function found(host) {
  const { kind, key } = host.dataset;
  return key ? data.figures[kind][key] : current[kind];
}

function draw(host) {
  const figure = found(host);
  const traces = figure ? readable(figure.data.filter(shown)) : [];
  host.dataset.drawn = traces.length;
  if (!traces.length) {
    Plotly.purge(host);
    host.textContent = figure ? "No arm is chosen." : "Not logged in this world.";
    return;
  }
  if (!host.data) host.textContent = ""; // a sentence in place of a figure
  if (figure.layout.meta?.ratio) host.style.aspectRatio = 1 / figure.layout.meta.ratio;
  const annotations = notes(figure.layout, host.clientWidth - 60);
  const layout = themed(figure.layout, annotations);
  if (figure.layout.meta?.rows) {
    const lines = Math.max(...annotations.map(({ text }) => text.split("<br>").length));
    const above = 8 * Math.max(lines - 2, 0); // room for the first row's label
    layout.margin = { ...layout.margin, t: layout.margin.t + above };
    layout.height = 80 + above + annotations.length * (34 + 15 * lines);
    host.style.height = `${layout.height}px`;
  }
  Plotly.react(host, traces, layout, {
    responsive: true, displaylogo: false, displayModeBar: host.dataset.key ? false : undefined,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  });
}

async function refresh() {
  const mine = ++turn;
  delete document.documentElement.dataset.ready;
  const own = await piece(`${state.world} ${state.metric}`);
  const phases = state.against ? await piece(`${state.world} against ${state.against}`) : undefined;
  if (mine !== turn) return; // another choice was made in the meantime
  current = { ...own, phases };
  const { name, arms } = data.worlds[state.world];
  every("[data-what]").forEach((caption) => {
    caption.textContent = `${data.metrics[state.metric]} · ${name}`;
  });
  at("count").textContent = `${arms.filter((arm) => state.arms.has(arm)).length} of ${arms.length} arms`;
  every(".chart").forEach((host) => delete host.dataset.drawn);
  near.forEach(draw);
  document.documentElement.dataset.ready = turn;
}

function options(select, pairs, chosen) {
  select.replaceChildren(...pairs.map(([value, text]) => new Option(text, value, false, String(value) === String(chosen))));
  return select.value;
}

function chip(number) {
  const { name, colour: stroke, dash } = data.arms[number];
  const button = document.createElement("button");
  button.type = "button";
  button.className = "arm";
  const ink = dark.matches && stroke === "#000000" ? "#ffffff" : stroke;
  button.innerHTML = `<svg width="28" height="8" aria-hidden="true"><line x1="0" y1="4" x2="28" y2="4" stroke="${ink}" stroke-width="3" stroke-dasharray="${dash === "solid" ? "" : dash.replaceAll("px", "")}"/></svg>`;
  button.append(name);
  const press = () => button.setAttribute("aria-pressed", state.arms.has(number));
  button.onclick = () => {
    state.arms.has(number) ? state.arms.delete(number) : state.arms.add(number);
    press();
    refresh();
  };
  press();
  return button;
}

function chips() {
  const { arms } = data.worlds[state.world];
  const all = (text, chosen) => {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", textContent: text, className: "arm" });
    button.onclick = () => {
      state.arms = new Set(chosen);
      chips();
      refresh();
    };
    return button;
  };
  const count = document.createElement("span");
  count.id = "count";
  const legend = at("arms").querySelector("legend");
  const both = arms.length > 1 ? [all("all", arms), all("none", [])] : [];
  at("arms").replaceChildren(legend, count, ...both, ...arms.map(chip));
}

function enter(world) {
  state.world = world;
  const { metrics, against, arms, shown } = data.worlds[world];
  state.arms = new Set(shown);
  state.metric = options(at("metric"), metrics.map((name) => [name, data.metrics[name]]), state.metric);
  state.against = options(at("against"), against.map((name) => [name, data.metrics[name]]), state.against);
  every("[data-world]").forEach((part) => { part.hidden = Number(part.dataset.world) !== world; });
  const replays = data.replays.filter((replay) => replay.world === world);
  options(at("replay"), replays.map(({ key, name }) => [key, name]), at("replay").value);
  at("theatre").hidden = !replays.length;
  chips();
  watch();
  refresh();
}

async function watch() {
  const player = at("player"), chosen = at("replay").value;
  player.onload = () => { player.style.height = `${player.contentDocument.documentElement.scrollHeight + 4}px`; };
  if (chosen) player.srcdoc = await piece(`player ${chosen}`);
}

function change(id, take) {
  at(id).onchange = (event) => {
    take(event.target);
    refresh();
  };
}

function listen() {
  at("world").onchange = (event) => enter(Number(event.target.value));
  change("metric", (select) => { state.metric = select.value; });
  change("against", (select) => { state.against = select.value; });
  change("band", (select) => { state.band = select.value; });
  change("runs", (box) => { state.runs = box.checked; });
  at("replay").onchange = watch;
  at("controls").onsubmit = (event) => event.preventDefault();
  dark.onchange = () => { chips(); refresh(); };
  let width = innerWidth;
  window.onresize = () => { // labels wrap anew; a phone's moving address bar changes nothing
    if (innerWidth !== width) refresh();
    width = innerWidth;
  };
  const observer = new IntersectionObserver((entries) => entries.forEach(({ target, isIntersecting }) => {
    isIntersecting ? near.add(target) : near.delete(target);
    if (isIntersecting && target.dataset.drawn === undefined) draw(target);
  }), { rootMargin: "400px" });
  every(".chart").forEach((host) => observer.observe(host));
}

async function start() {
  const script = document.createElement("script");
  script.textContent = await unpacked("library");
  document.head.append(script);
  data = await piece("data");
  state.runs = at("runs").checked = data.runs;
  options(at("world"), data.worlds.map(({ name }, number) => [number, name]), 0);
  listen();
  enter(0);
  at("state").hidden = true;
}

start().catch((error) => { at("state").textContent = `The figures cannot be shown: ${error.message}. A browser of 2023 or later can.`; });
