// The page of a report: a flame graph and a table of the same call sites.
//
// In: the element `data`, {title, summary, notices, frames: [{name, file, line}], sites: [{stack, live, count, allocated, oldest, process,
// history}], timelines}, stacks root first. Names come from the program that was traced: they are shown as text, never as markup.
const ROW_PX = 20;
/** Narrower frames are not drawn: nobody could see them. */
const MIN_WIDTH_PX = 1;
/** Narrower ones have no room for their names. */
const MIN_TEXT_PX = 24;
const MAX_ROWS_OF_TABLE = 500;

const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const state = { metric: "live", direction: "flame", query: null, focus: null, chosen: null };

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

const count = (value) => value.toLocaleString("en-US");
const shown = (value) => (state.metric === "count" ? `${count(value)} blocks` : `${bytes(value)} (${count(value)} bytes)`);

function age(seconds) {
  if (seconds === null) return "";
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["m", 60]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)}${unit}`;
  }
  return `${Math.round(seconds)}s`;
}

function place(frame) {
  if (!frame.file) return "";
  return frame.line ? `${frame.file}:${frame.line}` : frame.file;
}

/** One tree for all stacks; functions of the same name under the same caller are one node, whatever line they call from. */
function grow() {
  const root = { name: "all", value: 0, children: new Map(), parent: null, depth: 0 };
  for (const site of data.sites) {
    const value = site[state.metric];
    if (value === 0) continue;
    let node = root;
    node.value += value;
    for (const id of site.stack) {
      const frame = data.frames[id];
      let child = node.children.get(frame.name);
      if (!child) {
        child = { name: frame.name, file: frame.file, value: 0, children: new Map(), parent: node, depth: node.depth + 1 };
        node.children.set(frame.name, child);
      }
      child.value += value;
      node = child;
    }
  }
  return root;
}

const isMatched = (name, file) => state.query !== null && (state.query.test(name) || state.query.test(file || ""));

/** Names, root first; they find a node again in a tree that was grown anew. */
function namesTo(node) {
  const names = [];
  for (let at = node; at.parent; at = at.parent) names.unshift(at.name);
  return names;
}

function find(root, names) {
  let node = root;
  for (const name of names) {
    const child = node.children.get(name);
    if (!child) return node;
    node = child;
  }
  return node;
}

/** A warm colour that is the same for the same name wherever it is. */
function colour(name) {
  let hash = 0;
  for (let i = 0; i < name.length; i += 1) hash = (hash * 31 + name.charCodeAt(i)) >>> 0;
  return `hsl(${95 + (hash % 55)} ${45 + (hash % 17)}% ${62 + (hash % 13)}%)`;
}

/** The nodes to draw, with their places from 0 to 1: the focus over the whole width, its callers above it, its callees below. */
function layout(focus) {
  const placed = [];
  for (let node = focus.parent; node; node = node.parent) placed.push({ node, start: 0, width: 1, outside: true });
  const least = MIN_WIDTH_PX / Math.max(byId("graph").clientWidth, 1);
  const pending = [{ node: focus, start: 0, width: 1, outside: false }];
  while (pending.length > 0) {
    const at = pending.pop();
    placed.push(at);
    let start = at.start;
    const children = [...at.node.children.values()].sort((a, b) => b.value - a.value || (a.name < b.name ? -1 : 1));
    for (const child of children) {
      const width = (at.width * child.value) / at.node.value;
      if (width >= least) pending.push({ node: child, start, width, outside: false });
      start += width;
    }
  }
  return placed;
}

function drawGraph(root) {
  const graph = byId("graph");
  const focus = state.focus ? find(root, state.focus) : root;
  const placed = root.value > 0 ? layout(focus) : [];
  const rows = placed.reduce((most, at) => Math.max(most, at.node.depth + 1), 0);
  graph.style.height = `${rows * ROW_PX}px`;
  graph.replaceChildren(...placed.map((at) => drawFrame(at, rows, root)));
  byId("reset").hidden = focus === root;
}

function drawFrame({ node, start, width, outside }, rows, root) {
  const frame = document.createElement("button");
  const row = state.direction === "icicle" ? node.depth : rows - 1 - node.depth;
  const share = ((node.value / root.value) * 100).toFixed(2);
  frame.type = "button";
  frame.className = "frame";
  frame.classList.toggle("outside", outside);
  frame.classList.toggle("matched", isMatched(node.name, node.file));
  frame.style.cssText = `left: ${start * 100}%; width: ${width * 100}%; top: ${row * ROW_PX}px; background: ${colour(node.name)}`;
  frame.textContent = width * byId("graph").clientWidth >= MIN_TEXT_PX ? node.name : "";
  frame.title = `${node.name}: ${shown(node.value)}, ${share} %`;
  frame.dataset.name = node.name;
  frame.dataset.value = node.value;
  frame.addEventListener("click", () => zoom(namesTo(node)));
  frame.addEventListener("pointerenter", () => { byId("detail").textContent = frame.title; });
  return frame;
}

function drawTable() {
  const sites = data.sites.filter((site) => site[state.metric] > 0).sort((a, b) => b[state.metric] - a[state.metric]);
  byId("sites").replaceChildren(...sites.slice(0, MAX_ROWS_OF_TABLE).map(drawSite));
  const omitted = sites.length - MAX_ROWS_OF_TABLE;
  byId("omitted").textContent = omitted > 0 ? `and ${omitted} more sites` : "";
}

function drawSite(site, index) {
  const row = document.createElement("tr");
  const own = data.frames[site.own];
  for (const text of [index + 1, bytes(site.live), count(site.count), bytes(site.allocated), age(site.oldest)]) {
    row.insertCell().textContent = text;
  }
  const name = row.insertCell();
  name.className = "text";
  name.textContent = `${own.name} `;
  const where = document.createElement("span");
  where.className = "place";
  where.textContent = place(own);
  name.append(where);
  row.classList.toggle("matched", site.stack.some((id) => isMatched(data.frames[id].name, data.frames[id].file)));
  const line = lineOf(site);
  if (line) name.prepend(trend(line, site.history));
  row.classList.toggle("chosen", site === state.chosen);
  row.addEventListener("pointerenter", () => drawSiteLine(site));
  row.addEventListener("pointerleave", () => drawSiteLine(state.chosen));
  row.addEventListener("click", () => {
    state.chosen = site;
    drawSiteLine(site);
    zoom(site.stack.map((id) => data.frames[id].name));
  });
  return row;
}

/** What the stacks hold that have a match anywhere in them: each stack counts once. */
function drawMatched() {
  const output = byId("matched");
  if (state.query === null) {
    output.textContent = "";
    return;
  }
  let matched = 0;
  let all = 0;
  for (const site of data.sites) {
    all += site[state.metric];
    if (site.stack.some((id) => isMatched(data.frames[id].name, data.frames[id].file))) matched += site[state.metric];
  }
  output.textContent = `matched: ${shown(matched)}, ${all > 0 ? ((matched / all) * 100).toFixed(2) : 0} %`;
}

function draw() {
  drawGraph(grow());
  drawTable();
  drawMatched();
}

function zoom(names) {
  state.focus = names;
  draw();
}

function search(text) {
  try {
    state.query = text === "" ? null : new RegExp(text, "i");
    byId("search").setCustomValidity("");
  } catch (error) {
    state.query = null;
    byId("search").setCustomValidity(error.message);
  }
  draw();
}

function start() {
  document.title = `${data.title} - outlive`;
  byId("title").textContent = data.title;
  byId("summary").textContent = data.summary;
  byId("notices").replaceChildren(...data.notices.map((notice) => {
    const item = document.createElement("li");
    item.textContent = notice;
    return item;
  }));
  for (const name of ["metric", "direction"]) {
    byId(name).addEventListener("change", (event) => {
      state[name] = event.target.value;
      draw();
    });
  }
  byId("search").addEventListener("input", (event) => search(event.target.value));
  byId("reset").addEventListener("click", () => zoom(null));
  byId("theme").addEventListener("click", () => {
    const theme = document.documentElement.dataset;
    const isDark = theme.theme ? theme.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    theme.theme = isDark ? "light" : "dark";
  });
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    state.chosen = null;
    drawSiteLine(null);
    zoom(null);
  });
  addEventListener("resize", draw);
  drawTimelines();
  drawSiteLine(null);
  draw();
}

start();
