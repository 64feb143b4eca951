// The page works without this script; with it, pictures can be dropped and pasted, and forms need no button.
"use strict";

const byId = (id) => document.getElementById(id);
const said = (text) => { byId("said").textContent = text; setTimeout(() => { byId("said").textContent = ""; }, 3000); };
document.documentElement.classList.add("scripted");

// Bringing pictures: chosen, dropped anywhere, or pasted.
const bring = byId("bring"), image = byId("image");
const send = () => { said("searching…"); bring.submit(); };
image.addEventListener("change", send);
const take = (files) => {
  if (!files || !files.length) return;
  image.files = files;
  send();
};
document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  take(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => take(event.clipboardData && event.clipboardData.files));

// Filters and the frame apply at once.
byId("filters").addEventListener("change", (event) => event.currentTarget.requestSubmit());
// What is as by default stays out of the address.
byId("filters").addEventListener("formdata", (event) => {
  for (const choice of event.currentTarget.querySelectorAll("select")) {
    if (choice.value === choice.dataset.default) event.formData.delete(choice.name);
  }
});
for (const form of document.querySelectorAll(".frames, .within")) {
  const range = form.querySelector("input[type=range]"), output = form.querySelector("output");
  range.addEventListener("input", () => {
    output.textContent = range.name === "frame" ? range.value : Number(range.value).toFixed(2);
    if (range.name !== "within") return;
    for (const hit of document.querySelectorAll(".hit")) hit.hidden = Number(hit.dataset.value) > Number(range.value);
  });
  range.addEventListener("change", () => form.requestSubmit());
}

// A rectangle in the query asks with a part of it.
const query = byId("query");
if (query) {
  const box = document.createElement("div");
  box.className = "selection";
  let start = null;
  const at = (event) => {
    const around = query.getBoundingClientRect();
    const within = (value, size) => Math.min(Math.max(value / size, 0), 1);
    return [within(event.clientX - around.left, around.width), within(event.clientY - around.top, around.height)];
  };
  const part = (one, other) => [
    Math.min(one[0], other[0]), Math.min(one[1], other[1]), Math.abs(one[0] - other[0]), Math.abs(one[1] - other[1]),
  ];
  query.addEventListener("dragstart", (event) => event.preventDefault());
  query.addEventListener("pointerdown", (event) => {
    if (query.dataset.crop) return;
    start = at(event);
    query.setPointerCapture(event.pointerId);
    query.after(box);
  });
  query.addEventListener("pointermove", (event) => {
    if (!start) return;
    const [left, top, width, height] = part(start, at(event)).map((value) => `${100 * value}%`);
    Object.assign(box.style, { left, top, width, height });
  });
  query.addEventListener("pointerup", (event) => {
    if (!start) return;
    const crop = part(start, at(event));
    start = null;
    if (crop[2] < 0.03 || crop[3] < 0.03) { box.remove(); return; }
    const address = new URL(location.href);
    address.searchParams.set("crop", crop.map((value) => value.toFixed(3)).join(","));
    location.assign(address);
  });
}

// A hit enlarged, beside the query.
const large = byId("large");
for (const link of document.querySelectorAll(".enlarge")) {
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const [asked, hit] = large.querySelectorAll("figure");
    asked.hidden = !query;
    if (query) Object.assign(asked.querySelector("img"), { src: query.src.replace("side=512", "side=1024"), alt: query.alt });
    Object.assign(hit.querySelector("img"), { src: link.href, alt: link.querySelector("img").alt });
    hit.querySelector("figcaption").textContent = link.nextElementSibling.textContent;
    large.showModal();
  });
}
large.addEventListener("click", (event) => { if (event.target === large) large.close(); });

// What may be copied gets a button.
for (const code of document.querySelectorAll(".facts code")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "copy";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      said("copied");
    } catch {
      getSelection().selectAllChildren(code);
      said("marked: copy it by the keyboard");
    }
  });
  code.after(button);
}
