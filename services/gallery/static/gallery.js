// Adds to pages that work without it: faces as they arrive, states as they change, the viewer's own time, arrow keys.
"use strict";

const MOST_CARDS = 300;

document.documentElement.classList.add("scripted");

const grid = document.getElementById("faces");
const live = document.getElementById("live");
const news = document.getElementById("news");

function showLive(state, text) {
  live.hidden = false;
  live.dataset.state = state;
  if (live.textContent !== text) live.textContent = text;
}

const ZONE = "faceferry-zone";
const MINUTE_MS = 60000;
let isMine = false; // whether times are shown in the zone of the browser, not in UTC
try {
  isMine = localStorage.getItem(ZONE) === "mine";
} catch {
  // a browser that keeps nothing: UTC each time
}

// A time as text, `2026-01-31T12:00:00.000Z`, of the zone that is shown.
function shown(time) {
  const moment = new Date(time);
  return new Date(moment - (isMine ? moment.getTimezoneOffset() * MINUTE_MS : 0)).toISOString();
}

function words(day, parts) {
  return new Date(day).toLocaleDateString("en-GB", { timeZone: "UTC", ...parts });
}

function spoken(element) {
  const [day, rest] = shown(element.dateTime).split("T");
  const clock = rest.slice(0, 8);
  if (element.dataset.as === "moment") return `${day} ${clock}`;
  if (element.dataset.as === "day") return words(day, { weekday: "long", day: "numeric", month: "long", year: "numeric" });
  const here = element.closest("[data-day]")?.dataset.day;
  return !here || here === day ? clock : `${words(day, { day: "numeric", month: "short" })} ${clock}`;
}

function showHours(chart) {
  for (const part of chart.querySelectorAll("[data-hour], [data-minutes]")) {
    const minutes = part.dataset.minutes ?? part.dataset.hour * 60;
    const utc = `${String(Math.floor(minutes / 60)).padStart(2, "0")}:${String(minutes % 60).padStart(2, "0")}`;
    const clock = isMine ? shown(Date.parse(chart.dataset.hoursOf) + minutes * MINUTE_MS).slice(11, 16) : utc;
    if (part.localName === "a") {
      for (const text of [part.getAttributeNode("aria-label"), part.querySelector("title")]) {
        text.textContent = text.textContent.replace(/^\d\d:\d\d/, clock);
      }
    } else part.textContent = clock.replace(/:00$/, "");
  }
}

function showTimes(part) {
  for (const time of part.querySelectorAll("time[datetime]")) time.textContent = spoken(time);
  for (const each of [part, ...part.querySelectorAll("li, .portrait")]) {
    const image = each.querySelector("img");
    const time = each.querySelector("time");
    if (image && time) image.alt = image.alt.replace(/ at .*$/, ` at ${time.textContent}`);
  }
}

function showZone() {
  const mine = Intl.DateTimeFormat().resolvedOptions().timeZone ?? "your time";
  for (const button of document.querySelectorAll("[data-zone]")) {
    button.textContent = isMine ? mine : "UTC";
    button.title = isMine ? "Show times in UTC" : "Show times in your own zone";
  }
  showTimes(document.getElementById("main"));
  for (const chart of document.querySelectorAll("[data-hours-of]")) showHours(chart);
}

for (const label of document.querySelectorAll("[data-zone]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "zone";
  button.dataset.zone = "";
  button.addEventListener("click", () => {
    isMine = !isMine;
    try {
      localStorage.setItem(ZONE, isMine ? "mine" : "utc");
    } catch {
      // it holds for this page then
    }
    showZone();
  });
  label.replaceWith(button);
}
showZone();

function takes(source) {
  const wanted = grid.dataset.source;
  return !wanted || source === wanted || source.startsWith(`${wanted}/`);
}

function card(face) {
  const item = document.getElementById("card").content.firstElementChild.cloneNode(true);
  item.dataset.id = item.dataset.ids = face.id;
  const link = item.querySelector("a");
  link.href = `/face/${face.key}`;
  const image = item.querySelector("img");
  image.alt = `Face from ${face.source} at ${face.clock}`;
  image.loading = "eager";
  item.querySelector(".where").textContent = face.source;
  for (const time of item.querySelectorAll("time")) time.dateTime = face.time;
  show(item, face);
  if (face.visit) {
    item.dataset.visit = `${face.source}/${face.visit}`;
    if (face.shot > 1) stack(item, face);
    stretch(item, face);
  } else {
    for (const part of item.querySelectorAll(".count, .until")) part.remove();
  }
  return item;
}

function show(item, face) {
  item.querySelector("img").src = `/image/${face.key}`;
  item.dataset.quality = face.quality ?? -1;
}

// There is more behind this picture: its visit's page has all.
function stack(item, face) {
  const link = item.querySelector("a");
  link.href = `/visit/${face.key}`;
  link.className = "several";
}

function join(item, face) {
  const ids = item.dataset.ids.split(" ");
  const pictures = (item.dataset.count = Number(item.dataset.count ?? ids.length) + 1);
  item.dataset.ids = [...ids.slice(1 - MOST_CARDS), face.id].join(" "); // of one who never leaves there is no end
  if (item.dataset.id < face.id) item.dataset.id = face.id;
  const count = item.querySelector(".count");
  stack(item, face);
  if ((face.quality ?? -1) >= Number(item.dataset.quality)) show(item, face);
  item.querySelector("img").alt = `Best of ${pictures} faces from ${face.source} at `;
  count.textContent = `${pictures} pictures`;
  count.hidden = false;
  stretch(item, face);
}

// From when to when: as far as a face and the beginning of its visit reach.
function stretch(item, face) {
  const [first, last] = item.querySelectorAll("time");
  const began = face.began ?? face.time;
  if (began < first.dateTime) first.dateTime = began;
  if (face.time > last.dateTime) last.dateTime = face.time;
  item.querySelector(".until").hidden = first.dateTime.slice(0, 19) === last.dateTime.slice(0, 19);
}

function settle(item) {
  const next = [...grid.children].find((other) => other !== item && other.dataset.id < item.dataset.id) ?? null;
  if (item.parentElement === grid && item.nextElementSibling === next) return;
  const isFocused = item.contains(document.activeElement);
  grid.insertBefore(item, next);
  if (isFocused) item.querySelector("a").focus();
}

function insert(face) {
  if (grid.querySelector(`[data-ids~="${CSS.escape(face.id)}"]`)) return;
  const all = [...grid.children];
  const visited = face.visit && all.find((item) => item.dataset.visit === `${face.source}/${face.visit}`);
  const isFull = document.querySelector(".turn [rel=next]") !== null;
  const isLast = !all.some((item) => item.dataset.id < face.id);
  if (!visited && isLast && isFull && all.length) return; // its place is on a later page
  if (visited) join(visited, face);
  const item = visited || card(face);
  settle(item);
  showTimes(item);
  item.classList.add("new");
  setTimeout(() => item.classList.remove("new"), 4000);
  const total = document.getElementById("total");
  if (total) total.textContent = (Number(total.dataset.count = Number(total.dataset.count) + 1)).toLocaleString("en");
  while (grid.children.length > MOST_CARDS) grid.lastElementChild.remove();
}

const elsewhere = new Map();

function tellElsewhere(face) {
  elsewhere.set(face.day, (elsewhere.get(face.day) ?? 0) + 1);
  const count = elsewhere.get(face.day);
  const link = document.createElement("a");
  const query = new URLSearchParams();
  if (grid.dataset.source) query.set("source", grid.dataset.source);
  query.set("day", face.day);
  for (const [name, value] of new URLSearchParams(grid.dataset.filter)) query.set(name, value);
  link.href = `/?${query}`;
  link.textContent = `${count} new ${count === 1 ? "face" : "faces"} of ${face.day}`;
  news.replaceChildren(link);
  news.hidden = false;
}

function arrived(faces) {
  if (!grid) return;
  const wanted = faces.filter((face) => takes(face.source));
  if (!wanted.length) return;
  if (!grid.dataset.day) return location.reload(); // nothing was stored when the page was made
  for (const face of wanted) {
    // Only the store knows which faces pass a filter: news stays a link there.
    if ("newest" in grid.dataset && !grid.dataset.filter && face.day === grid.dataset.day) insert(face);
    else tellElsewhere(face);
  }
}

function changed({ source, state, reason }) {
  if (document.querySelector("[data-follows]")) return location.reload(); // how far it is to the first face
  for (const why of document.querySelectorAll(`[data-why="${CSS.escape(source)}"]`)) {
    why.textContent = reason;
    why.hidden = !reason;
  }
  for (const chip of document.querySelectorAll(`[data-status="${CSS.escape(source)}"]`)) {
    chip.dataset.state = state;
    chip.textContent = state[0].toUpperCase() + state.slice(1);
  }
}

let wasCut = false;

function listen() {
  const events = new EventSource("/events");
  events.addEventListener("faces", (event) => arrived(JSON.parse(event.data)));
  events.addEventListener("status", (event) => changed(JSON.parse(event.data)));
  events.addEventListener("open", () => {
    showLive("on", "Live");
    if (wasCut && grid && scrollY < 200) location.reload(); // what came meanwhile
  });
  events.addEventListener("error", () => {
    wasCut = true;
    showLive("off", events.readyState === EventSource.CLOSED ? "Not live" : "Reconnecting…");
  });
  // A page that is kept for going back must not keep its stream: browsers allow few to one server.
  addEventListener("pagehide", () => events.close(), { once: true });
}

function moveFocus(grid, key) {
  const links = [...grid.querySelectorAll("a")];
  const place = links.indexOf(document.activeElement);
  const columns = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
  const next = { Home: 0, End: links.length - 1 }[key] ?? place + step;
  links[next]?.focus();
  return links[next] !== undefined;
}

function follow(selector) {
  document.querySelector(selector)?.click();
}

addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches("input, select")) return;
  const { key } = event;
  const around = event.target.closest?.(".grid");
  if (around && /^(Arrow|Home$|End$)/.test(key)) {
    if (moveFocus(around, key)) event.preventDefault();
  } else if (document.querySelector(".portrait")) {
    if (key === "ArrowLeft") follow("a[rel=prev]");
    if (key === "ArrowRight") follow("a[rel=next]");
    if (key === "Escape") follow("[data-back]");
  }
});

for (const field of document.querySelectorAll(".filters :is([name=source], [name=px], [name=quality])")) {
  field.addEventListener("change", () => {
    // Other faces from where one is: the newest stay the newest, another day stays that day.
    if ("newest" in grid.dataset) field.form.elements.day.disabled = true;
    field.form.submit();
  });
}
for (const field of document.querySelectorAll(".filters [name=day]")) {
  field.addEventListener("change", () => field.validity.valid && field.form.submit());
}

for (const part of document.querySelectorAll("[data-local]")) {
  const time = new Date(document.querySelector("h1 time").dateTime);
  part.querySelector("dd").textContent = time.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
  part.hidden = time.getTimezoneOffset() === 0;
}

// What was said before the page was told of news is not said again.
if (document.querySelector("[data-follows]")) setInterval(() => document.hidden || location.reload(), 30000);

addEventListener("pageshow", listen);
