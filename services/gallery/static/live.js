// A camera's picture is fetched again and again while the page is seen, and boxes are drawn around faces.
"use strict";

const EVERY_MS = 400;
const AFTER_FAILURE_MS = 3000;
const view = document.getElementById("view");
let picture = view.querySelector("img");
const boxes = document.getElementById("boxes");
const seen = document.getElementById("seen");
view.classList.add("moving");

function say(text) {
  if (seen.textContent !== text) seen.textContent = text;
}

function draw({ size, boxes: found = [] }) {
  if (size) boxes.setAttribute("viewBox", `0 0 ${size[0]} ${size[1]}`);
  boxes.replaceChildren(
    ...found.map(([x, y, width, height]) => {
      const box = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      for (const [name, value] of Object.entries({ x, y, width, height })) box.setAttribute(name, value);
      return box;
    }),
  );
  say(found.length ? `${found.length} ${found.length === 1 ? "face" : "faces"}` : "Nobody");
}

// Shown when it is whole; a picture that cannot be had says why in place of itself.
async function next(count) {
  const image = new Image();
  image.src = `${view.dataset.at}.jpg?${count}`;
  const answer = await fetch(`${view.dataset.at}.json?${count}`);
  if (!answer.ok) throw new Error((await answer.text()).trim());
  const places = await answer.json();
  await image.decode().catch(() => {
    throw new Error("the camera gives none");
  });
  image.alt = picture.alt;
  picture.replaceWith(image);
  picture = image;
  draw(places);
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function isSeen() {
  return document.hidden ? new Promise((resolve) => addEventListener("visibilitychange", resolve, { once: true })) : null;
}

(async () => {
  for (let count = 0; ; count += 1) {
    await isSeen();
    try {
      await next(count);
      view.classList.remove("lost");
      await pause(EVERY_MS);
    } catch (error) {
      view.classList.add("lost");
      boxes.replaceChildren();
      say(`No picture: ${error.message}`);
      await pause(AFTER_FAILURE_MS);
    }
  }
})();

addEventListener("keydown", (event) => {
  if (event.key === "Escape") document.querySelector("[data-back]").click();
});
