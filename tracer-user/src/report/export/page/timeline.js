// The timeline of a page: what each process held, moment by moment, and below it one site, with a scale of its own.
//
// In: of the page's data, timelines: [{process, name, at, live, breaks: [{first, why}], notes}], and of each site that has a line its
// history at the same moments. Out: pictures, and the values at the place that is pointed at.
"use strict";

const CHART_WIDTH = 1000;
const CHART_HEIGHT = 120;
const TREND_WIDTH = 90;
const TREND_HEIGHT = 18;

function svg(name, attributes, ...children) {
  const element = document.createElementNS(byId("blank").namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const moment = (at) => `${new Date(at).toISOString().replace("T", " ").slice(0, 19)} UTC`;

/** Where a moment is, from 0 to 1. */
function share(line, place) {
  const [first, last] = [line.at[0], line.at[line.at.length - 1]];
  return last > first ? (line.at[place] - first) / (last - first) : 0;
}

/** The runs of a process, each from its first place to the one after its last: between them counts begin anew. */
function runs(line) {
  const starts = [0, ...line.breaks.map((at) => at.first)];
  return starts.map((start, i) => [start, i + 1 < starts.length ? starts[i + 1] : line.at.length]);
}

/** Steps, since between two moments nothing is known: what was seen holds until it is looked at again. */
function path(line, values, width, height, most) {
  const x = (place) => (share(line, place) * width).toFixed(1);
  const y = (place) => (height - (most > 0 ? values[place] / most : 0) * height).toFixed(1);
  return runs(line).map(([start, end]) => {
    let steps = `M${x(start)} ${y(start)}`;
    for (let place = start + 1; place < end; place += 1) steps += `H${x(place)}V${y(place)}`;
    // A run that was seen once is a dot.
    return end - start === 1 ? `${steps}h1` : steps;
  }).join("");
}

const largest = (values) => values.reduce((most, value) => Math.max(most, value), 0);

/** A small picture for a row of the table. */
function trend(line, history) {
  const d = path(line, history, TREND_WIDTH, TREND_HEIGHT - 2, largest(history));
  const box = { class: "trend", viewBox: `0 -1 ${TREND_WIDTH} ${TREND_HEIGHT}`, width: TREND_WIDTH, height: TREND_HEIGHT };
  return svg("svg", { ...box, "aria-hidden": "true" }, svg("path", { d }));
}

/** The place of the moment nearest to this share of the width. */
function nearest(line, wanted) {
  let best = 0;
  for (let place = 1; place < line.at.length; place += 1) {
    if (Math.abs(share(line, place) - wanted) < Math.abs(share(line, best) - wanted)) best = place;
  }
  return best;
}

/** What a run of values is called, and its picture. */
function chart(line, values, title, kind) {
  const most = largest(values);
  const drawn = path(line, values, CHART_WIDTH, CHART_HEIGHT, most);
  const picture = svg("svg", { viewBox: `0 0 ${CHART_WIDTH} ${CHART_HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": title });
  picture.append(svg("path", { class: kind, d: drawn }));
  for (const { first, why } of line.breaks) {
    const x = (share(line, first) * CHART_WIDTH).toFixed(1);
    const mark = svg("line", { class: "break", x1: x, x2: x, y1: 0, y2: CHART_HEIGHT }, svg("title", {}));
    mark.firstChild.textContent = `${moment(line.at[first])}: ${why}`;
    picture.append(mark);
  }
  const cursor = svg("line", { class: "cursor", y1: 0, y2: CHART_HEIGHT, visibility: "hidden" });
  picture.append(cursor);
  return framed(line, values, title, most, picture, cursor);
}

function framed(line, values, title, most, picture, cursor) {
  const figure = document.createElement("figure");
  figure.className = "chart";
  const caption = document.createElement("figcaption");
  const told = document.createElement("output");
  const name = document.createElement("span");
  name.textContent = title;
  const last = values[values.length - 1];
  const usual = `at the end ${bytes(last)}, at most ${bytes(most)}`;
  told.textContent = usual;
  caption.append(name, told);
  const axis = document.createElement("p");
  axis.className = "axis";
  for (const at of [line.at[0], line.at[line.at.length - 1]]) {
    const end = document.createElement("span");
    end.textContent = moment(at);
    axis.append(end);
  }
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const place = nearest(line, (event.clientX - box.left) / box.width);
    const x = share(line, place) * CHART_WIDTH;
    for (const [key, value] of [["x1", x], ["x2", x], ["visibility", "visible"]]) cursor.setAttribute(key, value);
    told.textContent = `${moment(line.at[place])}: ${bytes(values[place])} (${count(values[place])} bytes)`;
  });
  picture.addEventListener("pointerleave", () => {
    cursor.setAttribute("visibility", "hidden");
    told.textContent = usual;
  });
  figure.append(caption, picture, axis);
  return figure;
}

const lineOf = (site) => (site.history ? data.timelines.find((line) => line.process === site.process) : undefined);

/** Draws the totals, and what is to be known of them. */
function drawTimelines() {
  byId("timeline").hidden = data.timelines.length === 0;
  byId("totals").replaceChildren(...data.timelines.map((line) => chart(line, line.live, `${line.name}: live bytes`, "total")));
  const said = data.timelines.flatMap((line) => [
    ...line.breaks.map((at) => `${moment(line.at[at.first])}: ${at.why}`),
    ...line.notes,
  ]);
  byId("moments").replaceChildren(...said.map((text) => {
    const item = document.createElement("li");
    item.textContent = text;
    return item;
  }));
}

/** The one whose line is drawn. */
let drawnSite = null;

/** Draws the line of a site; of the largest when there is none to be drawn, so that rows do not move under the pointer. */
function drawSiteLine(wanted) {
  const site = wanted && lineOf(wanted) ? wanted : largestSite();
  byId("site").hidden = !site;
  if (!site || site === drawnSite) return;
  drawnSite = site;
  const name = `${data.frames[site.own].name}: live bytes`;
  byId("site").replaceChildren(chart(lineOf(site), site.history, name, "site"));
}

function largestSite() {
  const drawn = data.sites.filter(lineOf);
  return drawn.reduce((most, site) => (site.live > most.live ? site : most), drawn[0]);
}
