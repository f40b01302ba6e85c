// Adds to pages that work without it: faces as they arrive, states as they change, arrow keys.
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

function takes(source) {
  const wanted = grid.dataset.source;
  return !wanted || source === wanted || source.startsWith(`${wanted}/`);
}

function card(face) {
  const item = document.getElementById("card").content.firstElementChild.cloneNode(true);
  item.dataset.id = face.id;
  item.className = "new";
  item.querySelector("a").href = `/face/${face.key}`;
  const image = item.querySelector("img");
  image.src = `/image/${face.key}`;
  image.alt = `Face from ${face.source} at ${face.clock}`;
  image.loading = "eager";
  item.querySelector(".when").textContent = face.clock;
  item.querySelector(".where").textContent = face.source;
  return item;
}

function insert(face) {
  if (grid.querySelector(`[data-id="${CSS.escape(face.id)}"]`)) return;
  const next = [...grid.children].find((item) => item.dataset.id < face.id);
  const isFull = document.querySelector(".turn [rel=next]") !== null;
  if (!next && isFull && grid.children.length) return; // its place is on a later page
  const added = card(face);
  grid.insertBefore(added, next ?? null);
  setTimeout(() => added.classList.remove("new"), 4000);
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
    if ("newest" in grid.dataset && face.day === grid.dataset.day) insert(face);
    else tellElsewhere(face);
  }
}

function changed({ source, state }) {
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

function moveFocus(key) {
  const links = [...grid.querySelectorAll("a")];
  const place = links.indexOf(document.activeElement);
  if (place < 0) return false;
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
  if (grid && /^(Arrow|Home$|End$)/.test(key)) {
    if (moveFocus(key)) event.preventDefault();
  } else if (document.querySelector(".portrait")) {
    if (key === "ArrowLeft") follow("a[rel=prev]");
    if (key === "ArrowRight") follow("a[rel=next]");
    if (key === "Escape") follow("[data-back]");
  }
});

for (const field of document.querySelectorAll(".filters [name=source]")) {
  field.addEventListener("change", () => {
    // Another camera from where one is: the newest stay the newest, another day stays that day.
    if ("newest" in grid.dataset) field.form.elements.day.disabled = true;
    field.form.submit();
  });
}
for (const field of document.querySelectorAll(".filters [name=day]")) {
  field.addEventListener("change", () => field.validity.valid && field.form.submit());
}

for (const part of document.querySelectorAll("[data-local]")) {
  const time = new Date(document.querySelector("time").dateTime);
  part.querySelector("dd").textContent = time.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
  part.hidden = time.getTimezoneOffset() === 0;
}

addEventListener("pageshow", listen);
