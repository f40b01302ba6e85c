// Arrow keys on the map of a day: along a camera's marks, and to the nearest of the camera above or below.
"use strict";

const rows = [...document.querySelectorAll(".map-row svg")].map((svg) => [...svg.querySelectorAll("a")]).filter((marks) => marks.length);

function nearest(marks, place) {
  return marks.reduce((best, mark) => (Math.abs(mark.dataset.place - place) < Math.abs(best.dataset.place - place) ? mark : best));
}

function neighbour(mark, key) {
  const row = rows.findIndex((marks) => marks.includes(mark));
  const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
  if (step) return rows[row][rows[row].indexOf(mark) + step];
  if (key === "Home") return rows[row][0];
  if (key === "End") return rows[row].at(-1);
  const other = rows[row + { ArrowUp: -1, ArrowDown: 1 }[key]];
  return other && nearest(other, mark.dataset.place);
}

addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "Escape") return document.querySelector("[data-back]").click();
  const mark = document.activeElement?.closest(".map-row svg a");
  if (!mark || !/^(Arrow|Home$|End$)/.test(event.key)) return;
  event.preventDefault();
  neighbour(mark, event.key)?.focus();
});
