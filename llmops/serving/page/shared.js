// What the pages that ask a one-shot model share. Whatever a user or the server says goes through textContent.
"use strict";

const HISTORY = 8;
const $ = (id) => document.getElementById(id);

async function call(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server cannot be reached. Is it still running?");
  }
  const said = await response.json().catch(() => ({}));
  if (!response.ok) {
    const error = said.error ?? { what: `the server said ${response.status}`, do: "try again" };
    throw new Error(`${capital(error.what)}. ${capital(error.do)}.`);
  }
  return said;
}

const capital = (words) => words.charAt(0).toUpperCase() + words.slice(1);
const percent = (share) => `${(100 * share).toFixed(share > 0.999 || share < 0.1 ? 1 : 0)} %`;

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function trouble(error) {
  $("trouble").textContent = error ? error.message : "";
  $("trouble").hidden = !error;
}

async function guarded(button, work) {
  button.disabled = true;
  trouble(null);
  try {
    await work();
  } catch (error) {
    trouble(error);
  } finally {
    button.disabled = false;
  }
}

function ranked({ name, share }) {
  const line = document.createElement("li");
  const bar = element("span", "bar", "");
  bar.style.width = `${100 * Math.min(1, share)}%`;
  line.append(bar, element("span", "name", name), element("span", "share", percent(share)));
  return line;
}

const option = (value, text = value) => Object.assign(element("option", "", text), { value });

// Adds a line to what was asked before; returns the part of it that tells the answer.
function remembered(asked, answer) {
  const line = document.createElement("li");
  const got = element("span", "got", answer);
  line.append(element("span", "said", asked), got);
  line.title = asked;
  $("history").prepend(line);
  while ($("history").children.length > HISTORY) $("history").lastChild.remove();
  $("earlier").hidden = false;
  return got;
}

function openCorrection(open) {
  $("correct").hidden = !open;
  $("wrong").setAttribute("aria-expanded", String(open));
  if (open) $("correction").focus();
}
