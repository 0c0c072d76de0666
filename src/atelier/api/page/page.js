"use strict";
// All text goes into the page as text, never as HTML: what a prompt or an image says cannot become markup.
const at = (id) => document.getElementById(id);
const NUMBERS = ["width", "height", "seed"];
const TEXTS = ["prompt", "negative_prompt"];
let key = sessionStorage.getItem("key");
let running = null;
let rest = {}; // Settings of a dropped image that the form has no place for.

function say(text) {
  at("said").textContent = text;
}

async function call(path, options = {}) {
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  if (answer.status === 401) at("login").hidden = false;
  const body = await answer.json().catch(() => null);
  throw new Error(body?.error?.message ?? `The server answered ${answer.status}.`);
}

function asked() {
  const fields = { ...rest };
  for (const name of TEXTS) if (at(name).value) fields[name] = at(name).value; else delete fields[name];
  for (const name of NUMBERS) if (at(name).value) fields[name] = Number(at(name).value); else delete fields[name];
  return fields;
}

async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const lines = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s)));
      if (lines.event) yield { name: lines.event, data: JSON.parse(lines.data) };
    }
  }
}

async function generate(event) {
  event.preventDefault();
  at("go").disabled = true;
  try {
    const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(asked()) };
    const job = await (await call("/v1/jobs", options)).json();
    running = job.id;
    at("stop").disabled = false;
    at("progress").hidden = false;
    say(job.position ? `${job.position} jobs are before yours.` : "Generating.");
    for await (const { name, data } of events(await call(`/v1/jobs/${job.id}/events`))) follow(name, data);
    const ended = await (await call(`/v1/jobs/${job.id}`)).json();
    for (const image of ended.images) await show(image);
    say(ended.error?.message ?? (ended.state === "done" ? "Done." : `The job is ${ended.state}.`));
  } catch (error) {
    say(error.message);
  } finally {
    running = null;
    at("go").disabled = false;
    at("stop").disabled = true;
    at("progress").hidden = at("preview").hidden = true;
  }
}

function follow(name, data) {
  if (name === "progress") at("progress").value = data.share;
  if (name === "warning") say(data.message);
  if (name !== "preview") return;
  at("preview").src = `data:image/jpeg;base64,${data.image}`;
  at("preview").hidden = false;
}

async function show(image) {
  const blob = await (await call(image.url)).blob();
  const figure = document.createElement("figure");
  const link = document.createElement("a");
  const picture = document.createElement("img");
  const caption = document.createElement("figcaption");
  picture.src = link.href = URL.createObjectURL(blob);
  picture.alt = caption.textContent = image.infotext.split("\n")[0] || "no prompt";
  link.download = `${image.id}.png`;
  link.append(picture);
  figure.append(link, caption);
  at("images").prepend(figure);
}

async function restore(file) {
  const headers = { "Content-Type": file.type };
  try {
    const told = await (await call("/v1/image-text", { method: "POST", headers, body: file })).json();
    rest = told.fields;
    for (const name of [...TEXTS, ...NUMBERS]) at(name).value = told.fields[name] ?? "";
    say(told.infotext ? "The settings of the image are restored." : "The image holds no settings.");
  } catch (error) {
    say(error.message);
  }
}

async function begin() {
  try {
    const jobs = await (await call("/v1/jobs?limit=12")).json();
    for (const job of jobs.data.reverse()) for (const image of job.images) await show(image);
  } catch (error) {
    say(error.message);
  }
}

at("ask").addEventListener("submit", generate);
at("stop").addEventListener("click", () => running && call(`/v1/jobs/${running}/cancel`, { method: "POST" }));
at("login").addEventListener("submit", (event) => {
  event.preventDefault();
  key = at("key").value;
  sessionStorage.setItem("key", key);
  at("login").hidden = true;
  say("");
  begin();
});
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    document.body.classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length) restore(event.dataTransfer.files[0]);
  });
}
begin();
